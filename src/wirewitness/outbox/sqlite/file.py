"""
One file of a spool, and the one connection to it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wirewitness.outbox.message import OVERHEAD, USUAL
from wirewitness.outbox.sqlite.connection import connect, delete, insert
from wirewitness.outbox.sqlite.faults import Damaged
from wirewitness.outbox.sqlite.forks import keep_for_ever
from wirewitness.outbox.sqlite.lock import open_private
from wirewitness.outbox.sqlite.record import COLUMNS, HEAD_LINE, LINE, Record, Row, record_of
from wirewitness.outbox.sqlite.schema import count_queued, prepare


_CHECKPOINT_BYTES: Final = 16 << 20
_CHECKPOINT_SECONDS: Final = 1.0
# What a row costs in the write-ahead log beside its body, roughly.
_ROW_BYTES: Final = 400

# What a dead letter is reckoned with: as Message.size, but that header fields are JSON here.
_SIZE: Final = f"length(body) + max(0, length(url) + length(headers) - {USUAL}) + {OVERHEAD}"


def _size_of(row: Sequence[Any]) -> int:
    return len(row[8]) + max(0, len(row[2]) + len(row[3]) - USUAL) + OVERHEAD


READ_ROWS: Final = 256
"""Rows of a chunk that's read."""

READ_BYTES: Final = 1 << 20
"""Bytes of a chunk that is read; a larger row comes alone."""

DEAD_COLUMNS: Final = (*COLUMNS, "attempts", "reason", "buried_ns")
"""The columns of a dead letter."""

DeadRow = tuple[Any, ...]
"""Their values."""

SUFFIXES: Final = ("", "-wal", "-journal", "-shm")
"""What SQLite keeps, beside the file's own name."""


@dataclass
class Batch:
    """
    What is to be written in one transaction.

    Attributes:
        rows: New messages.
        gone: Ids of messages that are no more.
        attempts: Id, attempts and due time of messages that were tried.
        dead: New dead letters.
        undead: Ids of dead letters that are no more.
    """

    rows: list[Row] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    attempts: list[tuple[int, int, float]] = field(default_factory=list)
    dead: list[DeadRow] = field(default_factory=list)
    undead: list[int] = field(default_factory=list)


