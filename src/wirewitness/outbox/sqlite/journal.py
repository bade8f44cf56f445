"""
The durable side of a spool: what is to be written, and the file that it's written to. One thread at a time uses it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import sqlite3
import time

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wirewitness.errors import ConfigurationError
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.faults import (
    CORRUPT,
    DISK_FULL,
    IO_ERROR,
    TROUBLES,
    UNREADABLE,
    Faults,
    Foreign,
    NewerSchema,
    kind_of,
)
from wirewitness.outbox.sqlite.file import READ_ROWS, Batch, SpoolFile
from wirewitness.outbox.sqlite.lock import FileLock
from wirewitness.outbox.sqlite.pending import Pending
from wirewitness.outbox.sqlite.place import Place, file_of, remove, set_aside
from wirewitness.outbox.sqlite.record import Record, row_of
from wirewitness.outbox.sqlite.reserve import Reserve
from wirewitness.outbox.sqlite.salvage import Wreck
from wirewitness.outbox.sqlite.survey import Found, survey


# How long a full disk is left alone, and a broken one.
# Between two looks for dead letters that are too old.
_EXPIRE_SECONDS: Final = 600.0
_FULL_SECONDS: Final = 0.5
_BROKEN_SECONDS: Final = 10.0
_MOST_DEAD_PENDING: Final = 1000

# What a disk that works keeps a file from being made by.
_UNUSABLE: Final = (*TROUBLES, ConfigurationError, Foreign, NewerSchema)


class NotNow(Exception):  # noqa: N818 -- it says what there is
    """
    There is no file to read or write now.
    """


class Journal:
    """
    Writes, and lives with disks that are full, break, or forget.

    Attributes:
        pending: What is to be written.
        file: The open file; None where there is none now.
        found: Messages that files have which this process didn't put.
        failing: What is wrong with the disk: the kind of trouble, or None.
        wanted: Whether there is to be a file: from being opened until being closed.
        usable: Whether SQLite may be used in this process.
        ids: Where the ids of messages come from.

    Args:
        place: Where the file is.
        full: Whether a commit is to outlive a loss of power.
        dead_bytes: The most bytes of dead letters.
        dead_seconds: How long dead letters are kept.
        faults: Where troubles are counted.
    """

    def __init__(self, place: Place, *, full: bool, dead_bytes: int, dead_seconds: float, faults: Faults) -> None:
        self._place = place
        self._full = full
        self._dead_bytes = dead_bytes
        self._dead_seconds = dead_seconds
        self._expired_at = float("-inf")
        self._faults = faults
        self.usable: bool = True
        self.forget()

    def forget(self) -> None:
        """
        Have no file, and nothing to write.
        """
        self.pending: Pending = Pending()
        self.file: SpoolFile | None = None
        self.failing: str | None = None
        self.wanted: bool = False
        self.ids: itertools.count[int] = itertools.count(1)
        self.found: list[Found] = []
        self._lock: FileLock | None = None
        self._again_at = 0.0
        self._gave_up_at = -_BROKEN_SECONDS
        self._broken: str | None = None
        self._wrecks: list[Wreck] = []
        self._surveyed = False

    def disown(self, *, usable: bool) -> None:
        """
        Leave the parent's file and lock alone, in a forked child.

        Args:
            usable: Whether nobody was inside SQLite when it was born.
        """
        self.usable = usable
        if self.file is not None:
            self.file.disown()
        if self._lock is not None:
            self._lock.disown()
        self.forget()

    @property
    def path(self) -> Path | None:
        """The file that is this process's own."""
        return None if self._lock is None else file_of(self._lock)

    # Beginning

    def open(self) -> None:
        """
        Open the file. A damaged one is set aside; on a full or broken disk there is none, for now.

        Raises:
            ConfigurationError: If a living process has it.
            NewerSchema: If a later version wrote it.
            Foreign: If it's another application's.
            OSError: If it can't be made.
            sqlite3.Error: If another program has it.
        """
        self.wanted = True
        try:
            self._lock = self._lock or self._place.take()
            try:
                self._open(file_of(self._lock))
            except (Foreign, NewerSchema):
                # A file that was named must be as it should; one that was found is left alone.
                if self._place.kept:
                    raise
                self._open(self._another(self._lock))
        except TROUBLES as error:
            if kind_of(error) != DISK_FULL:
                raise
            self._fail(error)

    def _another(self, lock: FileLock) -> Path:
        self._faults.count(UNREADABLE)
        self._place.shun(file_of(lock))
        lock.release()
        self._lock = self._place.new()
        return file_of(self._lock)

    def _open(self, path: Path) -> None:
        try:
            self._use(self._opened(path))
        except TROUBLES as error:
            if isinstance(error, OSError) or kind_of(error) not in {CORRUPT, IO_ERROR}:
                raise
            self._fail(error)
            self.reopen()

    def _opened(self, path: Path) -> SpoolFile:
        file = SpoolFile(path, full=self._full)
        try:
            file.check()
        except BaseException:
            with contextlib.suppress(*TROUBLES):
                file.close()
            raise
        return file

    def _use(self, file: SpoolFile) -> None:
        if not self._surveyed:
            last = file.last_id
            if next(self.ids) <= last:
                self.ids = itertools.count(last + 1)
            try:
                self.found += survey(file, self._faults)
            except BaseException:
                # An open connection would lock whoever salvages the file out.
                with contextlib.suppress(*TROUBLES):
                    file.close()
                raise
            self._surveyed = True
        self._expire_dead(file)
        self.file, self.failing = file, None
        Reserve(file.path).keep()

    # Writing

    def commit(self) -> None:
        """
        Write what is pending, if the disk takes it.
        """
        pending, file = self.pending, self.file
        if file is not None and not file.stands:
            self._vanished()
            return
        if file is None or (self.failing and time.monotonic() < self._again_at):
            return
        if not pending.any:
            self._probe(file)
            return
        try:
            file.write(pending.batch())
            pending.written()
            file.trim_dead(self._dead_bytes)
            self._expire_dead(file)
        except TROUBLES as error:
            self._fail(error)
            self._relieve()
            pending.trim(_MOST_DEAD_PENDING)
        else:
            if self.failing:
                self._use(file)

    def _expire_dead(self, file: SpoolFile) -> None:
        now = time.monotonic()
        if now - self._expired_at >= _EXPIRE_SECONDS:
            self._expired_at = now
            file.expire_dead(steady_ns() - int(self._dead_seconds * 1e9))

    def _vanished(self) -> None:
        # Nothing that was written is kept any more. What memory holds is written into a new file, at another path.
        self._fail(FileNotFoundError(errno.ENOENT, "was removed while it was in use"))
        lock, self._lock, self._broken, self._again_at = self._lock, None, None, 0.0
        if lock is not None:
            self._place.shun(file_of(lock))
            lock.release()

    def _probe(self, file: SpoolFile) -> None:
        # A spool that refuses messages has none to try it with.
        if self.failing:
            self._again_at = time.monotonic() + _FULL_SECONDS
            if Reserve(file.path).keep():
                self.failing = None

    def _relieve(self) -> None:
        # What was acknowledged makes room, and needs some for itself.
        if self.file is None:
            return
        Reserve(self.file.path).release()
        try:
            self.file.write(self.pending.relief())
            self.pending.relieved()
            self.file.checkpoint(now=True)
        except TROUBLES as error:
            if kind_of(error) != DISK_FULL:
                self._fail(error)

    def checkpoint(self) -> None:
        """
        Bring what was written to where a loss of power leaves it alone, now and then.
        """
        if self.file is not None and not (self.failing and time.monotonic() < self._again_at):
            try:
                self.file.checkpoint()
            except TROUBLES as error:
                self._fail(error)

    @property
    def settled(self) -> bool:
        """Whether there's nothing to do."""
        return not self.pending.any and not self.failing and (self.file is None or self.file.settled)

    # Trouble

    def _fail(self, error: BaseException) -> None:
        kind = kind_of(error)
        if kind != self.failing or kind != DISK_FULL:
            self._faults.report(error)
        self.failing = kind
        self._again_at = time.monotonic() + _FULL_SECONDS
        if not self._surveyed:
            # The file is yet to be seen: beyond all ids that it can have.
            self.ids = itertools.count(time.time_ns() // 1000)
        if kind != DISK_FULL:
            self.give_up("corrupt" if kind == CORRUPT else "failed")

    def give_up(self, why: str) -> None:
        """
        Use the file no more: what SQLite has failed to write or to read once is never tried again.
        """
        file, self.file, self._broken = self.file, None, why
        if file is not None:
            with contextlib.suppress(*TROUBLES):
                file.close()
        now = time.monotonic()
        self._again_at = now if now - self._gave_up_at > _BROKEN_SECONDS else now + _BROKEN_SECONDS
        self._gave_up_at = now

    @property
    def due(self) -> bool:
        """Whether a new file should be tried in place of one that was given up."""
        return self.file is None and self.wanted and self.usable and time.monotonic() >= self._again_at

    def reopen(self) -> bool:
        """
        Have a new file, with what can be read of the one that was given up.

        Returns:
            Whether there is one.
        """
        file: SpoolFile | None = None
        try:
            self._lock = self._lock or self._place.take()
            path = file_of(self._lock)
            self._set_aside(path)
            file = self._opened(path)
            self._rescue(file)
            self._use(file)
        except _UNUSABLE as error:
            self._drop(file, error)
        return self.file is not None

    def _drop(self, file: SpoolFile | None, error: BaseException) -> None:
        kind = kind_of(error)
        if kind != self.failing:
            self._faults.report(error)
        self.failing = kind
        if isinstance(error, sqlite3.Error) and kind in {CORRUPT, IO_ERROR}:
            self._broken = "failed"
        if file is not None:
            with contextlib.suppress(*TROUBLES):
                file.close()
        self._again_at = time.monotonic() + (_FULL_SECONDS if kind == DISK_FULL else _BROKEN_SECONDS)

    def _set_aside(self, path: Path) -> None:
        if self._broken is not None and path.exists():
            self._wrecks.append(Wreck(set_aside(path, self._broken)))
        self._broken = None

    def _rescue(self, file: SpoolFile) -> None:
        while self._wrecks:
            read = 0
            for records in self._wrecks[0].messages():
                read += len(records)
                found = [record for record in records if self.pending.keeps(record.id)]
                self._faults.count(CORRUPT, sum([record.message is None for record in found]))
                file.write(Batch(rows=[row_of(record.message) for record in found if record.message is not None]))
            self._faults.count(CORRUPT, self._wrecks[0].missing(read))
            for rows in self._wrecks[0].dead_letters():
                file.write(Batch(dead=rows))
            del self._wrecks[0]

    # What isn't this process's own

    def adopt(self, batch: Batch) -> int:
        """
        Write what others have left.

        Returns:
            How many messages weren't there yet.

        Raises:
            NotNow: If the disk doesn't take it.
        """
        if self.file is None or self.failing:
            raise NotNow
        try:
            return self.file.write(batch)
        except TROUBLES as error:
            self._fail(error)
            raise NotNow from error

    def read(self, first: int, last: int, most: int = READ_ROWS) -> list[Record]:
        """
        Read messages; a file that can't be read is given up.

        Raises:
            NotNow: If it can't be read now.
        """
        if self.file is None:
            raise NotNow
        try:
            return self.file.read(first, last, most)
        except TROUBLES as error:
            self._fail(error)
            raise NotNow from error

    def bury(self, number: int) -> None:
        """
        Make a dead letter of a row that can't be read.
        """
        self._faults.count(CORRUPT)
        try:
            if self.file is not None:
                self.file.bury(number, CORRUPT, steady_ns())
        except TROUBLES as error:
            self._fail(error)

    # End

    def restage(self, messages: Iterable[Message]) -> None:
        """
        Have messages written that the file that was given up had.
        """
        fresh = self.pending.fresh
        for message in messages:
            fresh.setdefault(message.id, message)

    def close(self) -> None:
        """
        Write what's left, close the file, and remove it if it's empty and nobody's but this process's.
        """
        self._again_at = 0.0
        self.commit()
        self.checkpoint()
        kept = True
        if self.file is not None:
            with contextlib.suppress(*TROUBLES):
                kept = self._place.kept or not self.file.empty
                self.file.shrink()
            with contextlib.suppress(*TROUBLES):
                self.file.close()
        self._let_go(kept=kept)

    def let_go(self) -> None:
        """
        Have no lock, where the file cannot be opened.
        """
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _let_go(self, *, kept: bool) -> None:
        lock, self._lock, self.file = self._lock, None, None
        if lock is None:
            return
        path = file_of(lock)
        Reserve(path).release()
        with contextlib.suppress(OSError):
            if not kept:
                remove(path)
        lock.release(remove=not kept)
