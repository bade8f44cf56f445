"""
What can still be read of a damaged file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from wirewitness.outbox.sqlite.connection import connect
from wirewitness.outbox.sqlite.faults import TROUBLES
from wirewitness.outbox.sqlite.file import DEAD_COLUMNS, FIRST, LAST, READ_ROWS, DeadRow, read_messages
from wirewitness.outbox.sqlite.lock import open_private
from wirewitness.outbox.sqlite.place import remove
from wirewitness.outbox.sqlite.record import Record
from wirewitness.outbox.sqlite.schema import is_whole, prepare, queued_in


_PAGE: Final = 4096
# The first, and one for each table and index.
_FEWEST_PAGES: Final = 7

# Reads that may fail. Every damaged page costs some, most of them at once.
_MOST_FAILURES: Final = 20_000

Read = Callable[[int, int, int], list[Any]]


class Wreck:
    """
    A damaged file that was set aside.

    Args:
        path: Where it is now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mended = False

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if not self._mended:
            self._mended = True
            self._mend_first_page()
        with contextlib.closing(connect(self._path)) as connection:
            yield connection

    def _mend_first_page(self) -> None:
        """
        Put another file's first page in place of a damaged one.

        All that SQLite must know to read the others stands there: its own header, and the tables with the pages that they
        begin at. That is the same in every file of this version, but for the number of pages. The damaged page is kept beside
        the file.
        """
        with contextlib.suppress(*TROUBLES), contextlib.closing(connect(self._path)) as connection:
            if is_whole(connection):
                return
        pages = self._path.stat().st_size // _PAGE
        model = self._path.with_name(f"{self._path.name}-model")
        try:
            with contextlib.closing(connect(model)) as connection:
                prepare(connection)
            first = bytearray(model.read_bytes()[:_PAGE])
        finally:
            remove(model)
        if pages < _FEWEST_PAGES or int.from_bytes(first[16:18], "big") != _PAGE:
            return
        first[28:32] = pages.to_bytes(4, "big")
        # The number of pages counts only where these two agree.
        first[92:96] = first[24:28]
        kept = Path(f"{self._path}-first-page")
        with (
            os.fdopen(open_private(self._path, os.O_RDWR), "r+b") as file,
            os.fdopen(open_private(kept, os.O_WRONLY | os.O_CREAT), "wb") as beside,
        ):
            beside.write(file.read(_PAGE))
            beside.flush()
            file.seek(0)
            file.write(first)

    def missing(self, found: int) -> int:
        """
        How many messages are lost for good, as far as the file still tells how many it had.

        Args:
            found: How many rows could be read, damaged ones included.
        """
        try:
            with self._connection() as connection:
                return max(0, queued_in(connection) - found)
        except TROUBLES:
            return 0

    def messages(self) -> Iterator[list[Record]]:
        """
        The messages that can be read, in chunks.
        """
        yield from self._scan(self._read, lambda record: int(record.id))

    def dead_letters(self) -> Iterator[list[DeadRow]]:
        """
        The dead letters that can be read, in chunks.
        """
        yield from self._scan(self._read_dead, lambda row: int(row[0]))

    def _scan(self, read: Callable[..., list[Any]], id_of: Callable[[Any], int]) -> Iterator[list[Any]]:
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(self._connection())
            except TROUBLES:
                return
            yield from scan(lambda first, last, most: read(connection, first, last, most), id_of)

    def _read(self, connection: sqlite3.Connection, first: int, last: int, most: int) -> list[Record]:
        # Not joined with the attempts: their table may be the damaged one.
        return read_messages(connection, "(SELECT 0 AS id, 0 AS attempts, 0.0 AS due)", first, last, most)

    def _read_dead(self, connection: sqlite3.Connection, first: int, last: int, most: int) -> list[DeadRow]:
        sql = f"SELECT {', '.join(DEAD_COLUMNS)} FROM dead WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"  # noqa: S608 -- our own
        return connection.execute(sql, (first, last, most)).fetchall()


def scan(read: Read, id_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """
    Read all that can be read, by halving what can't until the damaged part is alone.

    Args:
        read: Reads at most so many rows from one id to another, and may raise.
        id_of: A row's id.
    """
    ranges = [(FIRST, LAST)]
    failures = 0
    while ranges and failures < _MOST_FAILURES:
        first, last = ranges.pop()
        try:
            rows = read(first, last, READ_ROWS)
        except TROUBLES:
            failures += 1
            ranges += reversed(_halves(first, last))
            continue
        if rows:
            yield rows
        if rows and id_of(rows[-1]) < last:
            ranges.append((id_of(rows[-1]) + 1, last))


def _halves(first: int, last: int) -> list[tuple[int, int]]:
    if first >= last:
        return []
    middle = (first + last) // 2
    return [(first, middle), (middle + 1, last)]
