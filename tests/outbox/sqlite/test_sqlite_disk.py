"""
Disks that are full, or fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys

from pathlib import Path

import pytest

from sqlite_messages import NO_FAULTS, claim_all, eventually, file_in, first_record, message, numbers, rows

from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError
from wirewitness.outbox import MemorySpool, SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.message import OVERHEAD
from wirewitness.outbox.overflow import SpillingSpool
from wirewitness.outbox.sqlite.faults import kind_of


SIZE = 3000
EACH = SIZE + OVERHEAD


def faults(spool):
    return dict(spool.stats().faults)


@contextlib.contextmanager
def full(spool):
    """
    Let the file grow no more.
    """
    connection = spool._store.own.file._connection
    with spool._writer.gate:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    yield
    with spool._writer.gate:
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()


def test_on_a_full_disk_messages_are_kept_in_memory_and_written_later(opened, path):
    spool = opened()
    for number in range(10):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0)
    with full(spool):
        for number in range(10, 30):
            assert spool.put(message(number, SIZE)) is None
        assert spool.sync(10.0) is False
        stats = spool.stats()
        assert (stats.size, stats.durable) == (30, 10)
        assert faults(spool)["disk_full"] == 1
        assert numbers(spool.claim(1, steady())) == [0]
    eventually(lambda: spool.stats().durable == 30)
    assert faults(spool)["disk_full"] == 1
    spool.close()
    assert len(rows(path)) == 30


def test_acknowledging_works_on_a_full_disk_and_makes_room(opened, path):
    spool = opened()
    for number in range(40):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0)
    with full(spool):
        spool.put(message(40, SIZE))
        assert spool.sync(10.0) is False
        spool.ack(spool.claim(20, steady()))
        eventually(lambda: first_record(spool).id > 20)
        eventually(lambda: spool.stats().durable == 21)
    spool.close()
    assert [int(body) for (body,) in rows(path)] == list(range(20, 41))


def test_the_reserve_is_given_back_and_kept_again(opened, path):
    spool = opened()
    reserve = path / f"{file_in(path).name}-reserve"
    assert reserve.stat().st_size == 1 << 20
    with full(spool):
        for number in range(3):
            spool.put(message(number, SIZE))
        assert spool.sync(10.0) is False
        assert not reserve.exists()
    eventually(reserve.exists)
    spool.close()
    assert not reserve.exists()


def test_sync_takes_nothing_that_it_can_t_write(opened):
    spool = opened("sync")
    for _ in range(3):
        assert spool.put(message(0, SIZE)) is None
    with full(spool):
        assert spool.put(message(1, SIZE)) is Reason.SPOOL_FAILED
        assert spool.put(message(2, SIZE)) is Reason.SPOOL_FAILED
    eventually(lambda: spool.put(message(3, SIZE)) is None)
    left = numbers(claim_all(spool))
    assert (left.count(0), left.count(1), left.count(2), left.count(3)) == (3, 0, 0, 1)


def test_what_sync_refuses_is_kept_in_memory_by_an_overflow_policy(opened):
    spool = SpillingSpool(opened("sync"), MemorySpool())
    for number in range(3):
        assert spool.put(message(number, SIZE)) is None
    with full(spool._spools[0]):
        assert [spool.put(message(number, SIZE)) for number in range(3, 6)] == [None] * 3
        eventually(lambda: spool.stats().durable == 3)
        assert sorted(numbers(claim_all(spool))) == list(range(6))


def test_what_waits_for_room_is_bounded_in_bytes(opened, monkeypatch):
    monkeypatch.setattr("wirewitness.outbox.sqlite.spool._STAGED_BYTES", 5 * EACH)
    spool = opened(memory_bytes=10 * EACH)
    with full(spool):
        results = [spool.put(message(number, SIZE)) for number in range(30)]
        spool.sync(10.0)
        results += [spool.put(message(number, SIZE)) for number in range(30, 60)]
    taken = [number for number, result in enumerate(results) if result is None]
    assert taken == list(range(len(taken)))
    assert 10 <= len(taken) <= 17
    assert results[-1] is Reason.SPOOL_FAILED
    assert numbers(claim_all(spool)) == taken
    assert spool.sync(10.0)
    assert spool.put(message(99, SIZE)) is None


def test_a_full_own_file_is_left_alone_for_a_while_though_others_can_be_written(opened, path):
    # Two dead processes' files: the larger becomes this one's own.
    spools = [SqliteSpool(path), SqliteSpool(path)]
    for each, count in zip(spools, (40, 30), strict=True):
        each.start()
        for number in range(count):
            assert each.put(message(1000 * count + number, SIZE)) is None
    for each in spools:
        each.close()
    spool = opened()
    claimed = {int(one.body): one for one in spool.claim(100, steady())}
    others = sorted(number for number in claimed if number // 1000 == 30)
    assert len(others) == 30
    with full(spool):
        for number in range(5):
            assert spool.put(message(number, SIZE)) is None
        assert spool.sync(10.0) is False
        for left in (29, 28, 27):
            spool.ack([claimed[others.pop()]])
            eventually(lambda left=left: spool._store.others[0].file.queued <= left)
        assert faults(spool)["disk_full"] == 1
    eventually(lambda: spool.sync(10.0))


def test_messages_that_are_not_written_are_told_by_close(opened):
    spool = opened()
    spool.put(message(0, SIZE))
    assert spool.sync(10.0)
    with spool._writer.gate:
        connection = spool._store.own.file._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    for number in range(1, 4):
        spool.put(message(number, SIZE))
    assert numbers(spool.close()) == [1, 2, 3]
    assert numbers(claim_all(opened())) == [0]


@pytest.fixture
def tiny(tmp_path):
    """
    A file system of 2 MiB.
    """
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def stuff(folder):
    """
    Leave no byte.
    """
    with (folder / "stuffing").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def test_a_real_full_disk_is_lived_with(tiny, opened):
    path = tiny / "spool"
    spool = opened(at=path)
    for number in range(60):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0)
    stuff(tiny)
    for number in range(60, 800):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0) is False
    assert faults(spool) == {**dict(NO_FAULTS), "disk_full": 1}
    spool.ack(spool.claim(50, steady()))
    eventually(lambda: first_record(spool).id > 50)
    os.truncate(tiny / "stuffing", 0)
    (tiny / "stuffing").unlink()
    claimed = numbers(claim_all(spool, 300))
    assert claimed == list(range(50, 800))
    assert spool.sync(10.0)
    assert spool.close() == []
    assert opened(at=path).stats().size == 0


def test_it_starts_on_a_full_disk(tiny, opened):
    path = tiny / "spool"
    spool = opened(at=path)
    for number in range(60):
        spool.put(message(number, SIZE))
    spool.close()
    stuff(tiny)
    again = opened(at=path)
    assert again.stats().size == 60
    again.put(message(60, SIZE))
    assert numbers(claim_all(again)) == list(range(61))
    assert again.close() == []


def test_it_starts_on_a_full_disk_where_there_is_no_file_yet(tiny, opened):
    path = tiny / "spool"
    stuff(tiny)
    spool = opened(at=path, memory_bytes=30 * EACH)
    results = [spool.put(message(number, SIZE)) for number in range(40)]
    assert results == [None] * 30 + [Reason.SPOOL_FAILED] * 10
    assert faults(spool)["disk_full"] == 1
    assert numbers(spool.claim(1, steady())) == [0]
    (tiny / "stuffing").unlink()
    eventually(lambda: spool.stats().durable == 30)
    spool.close()
    assert [int(body) for (body,) in rows(path)] == list(range(30))


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from sqlite_messages import *
from wirewitness.outbox import MemorySpool, SqliteSpool
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
spool = SqliteSpool(sys.argv[1])
spool.start()
results = {spool.put(message(number, 3000)) for number in range(400)}
spool.sync(10.0)
print(results, spool.stats().size, dict(spool.stats().faults)["io_error"] > 0)
print(numbers(claim_all(spool)) == list(range(400)))
print(spool.put(message(1)), spool.sync(5.0) is not None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_file_that_may_not_grow_is_an_i_o_error_and_loses_nothing(path):
    program = [sys.executable, "-W", "error", "-c", LIMITED, os.fspath(path), os.fspath(Path(__file__).parent)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.splitlines() == ["{None} 400 True", "True", "None True"], done.stderr


def test_a_disk_that_stays_broken_is_left_alone(opened, monkeypatch):
    spool = opened(memory_bytes=20 * EACH)
    for number in range(10):
        spool.put(message(number, SIZE))
    assert spool.sync(10.0)
    attempts = []

    def broken(*_, **__):
        attempts.append(1)
        raise sqlite3.OperationalError(*["disk I/O error"])

    monkeypatch.setattr("wirewitness.outbox.sqlite.file.connect", broken)
    spool._store.own.file.write = broken
    results = [spool.put(message(number, SIZE)) for number in range(10, 15)]
    assert spool.sync(10.0) is False
    results += [spool.put(message(number, SIZE)) for number in range(15, 30)]
    assert results == [None] * 10 + [Reason.SPOOL_FAILED] * 10
    assert numbers(claim_all(spool)) == list(range(20))
    # One write, one attempt to read on and one at a new file, and none for a while.
    eventually(lambda: len(attempts) == 3)
    assert spool.sync(10.0)
    assert len(attempts) == 3
    assert spool.stats().durable == 0
    assert spool.close() == []


@pytest.mark.may_skip_in_ci("CI runs as root")
@pytest.mark.skipif(sys.platform == "win32" or not os.geteuid(), reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(
        ConfigurationError, match="can't be written: Permission denied; name a folder that this process may"
    ):
        SqliteSpool(tmp_path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, ""), "disk_full"),
        (OSError(errno.EDQUOT, ""), "disk_full"),
        (OSError(errno.EIO, ""), "io_error"),
        (sqlite3.OperationalError("database or disk is full"), "disk_full"),
        (sqlite3.OperationalError("disk I/O error"), "io_error"),
        (sqlite3.OperationalError("database is locked"), "busy"),
        (sqlite3.DatabaseError("database disk image is malformed"), "corrupt"),
        (sqlite3.DatabaseError("file is not a database"), "corrupt"),
        (sqlite3.OperationalError("unable to open database file"), "io_error"),
    ],
)
def test_errors_have_a_kind(error, kind):
    assert kind_of(error) == kind


@pytest.mark.parametrize("durability", ["group", "sync"])
@pytest.mark.parametrize("removed", ["folder", "files"])
def test_nothing_is_said_to_be_kept_where_it_was_removed(path, opened, durability, removed):
    spool = opened(durability, memory_bytes=20 * EACH)
    for number in range(30):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0)
    shutil.rmtree(path)
    assert spool.stats().durable == 0
    if removed == "files":
        path.mkdir(mode=0o700)
    spool.sync(10.0)
    # What memory holds is written anew; what stood on the disk alone is counted as lost.
    got = numbers(claim_all(spool, 3))
    eventually(lambda: spool.stats().size == 0)
    assert got == list(range(20))
    assert spool.take_lost() == 10
    assert spool.put(message(99, SIZE)) is None
    eventually(lambda: spool.sync(10.0) and spool.stats().durable == 1)
    assert spool.close() == []
    assert len(list(path.glob("*.db"))) == 1
