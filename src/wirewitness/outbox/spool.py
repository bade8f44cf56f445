"""
Where messages wait: the protocol of a spool, and the one in memory.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from wirewitness.core.limits import positive
from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.message import Message, Origin, origin_of_url


@dataclass(frozen=True)
class SpoolStats:
    """
    What a spool holds at one instant.

    Attributes:
        size: Messages that aren't acknowledged, dead-lettered or discarded: waiting, claimed, or due for a retry.
        claimed: How many of them are claimed.
        later: How many of them are due later, for a retry.
        bytes: Their bytes, as the bounds reckon them.
        capacity: The most messages that it takes.
        bytes_capacity: The most bytes that it takes.
        oldest_ns: When the oldest was accepted, Unix nanoseconds; None if there's none.
        dead: Dead letters.
        durable: How many of ``size`` are on disk.
        faults: Troubles of its storage so far: ``disk_full``, ``io_error``, ``corrupt``.
    """

    size: int = 0
    claimed: int = 0
    later: int = 0
    bytes: int = 0
    capacity: int = 0
    bytes_capacity: int = 0
    oldest_ns: int | None = None
    dead: int = 0
    durable: int = 0
    faults: tuple[tuple[str, int], ...] = ()

    @property
    def utilization(self) -> float:
        """
        How full it is: of the messages that it takes or of the bytes, whichever is nearer to its bound. 1 is full.
        """
        bounds = ((self.size, self.capacity), (self.bytes, self.bytes_capacity))
        return max([held / most for held, most in bounds if most], default=0.0)


class Spool(Protocol):
    """
    Keeps messages in order until they're acknowledged.

    A message that was put waits until it is claimed. A claim ends with exactly one of :meth:`ack`, :meth:`retry_at` and
    :meth:`dead_letter`, of the very object that was claimed, or with :meth:`close`. Whoever has the claim is the only one who
    writes to the message.

    ``put`` and ``evict`` may be called in any thread, in a signal handler and inside a garbage collection: also while the same
    thread is inside any method of the spool, so that a lock must be reentrant. All others may be called in any thread, and
    ``stats`` also before :meth:`start` and after :meth:`close`. No method raises for what a disk or a payload does.

    A spool that outlives the process keeps of a message what the constructor of
    :class:`~wirewitness.outbox.message.Message` takes, but for ``id``, which it gives anew, and ``context``, which ends with
    the process. Without ``attempts`` and ``due``, a message is tried at once after a restart, and its backoff begins anew.

    docs/extending.md has one in sixty lines, made from :class:`MemorySpool`.

    Attributes:
        durable: Whether what it holds outlives the process.
    """

    @property
    def durable(self) -> bool:
        """Whether what it holds outlives the process."""
        ...

    def start(self) -> int:
        """
        Get ready, in this process: before the first put, again after :meth:`close`, and again in a forked child, where it
        is empty after :meth:`abandon`. What :meth:`close` has kept counts as left by an earlier process.

        Returns:
            How many messages earlier processes have left, which it now holds and which can be claimed.
        """
        ...

    def abandon(self) -> None:
        """
        Hold nothing, until started again: this is a forked child, and all is the parent's. No file may be touched.
        """
        ...

    def adopt(self) -> int:
        """
        Look again for what processes have left that have died since. Called by sending threads, when they have nothing to
        do, about twice per minute. A spool that shares nothing with other processes returns 0.

        Returns:
            How many messages it holds in addition now.
        """
        ...

    def take_lost(self) -> int:
        """
        How many messages turned out to be damaged or gone since the last call: they won't be claimed any more.

        Only those that :meth:`start`, :meth:`adopt` or :meth:`put` has counted: the ledger has them as pending, and drops
        them as ``corrupt``.
        """
        ...

    def put(self, message: Message) -> Reason | None:
        """
        Take a message, and give it its id. It may be claimed, and acknowledged, before this returns.

        Where it takes the message, ``message.id`` is not 0 when this ends; where it does not, it is 0. That holds also where an
        exception passes through this that was raised into the thread from outside, by a signal handler.

        Returns:
            None if it's taken; else why not: ``queue_full``, ``too_large`` or ``spool_failed``.
        """
        ...

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out, oldest first, that nobody else gets until they are put back.

        Args:
            most: How many at most.
            now: Unix seconds: what is due later isn't given.
            closed: Origins whose messages aren't wanted now. Others are given past them.
        """
        ...

    def ack(self, messages: Iterable[Message]) -> None:
        """
        Forget claimed messages: they are delivered, or given up.
        """
        ...

    def retry_at(self, message: Message, due: float) -> None:
        """
        Put a claimed message back.

        Args:
            message: Its ``attempts`` are kept with it.
            due: When it may be claimed again, Unix seconds; 0 for at once. The spool sets ``message.due`` to it.
        """
        ...

    def dead_letter(self, message: Message, reason: str) -> None:
        """
        Make a claimed message a dead letter. It is not claimed again. Whether and where it is kept is the spool's to say.

        Args:
            message: Which.
            reason: Why: a :class:`~wirewitness.Reason`'s value, or other text.
        """
        ...

    def evict(self) -> Message | None:
        """
        Take the oldest message out that isn't claimed, for good: how ``drop_oldest`` makes room. None if all are claimed.
        """
        ...

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When something can be claimed, Unix seconds (0 for now); None if nothing waits.
        """
        ...

    def stats(self) -> SpoolStats:
        """
        What it holds. Called often, also every few milliseconds during a flush: count as you go.
        """
        ...

    def sync(self, timeout: float) -> bool:
        """
        Wait until all that was put is as durable as it gets.

        Returns:
            Whether it is.
        """
        ...

    def close(self) -> list[Message]:
        """
        Let go of files and threads. Claims end with it.

        Returns:
            The messages that are lost with it, claimed ones too. What it holds and does not return is kept: :meth:`start` gives it
            out again, in this process or in a later one.
        """
        ...


_NEEDED: Final = tuple(name for name in vars(Spool) if not name.startswith("_"))


def check_spool(option: str, given: object) -> None:
    """
    See that a spool has all that :class:`Spool` asks for: a sender's thread would miss it only later.

    Raises:
        ConfigurationError: If something is missing; it names what.
    """
    # Looked up on the class: a property, such as ``durable``, may need a spool that has been started.
    missing = [name for name in _NEEDED if not hasattr(type(given), name) and not hasattr(given, name)]
    if missing:
        msg = (
            f"{option}={shown(given)}: is no spool, it has no {', '.join(missing)}; give a MemorySpool or a SqliteSpool"
        )
        raise ConfigurationError(msg)


class DeadLetter(NamedTuple):
    """
    A message that was given up.

    Attributes:
        message: What it was.
        reason: Why: a :class:`~wirewitness.typing.Reason`'s value.
    """

    message: Message
    reason: str


class _OriginQueue:
    """
    The messages for one origin that can be sent now.

    Attributes:
        back: A heap, by id, of those that were put back: each is older than any of the others.
        fresh: Those that nobody has had yet, in their order.
        fresh_next: Whose turn it is, where there are both. Those that have failed before must not keep the others waiting,
            nor the other way round.
    """

    __slots__ = ("back", "fresh", "fresh_next")

    def __init__(self) -> None:
        self.fresh_next = False
        self.back: list[tuple[int, Message]] = []
        self.fresh: deque[Message] = deque()

    def __bool__(self) -> bool:
        return bool(self.back or self.fresh)

    @property
    def oldest_ns(self) -> int:
        return (self.back[0][1] if self.back else self.fresh[0]).accepted_ns

    def pop(self) -> Message:
        return heapq.heappop(self.back)[1] if self.back else self.fresh.popleft()

    def move(self, most: int, to: list[Message]) -> None:
        back, fresh = self.back, self.fresh
        while len(to) < most and fresh and back and back[0][1].attempts:
            self.fresh_next = not self.fresh_next
            to.append(heapq.heappop(back)[1] if self.fresh_next else fresh.popleft())
        while len(to) < most and back:
            to.append(heapq.heappop(back)[1])
        while len(to) < most and fresh:
            to.append(fresh.popleft())


class ReadyQueue:
    """
    Messages in memory, in the order in which they are to be sent. Thread-safe.

    A thread that is in here can enter again, with a put or an evict of a signal handler or of a finalizer: between any two
    calls below. So nothing is read before a call and written after it, and what is iterated over is a copy, made by one call.
    """

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.bytes: int = 0
        # An ordered one: the first of a plain dict is slow to find once many before it are gone.
        self._held: OrderedDict[int, Message] = OrderedDict()
        self._claimed: set[int] = set()
        self._ready: OrderedDict[Origin | None, _OriginQueue] = OrderedDict()
        self._later: list[tuple[float, int, Message]] = []

    def __len__(self) -> int:
        return len(self._held)

    @property
    def claimed(self) -> int:
        """How many are out."""
        return len(self._claimed)

    @property
    def later(self) -> int:
        """How many are due later."""
        return len(self._later)

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest was accepted, Unix nanoseconds."""
        with self.lock:
            for message in self._held.values():
                return message.accepted_ns
            return None

    def add(self, message: Message) -> None:
        """
        Put a message at the end, or among those that are due later.
        """
        size = message.size
        with self.lock:
            self._held[message.id] = message
            self.bytes += size
            if message.due:
                heapq.heappush(self._later, (message.due, message.id, message))
            else:
                self._line(message).fresh.append(message)

    def take_back(self, message: Message) -> None:
        """
        Undo an :meth:`add` that was interrupted at any place.
        """
        with self.lock:
            if self._held.pop(message.id, None) is not None:
                self._mend()

    def _mend(self) -> None:
        # An exception from outside has interrupted somebody half-way: what is held is what counts, and is put in order anew.
        self.bytes = sum([message.size for message in self._held.values()])
        self._later = [entry for entry in self._later if entry[1] in self._held]
        heapq.heapify(self._later)
        elsewhere = {entry[1] for entry in self._later} | self._claimed
        self._ready.clear()
        for message in self._held.values():
            if message.id not in elsewhere:
                self._line(message).fresh.append(message)

    def holds(self, message: Message) -> bool:
        """
        Whether a message of this id is in here.
        """
        return message.id in self._held

    def messages(self) -> list[Message]:
        """
        All of them.
        """
        with self.lock:
            return list(self._held.values())

    def _line(self, message: Message) -> _OriginQueue:
        origin = origin_of_url(message.url)
        line = self._ready.get(origin)
        return self._ready.setdefault(origin, _OriginQueue()) if line is None else line

    def _return(self, message: Message) -> None:
        heapq.heappush(self._line(message).back, (message.id, message))

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out until they are acknowledged or put back.
        """
        with self.lock:
            self._promote(now)
            claimed: list[Message] = []
            for origin in list(self._ready):
                if len(claimed) == most:
                    break
                if origin not in closed:
                    self._serve(origin, most, claimed)
            self._claimed.update([message.id for message in claimed])
            return claimed

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            message = heapq.heappop(self._later)[2]
            message.due = 0.0
            self._return(message)

    def _serve(self, origin: Origin | None, most: int, claimed: list[Message]) -> None:
        line = self._ready[origin]
        line.move(most, claimed)
        # No origin starves another: whoever was served is last next time, and empty lines leave.
        self._ready.move_to_end(origin)
        if not (line.fresh or line.back):
            del self._ready[origin]

    def remove(self, messages: Iterable[Message]) -> list[Message]:
        """
        Forget claimed messages.

        Returns:
            Those that were held.
        """
        with self.lock:
            gone = [message for message in messages if self._held.pop(message.id, None) is not None]
            self._claimed.difference_update([message.id for message in gone])
            size = sum([message.size for message in gone])
            self.bytes -= size
            return gone

    def put_back(self, message: Message, due: float) -> bool:
        """
        End a claim without success.

        Returns:
            Whether the message was claimed.
        """
        with self.lock:
            if message.id not in self._claimed:
                return False
            self._claimed.discard(message.id)
            message.due = due
            if due:
                heapq.heappush(self._later, (due, message.id, message))
            else:
                self._return(message)
            return True

    def evict(self) -> Message | None:
        """
        Take the oldest out that can be sent now, for good; where none can, the one that is due next.
        """
        with self.lock:
            try:
                message = self._pop_oldest()
                if message is not None:
                    self.remove([message])
            except BaseException:
                self._mend()
                raise
            return message

    def _pop_oldest(self) -> Message | None:
        while lines := [line for line in list(self._ready.values()) if line]:
            with contextlib.suppress(IndexError):
                return min(lines, key=lambda line: line.oldest_ns).pop()
        return heapq.heappop(self._later)[2] if self._later else None

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When something can be claimed, Unix seconds; 0 for now.
        """
        with self.lock:
            for origin in list(self._ready):
                if origin not in closed and self._ready[origin]:
                    return 0.0
            return self._later[0][0] if self._later else None

    def empty(self) -> list[Message]:
        """
        Take all out, claimed ones too.
        """
        with self.lock:
            self._ready.clear()
            self._later.clear()
            return self.remove(list(self._held.values()))


