"""
What becomes of a message for which the spool has no room.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from wirewitness._clock import Deadline
from wirewitness.core.limits import seconds
from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.message import Message, Origin
from wirewitness.outbox.spool import Spool, SpoolStats, check_spool


# How often a caller that waits looks for room.
_LOOK: Final = 0.002


class Overflow(Protocol):
    """
    A policy for a full spool.
    """

    def __call__(self, spool: Spool, message: Message, dropped: Callable[[Message], Any]) -> Reason | None:
        """
        Find room for a message all the same.

        Args:
            spool: Which has just answered ``queue_full``.
            message: What was to be put.
            dropped: To be called with every message that was taken out to make room.

        Returns:
            None where the message has been put; else why it's dropped.
        """
        ...


class DropNewest:
    """
    The message that comes is dropped.
    """

    def __call__(self, spool: Spool, message: Message, dropped: Callable[[Message], Any]) -> Reason | None:  # noqa: ARG002 -- the protocol's
        """
        Find no room.
        """
        return Reason.QUEUE_FULL


class DropOldest:
    """
    The oldest that nobody is sending make room.
    """

    def __call__(self, spool: Spool, message: Message, dropped: Callable[[Message], Any]) -> Reason | None:
        """
        Take old messages out until there's room, or none is left to be taken.
        """
        refused: Reason | None = Reason.QUEUE_FULL
        while refused is Reason.QUEUE_FULL:
            oldest = spool.evict()
            if oldest is None:
                return Reason.QUEUE_FULL
            dropped(oldest)
            refused = spool.put(message)
        return refused


@dataclass(frozen=True)
class Block:
    """
    The caller waits for room, up to a deadline.

    Attributes:
        seconds: The longest wait.

    Raises:
        ConfigurationError: If it isn't a number greater than 0.
    """

    seconds: float = 0.1

    def __post_init__(self) -> None:
        seconds("seconds", self.seconds)

    def __call__(self, spool: Spool, message: Message, dropped: Callable[[Message], Any]) -> Reason | None:  # noqa: ARG002 -- the protocol's
        """
        Try again until the deadline.
        """
        deadline = Deadline(self.seconds)
        while deadline.nap(_LOOK):
            refused = spool.put(message)
            if refused is not Reason.QUEUE_FULL:
                return refused
        return Reason.QUEUE_FULL


@dataclass(frozen=True)
class Spill:
    """
    What doesn't fit goes to a second spool, such as one on disk.

    Attributes:
        to: The second spool.
        seconds: The longest that a caller waits where payloads come faster than the second spool can write them.

    Raises:
        ConfigurationError: If ``to`` is no whole spool, or ``seconds`` isn't a number greater than 0.
    """

    to: Spool
    seconds: float = 0.5

    def __post_init__(self) -> None:
        check_spool("to", self.to)
        seconds("seconds", self.seconds)

    def __call__(self, spool: Spool, message: Message, dropped: Callable[[Message], Any]) -> Reason | None:  # noqa: ARG002 -- the protocol's
        """
        Have the second spool write what it has taken, and try again. That the spool spills is a matter of its own, see
        :class:`SpillingSpool`.
        """
        held = self.to.stats()
        if held.size < held.capacity and self.to.sync(self.seconds):
            return spool.put(message)
        return Reason.QUEUE_FULL


DROP_NEWEST: Final = DropNewest()
NAMED: Final[dict[str, Overflow]] = {"drop_newest": DROP_NEWEST, "drop_oldest": DropOldest(), "block": Block()}


def policy(given: object) -> Any:
    """
    An overflow policy by its name, or itself.

    Raises:
        ConfigurationError: If it's neither.
    """
    if isinstance(given, str) and given in NAMED:
        return NAMED[given]
    if callable(given) and not isinstance(given, (str, type)):
        return given
    msg = f"overflow={shown(given)}: must be one of {', '.join(NAMED)}, Block(seconds), or Spill(a second spool)"
    raise ConfigurationError(msg)


class SpillingSpool:
    """
    Two spools as one: what the first has no room for is put into the second.

    Args:
        first: Usually in memory.
        second: Usually on disk.
    """

    def __init__(self, first: Spool, second: Spool) -> None:
        self._spools = (first, second)

    @property
    def durable(self) -> bool:
        """Whether all that it holds outlives the process."""
        return all(spool.durable for spool in self._spools)

    def start(self) -> int:
        """
        Start both.
        """
        return sum(spool.start() for spool in self._spools)

    def abandon(self) -> None:
        """
        Have both hold nothing.
        """
        for spool in self._spools:
            spool.abandon()

    def adopt(self) -> int:
        """
        Have both look for what was left.
        """
        return sum(spool.adopt() for spool in self._spools)

    def take_lost(self) -> int:
        """
        What both have lost.
        """
        return sum(spool.take_lost() for spool in self._spools)

    def put(self, message: Message) -> Reason | None:
        """
        Put a message into the first that takes it.
        """
        refused: Reason | None = Reason.QUEUE_FULL
        for spool in self._spools:
            refused = spool.put(message)
            if refused is None:
                break
        return refused

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out of the first, and where it has too few, of the second.
        """
        claimed: list[Message] = []
        for spool in self._spools:
            got = spool.claim(most - len(claimed), now, closed) if len(claimed) < most else []
            for message in got:
                message.home = spool
            claimed += got
        return claimed

    def ack(self, messages: Iterable[Message]) -> None:
        """
        Have each forget its own.
        """
        for spool, own in self._by_home(messages):
            spool.ack(own)

    def _by_home(self, messages: Iterable[Message]) -> Iterator[tuple[Spool, list[Message]]]:
        given = list(messages)
        for spool in self._spools:
            own = [message for message in given if message.home is spool]
            if own:
                yield spool, own

    def retry_at(self, message: Message, due: float) -> None:
        """
        Put a message back where it was.
        """
        message.home.retry_at(message, due)

    def dead_letter(self, message: Message, reason: str) -> None:
        """
        Make a dead letter of a message where it was.
        """
        message.home.dead_letter(message, reason)

    def evict(self) -> Message | None:
        """
        Take the oldest of the first out.
        """
        return self._spools[0].evict() or self._spools[1].evict()

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When either has something to claim.
        """
        due = [when for when in (spool.next_due(closed) for spool in self._spools) if when is not None]
        return min(due, default=None)

    def stats(self) -> SpoolStats:
        """
        What both hold.
        """
        one, two = (spool.stats() for spool in self._spools)
        oldest = [when for when in (one.oldest_ns, two.oldest_ns) if when is not None]
        return SpoolStats(
            size=one.size + two.size,
            claimed=one.claimed + two.claimed,
            later=one.later + two.later,
            bytes=one.bytes + two.bytes,
            capacity=one.capacity + two.capacity,
            bytes_capacity=one.bytes_capacity + two.bytes_capacity,
            oldest_ns=min(oldest, default=None),
            dead=one.dead + two.dead,
            durable=one.durable + two.durable,
            faults=one.faults + two.faults,
        )

    def sync(self, timeout: float) -> bool:
        """
        Wait for both.
        """
        synced = [spool.sync(timeout) for spool in self._spools]
        return all(synced)

    def close(self) -> list[Message]:
        """
        Close both.
        """
        return [message for spool in self._spools for message in spool.close()]

    def __repr__(self) -> str:
        return f"<SpillingSpool {self._spools[0]!r}, then {self._spools[1]!r}>"
