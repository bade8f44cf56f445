"""
One file of a spool: its tables, its rows, and the one connection to it.

=========  ====================================================================================================================
table      one row is
=========  ====================================================================================================================
spool      the file: its unique id, the version of the schema, and how many messages the last transaction left, with a checksum
message    a message that is still to be delivered. ``id`` gives the order of acceptance
attempt    how often a message was tried, and when it is due. A table of its own: the rows of ``message`` are never rewritten
dead       a dead letter
=========  ====================================================================================================================

Every message has a checksum of its target, headers and payload, so that a flipped bit is never sent.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import json
import math
import os
import sqlite3
import stat
import time
import uuid
import zlib

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from wirewitness.outbox.message import Fields, Form, Message
from wirewitness.outbox.sqlite.directory import SUFFIXES, open_private
from wirewitness.outbox.sqlite.faults import TROUBLES, Damaged, Foreign, NewerSchema


VERSION: Final = 1
"""The version that this code writes: SQLite's ``user_version``, and a second time in the table ``spool``."""

APPLICATION_ID: Final = 0x57575331
"""SQLite's ``application_id``: ``WWS1``."""

READ_ROWS: Final = 256
"""The most rows that are read at once."""

READ_BYTES: Final = 1 << 20
"""The most bytes that are read at once; a larger row comes alone."""

FIRST: Final = -(1 << 63)
"""The least id there can be: whoever writes into a file may have chosen it."""

LAST: Final = (1 << 63) - 1
"""The greatest id there can be."""

MOST_ID: Final = 1 << 62
"""Less than this is each id that this code gives."""

_CHECKPOINT_BYTES: Final = 16 << 20
_CHECKPOINT_SECONDS: Final = 1.0
_RESERVE_BYTES: Final = 1 << 20
# What a row costs in the write-ahead log beside its body, roughly.
_ROW_BYTES: Final = 400

# Schema

_COLUMNS: Final = """
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    form TEXT NOT NULL,
    accepted_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
"""

_CREATE: Final = (
    "CREATE TABLE spool (uid TEXT NOT NULL, version INTEGER NOT NULL, queued INTEGER NOT NULL, crc INTEGER NOT NULL)",
    f"CREATE TABLE message (id INTEGER PRIMARY KEY, {_COLUMNS})",
    "CREATE TABLE attempt (id INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, due REAL NOT NULL)",
    f"""CREATE TABLE dead (id INTEGER PRIMARY KEY, {_COLUMNS},
        attempts INTEGER NOT NULL, reason TEXT NOT NULL, since_ns INTEGER NOT NULL)""",
)
_TABLES: Final = frozenset({"spool", "message", "attempt", "dead"})

Row = tuple[Any, ...]
"""The values of ``message``: id, method, url, headers, form, accepted_ns, size, crc, body. ``dead`` has three more behind them."""