class SpoolFile:
    """
    An open file. Whoever opens it holds its lock.

    Args:
        path: The file; it's made, readable by nobody else, where it's missing.
        full: Whether a commit is to outlive a loss of power, too: SQLite's ``synchronous=FULL``, else ``NORMAL``.

    Raises:
        NewerSchema: If a later version wrote it.
        Foreign: If it's another application's.
        sqlite3.Error: If it's damaged, locked by another program, or can't be written.
        OSError: If it can't be made.
    """

    dead: int

    dead_bytes: int

    def __init__(self, path: Path, *, full: bool = False) -> None:
        self.path = path
        for suffix in SUFFIXES[1:]:
            if os.path.lexists(f"{path}{suffix}"):
                os.close(open_private(Path(f"{path}{suffix}"), os.O_RDWR))
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
        found = path.lstat()
        self._identity = (found.st_dev, found.st_ino)
        self._connection = connect(path, full=full)
        try:
            self.uid: str
            self.queued: int
            self.uid, self.queued = prepare(self._connection)
            self.tried: Any = self._one("SELECT count(*) FROM attempt") > 0
            self.dead, self.dead_bytes = self._totals("dead")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            raise
        self._unchecked = 0
        self._checked_at = time.monotonic()

    @property
    def stands(self) -> bool:
        """Whether it is still where it was made: somebody may have removed it, or its folder."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _one(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values).fetchone()[0]

    def _totals(self, table: str) -> tuple[int, int]:
        sql = f"SELECT count(*), coalesce(sum({_SIZE}), 0) FROM {table}"  # noqa: S608 -- our own name
        number, size = self._connection.execute(sql).fetchone()
        return int(number), int(size)

    def check(self) -> None:
        """
        Look for damage to the file's structure.

        Raises:
            sqlite3.DatabaseError: If there is any.
        """
        if self._one("PRAGMA quick_check(1)") != "ok":
            raise Damaged

    @property
    def last_id(self) -> int:
        """The greatest id that was ever used, as far as the file knows."""
        tables = ("message", "attempt", "dead")
        return max(int(self._one(f"SELECT coalesce(max(id), 0) FROM {table} WHERE id < {MOST_ID}")) for table in tables)  # noqa: S608 -- our own

    def read(self, first: int, last: int, most: int = READ_ROWS) -> list[Record]:
        """
        Read messages in their order: see :func:`read_messages`.
        """
        return read_messages(self._connection, "attempt", first, last, most)

    def messages(self) -> Iterator[list[Record]]:
        """
        All messages, in chunks.
        """
        first = FIRST
        while chunk := self.read(first, LAST):
            yield chunk
            if chunk[-1].id == LAST:
                return
            first = chunk[-1].id + 1

    def dead_letters(self) -> Iterator[list[DeadRow]]:
        """
        All dead letters, in chunks, as they stand there.
        """
        sql = f"SELECT {', '.join(DEAD_COLUMNS)} FROM dead WHERE id >= ? ORDER BY id LIMIT ?"  # noqa: S608 -- our own
        first = FIRST
        # One by one: each can be as large as a chunk.
        while rows := self._connection.execute(sql, (first, 1)).fetchall():
            yield rows
            if rows[-1][0] == LAST:
                return
            first = rows[-1][0] + 1

    def write(self, batch: Batch) -> int:
        """
        Write all of a batch, or nothing.

        Returns:
            How many of its messages weren't there yet.
        """
        with self._transaction() as connection:
            before = connection.total_changes
            insert(connection, "message", batch.rows)
            added = connection.total_changes - before
            insert(connection, "dead", batch.dead)
            queued = self.queued + added - self._delete(batch.gone)
            if queued != self.queued:
                count_queued(connection, self.uid, queued)
            delete(connection, "dead", batch.undead)
            insert(connection, "attempt", batch.attempts)
        self.queued = queued
        self._wrote(batch)
        if batch.undead:
            self.dead, self.dead_bytes = self._totals("dead")
        return added

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _delete(self, ids: Sequence[int]) -> int:
        keys = sorted(ids)
        before = self._connection.total_changes
        delete(self._connection, "message", keys)
        number = self._connection.total_changes - before
        if self.tried:
            delete(self._connection, "attempt", keys)
        return number

    def recount(self, number: int) -> None:
        """
        Begin to count anew, after what is lost was counted.
        """
        count_queued(self._connection, self.uid, number)
        self.queued = number

    def _wrote(self, batch: Batch) -> None:
        self.tried = self.tried or bool(batch.attempts)
        self.dead += len(batch.dead)
        self.dead_bytes += sum([_size_of(row) for row in batch.dead])
        self._unchecked += sum([len(row[8]) for row in batch.rows]) + sum([len(row[8]) for row in batch.dead])
        self._unchecked += _ROW_BYTES * (len(batch.rows) + len(batch.gone) + len(batch.attempts) + len(batch.dead))

    def trim_dead(self, most_bytes: int) -> None:
        """
        Have the oldest dead letters make room.
        """
        while self.dead and self.dead_bytes > most_bytes:
            rows = self._connection.execute(f"SELECT id, {_SIZE} FROM dead ORDER BY id LIMIT 64").fetchall()  # noqa: S608 -- our own
            sizes = itertools.accumulate([size for _, size in rows])
            excess = self.dead_bytes - most_bytes
            number = next((index for index, size in enumerate(sizes, 1) if size >= excess), len(rows))
            delete(self._connection, "dead", [row[0] for row in rows[:number]])
            self.dead, self.dead_bytes = self._totals("dead")

    def expire_dead(self, before_ns: int) -> None:
        """
        Delete the dead letters that were buried before a time, Unix nanoseconds.
        """
        if self.dead and self._connection.execute("DELETE FROM dead WHERE buried_ns < ?", (before_ns,)).rowcount:
            self.dead, self.dead_bytes = self._totals("dead")

    def bury(self, number: int, reason: str, now_ns: int) -> None:
        """
        Make a dead letter of a row as it stands there, be it readable or not.
        """
        columns = ", ".join(COLUMNS)
        sql = f"INSERT OR REPLACE INTO dead SELECT {columns}, 0, ?, ? FROM message WHERE id = ?"  # noqa: S608 -- our own
        with self._transaction() as connection:
            connection.execute(sql, (reason, now_ns, number))
            queued = self.queued - connection.execute("DELETE FROM message WHERE id = ?", (number,)).rowcount
            count_queued(connection, self.uid, queued)
        self.queued = queued
        self.dead, self.dead_bytes = self._totals("dead")

    def checkpoint(self, *, now: bool = False) -> None:
        """
        Bring what the write-ahead log holds to the disk and into the file: if it's much, or a while since.

        Not by SQLite's own means, which keep silent about a disk that fails, and try again.
        """
        waited = time.monotonic() - self._checked_at
        if self._unchecked and (now or self._unchecked > _CHECKPOINT_BYTES or waited > _CHECKPOINT_SECONDS):
            self._checked_at = time.monotonic()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._unchecked = 0

    def tidy(self) -> None:
        """
        Forget attempts at messages that aren't there.
        """
        if self.tried:
            self._connection.execute("DELETE FROM attempt WHERE id NOT IN (SELECT id FROM message)")

    @property
    def settled(self) -> bool:
        """Whether there's nothing for a checkpoint to do."""
        return not self._unchecked

    @property
    def empty(self) -> bool:
        """Whether it holds nothing at all."""
        return not self._one("SELECT EXISTS (SELECT 1 FROM message) OR EXISTS (SELECT 1 FROM dead)")

    def counts(self) -> tuple[int, int, int | None]:
        """
        How many messages there are, how many dead letters, and when the oldest message was accepted.
        """
        number, oldest = self._connection.execute("SELECT count(*), min(accepted_ns) FROM message").fetchone()
        return int(number), self.dead, oldest

    def purge(self, *, messages: bool) -> int:
        """
        Delete the dead letters, and leave no trace of them in the file.

        Args:
            messages: Whether the messages go, too.

        Returns:
            How many are gone.
        """
        connection = self._connection
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        gone = connection.execute("DELETE FROM dead").rowcount
        if messages:
            gone += connection.execute("DELETE FROM message").rowcount
            connection.execute("DELETE FROM attempt")
            self.recount(0)
        connection.execute("VACUUM")
        self.dead, self.dead_bytes = 0, 0
        return int(gone)

    def shrink(self) -> None:
        """
        Give back the room of what's gone, if nearly all is.
        """
        if self.empty:
            self._connection.execute("VACUUM")

    def close(self) -> None:
        """
        Close it. SQLite checkpoints it, if it can.
        """
        self._connection.close()

    def disown(self) -> None:
        """
        Leave it alone, in a forked child.
        """
        keep_for_ever(self._connection)


