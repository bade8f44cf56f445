"""
The spool on disk, as an Outbox sees it.
"""

from __future__ import annotations

import os
import sqlite3

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
from wirewitness.outbox.sqlite import forks
from wirewitness.outbox.sqlite.committer import Committer, Ticket
from wirewitness.outbox.sqlite.faults import BUSY, TROUBLES, Faults, Foreign, NewerSchema, kind_of
from wirewitness.outbox.sqlite.journal import Journal
from wirewitness.outbox.sqlite.pending import Buried, Gone, Spilled, Tried
from wirewitness.outbox.sqlite.place import place_of
from wirewitness.outbox.sqlite.schema import VERSION
from wirewitness.outbox.sqlite.window import Window


_DURABILITIES: Final = ("group", "sync")
_DEGRADES: Final = ("memory", "refuse")
# What may wait to be written, beside what's kept in memory to be sent.
_STAGED_BYTES: Final = 48 << 20
_COMMIT_SECONDS: Final = 30.0
# How long a disk that hangs may hold a fork up. The child then keeps its messages in memory: SQLite's locks may be held.
_GATE_SECONDS: Final = 5.0
# When to look again for what is being read from disk.
_SOON: Final = 0.005


class SqliteSpool:
    """
    Holds messages on disk, and those that are next in memory too.

    A file belongs to one process. A path that's a folder, or ends with a separator, is for many: each keeps a file of its
    own in it, and what a dead one has left is adopted by the living. A forked child of a process with a file gets one
    beside it, which the next start adopts.

    Args:
        path: The file, or the folder.
        durability: ``group``: a put returns at once, and is on disk some ``group_interval`` later; it then outlives a
            SIGKILL of the process, and after about a second a loss of power. ``sync``: it returns when it's on disk.
        most: How many messages at most.
        most_bytes: How many bytes at most; as :attr:`~wirewitness.outbox.message.Message.size` counts them.
        memory_bytes: How many of these bytes are kept in memory. Up to 48 MiB that wait to be written come on top.
        group_interval: Seconds between two groups of ``group``.
        degrade: What to do while the disk is full or broken: ``memory`` keeps as much as ``memory_bytes`` allows in
            memory alone, ``refuse`` takes nothing. None for ``memory`` with ``group``, and ``refuse`` with ``sync``.
        adopt_interval: Seconds between two looks for what dead processes have left.
        dead_letter_days: How long dead letters are kept, in days by this machine's clock.

    Raises:
        ConfigurationError:
            If a limit makes no sense, the path can't be written, a living process has it, or a later version or another
            application made it. Not where the disk is full, or the file damaged: then see ``stats().faults``.
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
        degrade: str | None = None,
        adopt_interval: float = 30.0,
        dead_letter_days: float = 30.0,
    ) -> None:
        self._path = path
        self._sync = _one_of("durability", durability, _DURABILITIES) == "sync"
        self._refuse = _one_of("degrade", degrade or _DEGRADES[self._sync], _DEGRADES) == "refuse"
        self.most: int = positive("most", most)
        self.most_bytes: int = positive("most_bytes", most_bytes)
        self.memory_bytes: int = positive("memory_bytes", memory_bytes)
        self._interval = 0.0 if self._sync else seconds("group_interval", group_interval)
        self._adopt_interval = seconds("adopt_interval", adopt_interval)
        self._faults = Faults(path)
        self._gated = True
        self._place = place_of(path)
        self._journal = Journal(
            self._place,
            full=self._sync,
            dead_bytes=self.most_bytes // 8,
            dead_seconds=86_400 * seconds("dead_letter_days", dead_letter_days),
            faults=self._faults,
        )
        self._empty()
        self._open()
        forks.tell(self)

    def _empty(self) -> None:
        self._window = Window(self.memory_bytes)
        self._committer = Committer(
            self._journal, self._window, self._place, self._faults, self._interval, self._adopt_interval
        )
        self._calls = self._committer.calls
        self._started = False
        self._buried = 0

    def _open(self) -> None:
        try:
            self._begin()
        except NewerSchema as error:
            msg = f"{self._path} has schema {error}, and this wirewitness knows {VERSION}: upgrade it, or name another path"
            raise ConfigurationError(msg) from error
        except Foreign as error:
            msg = f"{self._path} is another application's database: name another path"
            raise ConfigurationError(msg) from error
        except sqlite3.Error as error:
            why = "another program has it open: close that" if kind_of(error) == BUSY else "SQLite can't open it"
            msg = f"{self._path}: {why}, or name another path"
            raise ConfigurationError(msg) from error
        except OSError as error:
            msg = f"{self._path} can't be written: {error.strerror}; name a path in a folder that this process may write to"
            raise ConfigurationError(msg) from error

    def _begin(self) -> None:
        try:
            self._journal.open()
        except BaseException:
            # Where there is no spool, nothing may stay locked.
            self._journal.let_go()
            raise

    # Beginning and forks

    def start(self) -> int:
        """
        Count what earlier processes have left, adopt what dead ones have, and begin to write.
        """
        if self._started:
            return 0
        self._started = True
        self._prepare()
        number = self._take_found()
        self._fill()
        self._committer.start()
        return number

    @fail_open("spool")
    def _fill(self) -> None:
        with self._committer.gate:
            self._committer.fill()

    @fail_open("spool")
    def _prepare(self) -> None:
        committer, journal = self._committer, self._journal
        with committer.gate:
            if journal.path is None and journal.usable:
                try:
                    self._begin()
                except TROUBLES as error:
                    # In a forked child, which may be another user's: it sends from memory, and tries again later.
                    self._faults.report(error)
            committer.found += [*journal.found, *committer.adoptions()]
            journal.found = []

    def _take_found(self) -> int:
        found, window, number = self._committer.found, self._window, 0
        while found:
            some = found.popleft()
            if some.number:
                with window.lock:
                    window.tail.add_run(*some)
                number += some.number
        self._committer.ring()
        return number

    def abandon(self) -> None:
        """
        Hold nothing: this is a forked child.
        """
        # Where nobody could wait for it, the gate itself tells whether a thread that the child lacks is inside SQLite.
        gated = self._gated if fork.was_announced() else self._committer.gate.acquire(blocking=False)
        self._committer.disown()
        self._journal.disown(usable=gated)
        self._faults.clear()
        self._empty()

    def before_fork(self) -> None:
        """
        See :class:`wirewitness.outbox.sqlite.forks.Forked`.
        """
        self._committer.forking = True
        self._gated = self._committer.gate.acquire(timeout=_GATE_SECONDS)

    def after_fork(self) -> None:
        """
        See :class:`wirewitness.outbox.sqlite.forks.Forked`.
        """
        self._committer.forking = False
        if self._gated:
            self._committer.gate.release()

    def adopt(self) -> int:
        """
        Take in what dead processes have left, and have the next look for it made, once it's time.
        """
        self._committer.looking = True
        return self._take_found()

    def take_lost(self) -> int:
        """
        How many messages turned out to be damaged or gone since the last call: they will not be claimed any more.
        """
        lost = self._committer.lost
        self._committer.lost -= lost
        return lost

    # Messages

    def put(self, message: Message) -> Reason | None:
        """
        Take a message, if there's room. With ``sync``, it's on disk when this returns.
        """
        size = message.size
        if size > self.most_bytes:
            return Reason.TOO_LARGE
        window = self._window
        with window.lock:
            refused = self._refused(size)
            if refused is not None:
                return refused
            try:
                message.id = next(self._journal.ids)
                if not self._sync:
                    self._admit(message, size)
            except BaseException:
                self._take_back(message)
                raise
        if self._sync:
            refused = self._put_and_wait(message, size)
            if refused is not None:
                message.id = 0
            return refused
        self._committer.ring()
        return None

    def _refused(self, size: int) -> Reason | None:
        window = self._window
        if not self._started:
            return Reason.SPOOL_FAILED
        if len(window) >= self.most or window.bytes + size > self.most_bytes:
            return Reason.QUEUE_FULL
        failing = self._journal.failing
        if failing and self._refuse:
            return Reason.SPOOL_FAILED
        if window.full(size):
            if self._journal.file is None:
                return Reason.SPOOL_FAILED
            if window.spilled_bytes - self._journal.pending.left_bytes > _STAGED_BYTES:
                return Reason.SPOOL_FAILED if failing else Reason.QUEUE_FULL
        return None

    def _admit(self, message: Message, size: int) -> None:
        # Called for before it can be claimed: an acknowledgement must come behind it.
        window = self._window
        if window.full(size):
            self._calls.append(Spilled(message))
            window.spill(message.id, size)
        else:
            self._calls.append(message)
            window.shelf.add(message)

    def _take_back(self, message: Message) -> None:
        # A put that an exception from outside interrupts is none.
        if message.id:
            self._window.shelf.take_back(message)
            self._calls.append(Gone((message.id,)))
            message.id = 0

    def _put_and_wait(self, message: Message, size: int) -> Reason | None:
        committer, window = self._committer, self._window
        ticket = Ticket(message.id)
        try:
            self._calls.append(message)
            answered = committer.ask(ticket, _COMMIT_SECONDS)
        except BaseException:
            self._take_back(message)
            raise
        if answered and not ticket.durable and self._refuse:
            self._calls.append(Gone((message.id,)))
            return Reason.SPOOL_FAILED
        with window.lock:
            try:
                if window.full(size) and ticket.durable:
                    window.tail.add(message.id, size)
                else:
                    window.shelf.add(message)
            except BaseException:
                self._take_back(message)
                raise
        return None

    def claim(self, most: int, now: float, closed: Collection[Origin] = ()) -> list[Message]:
        """
        Take messages out until they are acknowledged or put back: those in memory, and others are read meanwhile.
        """
        claimed = self._window.shelf.claim(most, now, closed)
        if self._window.hungry:
            self._committer.ring()
        return claimed

    def ack(self, messages: Iterable[Message]) -> None:
        """
        Forget messages. Should the process be killed before that's written, they come again.
        """
        gone = self._window.shelf.remove(messages)
        if gone:
            self._calls.append(Gone([message.id for message in gone]))
            self._committer.ring()

    def retry_at(self, message: Message, due: float) -> None:
        """
        Put a message back.
        """
        if self._window.shelf.put_back(message, due) and (message.attempts or due):
            self._calls.append(Tried(message.id, message.attempts, due))
            self._committer.ring()

    def bury(self, message: Message, reason: str) -> None:
        """
        Keep a message as a dead letter, in an eighth of the space at most: the oldest make room.
        """
        if self._window.shelf.remove([message]):
            with self._window.lock:
                self._buried += 1
            self._calls.append(Buried(message, reason, steady_ns()))
            self._committer.ring()

    def evict(self) -> Message | None:
        """
        Take the oldest out that isn't claimed, of those in memory.
        """
        message = self._window.shelf.evict()
        if message is not None:
            self._calls.append(Gone((message.id,)))
            self._committer.ring()
        return message

    def next_due(self, closed: Collection[Origin] = ()) -> float | None:
        """
        When something can be claimed, Unix seconds; 0 for now.
        """
        return self._window.next_due(closed, steady() + _SOON)

    def stats(self) -> SpoolStats:
        """
        What it holds.
        """
        window, pending, file = self._window, self._journal.pending, self._journal.file
        with window.lock:
            size = len(window)
            return SpoolStats(
                size=size,
                claimed=window.shelf.claimed,
                later=window.shelf.later,
                bytes=window.bytes,
                capacity=self.most,
                bytes_capacity=self.most_bytes,
                oldest_ns=window.shelf.oldest_ns,
                dead=self._buried - pending.buried + pending.dead + (0 if file is None else file.dead),
                durable=0 if file is None or not file.stands else max(0, size - len(pending) - len(self._calls)),
                faults=self._faults.items(),
            )

    def sync(self, timeout: float) -> bool:
        """
        Wait until all is on disk.
        """
        ticket = Ticket()
        if self._started and self._committer.ask(ticket, timeout):
            return ticket.durable
        return not len(self._window)

    def close(self) -> list[Message]:
        """
        Write what's left, and let go of the file; one of a folder is removed if it's empty.

        Returns:
            The messages that couldn't be written.
        """
        lost = self._committer.close()
        self._empty()
        return lost

    def __repr__(self) -> str:
        return f"<SqliteSpool {self._path} {len(self._window)} of {self.most}>"


def _one_of(name: str, given: Any, known: tuple[str, ...]) -> str:
    if given not in known:
        msg = f"{name}={shown(given)}: must be one of {', '.join(known)}"
        raise ConfigurationError(msg)
    return str(given)