def connect(path: Path, *, full: bool = False) -> sqlite3.Connection:
    """
    The one connection to a file. It is exclusive, and so keeps no shared memory beside it.

    Args:
        path: The file.
        full: SQLite's ``synchronous=FULL``, else ``NORMAL``.

    Raises:
        sqlite3.Error: If the file is damaged, or another program has it.
    """
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        # A damaged text is read all the same: the row's checksum tells.
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        synchronous = "FULL" if full else "NORMAL"
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", f"synchronous = {synchronous}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for pragma in ("wal_autocheckpoint = 0", "temp_store = MEMORY", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection) -> tuple[str, int]:
    """
    See that a file has the tables, and make them where it is new.

    Returns:
        The file's unique id, and how many messages its last transaction left in it.

    Raises:
        NewerSchema: If a later version wrote it.
        Foreign: If it is another application's.
        sqlite3.DatabaseError: If it is damaged, or cannot be written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables and not version and not application:
        uid = uuid.uuid4().hex
        connection.execute("BEGIN IMMEDIATE")
        for statement in _CREATE:
            connection.execute(statement)
        connection.execute("INSERT INTO spool VALUES (?, ?, 0, ?)", (uid, VERSION, _crc_of_count(uid, 0)))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        return uid, 0
    if application != APPLICATION_ID and not (tables and tables <= _TABLES):
        raise Foreign
    if "spool" not in tables:
        raise Damaged
    rows = connection.execute("SELECT uid, version FROM spool").fetchall()
    # A flipped bit must not pass for a version that is yet to come.
    if len(rows) != 1 or rows[0][1] != version or application != APPLICATION_ID:
        raise Damaged
    if version > VERSION:
        raise NewerSchema(version)
    if not is_whole(connection):
        raise Damaged
    return str(rows[0][0]), count_in(connection)


def is_whole(connection: sqlite3.Connection) -> bool:
    """
    Whether a file's tables are in each word what they should be.

    With other columns, a trigger or a view, messages would be lost or changed without an error.
    """
    return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")} == set(_CREATE)


def count_in(connection: sqlite3.Connection) -> int:
    """
    How many messages the last transaction left in a file, by its own count: fewer rows than that tell what is lost.

    Raises:
        sqlite3.DatabaseError: If the count itself is damaged.
    """
    uid, queued, crc = connection.execute("SELECT uid, queued, crc FROM spool").fetchone()
    if crc != _crc_of_count(uid, queued):
        raise Damaged
    return int(queued)


def known_in(path: Path) -> int:
    """
    How many messages a damaged file had, as far as it still tells; else 0.
    """
    try:
        with contextlib.closing(connect(path)) as connection:
            return count_in(connection)
    except TROUBLES:
        return 0


def _crc_of_count(uid: str, queued: int) -> int:
    return zlib.crc32(f"{uid} {queued}".encode())


# Rows


@functools.lru_cache(maxsize=256)
def _head(method: str, url: str, headers: Fields, form: Form) -> tuple[str | bytes, str | bytes, str, str, int]:
    # What most messages have in common, as a row has it, and its checksum.
    fields = json.dumps(headers)
    parts = [part.encode("utf-8", "surrogatepass") for part in (method, url, fields, form.value)]
    # SQLite's TEXT holds no lone surrogates; a URL that somebody made up can.
    texts = [text if _is_utf8(text) else part for text, part in zip((method, url), parts, strict=False)]
    return texts[0], texts[1], fields, form.value, zlib.crc32(b"\0".join(parts))


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def row_of(message: Message, id: int | None = None) -> Row:  # noqa: A002 -- the column's name
    """
    The row of a message.

    Args:
        message: The message.
        id: Its id in the file; None for its own.
    """
    *head, crc = _head(message.method, message.url, message.headers, message.form)
    crc = zlib.crc32(message.body, zlib.crc32(b"%d" % message.accepted_ns, crc))
    return (message.id if id is None else id, *head, message.accepted_ns, message.size, crc, message.body)


class Record(NamedTuple):
    """
    A row that was read.

    Attributes:
        id: Its id in its file.
        message: What was made of it, with that id; None if its checksum is wrong.
        size: Its bytes, as the bounds reckon them.
    """

    id: int
    message: Message | None
    size: int


# No damage to the column may make a spool seem full for ever.
_SIZE: Final = "min(max(size, 0), coalesce(length(body), 0) + 1048576)"

# One line per row, because one value per chunk: see read_messages().
_LINE: Final = (
    "m.id||' '||coalesce(m.accepted_ns,0)||' '||coalesce(m.crc,0)||' '||coalesce(a.attempts,0)||' '||coalesce(a.due,0)"
    f"||' '||{_SIZE}||' '||hex(m.method)||' '||hex(m.url)||' '||hex(m.headers)||' '||hex(m.form)||' '"
)


@functools.lru_cache(maxsize=256)
def _shared(method: str, url: str, headers: str, form: str) -> tuple[str, str, Fields, Form, int]:
    parts = [bytes.fromhex(part) for part in (method, url, headers, form)]
    texts = [part.decode("utf-8", "surrogatepass") for part in parts]
    fields = tuple((str(name), str(value)) for name, value in json.loads(texts[2]))
    return texts[0], texts[1], fields, Form(texts[3]), zlib.crc32(b"\0".join(parts))


def _record_of(line: str, large: bytes | None = None) -> Record:
    number, accepted, crc, attempts, due, size, method, url, headers, form, body = line.split(" ")
    content = bytes.fromhex(body) if large is None else large
    message = None
    # Whatever stands in a damaged row, it is only damaged.
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        verb, target, fields, kind, head = _shared(method, url, headers, form)
        if zlib.crc32(content, zlib.crc32(b"%d" % int(accepted), head)) == int(crc):
            message = Message(
                verb, target, fields, content, kind, int(accepted), int(attempts), float(due), int(number)
            )
    return Record(int(number), message, int(float(size)))


def dead_message(row: Row) -> Message | None:
    """
    The message of a dead letter's row; None if its checksum is wrong.
    """
    number, accepted_ns, crc, body = row[0], row[5], row[7], row[8]
    try:
        parts = [value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape") for value in row[1:5]]
        verb, target, fields, kind, head = _shared(*[part.hex().upper() for part in parts])
        if zlib.crc32(body, zlib.crc32(b"%d" % accepted_ns, head)) != crc:
            return None
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return Message(verb, target, fields, body, kind, accepted_ns, row[9], id=number)


def read_messages(connection: sqlite3.Connection, attempts: str, first: int, last: int, most: int) -> list[Record]:
    """
    Read messages in their order: at most so many rows, and so many bytes that SQLite's longest text can hold them.

    All come as one text. With a row by itself, this thread would get in line for the interpreter again after each.

    Args:
        connection: The file's.
        attempts: SQL for a table with the columns ``id``, ``attempts`` and ``due``.
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
    if not ids:
        return []
    if ids[0] < first or ids[-1] > last or len(set(ids)) < len(ids):
        # SQLite believes the order of a damaged page: reading on from there would never end.
        raise Damaged
    joined = f"FROM message m LEFT JOIN {attempts} a ON a.id = m.id WHERE m.id BETWEEN ? AND ?"
    if len(ids) == 1:
        # Not by hexadecimal digits, which take ten times as long for a body of megabytes.
        sql = f"SELECT {_LINE}, coalesce(CAST(m.body AS BLOB), x'') {joined}"
        return [_record_of(line, body) for line, body in connection.execute(sql, (ids[0], ids[0]))]
    sql = (
        f"SELECT group_concat(line, char(10)) FROM (SELECT {_LINE}||hex(m.body) AS line {joined} ORDER BY m.id LIMIT ?)"  # noqa: S608 -- our own
    )
    (text,) = connection.execute(sql, (ids[0], ids[-1], len(ids))).fetchone()
    return sorted([_record_of(line) for line in text.split("\n")], key=lambda record: record.id) if text else []


