"""
How what a dead process has left comes into the file of a living one.
"""

from __future__ import annotations

import contextlib

from collections.abc import Iterator, Sequence
from typing import Any

from wirewitness.outbox.sqlite.faults import CORRUPT, TROUBLES, UNREADABLE, Faults, Foreign, NewerSchema, kind_of
from wirewitness.outbox.sqlite.file import Batch, SpoolFile
from wirewitness.outbox.sqlite.journal import Journal, NotNow
from wirewitness.outbox.sqlite.lock import FileLock
from wirewitness.outbox.sqlite.place import Place, file_of, remove, set_aside
from wirewitness.outbox.sqlite.record import Record, finite, row_of
from wirewitness.outbox.sqlite.salvage import Wreck
from wirewitness.outbox.sqlite.survey import Found, found_in


_ID, _ACCEPTED, _ORIGIN = 0, 5, 6


class _Unreadable(Exception):  # noqa: N818 -- it says what there is
    """
    The orphan is damaged, and was set aside.
    """


class Adoption:
    """
    Copies what an orphan has, chunk by chunk, and removes it.

    A crash in the middle repeats nothing: every row is copied with its identity, and one that's there isn't copied again.

    Args:
        lock: The orphan's, held.
        journal: What's copied into.
        place: Where it was found.
        faults: Where troubles are counted.
    """

    def __init__(self, lock: FileLock, journal: Journal, place: Place, faults: Faults) -> None:
        self._lock = lock
        self._place = place
        self._path = file_of(lock)
        self._journal = journal
        self._faults = faults
        self._damaged = False

    def steps(self) -> Iterator[Found]:
        """
        Copy, a chunk a step.
        """
        done = False
        try:
            try:
                yield from self._copies(self._open())
            except _Unreadable:
                self._damaged = False
                yield from self._copies(self._set_aside())
            done = True
        except NotNow:
            # Another time, or by another process.
            pass
        except (Foreign, NewerSchema, *TROUBLES):
            self._faults.count(UNREADABLE)
            self._place.shun(self._path)
        finally:
            self._end(done=done)

    def _open(self) -> SpoolFile:
        with self._reading():
            source = SpoolFile(self._path)
            with contextlib.ExitStack() as on_error:
                on_error.callback(source.close)
                source.check()
                on_error.pop_all()
            return source

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except TROUBLES as error:
            if kind_of(error) != CORRUPT:
                raise
            self._faults.report(error)
            raise _Unreadable from error

    def _set_aside(self) -> Wreck:
        return Wreck(set_aside(self._path, CORRUPT))

    def _copies(self, source: SpoolFile | Wreck) -> Iterator[Found]:
        with contextlib.closing(source) if isinstance(source, SpoolFile) else contextlib.nullcontext():
            read = 0
            for records in self._read(source.messages()):
                read += len(records)
                yield self._copy(records)
            missing = source.missing(read) if isinstance(source, Wreck) else max(0, source.queued - read)
            self._faults.count(CORRUPT, missing)
            self._damaged = self._damaged or missing > 0
            for rows in self._read(source.dead_letters()):
                ids = self._journal.ids
                self._journal.adopt(
                    Batch(dead=[(next(ids), *row[1:_ORIGIN], self._identity(row), *row[7:]) for row in rows])
                )

    def _read(self, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        while True:
            with self._reading():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _identity(self, row: Sequence[Any]) -> str:
        return str(row[_ORIGIN] or f"{self._path.name}:{row[_ID]}:{row[_ACCEPTED]}")

    def _copy(self, records: Sequence[Record]) -> Found:
        sound = [record for record in records if record.message is not None]
        damaged = len(records) - len(sound)
        self._damaged = self._damaged or damaged > 0
        self._faults.count(CORRUPT, damaged)
        batch, copied = Batch(), []
        for record in sound:
            message: Any = record.message
            origin = record.origin or f"{self._path.name}:{record.id}:{message.accepted_ns}"
            message.id = next(self._journal.ids)
            batch.rows.append(row_of(message, origin))
            if message.attempts:
                batch.attempts.append((message.id, message.attempts, finite(message.due)))
            copied.append(record._replace(id=message.id))
        if self._journal.adopt(batch) < len(copied):
            copied = self._journal.read(copied[0].id, copied[-1].id)
        return found_in(copied)

    def _end(self, *, done: bool) -> None:
        with contextlib.suppress(OSError):
            if done and self._damaged:
                set_aside(self._path, CORRUPT)
            if done:
                remove(self._path)
        self._lock.release(remove=done)
