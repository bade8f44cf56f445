"""
The spool on disk, as an Outbox sees it.

**On disk.** A spool is a folder, in which each process has one file of its own (``<pid>-<random>.db``, see file.py), and beside it
a lock that ends with the process. A file without a living process is an orphan. A process that starts takes the largest orphan
as its own file; it opens the others as further sources, and drains them where they are. Nothing is copied, so nothing can be
repeated by copying. A file is removed when it has neither messages nor dead letters.

**In memory.** A call of any thread changes memory at once, and appends what it did to a queue. One thread writes what is in the
queue, in groups, in its order; it alone uses SQLite. Messages that do not fit into memory stand on disk alone, and the same
thread reads them back in their order.

**Invariants.**

1. A message is in exactly one place of the two: in ``Prefetch.ready``, or counted in the :class:`OnDiskRanges` of one file.
2. A message in memory has a row, or is in ``Source.fresh`` and will have one. One that is not in memory has a row, or is in
   ``Source.spilled``.
3. Its row has the message's id and is in the own file, unless ``Store._rows`` says where it is.
4. Every transaction writes down how many messages the file then has. Fewer rows than that, later, are lost messages.

**Locks**, in this order: the writer's ``gate`` (all of SQLite and of the store), then the prefetch's lock (all that is in memory).
A caller takes the second alone, and never waits for the disk under it. The writer takes it for moments, and gives up after 10 ms:
a signal handler may have interrupted the thread that holds it, and may be waiting for the writer.

**Forks.** The gate is taken before a fork, so that no thread is inside SQLite, and released afterwards. The child closes its copies
of the locks, keeps its copies of the connections for ever, unused, and starts empty with a file of its own. Where the gate could not
be had, SQLite's own locks may be held in the child: it keeps its messages in memory.
"""

from __future__ import annotations

import os
import sqlite3
import weakref

from collections.abc import Collection, Iterable
from typing import Any, Final

from wirewitness import fork
from wirewitness._guard import fail_open
from wirewitness.core.limits import positive, seconds
from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.message import Message, Origin
from wirewitness.outbox.spool import SpoolStats
from wirewitness.outbox.sqlite.directory import SpoolDirectory
from wirewitness.outbox.sqlite.faults import TROUBLES, Faults
from wirewitness.outbox.sqlite.prefetch import Prefetch
from wirewitness.outbox.sqlite.store import DeadLettered, Gone, Spilled, State, Store, Tried
from wirewitness.outbox.sqlite.writer import Ticket, WriterThread


_DURABILITIES: Final = ("group", "sync")
# What may wait to be written, beside what is kept in memory to be sent.
_STAGED_BYTES: Final = 48 << 20
_COMMIT_SECONDS: Final = 30.0
# How long a disk that hangs may hold a fork up.
_GATE_SECONDS: Final = 5.0
# When to look again for what is being read from disk.
_SOON: Final = 0.005
_DAY: Final = 86_400