FIRST: Final = -(1 << 63)
"""The least id there can be: whoever writes into a file may have chosen it."""
LAST: Final = (1 << 63) - 1
"""The greatest id there can be."""
MOST_ID: Final = 1 << 62
"""Less than this is each id that this code gives. A greater one leaves no room for those to come."""


def ids_of(connection: sqlite3.Connection, first: int, last: int, most: int) -> list[int]:
    """
    The ids of as many messages as are read at once: SQLite has no text of more than 10⁹ bytes, and memory is bounded.

    Args:
        connection: The file's.
        first: The least id.
        last: The greatest id.
        most: How many at most.
    """
    lines = (
        "SELECT id||' '||coalesce(length(body), 0) AS line FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
    )
    sql = f"SELECT group_concat(line, char(10)) FROM ({lines})"  # noqa: S608 -- our own
    (text,) = connection.execute(sql, (first, last, most)).fetchone()
    ids: list[int] = []
    total = 0
    for number, size in sorted([tuple(map(int, line.split(" "))) for line in text.split("\n")]) if text else []:
        if ids and total + size > READ_BYTES:
            break
        ids.append(number)
        total += size
    return ids


def read_messages(connection: sqlite3.Connection, attempts: str, first: int, last: int, most: int) -> list[Record]:
    """
    Read messages in their order, and as many as :func:`ids_of` allows.

    All come as one text: a row by itself would be a step by itself, after which this thread gets in line for the interpreter
    again.

    Args:
        connection: The file's.
        attempts: SQL for a table with the columns ``id``, ``attempts`` and ``due``.
        first: The least id.
        last: The greatest id.
        most: How many at most.
    """
    rows = ids_of(connection, first, last, most)
    if not rows:
        return []
    joined = f"FROM message m LEFT JOIN {attempts} a ON a.id = m.id WHERE m.id BETWEEN ? AND ?"
    if len(rows) == 1:
        # Not by hexadecimal digits, which take ten times as long for a body of megabytes.
        sql = f"SELECT {HEAD_LINE}, coalesce(CAST(m.body AS BLOB), x'') {joined}"
        return [record_of(line, body) for line, body in connection.execute(sql, (rows[0], rows[0]))]
    sql = f"SELECT group_concat(line, char(10)) FROM (SELECT {LINE} AS line {joined} ORDER BY m.id LIMIT ?)"  # noqa: S608 -- our own
    (text,) = connection.execute(sql, (rows[0], rows[-1], len(rows))).fetchone()
    return sorted([record_of(line) for line in text.split("\n")], key=_id) if text else []


def _id(record: Record) -> int:
    return record.id
