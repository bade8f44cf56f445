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

import pytest

from sqlite_messages import claim_all, eventually, message, numbers

from wirewitness.errors import ConfigurationError
from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.sqlite import file as module


COUNT = 12


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


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
    return path


def test_a_backlog_of_large_messages_is_read_in_chunks_of_bytes(folder, monkeypatch):
    monkeypatch.setattr(module, "READ_BYTES", 100_000)
    spool = SqliteSpool(folder / "events.db")
    spool.start()
    for number in range(20):
        assert spool.put(message(number, 60_000)) is None
    assert spool.close() == []
    again = SqliteSpool(folder / "events.db", memory_bytes=200_000)
    assert again.start() == 20
    with again._committer.gate:
        assert [len(records) for records in again._journal.file.messages()] == [1] * 20
    assert numbers(claim_all(again)) == list(range(20))
    again.close()


def test_dead_letters_have_a_greatest_age(folder, monkeypatch):
    path = folder / "events.db"
    spool = SqliteSpool(path)
    spool.start()
    for number in range(3):
        assert spool.put(message(number)) is None
    for one in spool.claim(2, steady()):
        spool.bury(one, "expired")
    spool.close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE dead SET buried_ns = buried_ns - ? WHERE id % 2", (3 * 86_400 * 10**9,))
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


def test_urls_and_header_fields_count_for_the_bounds_in_every_process(folder):
    path, room = folder / "events.db", 10 * 11_000
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
        "DROP INDEX message_origin",
    ],
)
def test_a_file_that_somebody_changed_the_tables_of_is_set_aside_and_its_messages_are_delivered(folder, crafted):
    with contextlib.closing(sqlite3.connect(leave(folder / "events.db"))) as connection, connection:
        connection.execute(crafted)
    spool = SqliteSpool(folder / "events.db")
    spool.start()
    assert numbers(claim_all(spool)) == list(range(COUNT))
    assert dict(spool.stats().faults)["corrupt"] == 1
    for number in range(COUNT, COUNT + 3):
        assert spool.put(message(number, 60)) is None
    assert numbers(claim_all(spool)) == list(range(COUNT, COUNT + 3))
    spool.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_raises_out_of_a_start_or_is_sent(folder, seed):
    whole = leave(folder / "events.db").read_bytes()
    where = random.Random(seed)
    used = [at for at, byte in enumerate(whole) if byte]
    logging.disable(logging.CRITICAL)
    try:
        for at in [*where.sample(range(100), 15), *where.sample(used, 45)]:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            changed = bytearray(whole)
            changed[at] ^= 1 << where.randrange(8)
            (folder / "events.db").write_bytes(changed)
            spool = SqliteSpool(folder / "events.db")
            spool.start()
            got = claim_all(spool)
            assert sorted(one.body for one in got) == sorted(message(number, 60).body for number in numbers(got))
            assert set(numbers(got)) <= set(range(COUNT))
            assert len(got) == len(set(numbers(got)))
            # A flipped due time makes a message wait, and loses none. One bit damages one message at most, or its page.
            lost = COUNT - len(got) - spool.stats().later
            assert lost <= dict(spool.stats().faults)["corrupt"]
            spool.close()
    finally:
        logging.disable(logging.NOTSET)


def test_messages_with_ids_of_somebody_s_choice_are_sent_once(folder):
    path = leave(folder / "events.db")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE message SET id = -id WHERE id > 6")
    connection.execute("UPDATE message SET id = 0 WHERE id = 6")
    connection.execute("UPDATE message SET id = 9223372036854775807 WHERE id = 5")
    connection.close()
    spool = SqliteSpool(path)
    spool.start()
    assert spool.put(message(500)) is None
    # There is no room for ids after the greatest: that message is a dead letter, and counted.
    assert sorted(numbers(claim_all(spool))) == [0, 1, 2, *range(4, COUNT), 500]
    assert dict(spool.stats().faults)["corrupt"] == 1
    spool.close()


def test_delivered_payloads_do_not_stay_readable(folder):
    spool = SqliteSpool(folder / "events.db")
    spool.start()
    for number in range(100):
        one = message(number, 900)
        one.body = one.body[:-6] + b"CANARY"
        spool.put(one)
    assert spool.sync(20.0)
    spool.ack(spool.claim(1000, steady()))
    assert spool.sync(20.0)
    eventually(lambda: not any(b"CANARY" in one.read_bytes() for one in folder.iterdir()))
    spool.close()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
@pytest.mark.parametrize("name", ["", "events.db"])
def test_a_folder_that_others_may_write_to_is_refused_with_the_remedy(folder, mode, name):
    folder.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod go-w it, or name a folder in it"):
        SqliteSpool(folder / name)


def test_another_user_s_folder_is_refused_with_the_remedy(folder):
    path = folder
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        path = "/usr"
    with pytest.raises(ConfigurationError, match=r"belongs to user .*: chown"):
        SqliteSpool(path)


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-reserve"])
def test_no_symbolic_link_is_followed(folder, tmp_path, suffix):
    victim = tmp_path / "precious"
    victim.write_bytes(b"precious")
    (folder / f"events.db{suffix}").symlink_to(victim)
    if suffix == "-reserve":
        spool = SqliteSpool(folder / "events.db")
        spool.start()
        spool.close()
    else:
        with pytest.raises(ConfigurationError, match="can't be written"):
            SqliteSpool(folder / "events.db")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", ["", ".lock"])
def test_what_is_no_regular_file_hangs_nothing_and_is_never_adopted(folder, suffix):
    os.mkfifo(folder / f"1-00000001.db{suffix}")
    spool = SqliteSpool(folder)
    assert spool.start() == 0
    assert spool.put(message(1)) is None
    assert numbers(claim_all(spool)) == [1]
    spool.close()


def test_a_file_of_its_own_that_others_could_read_is_made_private(folder):
    path = leave(folder / "events.db")
    path.chmod(0o666)
    path.with_name("events.db.lock").chmod(0o666)
    spool = SqliteSpool(path)
    assert spool.start() == COUNT
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    spool.close()


def test_where_a_spool_is_refused_nothing_stays_locked(folder):
    path = folder / "events.db"
    path.mkdir()
    with pytest.raises(ConfigurationError):
        SqliteSpool(path / "events.db" / "x.db")
    (folder / "other.db-wal").mkdir()
    with pytest.raises(ConfigurationError, match="can't be written"):
        SqliteSpool(folder / "other.db")
    (folder / "other.db-wal").rmdir()
    SqliteSpool(folder / "other.db").close()