class SqliteSpool:
    """
    Holds messages on disk, and those that are next in memory too.

    While the disk is full or fails, ``group`` keeps messages in memory, up to ``memory_bytes``, and writes them later; ``sync``
    refuses them, and ``overflow=Spill(MemorySpool())`` keeps them in memory then.

    Args:
        path: A folder. It is made, for this user alone, where it is missing. Any number of processes may use it.
        durability: ``group``: a put returns at once, and is on disk some ``group_interval`` later; it then outlives a
            SIGKILL of the process, and after about a second a loss of power. ``sync``: it returns when it is on disk.
        most: How many messages at most.
        most_bytes: How many bytes at most; as :attr:`~wirewitness.outbox.message.Message.size` counts them.
        memory_bytes: How many of these bytes are kept in memory. Up to 48 MiB that wait to be written come on top.
        group_interval: Seconds between two groups of ``group``.
        look_interval: Seconds between two looks for what dead processes have left.
        dead_letter_days: How long dead letters are kept, in days by this machine's clock.

    Raises:
        ConfigurationError: If a limit makes no sense, or the folder cannot be used. Not where the disk is full, or a file
            damaged: then see ``stats().faults``.
    """

    durable = True

    def __init__(  # noqa: PLR0913 -- every option has a default
        self,
        path: str | os.PathLike[str],
        durability: str = "group",
        *,
        most: int = 1_000_000,
        most_bytes: int = 1 << 30,
        memory_bytes: int = 64 << 20,
        group_interval: float = 0.005,
        look_interval: float = 30.0,
        dead_letter_days: float = 30.0,
    ) -> None:
        if durability not in _DURABILITIES:
            msg = f"durability={shown(durability)}: must be one of {', '.join(_DURABILITIES)}"
            raise ConfigurationError(msg)
        self._path = path
        self._sync = durability == "sync"
        self.most: int = positive("most", most)
        self.most_bytes: int = positive("most_bytes", most_bytes)
        self.memory_bytes: int = positive("memory_bytes", memory_bytes)
        self._interval = 0.0 if self._sync else seconds("group_interval", group_interval)
        self._look_interval = seconds("look_interval", look_interval)
        self._dead_seconds = _DAY * seconds("dead_letter_days", dead_letter_days)
        self._faults = Faults(path)
        self._directory = SpoolDirectory(path)
        self._gated = True
        self._empty()
        try:
            self._found = self._store.open()
        except (sqlite3.Error, OSError) as error:
            why = getattr(error, "strerror", None) or "SQLite can't open a file there"
            msg = f"{path} can't be written: {why}; name a folder that this process may write to"
            raise ConfigurationError(msg) from error
        _LIVING.add(self)

    def _empty(self, state: State = State.CLOSED) -> None:
        # New locks, too: in a child, those of the parent may be held for ever.
        self._prefetch = Prefetch(self.memory_bytes)
        self._store = Store(
            self._directory,
            self._prefetch,
            self._faults,
            full=self._sync,
            dead_bytes=self.most_bytes // 8,
            dead_seconds=self._dead_seconds,
            state=state,
        )
        self._writer = WriterThread(self._store, self._interval, self._look_interval)
        self._calls = self._writer.calls
        self._started = False
        self._found = 0
        self._dead_lettered = 0

    def start(self) -> int:
        """
        Count what earlier processes have left, and begin to take messages.
        """
        fork.check()
        if self._started:
            return 0
        self._started = True
        with self._writer.inside():
            self._begin()
        found, self._found = self._found, 0
        return found

    @fail_open("spool")
    def _begin(self) -> None:
        store = self._store
        if store.state is State.CLOSED:
            try:
                self._found = store.open()
            except (*TROUBLES, ConfigurationError) as error:
                # In a forked child, which may be another user's: it sends from memory, and tries again later.
                store.failed(error)
        while store.look():
            pass
        self._found += self._take_found()
        while store.reading and store.refill():
            pass

    def _take_found(self) -> int:
        store, number = self._store, 0
        if store.found:
            with self._prefetch.lock:
                found = [store.found.popleft() for _ in range(len(store.found))]
                store.set_others([*store.others, *found])
                number = sum([source.ranges.count for source in found])
        return number

    def abandon(self) -> None:
        """
        Hold nothing: this is a forked child.
        """
        # Where nobody could wait for it, the gate itself tells whether a thread that the child lacks is inside SQLite.
        gated = self._gated if fork.was_announced() else self._writer.gate.acquire(blocking=False)
        self._store.disown()
        self._faults.clear()
        self._empty(State.CLOSED if gated else State.UNUSABLE)

    def before_fork(self) -> None:
        """
        See that no thread is inside SQLite: its locks would stay held in the child.
        """
        self._writer.forking = True
        self._gated = self._writer.gate.acquire(timeout=_GATE_SECONDS)

    def after_fork(self) -> None:
        """
        Go on, in the parent.
        """
        self._writer.forking = False
        if self._gated:
            self._writer.gate.release()

    def adopt(self) -> int:
        """
        Take in what dead processes have left, and have the next look for it made, once it is time.
        """
        self._writer.looking = True
        self._writer.ring()
        return self._take_found()

    def take_lost(self) -> int:
        """
        How many messages turned out to be damaged or gone since the last call: they will not be claimed any more.
        """
        losses = self._store.losses
        return sum([losses.popleft() for _ in range(len(losses))])

    # Messages

    def put(self, message: Message) -> Reason | None:
        """
        Take a message, if there is room. With ``sync``, it is on disk when this returns.
        """
        fork.check()
        size = message.size
        if size > self.most_bytes:
            return Reason.TOO_LARGE
        prefetch = self._prefetch
        with prefetch.lock:
            refused = self._refused(size)
            if refused is not None:
                return refused
            try:
                message.id = next(self._store.ids)
                if self._sync:
                    pass
                # Called for before it can be claimed: an acknowledgement must come behind it.
                elif prefetch.full(size):
                    self._calls.append(Spilled(message))
                    prefetch.spill(message.id, size)
                else:
                    self._calls.append(message)
                    prefetch.ready.add(message)
            except BaseException:
                self._take_back(message)
                raise
        if self._sync:
            return self._put_and_wait(message, size)
        self._writer.ring()
        return None

    def _refused(self, size: int) -> Reason | None:
        prefetch, store = self._prefetch, self._store
        if not self._started:
            return Reason.SPOOL_FAILED
        if len(prefetch) >= self.most or prefetch.bytes + size > self.most_bytes:
            return Reason.QUEUE_FULL
        failing = store.state is not State.OPEN
        if failing and self._sync:
            return Reason.SPOOL_FAILED
        if prefetch.full(size):
            if store.own.file is None or store.state is State.BROKEN:
                return Reason.SPOOL_FAILED
            if prefetch.spilled_bytes - store.own.spilled_left > _STAGED_BYTES:
                return Reason.SPOOL_FAILED if failing else Reason.QUEUE_FULL
        return None

    def _take_back(self, message: Message) -> None:
        # A put that an exception from outside interrupts is none.
        if message.id:
            self._prefetch.ready.take_back(message)
            self._calls.append(Gone((message.id,)))
            message.id = 0

    def _put_and_wait(self, message: Message, size: int) -> Reason | None:
        writer, prefetch = self._writer, self._prefetch
        ticket = Ticket(message.id)
        try:
            self._calls.append(message)
            writer.ask(ticket, _COMMIT_SECONDS)
            # Inside the writer's own thread, where a finalizer may run, nothing can be waited for.
            if not ticket.durable and not writer.here:
                self._take_back(message)
                return Reason.SPOOL_FAILED
            with prefetch.lock:
                if prefetch.full(size) and ticket.durable:
                    prefetch.own.add(message.id, size)
                else:
                    prefetch.ready.add(message)
        except BaseException:
            self._take_back(message)
            raise
        return None

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out until they are acknowledged or put back: those in memory, and others are read meanwhile.
        """
        fork.check()
        claimed = self._prefetch.ready.claim(most, now, closed)
        if self._prefetch.hungry:
            self._writer.ring()
        return claimed

    def ack(self, messages: Iterable[Message]) -> None:
        """
        Forget messages. Should the process be killed before that is written, they come again.
        """
        gone = self._prefetch.ready.remove(messages)
        if gone:
            self._calls.append(Gone([message.id for message in gone]))
            self._writer.ring()

    def retry_at(self, message: Message, due: float) -> None:
        """
        Put a message back.
        """
        if self._prefetch.ready.put_back(message, due) and (message.attempts or due):
            self._calls.append(Tried(message.id, message.attempts, due))
            self._writer.ring()

    def dead_letter(self, message: Message, reason: str) -> None:
        """
        Keep a message as a dead letter, in an eighth of the space at most: the oldest make room.
        """
        if self._prefetch.ready.remove([message]):
            with self._prefetch.lock:
                self._dead_lettered += 1
            self._calls.append(DeadLettered(message, reason, steady_ns()))
            self._writer.ring()

    def evict(self) -> Message | None:
        """
        Take the oldest message out that is not claimed, of those in memory.
        """
        message = self._prefetch.ready.evict()
        if message is not None:
            self._calls.append(Gone((message.id,)))
            self._writer.ring()
        return message

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When something can be claimed, Unix seconds; 0 for now.
        """
        return self._prefetch.next_due(closed, steady() + _SOON)

    def stats(self) -> SpoolStats:
        """
        What it holds.
        """
        fork.check()
        prefetch, store = self._prefetch, self._store
        own, file = store.own, store.own.file
        with prefetch.lock:
            size = len(prefetch)
            unwritten = len(own.fresh) + len(own.spilled) + len(self._calls)
            return SpoolStats(
                size=size,
                claimed=prefetch.ready.claimed,
                later=prefetch.ready.later,
                bytes=prefetch.bytes,
                capacity=self.most,
                bytes_capacity=self.most_bytes,
                oldest_ns=prefetch.ready.oldest_ns,
                dead=self._dead_lettered - store.dead_lettered + store.dead,
                durable=0 if file is None or not file.stands else max(0, size - unwritten),
                faults=self._faults.items(),
            )

    def sync(self, timeout: float) -> bool:
        """
        Wait until all is on disk.
        """
        fork.check()
        ticket = Ticket()
        if self._started and self._writer.ask(ticket, timeout):
            return ticket.durable
        return not len(self._prefetch)

    def close(self) -> list[Message]:
        """
        Write what is left, and let go of the files; those that are empty are removed.

        Returns:
            The messages that could not be written.
        """
        fork.check()
        lost = self._writer.close()
        self._empty()
        return lost

    def __repr__(self) -> str:
        return f"<SqliteSpool {self._path} {len(self._prefetch)} of {self.most}>"


_LIVING: Final[weakref.WeakSet[SqliteSpool]] = weakref.WeakSet()


def _for_all(method: str) -> Any:
    return lambda: [getattr(spool, method)() for spool in tuple(_LIVING)]


fork.register(
    fork.ForkStage.SPOOLS,
    before=_for_all("before_fork"),
    in_parent=_for_all("after_fork"),
    in_child=_for_all("abandon"),
)
