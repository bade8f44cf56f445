"""
The connection to a file, and statements of many rows.
"""

from __future__ import annotations

import functools
import sqlite3

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final


# Every step of a statement lets go of the interpreter, and a busy thread keeps it for 5 ms: so one statement has many rows.
# The largest has fewer variables than the 32766 that SQLite allows since 3.32, or the 999 before.
_SIZES: Final = (256, 32, 4, 1) if sqlite3.sqlite_version_info >= (3, 32) else (64, 16, 4, 1)


def connect(path: Path, *, full: bool = False) -> sqlite3.Connection:
    """
    The one connection to a file. It's exclusive, and so keeps no shared memory beside it.

    Args:
        path: The file.
        full: SQLite's ``synchronous=FULL``, else ``NORMAL``.

    Raises:
        sqlite3.Error: If the file is damaged, or another program has it.
    """
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        # A damaged row is read all the same; its checksum tells.
        connection.text_factory = _decode
        synchronous = "FULL" if full else "NORMAL"
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", f"synchronous = {synchronous}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for pragma in ("wal_autocheckpoint = 0", "temp_store = MEMORY", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """
    Insert rows; those that are there already are left alone, attempts excepted.
    """
    if rows:
        for sql, some in _portions(rows, functools.partial(_insert, table, len(rows[0]))):
            connection.execute(sql, [value for row in some for value in row])


def delete(connection: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """
    Delete rows.
    """
    for sql, some in _portions(ids, functools.partial(_delete, table)):
        connection.execute(sql, some)


def _portions(rows: Sequence[Any], sql: Callable[[int], str]) -> list[tuple[str, Sequence[Any]]]:
    portions: list[tuple[str, Sequence[Any]]] = []
    begin = 0
    for size in _SIZES:
        while len(rows) - begin >= size:
            portions.append((sql(size), rows[begin : begin + size]))
            begin += size
    return portions


# Cached, so that it's the same text each time, whose hash is known.


@functools.lru_cache(maxsize=32)
def _insert(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    verb = "REPLACE" if table == "attempt" else "IGNORE"
    return f"INSERT OR {verb} INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608 -- our own name


@functools.lru_cache(maxsize=32)
def _delete(table: str, rows: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * rows)})"  # noqa: S608 -- our own name
