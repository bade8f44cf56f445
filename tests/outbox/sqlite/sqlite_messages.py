"""
Messages, and files, for the tests of the spool on disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time

from wirewitness.outbox import Form, Message
from wirewitness.outbox.clock import steady, steady_ns


NO_FAULTS = (("corrupt", 0), ("disk_full", 0), ("io_error", 0), ("unreadable", 0))
HEADERS = (("Content-Type", "application/json"), ("X-Name", "\u00e4\ud800"))


def message(number, size=32, url="http://127.0.0.1:1/v1/events"):
    return Message("POST", url, HEADERS, b"%d" % number + b" " * (size - len(b"%d" % number)), Form.VALUE, steady_ns())


def numbers(messages):
    return [int(one.body) for one in messages]


def claim_all(spool, most=1000, seconds=20.0):
    """
    Claim all that can be claimed now, and acknowledge it.
    """
    claimed = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        some = spool.claim(most, steady())
        claimed += some
        spool.ack(some)
        if not some:
            stats, due = spool.stats(), spool.next_due()
            # Some may be on their way from the disk.
            if stats.size == stats.claimed + stats.later and (due is None or due > steady() + 1.0):
                return claimed
            time.sleep(0.002)
    raise AssertionError(spool.stats())


def files(folder):
    """
    The files in a spool's folder.
    """
    return sorted(folder.glob("*.db"))


def file_in(folder):
    """
    The only file in a spool's folder.
    """
    (path,) = files(folder)
    return path


def rows(folder, sql="SELECT body FROM message ORDER BY id"):
    """
    What the files hold that nobody has open.
    """
    found = []
    for path in files(folder) if folder.is_dir() else [folder]:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found += connection.execute(sql).fetchall()
    return found


def first_record(spool):
    """
    The first record in an open spool's file. Its connection is for one thread at a time.
    """
    with spool._writer.gate:
        return spool._store.own.file.read(0, 10_000)[0]


def eventually(true, seconds=20.0):
    """
    Wait until something is true.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)
