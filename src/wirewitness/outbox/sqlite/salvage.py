"""
What can still be read of a damaged file, put back into the queue: ``wirewitness spool salvage``.
"""

from __future__ import annotations

import contextlib
import os

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from wirewitness.outbox.sqlite.directory import SpoolDirectory, open_private, remove, set_aside
from wirewitness.outbox.sqlite.faults import TROUBLES, Damaged
from wirewitness.outbox.sqlite.file import (
    FIRST,
    LAST,
    READ_ROWS,
    Batch,
    SpoolFile,
    connect,
    count_in,
    is_whole,
    prepare,
    read_messages,
    row_of,
)


_PAGE: Final = 4096
# The first, and one for each table.
_FEWEST_PAGES: Final = 5

# Reads that may fail. Every damaged page costs some, most of them at once.
_MOST_FAILURES: Final = 20_000

_NO_ATTEMPTS: Final = "(SELECT 0 AS id, 0 AS attempts, 0.0 AS due)"
_DEAD: Final = "SELECT * FROM dead WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"


class Salvaged(NamedTuple):
    """
    What came of a salvage.

    Attributes:
        queued: Messages that are queued again.
        dead: Dead letters that are kept.
        damaged: Messages whose checksum is wrong.
        missing: Messages that the file had, by its own count, and that were not found.
    """

    queued: int
    dead: int
    damaged: int
    missing: int


def salvage(path: Path) -> Salvaged:
    """
    Put what can be read of a file that was set aside into a new file beside it, which the next process or a living one drains.
    Attempts and due times begin anew. The damaged file is renamed, so that it is salvaged once.

    What memory held when the file failed was written elsewhere then, and may be sent twice by this.

    Args:
        path: The file.

    Raises:
        OSError: If a file cannot be read or written.
        sqlite3.Error: If no new file can be made.
    """
    with contextlib.suppress(*TROUBLES):
        _mend_first_page(path)
    lock = SpoolDirectory(path.parent).new()
    queued = dead = damaged = missing = 0
    try:
        with contextlib.closing(SpoolFile(lock.of)) as file:
            try:
                with contextlib.closing(connect(path)) as source:
                    for records in scan(lambda *of: read_messages(source, _NO_ATTEMPTS, *of), lambda record: record.id):
                        # New ids, in their order: nobody knows who has chosen these.
                        rows = [row_of(record.message) for record in records if record.message is not None]
                        file.write(Batch(rows=[(queued + at, *row[1:]) for at, row in enumerate(rows, 1)]))
                        queued += len(rows)
                        damaged += len(records) - len(rows)
                    for letters in scan(lambda *of: source.execute(_DEAD, of).fetchall(), lambda row: row[0]):
                        file.write(Batch(dead=[(queued + dead + at, *row[1:]) for at, row in enumerate(letters, 1)]))
                        dead += len(letters)
                    with contextlib.suppress(*TROUBLES):
                        missing = max(0, count_in(source) - queued - damaged)
            except TROUBLES:
                if not queued:
                    raise
            empty = file.empty
        if empty:
            remove(lock.of)
        set_aside(path, "salvaged")
    except BaseException:
        remove(lock.of)
        lock.release(remove=True)
        raise
    lock.release(remove=empty)
    return Salvaged(queued, dead, damaged, missing)


def _mend_first_page(path: Path) -> None:
    """
    Put another file's first page in place of a damaged one.

    All that SQLite must know to read the others stands there: its own header, and the tables with the pages that they
    begin at. That is the same in every file of this version, but for the number of pages. The damaged page is kept beside
    the file.
    """
    with contextlib.suppress(*TROUBLES), contextlib.closing(connect(path)) as connection:
        if is_whole(connection):
            return
    pages = path.stat().st_size // _PAGE
    model = path.with_name(f"{path.name}-model")
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
    with (
        os.fdopen(open_private(path, os.O_RDWR), "r+b") as file,
        os.fdopen(open_private(Path(f"{path}-first-page"), os.O_WRONLY | os.O_CREAT), "wb") as beside,
    ):
        beside.write(file.read(_PAGE))
        beside.flush()
        file.seek(0)
        file.write(first)


def scan(read: Callable[[int, int, int], list[Any]], id_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """
    Read all that can be read, by halving what cannot until the damaged part is alone.

    Args:
        read: Reads from one id to another, and at most so many rows; may raise.
        id_of: A row's id.

    Returns:
        The rows in chunks, each of them once, in the order of their ids.
    """
    ranges = [(FIRST, LAST)]
    failures = 0
    while ranges and failures < _MOST_FAILURES:
        first, last = ranges.pop()
        try:
            rows = read(first, last, READ_ROWS)
            ids = [id_of(row) for row in rows]
            if ids != sorted(set(ids)) or not all(first <= each <= last for each in ids):
                # SQLite believes the order of a damaged page: reading on from there would never end.
                raise Damaged
        except TROUBLES:
            failures += 1
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
            continue
        if rows:
            yield rows
        if ids and ids[-1] < last:
            ranges.append((ids[-1] + 1, last))
