"""
Large messages, flipped bits, and files that somebody has planted: nothing raises out of a start, and nothing foreign is used.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap

from pathlib import Path

import pytest

from sqlite_messages import NO_FAULTS, claim_all, eventually, file_in, message, numbers

from wirewitness.errors import ConfigurationError
from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.sqlite import file as module
from wirewitness.outbox.sqlite.directory import SpoolDirectory
from wirewitness.outbox.sqlite.salvage import salvage


COUNT = 12


def leave(path):
    """
    Leave a dead process's file.
    """
    spool = SqliteSpool(path)
    spool.start()
    for number in range(COUNT):
        assert spool.put(message(number, 60)) is None
    for one in spool.claim(2, steady()):
        one.attempts = 2
        spool.retry_at(one, steady())
    assert spool.close() == []
    return file_in(path)


def test_a_backlog_of_large_messages_is_read_in_chunks_of_bytes(path, monkeypatch):
    monkeypatch.setattr(module, "READ_BYTES", 100_000)
    spool = SqliteSpool(path)
    spool.start()
    for number in range(20):
        assert spool.put(message(number, 60_000)) is None
    assert spool.close() == []
    again = SqliteSpool(path, memory_bytes=200_000)
    assert again.start() == 20
    with again._writer.gate:
        assert [len(records) for records in again._store.own.file.messages()] == [1] * 20
    assert numbers(claim_all(again)) == list(range(20))
    again.close()


def test_dead_letters_have_a_greatest_age(path, monkeypatch):
    spool = SqliteSpool(path)
    spool.start()
    for number in range(3):
        assert spool.put(message(number)) is None
    for one in spool.claim(2, steady()):
        spool.dead_letter(one, "expired")
    spool.close()
    with contextlib.closing(sqlite3.connect(file_in(path))) as connection, connection:
        connection.execute("UPDATE dead SET since_ns = since_ns - ? WHERE id % 2", (3 * 86_400 * 10**9,))
    for days, left in ((4, 2), (2, 1)):
        again = SqliteSpool(path, dead_letter_days=days)
        assert again.start() == 1
        assert again.stats().dead == left
        again.close()


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
@pytest.mark.may_skip_in_ci("needs the superuser")
def test_a_worker_that_may_not_write_any_more_sends_and_says_which_folder_and_what_to_do(tmp_path, sink):
    script = """
    import logging, os, sys
    from wirewitness import HttpSender, Outbox, SqliteSpool
    logging.basicConfig()
    url, folder = sys.argv[1:]
    outbox = Outbox(HttpSender(), spool=SqliteSpool(folder))
    outbox("POST", url, {"by": "master"})
    outbox.flush(20.0)
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        outbox("POST", url, {"by": "worker"})
        print(outbox.flush(20.0).empty, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """
    folder = f"{tmp_path}/spool/"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), f"{sink.url}/v1/events", folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
    assert [json.loads(received.body)["by"] for received in sink.requests] == ["master", "worker"]
    assert f"The spool {folder}: it can't be written: Permission denied." in done.stderr
    assert "Remedy: let the user with the id 65534 write to that folder" in done.stderr
    assert "internal error" not in done.stderr


def test_urls_and_header_fields_count_for_the_bounds_in_every_process(path):
    room = 10 * 11_000
    spool = SqliteSpool(path, most_bytes=room)
    spool.start()
    long = ("POST", "http://127.0.0.1/" + "u" * 5_000, (("X-Long", "v" * 5_000),), b"{}", Form.BYTES)
    taken = 0
    while spool.put(Message(*long, steady_ns())) is None:
        taken += 1
    assert taken == room // Message(*long, 1).size
    size = spool.stats().bytes
    spool.close()
    again = SqliteSpool(path, most_bytes=room)
    again.start()
    assert (again.stats().size, again.stats().bytes) == (taken, size)
    assert again.put(Message(*long, steady_ns())) is not None
    assert len(claim_all(again)) == taken
    assert again.stats().bytes == 0
    again.close()


@pytest.mark.parametrize(
    "crafted",
    [
        "CREATE TRIGGER eats AFTER INSERT ON message BEGIN DELETE FROM message; END",
        "CREATE TRIGGER keeps BEFORE DELETE ON message BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW other AS SELECT * FROM message",
        "ALTER TABLE message ADD COLUMN more TEXT",
        "CREATE INDEX more ON message (url)",
    ],
)
def test_a_file_that_somebody_changed_the_tables_of_is_set_aside_and_a_salvage_brings_its_messages_back(path, crafted):
    with contextlib.closing(sqlite3.connect(leave(path))) as connection, connection:
        connection.execute(crafted)
    spool = SqliteSpool(path)
    assert spool.start() == 0
    assert dict(spool.stats().faults)["corrupt"] == COUNT
    for number in range(COUNT, COUNT + 3):
        assert spool.put(message(number, 60)) is None
    assert numbers(claim_all(spool)) == list(range(COUNT, COUNT + 3))
    spool.close()
    (aside,) = SpoolDirectory(path).aside()
    assert salvage(aside) == (COUNT, 0, 0, 0)
    again = SqliteSpool(path)
    assert again.start() == COUNT
    assert numbers(claim_all(again)) == list(range(COUNT))
    again.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_raises_out_of_a_start_or_is_sent(path, seed):
    whole = leave(path).read_bytes()
    where = random.Random(seed)
    used = [at for at, byte in enumerate(whole) if byte]
    logging.disable(logging.CRITICAL)
    try:
        for at in [18, *where.sample(range(100), 15), *where.sample(used, 45)]:
            shutil.rmtree(path)
            path.mkdir(mode=0o700)
            changed = bytearray(whole)
            changed[at] ^= 1 << where.randrange(8)
            (path / "1-00000001.db").write_bytes(changed)
            spool = SqliteSpool(path)
            spool.start()
            got = claim_all(spool)
            assert sorted(one.body for one in got) == sorted(message(number, 60).body for number in numbers(got))
            assert set(numbers(got)) <= set(range(COUNT))
            assert len(got) == len(set(numbers(got)))
            # A flipped due time makes a message wait, and loses none.
            lost = COUNT - len(got) - spool.stats().later
            # What is set aside is counted, but where the count itself stands in the damaged page.
            aside = SpoolDirectory(path).aside()
            assert lost <= dict(spool.stats().faults)["corrupt"] or aside
            spool.close()
            for file in aside:
                done = salvage(file)
                assert done.queued + done.damaged + done.missing >= lost
    finally:
        logging.disable(logging.NOTSET)


def test_messages_with_ids_of_somebody_s_choice_are_sent_once(path):
    connection = sqlite3.connect(leave(path), isolation_level=None)
    connection.execute("UPDATE message SET id = -id WHERE id > 6")
    connection.execute("UPDATE message SET id = 0 WHERE id = 6")
    connection.execute("UPDATE message SET id = 9223372036854775807 WHERE id = 5")
    connection.close()
    spool = SqliteSpool(path)
    spool.start()
    assert spool.put(message(500)) is None
    assert sorted(numbers(claim_all(spool))) == [*range(COUNT), 500]
    assert spool.stats().faults == NO_FAULTS
    assert spool.sync(10.0)
    assert spool.close() == []
    assert list(path.iterdir()) == []


def test_delivered_payloads_do_not_stay_readable(path):
    spool = SqliteSpool(path)
    spool.start()
    for number in range(100):
        one = message(number, 900)
        one.body = one.body[:-6] + b"CANARY"
        spool.put(one)
    assert spool.sync(20.0)
    spool.ack(spool.claim(1000, steady()))
    assert spool.sync(20.0)
    eventually(lambda: not any(b"CANARY" in one.read_bytes() for one in path.iterdir()))
    spool.close()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_may_write_to_is_refused_with_the_remedy(path, mode):
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod go-w it, or name a folder in it"):
        SqliteSpool(path)


def test_another_user_s_folder_is_refused_with_the_remedy(path):
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    with pytest.raises(ConfigurationError, match=r"belongs to user .*: chown"):
        SqliteSpool(path if os.geteuid() == 0 else "/usr")


def test_a_folder_is_made_for_this_user_alone(tmp_path):
    before = os.umask(0)
    try:
        SqliteSpool(tmp_path / "new").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_path_that_is_a_file_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "events.db").touch()
    with pytest.raises(ConfigurationError, match="is a file: name a folder, in which each process keeps"):
        SqliteSpool(tmp_path / "events.db")


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-reserve"])
def test_no_symbolic_link_is_followed(path, tmp_path, suffix):
    victim = tmp_path / "precious"
    victim.write_bytes(b"precious")
    orphan = leave(path)
    Path(f"{orphan}{suffix}").unlink(missing_ok=True)
    Path(f"{orphan}{suffix}").symlink_to(victim)
    spool = SqliteSpool(path)
    spool.start()
    assert spool.put(message(1)) is None
    assert spool.sync(10.0)
    spool.close()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal"])
def test_what_is_no_regular_file_hangs_nothing_and_is_left_alone(path, suffix):
    (path / "1-00000001.db").touch()
    (path / f"1-00000001.db{suffix}").unlink(missing_ok=True)
    os.mkfifo(path / f"1-00000001.db{suffix}")
    spool = SqliteSpool(path)
    assert spool.start() == 0
    assert spool.put(message(1)) is None
    assert numbers(claim_all(spool)) == [1]
    spool.close()
    assert (path / f"1-00000001.db{suffix}").is_fifo()


def test_files_of_its_own_that_others_could_read_are_made_private(path):
    orphan = leave(path)
    orphan.chmod(0o666)
    Path(f"{orphan}.lock").chmod(0o666)
    spool = SqliteSpool(path)
    assert spool.start() == COUNT
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.iterdir()} == {0o600}
    spool.close()


def test_where_a_file_is_refused_it_does_not_stay_locked(path):
    orphan = leave(path)
    Path(f"{orphan}-wal").mkdir()
    spool = SqliteSpool(path)
    assert spool.start() == 0
    Path(f"{orphan}-wal").rmdir()
    spool.close()
    again = SqliteSpool(path)
    assert again.start() == COUNT
    again.close()
