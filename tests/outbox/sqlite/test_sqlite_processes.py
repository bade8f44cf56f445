"""
Processes: killed, forked, side by side, and one after the other.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import time

from pathlib import Path

import pytest

from sqlite_messages import NO_FAULTS, claim_all, eventually, message, numbers, rows

from wirewitness.errors import ConfigurationError
from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.sqlite.lock import FileLock
from wirewitness.outbox.sqlite.place import file_of, take_orphan


pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("unmeasured")]

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")

HEAD = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from sqlite_messages import *
from wirewitness.outbox import SqliteSpool
path = sys.argv[1]
def say(*words):
    print(*words, flush=True)
"""


def start(script, path):
    program = HEAD + textwrap.dedent(script)
    arguments = [sys.executable, "-W", "error", "-c", program, os.fspath(path), os.fspath(Path(__file__).parent)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(script, path):
    process = start(script, path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out.split()


def kill(process):
    process.kill()
    process.stdin.close()
    rest = process.stdout.read()
    process.stdout.close()
    process.wait(60)
    return rest


HOLD = """
spool = SqliteSpool(path)
spool.start()
for number in range(3):
    spool.put(message(number))
spool.sync(10.0)
say(os.getpid())
sys.stdin.read()
"""


@pytest.mark.parametrize("round_", range(6))
@pytest.mark.parametrize("durability", ["group", "sync"])
def test_a_kill_loses_nothing_that_it_may_not(path, durability, round_):
    script = f"""
    spool = SqliteSpool(path, {durability!r}, memory_bytes=200_000)
    spool.start()
    number = 0
    while True:
        spool.put(message(number))
        say("put", number)
        number += 1
        if number % 3 == 0:
            got = spool.claim(2, steady())
            spool.ack(got)
            say("acked", *numbers(got))
    """
    process = start(script, path)
    process.stdout.readline()
    time.sleep(random.Random(round_).random() * 0.4)
    said = [line.split() for line in ("put 0\n" + kill(process)).splitlines(keepends=True) if line.endswith("\n")]
    spool = SqliteSpool(path, durability)
    spool.start()
    assert spool.stats().faults == NO_FAULTS
    left = numbers(claim_all(spool))
    spool.close()
    acked = {int(number) for what, *numbers_ in said if what == "acked" for number in numbers_}
    put = [int(numbers_[0]) for what, *numbers_ in said if what == "put"]
    assert left == sorted(set(left))
    # Two may have been acknowledged, and not said so any more.
    unsaid = {max(acked, default=-1) + 1, max(acked, default=-1) + 2}
    missing = sorted(set(put) - acked - set(left) - unsaid)
    # In groups, what is missing is what came last.
    assert missing == put[len(put) - len(missing) :]
    if durability == "sync":
        assert missing == []


def test_a_living_process_s_file_is_refused(path):
    process = start(HOLD, path)
    pid = process.stdout.readline().strip()
    with pytest.raises(ConfigurationError) as raised:
        SqliteSpool(path)
    assert str(raised.value) == (
        f"{path} is in use by process {pid}: give a folder, in which each process keeps a file of its own"
    )
    kill(process)
    spool = SqliteSpool(path)
    assert spool.start() == 3
    spool.close()


def test_one_process_can_t_have_a_file_twice(opened, path):
    opened()
    with pytest.raises(ConfigurationError, match=f"is in use by process {os.getpid()}: "):
        SqliteSpool(path)


def test_each_process_has_its_own_file_in_a_folder(tmp_path, opened):
    folder = tmp_path / "many"
    processes = [start(HOLD, f"{folder}/") for _ in range(2)]
    for process in processes:
        process.stdout.readline()
    spool = opened(at=folder)
    spool.put(message(9))
    assert spool.sync(10.0)
    assert spool.stats().size == 1
    assert len(list(folder.glob("*.db"))) == 3
    for process in processes:
        kill(process)
    spool.close()
    assert sorted(numbers(claim_all(opened(at=folder)))) == [0, 0, 1, 1, 2, 2, 9]
    assert len(list(folder.glob("*.db"))) == 1


def test_an_empty_file_of_a_folder_leaves_nothing(tmp_path, opened):
    spool = opened(at=f"{tmp_path}/many/")
    spool.put(message(1))
    claim_all(spool)
    spool.close()
    assert list((tmp_path / "many").iterdir()) == []


def test_what_a_killed_process_has_left_is_adopted_while_others_live(tmp_path, opened):
    folder = tmp_path / "many"
    spool = opened(at=f"{folder}/", adopt_interval=0.01)
    process = start(HOLD, folder)
    process.stdout.readline()
    assert spool.adopt() == 0
    kill(process)
    adopted = []
    eventually(lambda: adopted.append(spool.adopt()) or sum(adopted) == 3)
    assert numbers(claim_all(spool)) == [0, 1, 2]
    eventually(lambda: len(list(folder.glob("*.db"))) == 1)


def test_attempts_and_dead_letters_are_adopted_too(tmp_path, opened):
    folder = tmp_path / "many"
    spool = opened(at=f"{folder}/")
    script = """
    spool = SqliteSpool(path)
    spool.start()
    for number in range(3):
        spool.put(message(number))
    one, two, _ = spool.claim(3, steady())
    one.attempts = 2
    spool.retry_at(one, steady() + 500.0)
    spool.bury(two, "status_4xx")
    spool.sync(10.0)
    os.kill(os.getpid(), 9)
    """
    process = start(script, folder)
    process.communicate(timeout=60)
    spool.close()
    spool = opened(at=folder)
    # A second one, so that there's something to adopt rather than to take over.
    (own,) = folder.glob("*.db")
    assert spool.stats().size == 2
    assert spool.stats().dead == 1
    (got,) = spool.claim(5, steady())
    assert numbers([got]) == [2]
    assert numbers(spool.claim(5, steady() + 1000.0)) == [0]
    spool.close()
    assert rows(own, "SELECT reason FROM dead") == [("status_4xx",)]


def left_behind(folder, name, count, first=0):
    """
    Make the file of a dead process.
    """
    spool = SqliteSpool(folder / name)
    spool.start()
    for number in range(count):
        spool.put(message(first + number))
    spool.close()


@pytest.mark.parametrize("step", range(4))
def test_an_adoption_that_is_cut_short_repeats_nothing(tmp_path, opened, step):
    folder = tmp_path / "many"
    folder.mkdir()
    left_behind(folder, "1-00000001.db", 900)
    left_behind(folder, "2-00000002.db", 600, first=1000)
    spool = SqliteSpool(folder)
    adoptions = spool._committer.adoptions()
    for _ in range(step):
        next(adoptions, None)
    adoptions.close()
    spool._journal.file.close()
    spool._journal._lock.release()
    assert sorted(numbers(claim_all(opened(at=folder)))) == [*range(900), *range(1000, 1600)]


def test_the_largest_file_of_the_dead_is_taken_over(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    left_behind(folder, "1-00000001.db", 5)
    left_behind(folder, "2-00000002.db", 900, first=100)
    spool = opened(at=folder)
    assert spool.stats().size == 905
    assert [one.name for one in folder.glob("*.db")] == ["2-00000002.db"]


def test_what_is_no_spool_of_ours_is_left_alone(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "notes.db").write_text("mine")
    (folder / "1-0000000g.db").write_text("mine")
    opened(at=folder)
    assert (folder / "notes.db").read_text() == (folder / "1-0000000g.db").read_text() == "mine"


@posix
@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
@pytest.mark.parametrize("durability", ["group", "sync"])
def test_a_forked_child_leaves_the_parent_s_file_alone(path, durability, ending):
    script = f"""
    import gc
    spool = SqliteSpool(path, {durability!r})
    spool.start()
    for number in range(100):
        spool.put(message(number))
    child = os.fork()
    if not child:
        say(spool.stats().size, spool.put(message(7)).value, spool.start())
        for number in range(1000, 1003):
            spool.put(message(number))
        spool.sync(10.0)
        gc.collect()
        {ending}
    os.waitpid(child, 0)
    for number in range(100, 200):
        spool.put(message(number))
    say(spool.sync(10.0), dict(spool.stats().faults))
    del spool
    os.kill(os.getpid(), 9)
    """
    process = start(script, path)
    out, _ = process.communicate(timeout=60)
    assert out.splitlines() == ["0 spool_failed 0", f"True {dict(NO_FAULTS)}"]
    assert len(list(path.parent.glob("events.*-*.db"))) == 1
    spool = SqliteSpool(path)
    assert spool.start() == 203
    assert numbers(claim_all(spool)) == [*range(200), 1000, 1001, 1002]
    spool.close()
    assert sorted(one.name for one in path.parent.iterdir()) == ["events.db", "events.db.lock"]


@posix
def test_a_child_that_outlives_its_parent_does_not_keep_the_file(path):
    script = """
    spool = SqliteSpool(path)
    spool.start()
    spool.put(message(1))
    spool.sync(10.0)
    if not os.fork():
        say("born")
        sys.stdin.read()
        os._exit(0)
    os.kill(os.getpid(), 9)
    """
    process = start(script, path)
    assert process.stdout.readline() == "born\n"
    process.wait(60)
    spool = SqliteSpool(path)
    assert spool.start() == 1
    spool.close()
    process.stdin.close()
    process.stdout.close()


@posix
def test_a_child_can_use_it_while_the_parent_writes_as_fast_as_it_can(path):
    script = """
    import threading
    spool = SqliteSpool(path, memory_bytes=100_000)
    spool.start()
    done = []
    def put():
        number = 0
        while not done:
            spool.put(message(number, 2000))
            number += 1
            if number > 100:
                spool.ack(spool.claim(1, steady()))
            if not number % 20:
                time.sleep(0.001)
    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        child = os.fork()
        if not child:
            spool.start()
            spool.put(message(1))
            os._exit(0 if spool.sync(20.0) else 1)
        say(os.waitpid(child, 0)[1])
    done.append(1)
    for thread in threads:
        thread.join()
    say(len(spool.close()))
    """
    assert run(script, path) == ["0"] * 9
    spool = SqliteSpool(path)
    got = spool.start()
    assert got >= 8
    assert len(list(path.parent.glob("*.db"))) == 1
    spool.close()


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path):
    one, two = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert one.take()
    assert not two.take()
    one.release(remove=True)
    assert not (tmp_path / "a.lock").exists()
    assert two.take()
    assert not one.take()
    two.release()
    two.release()
    assert one.take()
    one.release()


def test_a_lock_without_its_file_leaves_nothing(tmp_path):
    assert take_orphan(tmp_path / "1-00000001.db") is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_tells_its_file(tmp_path):
    assert file_of(FileLock(tmp_path / "events.db.lock")) == tmp_path / "events.db"


def newer(path):
    left_behind(path.parent, path.name, 5)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE spool SET version = 7")
    connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()


def test_a_dead_process_s_file_of_a_newer_schema_is_left_alone(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in (1, 2):
        newer(folder / f"{number}-0000000{number}.db")
    spool = opened(at=folder)
    assert (spool.stats().size, dict(spool.stats().faults)["unreadable"]) == (0, 2)
    assert spool.put(message(1)) is None
    spool.close()
    (own,) = folder.glob(f"{os.getpid()}-*.db")
    assert {one.name for one in folder.glob("*.db")} == {"1-00000001.db", "2-00000002.db", own.name}
    assert rows(folder / "1-00000001.db", "SELECT version FROM spool") == [(7,)]


def test_an_orphan_waits_while_there_is_no_room_for_it(tmp_path, opened):
    folder = tmp_path / "many"
    spool = opened(at=f"{folder}/", adopt_interval=0.01)
    for number in range(50):
        spool.put(message(number, 500))
    assert spool.sync(10.0)
    connection = spool._journal.file._connection
    with spool._committer.gate:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    left_behind(folder, "1-00000001.db", 600, first=1000)
    adopted = []
    eventually(lambda: adopted.append(spool.adopt()) or dict(spool.stats().faults)["disk_full"])
    assert (folder / "1-00000001.db").exists()
    with spool._committer.gate:
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    eventually(lambda: adopted.append(spool.adopt()) or sum(adopted) == 600)
    eventually(lambda: not (folder / "1-00000001.db").exists())
    assert numbers(claim_all(spool)) == [*range(50), *range(1000, 1600)]


@posix
def test_a_child_that_is_born_while_the_disk_hangs_keeps_its_messages_in_memory(path):
    script = """
    import threading
    from wirewitness.outbox.sqlite import spool as module
    module._GATE_SECONDS = 0.01
    spool = SqliteSpool(path)
    spool.start()
    hangs, over = threading.Event(), threading.Event()
    def hang():
        with spool._committer.gate:
            hangs.set()
            over.wait(30.0)
    thread = threading.Thread(target=hang)
    thread.start()
    hangs.wait(10.0)
    child = os.fork()
    if not child:
        say(spool.start(), spool.put(message(1)), spool.stats().durable, numbers(spool.claim(5, steady())))
        say(len(spool.close()))
        os._exit(0)
    os.waitpid(child, 0)
    over.set()
    thread.join()
    spool.put(message(2))
    say(spool.sync(10.0), len(spool.close()))
    """
    assert run(script, path) == ["0", "None", "0", "[1]", "1", "True", "0"]
    assert [one.name for one in path.parent.glob("*.db")] == ["events.db"]
