"""
What a spool has on disk, and what is still to be written: this process's own file, and those that dead processes have left.

One thread at a time uses it, which holds the writer's gate.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import time

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wirewitness.errors import ConfigurationError
from wirewitness.outbox.clock import plausible_ns, steady, steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.directory import FAILED, FileLock, SpoolDirectory, remove, set_aside
from wirewitness.outbox.sqlite.faults import (
    CORRUPT,
    DISK_FULL,
    TROUBLES,
    UNREADABLE,
    Faults,
    Foreign,
    NewerSchema,
    kind_of,
)
from wirewitness.outbox.sqlite.file import MOST_ID, READ_BYTES, READ_ROWS, Batch, SpoolFile, finite, known_in, row_of
from wirewitness.outbox.sqlite.prefetch import OnDiskRanges, Prefetch


_FULL_SECONDS: Final = 0.5
_BROKEN_SECONDS: Final = 10.0
# Between two looks at what cannot be read or has only dead letters, and for dead letters that are too old.
_EXPIRE_SECONDS: Final = 600.0
_MOST_SOURCES: Final = 16
_MOST_DEAD_UNWRITTEN: Final = 1000
# A due time further off was made by a clock that was set back since.
_LONGEST_DELAY: Final = 3600.0


class State(enum.Enum):
    """
    ========  ==============================================  ====================================================
    state     what leads on                                   to
    ========  ==============================================  ====================================================
    CLOSED    ``open()``                                      OPEN; FULL where the disk is full; BROKEN else
    OPEN      a write that finds the disk full                FULL: what comes is kept in memory
    OPEN      a write or a read that fails otherwise          BROKEN: the file is let go
    FULL      a write that succeeds, tried every 0.5 s        OPEN
    FULL      a write or a read that fails otherwise          BROKEN
    BROKEN    a new file, tried at once and then every 10 s   OPEN; what memory holds is written into it
    any       ``close()``                                     CLOSED
    any       a fork, in the child                            CLOSED; UNUSABLE where a thread was inside SQLite then
    UNUSABLE                                                  for good: all is kept in memory
    ========  ==============================================  ====================================================
    """

    CLOSED = "closed"
    OPEN = "open"
    FULL = "full"
    BROKEN = "broken"
    UNUSABLE = "unusable"


class Spilled(NamedTuple):
    """
    A call: a message was put that is to stand on disk alone.
    """

    message: Message


class Gone(NamedTuple):
    """
    A call: messages are no more.
    """

    ids: Sequence[int]


class Tried(NamedTuple):
    """
    A call: a message was put back.
    """

    id: int
    attempts: int
    due: float


class DeadLettered(NamedTuple):
    """
    A call: a message became a dead letter.
    """

    message: Message
    reason: str
    at_ns: int


class SpoolSource:
    """
    One file with messages to send, and what is to be written to it.

    Attributes:
        file: None where there is none now.
        lock: The file's.
        ranges: Its messages that stand on disk alone.
        out: How many of its messages are in memory, but for this process's own file.
        broken: What went wrong, until the file is let go.
        failures: How often that was.
        fresh: Messages that are not on disk yet, and are in memory, too.
        spilled: Messages that are not on disk yet, and nowhere else.
        spilled_left: Bytes of all that were ever spilled, and are no more.
        gone: Ids of rows that are no more.
        tried: Attempts and due time, by id.
        dead: Rows of dead letters.
    """

    def __init__(self, file: SpoolFile | None = None, lock: FileLock | None = None) -> None:
        self.file = file
        self.lock = lock
        self.ranges: OnDiskRanges = OnDiskRanges()
        self.out: int = 0
        self.broken: BaseException | None = None
        self.failures: int = 0
        self.fresh: dict[int, Message] = {}
        self.spilled: dict[int, Message] = {}
        self.spilled_left: int = 0
        self.gone: list[int] = []
        self.tried: dict[int, tuple[int, float]] = {}
        self.dead: list[tuple[Any, ...]] = []

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self.fresh or self.spilled or self.gone or self.tried or self.dead)

    def batch(self) -> Batch:
        """
        What is to be written.
        """
        rows = [row_of(message) for held in (self.spilled, self.fresh) for message in held.values()]
        return Batch(rows, self.gone, [(id_, *tried) for id_, tried in self.tried.items()], self.dead)

    def written(self) -> None:
        """
        All of it is written.
        """
        self.spilled_left += sum([message.size for message in self.spilled.values()])
        self.fresh, self.spilled, self.gone, self.tried, self.dead = {}, {}, [], {}, []


class Store:
    """
    Writes, reads on, and lives with disks that are full, break, or forget.

    Args:
        directory: Where the files are.
        prefetch: What is in memory.
        faults: Where troubles are counted.
        full: Whether a commit is to outlive a loss of power.
        dead_bytes: The most bytes of dead letters.
        dead_seconds: How long dead letters are kept.

    Attributes:
        own: This process's own file.
        others: Those of dead processes, which are drained where they are. Replaced as a whole, see :meth:`set_others`.
        found: Such files that were opened, and are not among ``others`` yet.
        ids: Where the ids of messages come from.
        dead_lettered: How many calls of dead letters were taken in.
        losses: Numbers of messages that turned out to be damaged or gone after they were counted.
    """

    def __init__(  # noqa: PLR0913 -- it is where all of it meets
        self,
        directory: SpoolDirectory,
        prefetch: Prefetch,
        faults: Faults,
        *,
        full: bool,
        dead_bytes: int,
        dead_seconds: float,
        state: State = State.CLOSED,
    ) -> None:
        self._directory = directory
        self._prefetch = prefetch
        self._faults = faults
        self._full = full
        self._dead_bytes = dead_bytes
        self._dead_seconds = dead_seconds
        self.state: State = state
        self.own: SpoolSource = SpoolSource()
        prefetch.own = self.own.ranges
        self.others: tuple[SpoolSource, ...] = ()
        self.found: deque[SpoolSource] = deque()
        self.ids: itertools.count[int] = itertools.count(1)
        self.losses: deque[int] = deque()
        self.dead_lettered: int = 0
        # By the id of a message in memory, where its row is: only where that is not in the own file, under the same id.
        self._rows: dict[int, tuple[SpoolSource, int]] = {}
        self._again_at = 0.0
        self._broke_at = -_BROKEN_SECONDS
        self._expire_at = 0.0

    # Opening

    def open(self) -> int:
        """
        Take over the largest file of a dead process, or have a new one. On a full disk there is none, for now.

        Returns:
            How many messages are in it.

        Raises:
            ConfigurationError: If the folder cannot be used.
            OSError: If no file can be made.
            sqlite3.Error: If SQLite makes none.
        """
        if self.state is not State.CLOSED:
            return 0
        self._directory.make()
        try:
            orphans = (self._opened(lock) for lock in self._directory.orphans())
            source = next((source for source in orphans if source is not None), None) or self._new()
        except TROUBLES as error:
            if kind_of(error) != DISK_FULL:
                raise
            self._is_full(error)
            return 0
        self.own.ranges.take(source.ranges)
        if source.file is not None:
            self.ids = itertools.count(source.file.last_id + 1)
        self._use(source)
        return self.own.ranges.count

    def _new(self) -> SpoolSource:
        lock = self._directory.new()
        try:
            return SpoolSource(SpoolFile(lock.of, full=self._full), lock)
        except BaseException:
            remove(lock.of)
            lock.release(remove=True)
            raise

    def _use(self, source: SpoolSource) -> None:
        own, file = self.own, source.file
        own.file, own.lock, own.failures, own.broken = file, source.lock, 0, None
        self.state = State.OPEN
        if file is not None:
            file.keep_reserve()

    def _opened(self, lock: FileLock) -> SpoolSource | None:
        # The one boundary where whatever may stand in a dead process's file becomes a fault that is counted.
        path = lock.of
        try:
            file = SpoolFile(path, full=self._full)
            source = SpoolSource(file, lock)
            first, last, number, size = file.span()
            with contextlib.suppress(*TROUBLES):
                self._limit_dead(file)
        except (Foreign, NewerSchema):
            self._faults.count(UNREADABLE)
            self._directory.leave_alone(path, float("inf"))
            lock.release()
            return None
        except TROUBLES as error:
            self._faults.report(error)
            damaged = kind_of(error) == CORRUPT
            if damaged:
                self._faults.count(CORRUPT, max(0, known_in(path) - 1))
                self._set_aside(path, CORRUPT)
            self._directory.leave_alone(path, _EXPIRE_SECONDS)
            lock.release(remove=damaged)
            return None
        self._faults.count(CORRUPT, file.missing)
        if number:
            source.ranges.add_run(first, last, number, size)
        return source

    def _set_aside(self, path: Path, why: str) -> None:
        with contextlib.suppress(OSError):
            set_aside(path, why)

    def look(self) -> bool:
        """
        Open the file of one dead process, if there is any.

        Returns:
            Whether there was one.
        """
        if self.state in {State.CLOSED, State.UNUSABLE} or len(self.others) + len(self.found) >= _MOST_SOURCES:
            return False
        had = [source.lock.of for source in (self.own, *self.others, *self.found) if source.lock is not None]
        for lock in self._directory.orphans(had):
            source = self._opened(lock)
            if source is not None and source.ranges:
                self.found.append(source)
            elif source is not None:
                self._let_go(source)
                self._directory.leave_alone(lock.of, _EXPIRE_SECONDS)
            return True
        return False

    def set_others(self, others: Sequence[SpoolSource]) -> None:
        """
        Have these beside the own file, while the prefetch's lock is held.
        """
        self.others = tuple(others)
        self._prefetch.others = tuple([source.ranges for source in others])

    # What is to be written

    def take(self, call: Any) -> None:
        """
        Take in a call. Those about one message come in their order.

        Args:
            call: A message that was put, or a :class:`Spilled`, :class:`Gone`, :class:`Tried` or :class:`DeadLettered`.
        """
        kind, own = type(call), self.own
        if kind is Message:
            own.fresh[call.id] = call
        elif kind is Gone:
            for id_ in call.ids:
                self._forget(id_)
        elif kind is Spilled:
            own.spilled[call.message.id] = call.message
        elif kind is Tried:
            source, row = self._rows.get(call.id, (own, call.id))
            source.tried[row] = (call.attempts, finite(call.due))
        else:
            message: Message = call.message
            source, row = self._rows.get(message.id, (own, message.id))
            source.dead.append((*row_of(message, row), message.attempts, call.reason, call.at_ns))
            self.dead_lettered += 1
            self._forget(message.id)

    def _forget(self, id_: int) -> None:
        source, row = self._rows.pop(id_, (self.own, id_)) if self._rows else (self.own, id_)
        source.out -= source is not self.own
        # What was delivered before it was written needs no writing.
        if source.fresh.pop(row, None) is None:
            source.gone.append(row)
        if source.tried:
            source.tried.pop(row, None)

    def holds(self, id_: int) -> bool:
        """
        Whether a message is not on disk yet; 0 for any.
        """
        own = self.own
        return bool(own.fresh or own.spilled) if not id_ else id_ in own.fresh or id_ in own.spilled

    @property
    def unwritten(self) -> list[Message]:
        """The messages that are not on disk yet."""
        return [*self.own.spilled.values(), *self.own.fresh.values()]

    @property
    def dead(self) -> int:
        """How many dead letters there are in the files that are open, or are to be written to them."""
        sources = (self.own, *self.others)
        # Read once: the writer may let go of a file meanwhile.
        files = [source.file for source in sources]
        return sum([len(source.dead) for source in sources]) + sum([file.dead for file in files if file is not None])

    @property
    def settled(self) -> bool:
        """Whether there is nothing to do."""
        return self.state in {State.OPEN, State.CLOSED, State.UNUSABLE} and not any(
            source.pending or source.broken or (source.file and not source.file.settled)
            for source in (self.own, *self.others)
        )

    # Writing

    def commit(self) -> None:
        """
        Write what is pending, if the disk takes it.
        """
        own = self.own
        if self.state in {State.CLOSED, State.UNUSABLE}:
            return
        for source in (own, *self.others):
            self._watch_descriptors(source)
        if own.file is not None and own.broken is None and not own.file.stands:
            self._fail(own, FileNotFoundError(errno.ENOENT, "was removed while it was in use"))
        for source in (own, *self.others):
            if source.broken is not None:
                self._part_with(source)
        if time.monotonic() < self._again_at:
            return
        if own.file is None and own.broken is None:
            self._renew()
        for source in (own, *self.others):
            if source.file is not None and source.broken is None:
                self._write(source, source.file)
        for source in self.others:
            if not (source.ranges or source.out or source.pending or source.broken):
                with self._prefetch.soon() as got:
                    if got:
                        self._let_go(source)
                        self.set_others([one for one in self.others if one is not source])

    def _watch_descriptors(self, source: SpoolSource) -> None:
        # SQLite's went with the lock's. Nothing may be written to them, nor may they be closed: they can be others' by now.
        file, lock = source.file, source.lock
        if file is not None and lock is not None and source.broken is None and not lock.held:
            file.disown()
            source.file = source.lock = None
            self._fail(source, OSError(errno.EBADF, "its descriptors were closed"))

    def _write(self, source: SpoolSource, file: SpoolFile) -> None:
        try:
            if source.pending:
                file.write(source.batch())
                source.written()
                if file.dead_bytes > self._dead_bytes or time.monotonic() >= self._expire_at:
                    self._expire_at = time.monotonic() + _EXPIRE_SECONDS
                    self._limit_dead(file)
                if self.state is State.FULL and source is self.own:
                    self.state = State.OPEN
                    file.keep_reserve()
            elif self.state is State.FULL and source is self.own:
                # A spool that refuses messages has none to try it with.
                self._again_at = time.monotonic() + _FULL_SECONDS
                if file.keep_reserve():
                    self.state = State.OPEN
        except TROUBLES as error:
            self._fail(source, error)

    def _limit_dead(self, file: SpoolFile) -> None:
        file.limit_dead(self._dead_bytes, steady_ns() - int(self._dead_seconds * 1e9))

    def checkpoint(self) -> None:
        """
        Bring what was written to where a loss of power leaves it alone, now and then.
        """
        for source in (self.own, *self.others):
            if source.file is not None and source.broken is None and self.state is State.OPEN:
                try:
                    source.file.checkpoint()
                except TROUBLES as error:
                    self._fail(source, error)

    def _renew(self) -> None:
        try:
            self._directory.make()
            self._use(self._new())
        except (*TROUBLES, ConfigurationError) as error:
            if kind_of(error) == DISK_FULL:
                self._is_full(error)
                return
            self.failed(error)

    # Trouble

    def failed(self, error: BaseException) -> None:
        """
        Have no file for now, because there can be none.
        """
        self._faults.report(error)
        self.state = State.BROKEN
        self._again_at = time.monotonic() + _BROKEN_SECONDS

    def _fail(self, source: SpoolSource, error: BaseException) -> None:
        if kind_of(error) != DISK_FULL:
            self._faults.report(error)
            source.broken = error
            if source is self.own:
                self.state = State.BROKEN
                now = time.monotonic()
                self._again_at = now if now - self._broke_at > _BROKEN_SECONDS else now + _BROKEN_SECONDS
                self._broke_at = now
            return
        self._is_full(error)
        del source.dead[: max(0, len(source.dead) - _MOST_DEAD_UNWRITTEN)]
        if source.file is not None:
            # What was delivered makes room, and needs some for itself.
            source.file.release_reserve()
            try:
                source.file.write(Batch(gone=source.gone))
                source.gone = []
                source.file.checkpoint(now=True)
            except TROUBLES as another:
                if kind_of(another) != DISK_FULL:
                    self._fail(source, another)

    def _is_full(self, error: BaseException) -> None:
        if self.state is not State.FULL:
            self._faults.report(error)
        self.state = State.FULL
        self._again_at = time.monotonic() + _FULL_SECONDS

    def _part_with(self, source: SpoolSource) -> None:
        # What memory holds of the file is written anew, into one that works. What stands on the disk alone is read on from the
        # file, if it can be opened once more: SQLite has told of the failure, and the system may not tell it a second time. Else the
        # file is set aside, and what is gone with it is counted.
        with self._prefetch.soon() as got:
            if not got:
                return
            own = self.own
            again = self._opened_again(source)
            for message in self._prefetch.ready.messages():
                at, row = self._rows.get(message.id, (own, message.id))
                if at is not source or message.id in own.fresh:
                    continue
                self._rows.pop(message.id, None)
                source.gone.append(row)
                own.fresh[message.id] = message
                if message.attempts or message.due:
                    own.tried[message.id] = (message.attempts, finite(message.due))
            others = [one for one in self.others if one is not source]
            if source is own:
                on_disk = OnDiskRanges()
                on_disk.take(own.ranges)
                for message in own.spilled.values():
                    on_disk.remove(message.size)
                    own.ranges.add(message.id, message.size)
            else:
                on_disk = source.ranges
                own.dead += [(next(self.ids), *row[1:]) for row in source.dead]
            if again is None:
                self.losses.append(on_disk.count)
            else:
                again.ranges, again.gone, again.failures = on_disk, source.gone, 1
                others.append(again)
            if source is own:
                own.file, own.lock, own.broken, own.gone = None, None, None, []
            self.set_others(others)

    def _opened_again(self, source: SpoolSource) -> SpoolSource | None:
        file, lock = source.file, source.lock
        if file is None or lock is None:
            # Its descriptors were closed. It is whole, and another process's to drain.
            return None
        stands = file.stands
        with contextlib.suppress(*TROUBLES):
            file.close()
        error = source.broken
        if stands and not source.failures:
            try:
                return SpoolSource(SpoolFile(lock.of, full=self._full), lock)
            except (*TROUBLES, Foreign, NewerSchema) as another:
                error = another
        if stands and error is not None:
            self._set_aside(lock.of, CORRUPT if kind_of(error) == CORRUPT else FAILED)
        lock.release(remove=True)
        return None

    # Reading on

    @property
    def reading(self) -> bool:
        """Whether messages should be read from disk."""
        return self._prefetch.hungry

    def refill(self) -> bool:
        """
        Read messages that stand on disk alone. All calls must be taken in before.

        Returns:
            Whether some were read.
        """
        # The older ones first.
        for source in (*self.others, self.own):
            run = source.ranges.first
            if run is not None and source.broken is None and self._read_on(source, *run):
                return True
        return False

    def _read_on(self, source: SpoolSource, first: int, last: int) -> bool:
        ranges, prefetch = source.ranges, self._prefetch
        most = max(1, min(READ_ROWS, READ_BYTES * ranges.count // max(1, ranges.bytes)))
        try:
            records = [] if source.file is None else source.file.read(first, last, most)
        except TROUBLES as error:
            self._fail(source, error)
            return False
        # What comes after them in the run is read next time: a chunk is bounded in bytes, too.
        upto = records[-1].id if records else last
        spilled = [message for id_, message in source.spilled.items() if first <= id_ <= upto]
        latest = steady() + _LONGEST_DELAY
        with prefetch.soon() as got:
            if not got:
                return False
            messages = [*spilled]
            for record in records:
                message = record.message
                if message is None:
                    continue
                if source is not self.own or not 0 < record.id < MOST_ID:
                    message.id = next(self.ids)
                    self._rows[message.id] = (source, record.id)
                    source.out += source is not self.own
                message.due = min(message.due, latest)
                # Another process's clock may have been wrong: what it accepted must not expire for that.
                message.accepted_ns = plausible_ns(message.accepted_ns)
                messages.append(message)
            for message in sorted(messages, key=lambda message: message.id):
                prefetch.ready.add(message)
            size = sum([record.size for record in records]) + sum([message.size for message in spilled])
            ranges.advance(upto, len(records) + len(spilled), size)
            missing = ranges.settle()
        for message in spilled:
            del source.spilled[message.id]
            source.fresh[message.id] = message
            source.spilled_left += message.size
        damaged = [record.id for record in records if record.message is None]
        self._faults.count(CORRUPT, len(damaged) + missing)
        if damaged or missing:
            self.losses.append(len(damaged) + missing)
        try:
            for row in damaged:
                if source.file is not None:
                    source.file.set_dead(row, CORRUPT, steady_ns())
        except TROUBLES as error:
            self._fail(source, error)
        return True

    # End

    def _let_go(self, source: SpoolSource) -> None:
        file, lock, source.file, source.lock = source.file, source.lock, None, None
        empty = file is not None and file.empty and file.stands
        if file is not None:
            file.release_reserve()
            with contextlib.suppress(*TROUBLES):
                file.close()
        if lock is not None:
            if empty:
                remove(lock.of)
            lock.release(remove=empty)

    def close(self) -> None:
        """
        Write what is left, and close the files; those that are empty are removed.
        """
        self._again_at = 0.0
        self.commit()
        for source in (self.own, *self.others, *self.found):
            self._let_go(source)
        self.state = State.CLOSED

    def disown(self) -> None:
        """
        Leave the parent's files and locks alone, in a forked child.
        """
        for source in (self.own, *self.others, *self.found):
            if source.file is not None:
                source.file.disown()
            if source.lock is not None:
                source.lock.release()