# Every step of a statement lets go of the interpreter, and a busy thread keeps it for 5 ms: so one statement has many rows.
# The largest has fewer variables than the 32766 that SQLite allows since 3.32, or the 999 before.
_SIZES: Final = (256, 32, 4, 1) if sqlite3.sqlite_version_info >= (3, 32) else (64, 16, 4, 1)


@functools.lru_cache(maxsize=64)
def _insert(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    # Only so is a message that is there already not counted twice.
    verb = "IGNORE" if table == "message" else "REPLACE"
    return f"INSERT OR {verb} INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608 -- our own name


@functools.lru_cache(maxsize=64)
def _delete(table: str, _: int, rows: int) -> str:
    return f"DELETE FROM {table} WHERE id IN ({', '.join('?' * rows)})"  # noqa: S608 -- our own name


def _in_portions(connection: sqlite3.Connection, sql: Any, table: str, rows: Sequence[Row]) -> None:
    begin = 0
    for size in _SIZES:
        while len(rows) - begin >= size:
            values = [value for row in rows[begin : begin + size] for value in row]
            connection.execute(sql(table, len(rows[0]), size), values)
            begin += size


@dataclass(repr=False)
class Batch:
    """
    What is to be written in one transaction.

    Attributes:
        rows: New messages.
        gone: Ids of messages that are no more.
        attempts: Id, attempts and due time of messages that were tried.
        dead: New dead letters: rows with attempts, reason and time behind them.
        undead: Ids of dead letters that are no more.
    """

    rows: list[Row] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    attempts: list[tuple[int, int, float]] = field(default_factory=list)
    dead: list[Row] = field(default_factory=list)
    undead: list[int] = field(default_factory=list)


class SpoolFile:
    """
    An open file. Whoever opens it holds its lock, and one thread at a time uses it.

    Args:
        path: The file; it is made, readable by nobody else, where it is missing.
        full: Whether a commit is to outlive a loss of power, too: SQLite's ``synchronous=FULL``, else ``NORMAL``.
        check: Whether to look for damage to its structure.

    Attributes:
        queued: How many messages it has.
        dead: How many dead letters.
        missing: How many messages were gone when it was opened, by its own count.

    Raises:
        NewerSchema: If a later version wrote it.
        Foreign: If it is another application's.
        sqlite3.Error: If it is damaged, locked by another program, or cannot be written.
        OSError: If it cannot be made.
    """

    dead: int
    dead_bytes: int

    def __init__(self, path: Path, *, full: bool = False, check: bool = True) -> None:
        self.path: Path = path
        for suffix in SUFFIXES[1:]:
            if os.path.lexists(f"{path}{suffix}"):
                os.close(open_private(Path(f"{path}{suffix}"), os.O_RDWR))
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
        found = path.lstat()
        self._identity = (found.st_dev, found.st_ino)
        self._connection = connection = connect(path, full=full)
        try:
            uid, counted = prepare(connection)
            self.uid: str = uid
            if check and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise Damaged
            (number,) = connection.execute("SELECT count(*) FROM message").fetchone()
            self.queued: int = int(number)
            self.missing: int = max(0, counted - self.queued)
            if counted != self.queued:
                self._count(self.queued)
            connection.execute("DELETE FROM attempt WHERE id NOT IN (SELECT id FROM message)")
            (self._tried,) = connection.execute("SELECT count(*) FROM attempt").fetchone()
            self._sum_dead()
        except BaseException as error:
            # An open connection would keep others out, who could still read it.
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                # It could be opened for writing just now: a flipped bit in its header says otherwise.
                raise Damaged from error
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

    @property
    def last_id(self) -> int:
        """The greatest id that was ever used, as far as the file knows."""
        used = (
            self._connection.execute("SELECT coalesce(max(id), 0) FROM message WHERE id < ?", (MOST_ID,)),
            self._connection.execute("SELECT coalesce(max(id), 0) FROM dead WHERE id < ?", (MOST_ID,)),
        )
        return max(0, *[int(number) for found in used for (number,) in found])

    def span(self) -> tuple[int, int, int, int]:
        """
        The least and the greatest id of its messages, how many there are, and their bytes.
        """
        sql = f"SELECT coalesce(min(id), 0), coalesce(max(id), 0), count(*), total({_SIZE}) FROM message"  # noqa: S608 -- our own
        first, last, number, size = self._connection.execute(sql).fetchone()
        return first, last, number, int(size)

    def counts(self) -> tuple[int, int, int | None]:
        """
        How many messages there are, how many dead letters, and when the oldest message was accepted.
        """
        (oldest,) = self._connection.execute("SELECT min(accepted_ns) FROM message").fetchone()
        return self.queued, self.dead, oldest

    @property
    def empty(self) -> bool:
        """Whether it holds nothing at all."""
        return not self.queued and not self.dead

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

    def dead_letters(self) -> Iterator[Row]:
        """
        All dead letters, as they stand there.
        """
        first: int | None = FIRST
        # One by one: each can be as large as a chunk.
        while first is not None:
            row = self._connection.execute("SELECT * FROM dead WHERE id >= ? ORDER BY id LIMIT 1", (first,)).fetchone()
            if row is None:
                return
            yield row
            first = None if row[0] == LAST else row[0] + 1

    def write(self, batch: Batch) -> None:
        """
        Write all of a batch, or nothing.
        """
        queued = self.queued
        with self._transaction() as connection:
            changes = connection.total_changes
            _in_portions(connection, _insert, "message", batch.rows)
            queued += connection.total_changes - changes
            _in_portions(connection, _insert, "dead", batch.dead)
            keys = [(number,) for number in sorted(batch.gone)]
            changes = connection.total_changes
            _in_portions(connection, _delete, "message", keys)
            queued -= connection.total_changes - changes
            if self._tried:
                _in_portions(connection, _delete, "attempt", keys)
            if queued != self.queued:
                self._count(queued)
            _in_portions(connection, _delete, "dead", [(number,) for number in batch.undead])
            _in_portions(connection, _insert, "attempt", batch.attempts)
        self.queued = queued
        self._tried = self._tried or len(batch.attempts)
        self._unchecked += sum([len(row[8]) for row in batch.rows]) + sum([len(row[8]) for row in batch.dead])
        self._unchecked += _ROW_BYTES * (len(batch.rows) + len(batch.gone) + len(batch.attempts) + len(batch.dead))
        if batch.dead or batch.undead:
            self._sum_dead()

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

    def _count(self, queued: int) -> None:
        self._connection.execute("UPDATE spool SET queued = ?, crc = ?", (queued, _crc_of_count(self.uid, queued)))

    def _sum_dead(self) -> None:
        sql = f"SELECT count(*), total({_SIZE}) FROM dead"  # noqa: S608 -- our own
        self.dead, self.dead_bytes = map(int, self._connection.execute(sql).fetchone())

    def set_dead(self, number: int, reason: str, now_ns: int) -> None:
        """
        Make a dead letter of a row as it stands there, be it readable or not.
        """
        sql = "INSERT OR REPLACE INTO dead SELECT *, 0, ?, ? FROM message WHERE id = ?"
        with self._transaction() as connection:
            connection.execute(sql, (reason, now_ns, number))
            queued = self.queued - connection.execute("DELETE FROM message WHERE id = ?", (number,)).rowcount
            self._count(queued)
        self.queued = queued
        self._sum_dead()

    def limit_dead(self, most_bytes: int, before_ns: int) -> None:
        """
        Delete the dead letters that are too old, and then the oldest until the others take so many bytes at most.
        """
        if self.dead and self._connection.execute("DELETE FROM dead WHERE since_ns < ?", (before_ns,)).rowcount:
            self._sum_dead()
        while self.dead and self.dead_bytes > most_bytes:
            rows = self._connection.execute(f"SELECT id, {_SIZE} FROM dead ORDER BY id LIMIT 64").fetchall()  # noqa: S608 -- our own
            sizes = itertools.accumulate([size for _, size in rows])
            excess = self.dead_bytes - most_bytes
            number = next((index for index, size in enumerate(sizes, 1) if size >= excess), len(rows))
            _in_portions(self._connection, _delete, "dead", [(row[0],) for row in rows[:number]])
            self._sum_dead()

    def purge(self, *, messages: bool) -> int:
        """
        Delete the dead letters, and leave no trace of them in the file.

        Args:
            messages: Whether the messages go, too.

        Returns:
            How many are gone.
        """
        connection = self._connection
        gone = connection.execute("DELETE FROM dead").rowcount
        if messages:
            gone += connection.execute("DELETE FROM message").rowcount
            connection.execute("DELETE FROM attempt")
            self.queued = 0
            self._count(0)
        connection.execute("VACUUM")
        self._sum_dead()
        return int(gone)

    def checkpoint(self, *, now: bool = False) -> None:
        """
        Bring what the write-ahead log holds to the disk and into the file: if it is much, or a while since.

        SQLite's own checkpoints keep silent about a disk that fails, and try again.
        """
        waited = time.monotonic() - self._checked_at
        if self._unchecked and (now or self._unchecked > _CHECKPOINT_BYTES or waited > _CHECKPOINT_SECONDS):
            self._checked_at = time.monotonic()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._unchecked = 0

    @property
    def settled(self) -> bool:
        """Whether there is nothing for a checkpoint to do."""
        return not self._unchecked

    def keep_reserve(self) -> bool:
        """
        Lay room on the disk aside, in a file beside this one. Where the disk is full, that makes room to delete what was
        delivered, without which a restart would send all of it again.

        Returns:
            Whether it is there.
        """
        path = Path(f"{self.path}-reserve")
        with contextlib.suppress(OSError):
            if os.path.lexists(path):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_size == _RESERVE_BYTES:
                    return True
                path.unlink()
            with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb", buffering=0) as file:
                # Written, for a hole takes no room.
                return file.write(b"\0" * _RESERVE_BYTES) == _RESERVE_BYTES
        return False

    def release_reserve(self) -> None:
        """
        Give that room back.
        """
        with contextlib.suppress(OSError):
            Path(f"{self.path}-reserve").unlink()

    def close(self) -> None:
        """
        Close it. SQLite checkpoints it, if it can.
        """
        self._connection.close()

    def disown(self) -> None:
        """
        Leave it alone, in a forked child: the connection is kept for ever, even when the interpreter ends. A child that closed
        its copy would write to the parent's file, and remove its log.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


def finite(due: float) -> float:
    """
    A due time that SQLite can hold: it knows no NaN.
    """
    return due if math.isfinite(due) else 0.0
