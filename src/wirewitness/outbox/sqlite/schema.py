"""
The tables of a spool's file, and their version.
"""

from __future__ import annotations

import sqlite3
import uuid
import zlib

from typing import Final

from wirewitness.outbox.sqlite.faults import Damaged, Foreign, NewerSchema


VERSION: Final = 1
"""The version that this code writes: SQLite's ``user_version``, and a second time in the table ``spool``."""

APPLICATION_ID: Final = 0x57575331
"""SQLite's ``application_id``: ``WWS1``."""

_COLUMNS: Final = """
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    form TEXT NOT NULL,
    accepted_ns INTEGER NOT NULL,
    origin TEXT,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
"""

_CREATE: Final = (
    "CREATE TABLE spool (uid TEXT NOT NULL, version INTEGER NOT NULL, queued INTEGER NOT NULL, crc INTEGER NOT NULL)",
    f"CREATE TABLE message (id INTEGER PRIMARY KEY, {_COLUMNS})",
    "CREATE UNIQUE INDEX message_origin ON message (origin) WHERE origin IS NOT NULL",
    "CREATE TABLE attempt (id INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, due REAL NOT NULL)",
    f"""CREATE TABLE dead (id INTEGER PRIMARY KEY, {_COLUMNS},
        attempts INTEGER NOT NULL, reason TEXT NOT NULL, buried_ns INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX dead_origin ON dead (origin) WHERE origin IS NOT NULL",
)
_TABLES: Final = frozenset({"spool", "message", "attempt", "dead"})


def prepare(connection: sqlite3.Connection) -> tuple[str, int]:
    """
    See that a file has the tables, and make them where it's new.

    Returns:
        The file's unique id, and how many messages its last transaction left in it.

    Raises:
        NewerSchema: If a later version wrote it.
        Foreign: If it's another application's.
        sqlite3.DatabaseError: If it's damaged, or can't be written.
    """
    version, application = _number(connection, "user_version"), _number(connection, "application_id")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables and not version and not application:
        return _create(connection)
    ours = bool(tables & _TABLES) and tables <= _TABLES
    if application != APPLICATION_ID and not ours:
        raise Foreign
    return _check(connection, version, application, tables)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def _check(connection: sqlite3.Connection, version: int, application: int, tables: set[str]) -> tuple[str, int]:
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
    return str(rows[0][0]), queued_in(connection)


def is_whole(connection: sqlite3.Connection) -> bool:
    """
    Whether a file's tables are in each word what they should be.

    With other columns, a trigger or a view, messages would be lost or changed without an error.
    """
    return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")} == set(_CREATE)


def _create(connection: sqlite3.Connection) -> tuple[str, int]:
    uid = uuid.uuid4().hex
    connection.execute("BEGIN IMMEDIATE")
    for statement in _CREATE:
        connection.execute(statement)
    connection.execute("INSERT INTO spool VALUES (?, ?, 0, ?)", (uid, VERSION, _crc(uid, 0)))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    return uid, 0


def queued_in(connection: sqlite3.Connection) -> int:
    """
    How many messages the last transaction left in a file, by its own count: what is found beside that tells what is lost.

    Raises:
        sqlite3.DatabaseError: If that is damaged itself.
    """
    uid, queued, crc = connection.execute("SELECT uid, queued, crc FROM spool").fetchone()
    if crc != _crc(uid, queued):
        raise Damaged
    return int(queued)


def count_queued(connection: sqlite3.Connection, uid: str, queued: int) -> None:
    """
    Write down how many messages there are, in the transaction that makes it so.
    """
    connection.execute("UPDATE spool SET queued = ?, crc = ?", (queued, _crc(uid, queued)))


def _crc(uid: str, queued: int) -> int:
    return zlib.crc32(f"{uid} {queued}".encode())
