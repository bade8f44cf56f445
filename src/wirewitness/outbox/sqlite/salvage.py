"""
What can still be read of a damaged file.
"""

from __future__ import annotations

import contextlib
import sqlite3

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from wirewitness.outbox.sqlite.connection import connect
from wirewitness.outbox.sqlite.faults import TROUBLES
from wirewitness.outbox.sqlite.file import DEAD_COLUMNS, FIRST, LAST, READ_ROWS, DeadRow, ids_of
from wirewitness.outbox.sqlite.record import LINE, Record, record_of


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
        try:
            connection = connect(self._path)
        except TROUBLES:
            return
        with contextlib.closing(connection):
            yield from scan(lambda first, last, most: read(connection, first, last, most), id_of)

    def _read(self, connection: sqlite3.Connection, first: int, last: int, most: int) -> list[Record]:
        # Not joined with the attempts: their table may be the damaged one.
        sql = (
            f"SELECT group_concat(line, char(10)) FROM (SELECT {LINE} AS line FROM message m "  # noqa: S608 -- our own
            "LEFT JOIN (SELECT 0 AS id, 0 AS attempts, 0.0 AS due) a ON a.id = m.id "
            "WHERE m.id BETWEEN ? AND ? ORDER BY m.id LIMIT ?)"
        )
        ids = ids_of(connection, first, last, most)
        if not ids:
            return []
        (text,) = connection.execute(sql, (ids[0], ids[-1], len(ids))).fetchone()
        return sorted(map(record_of, text.split("\n")), key=lambda record: record.id) if text else []

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