class MemorySpool:
    """
    Holds messages in memory: nothing outlives the process.

    A put inside a put, as a signal handler's or a finalizer's is, can exceed the limits by its own message.

    Args:
        most: How many messages at most.
        most_bytes: How many bytes at most; as :attr:`Message.size` counts them.

    Raises:
        ConfigurationError: If a limit isn't a positive whole number.
    """

    durable = False

    def __init__(self, *, most: int = 10_000, most_bytes: int = 64 << 20) -> None:
        self.most: int = positive("most", most)
        self.most_bytes: int = positive("most_bytes", most_bytes)
        self.abandon()

    def start(self) -> int:
        """
        It is ready from the beginning, and nothing was left by others.
        """
        return 0

    def abandon(self) -> None:
        """
        Hold nothing.
        """
        self._shelf = ReadyQueue()
        self._ids = itertools.count(1)
        self._dead: deque[DeadLetter] = deque()
        self._dead_bytes = 0

    def adopt(self) -> int:
        """
        Nothing is left in memory by anybody.
        """
        return 0

    def take_lost(self) -> int:
        """
        Nothing is damaged in memory.
        """
        return 0

    def put(self, message: Message) -> Reason | None:
        """
        Take a message, if there's room.
        """
        shelf, size = self._shelf, message.size
        if size > self.most_bytes:
            return Reason.TOO_LARGE
        with shelf.lock:
            if len(shelf) >= self.most or shelf.bytes + size > self.most_bytes:
                return Reason.QUEUE_FULL
            try:
                message.id = next(self._ids)
                shelf.add(message)
            except BaseException:
                shelf.take_back(message)
                message.id = 0
                raise
        return None

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out until they are acknowledged or put back.
        """
        return self._shelf.claim(most, now, closed)

    def ack(self, messages: Iterable[Message]) -> None:
        """
        Forget messages.
        """
        self.forget(self._shelf.remove(messages))

    def retry_at(self, message: Message, due: float) -> None:
        """
        Put a message back.
        """
        self._shelf.put_back(message, due)

    def dead_letter(self, message: Message, reason: str) -> None:
        """
        Keep a message as a dead letter, in an eighth of the space at most: the oldest make room.
        """
        shelf = self._shelf
        with shelf.lock:
            gone = shelf.remove([message])
            self._dead.append(DeadLetter(message, reason))
            self._dead_bytes += message.size
            while self._dead_bytes > self.most_bytes // 8 and self._dead:
                self._dead_bytes -= self._dead.popleft().message.size
        self.forget(gone)

    def dead_letters(self) -> list[DeadLetter]:
        """
        The dead letters, oldest first.
        """
        with self._shelf.lock:
            return list(self._dead)

    def evict(self) -> Message | None:
        """
        Take the oldest out that isn't claimed.
        """
        message = self._shelf.evict()
        if message is not None:
            self.forget([message])
        return message

    def forget(self, messages: Iterable[Message]) -> None:
        """
        Called with messages that were held and have left for good: acknowledged, made dead letters, or evicted.

        It does nothing. A spool that is made from this one, and keeps a copy of each message elsewhere, removes it here.
        It is called in any thread, also in a signal handler, with no lock held, and must not raise.
        """

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When something can be claimed, Unix seconds; 0 for now.
        """
        return self._shelf.next_due(closed)

    def stats(self) -> SpoolStats:
        """
        What it holds.
        """
        shelf = self._shelf
        with shelf.lock:
            return SpoolStats(
                size=len(shelf),
                claimed=shelf.claimed,
                later=shelf.later,
                bytes=shelf.bytes,
                capacity=self.most,
                bytes_capacity=self.most_bytes,
                oldest_ns=shelf.oldest_ns,
                dead=len(self._dead),
            )

    def sync(self, timeout: float) -> bool:  # noqa: ARG002 -- the protocol's
        """
        Nothing gets more durable here.
        """
        return True

    def close(self) -> list[Message]:
        """
        Give up what is held.
        """
        return self._shelf.empty()

    def __repr__(self) -> str:
        return f"<MemorySpool {len(self._shelf)} of {self.most}>"
