"""
What is to be written: the calls of all threads, in their order, made into one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.file import Batch, DeadRow
from wirewitness.outbox.sqlite.record import finite, row_of


class Spilled(NamedTuple):
    """
    A message was put that is to stand on disk alone.
    """

    message: Message


class Gone(NamedTuple):
    """
    Messages are no more.
    """

    ids: Sequence[int]


class Tried(NamedTuple):
    """
    A message was put back.
    """

    id: int
    attempts: int
    due: float


class Buried(NamedTuple):
    """
    A message became a dead letter.
    """

    message: Message
    reason: str
    at_ns: int


Call = Any
"""A message that was put, or one of the above."""


class Pending:
    """
    What isn't on disk yet.

    Attributes:
        fresh: Messages that are in the window, too.
        spilled: Messages that are nowhere else.
        left_bytes: Bytes of all that were ever spilled, and are no more.
        buried: How many were ever buried.
    """

    def __init__(self) -> None:
        self.fresh: dict[int, Message] = {}
        self.spilled: dict[int, Message] = {}
        self._gone: list[int] = []
        self._tried: dict[int, tuple[int, float]] = {}
        self._dead: list[Buried] = []
        self.left_bytes: int = 0
        self.buried: int = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.spilled)

    @property
    def any(self) -> bool:
        """Whether there's something to write."""
        return bool(self.fresh or self.spilled or self._gone or self._tried or self._dead)

    def take(self, call: Call) -> None:
        """
        Take a call in. Those about one message come in their order.
        """
        kind = type(call)
        if kind is Message:
            self.fresh[call.id] = call
        elif kind is Gone:
            self._forget(call.ids)
        elif kind is Spilled:
            self.spilled[call.message.id] = call.message
        elif kind is Tried:
            self._tried[call.id] = (call.attempts, finite(call.due))
        else:
            self._dead.append(call)
            self.buried += 1
            self._forget((call.message.id,))

    def _forget(self, ids: Sequence[int]) -> None:
        fresh, tried = self.fresh, self._tried
        for number in ids:
            # What was delivered before it was written needs no writing.
            if fresh.pop(number, None) is None:
                self._gone.append(number)
            if tried:
                tried.pop(number, None)

    def holds(self, number: int) -> bool:
        """
        Whether a message isn't written yet; 0 for any.
        """
        return bool(self.fresh or self.spilled) if not number else number in self.fresh or number in self.spilled

    def messages(self) -> list[Message]:
        """
        All that aren't written.
        """
        return [*self.spilled.values(), *self.fresh.values()]

    def spilled_between(self, first: int, last: int) -> list[Message]:
        """
        Spilled messages from one id to another.
        """
        return [message for number, message in self.spilled.items() if first <= number <= last]

    def unspill(self, message: Message) -> None:
        """
        A spilled message is in the window now.
        """
        if self.spilled.pop(message.id, None) is not None:
            self.fresh[message.id] = message
            self.left_bytes += message.size

    def batch(self) -> Batch:
        """
        All of it.
        """
        return Batch(
            rows=[row_of(message) for held in (self.spilled, self.fresh) for message in held.values()],
            gone=self._gone,
            attempts=[(number, *tried) for number, tried in self._tried.items()],
            dead=[dead_row(buried) for buried in self._dead],
        )

    def relief(self) -> Batch:
        """
        What makes room when it's written.
        """
        return Batch(gone=self._gone)

    def relieved(self) -> None:
        """
        That is written.
        """
        self._gone = []

    def written(self) -> None:
        """
        All of it is written.
        """
        self.left_bytes += sum([message.size for message in self.spilled.values()])
        self.fresh.clear()
        self.spilled.clear()
        self._gone = []
        self._tried.clear()
        self._dead.clear()

    def keeps(self, number: int) -> bool:
        """
        Whether a message that a file has is still to be sent.
        """
        return number not in self._gone

    @property
    def dead(self) -> int:
        """How many dead letters aren't written yet."""
        return len(self._dead)

    def trim(self, most: int) -> None:
        """
        Keep no more dead letters than that which can't be written.
        """
        del self._dead[: max(0, len(self._dead) - most)]


def dead_row(buried: Buried) -> DeadRow:
    """
    The row of a dead letter.
    """
    message = buried.message
    return (*row_of(message), message.attempts, buried.reason, buried.at_ns)
