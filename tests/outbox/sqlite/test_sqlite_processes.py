"""
Processes: killed, forked, side by side, and one after the other.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import time

from pathlib import Path

import pytest

from sqlite_messages import NO_FAULTS, claim_all, eventually, file_in, message, numbers, rows

from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.sqlite.directory import FileLock, SpoolDirectory


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
    eventually(lambda: len(list(folder.glob("*.db"))) == 1)


def test_an_empty_file_of_a_folder_leaves_nothing(tmp_path, opened):
    spool = opened(at=f"{tmp_path}/many/")
    spool.put(message(1))
    claim_all(spool)
    spool.close()
    assert list((tmp_path / "many").iterdir()) == []


def test_what_a_killed_process_has_left_is_adopted_while_others_live(tmp_path, opened):
    folder = tmp_path / "many"
    spool = opened(at=f"{folder}/", look_interval=0.01)
    process = start(HOLD, folder)
    process.stdout.readline()
    assert spool.adopt() == 0
    kill(process)
    adopted = []
    eventually(lambda: adopted.append(spool.adopt()) or sum(adopted) == 3)
    assert numbers(claim_all(spool)) == [0, 1, 2]
    # It was drained where it was, and is removed.
    eventually(lambda: len(list(folder.glob("*.db"))) == 1)
    assert spool.stats().size == spool.stats().bytes == 0


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
    spool.dead_letter(two, "status_4xx")
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


def left_behind(folder, name, count, first=0, dead=0):
    """
    Make the file of a dead process.
    """
    made = folder.parent / f"made-{name}"
    spool = SqliteSpool(made)
    spool.start()
    for number in range(count):
        spool.put(message(first + number))
    for one in spool.claim(dead, steady()) if dead else ():
        spool.dead_letter(one, "expired")
    spool.close()
    folder.mkdir(mode=0o700, exist_ok=True)
    file_in(made).rename(folder / name)


KILLED = """
spool = SqliteSpool(path)
spool.start()
got = []
while len(got) < 1000:
    some = spool.claim(100, steady())
    spool.ack(some)
    got += numbers(some)
    time.sleep(0.001)
spool.sync(20.0)
say(*got)
os.kill(os.getpid(), 9)
"""


def test_a_process_that_is_killed_while_it_drains_others_repeats_nothing_that_it_has_written_down(tmp_path, opened):
    folder = tmp_path / "many"
    left_behind(folder, "1-00000001.db", 900)
    left_behind(folder, "2-00000002.db", 600, first=1000)
    process = start(KILLED, folder)
    sent = [int(number) for number in process.communicate(timeout=60)[0].split()]
    assert len(sent) == len(set(sent)) >= 1000
    left = numbers(claim_all(opened(at=folder)))
    assert sorted([*sent, *left]) == [*range(900), *range(1000, 1600)]


def test_what_is_tried_or_given_up_of_another_s_file_is_written_there(tmp_path, opened):
    folder = tmp_path / "many"
    left_behind(folder, "1-00000001.db", 9)
    left_behind(folder, "2-00000002.db", 3, first=100)
    spool = opened(at=folder)
    got = {int(one.body): one for one in spool.claim(20, steady())}
    for number in (5, 101):
        got[number].attempts = 3
        spool.retry_at(got.pop(number), steady() + 50.0)
    for number in (6, 102):
        spool.dead_letter(got.pop(number), "status_4xx")
    spool.ack(got.values())
    assert spool.sync(10.0)
    assert (spool.stats().size, spool.stats().dead) == (2, 2)
    spool.close()
    for name, sound in (("1-00000001.db", b"6"), ("2-00000002.db", b"102")):
        assert rows(folder / name, "SELECT trim(CAST(body AS TEXT)), attempts, reason FROM dead") == [
            (sound.decode(), 0, "status_4xx")
        ]
        assert rows(folder / name, "SELECT attempts FROM attempt") == [(3,)]
    later = steady() + 100.0
    again = opened(at=folder)
    assert sorted((int(one.body), one.attempts) for one in again.claim(20, later)) == [(5, 3), (101, 3)]


def test_more_than_fits_into_memory_is_drained_from_every_file_in_its_order(tmp_path, opened):
    folder = tmp_path / "many"
    for number in range(5):
        left_behind(folder, f"{number}-00000001.db", 400, first=1000 * number)
    spool = opened(at=folder, memory_bytes=20 * 1056)
    assert spool.stats().size == 2000
    for number in range(50):
        spool.put(message(9000 + number))
    got = numbers(claim_all(spool, 7))
    for number in range(5):
        assert [one for one in got if one // 1000 == number] == list(range(1000 * number, 1000 * number + 400))
    assert sorted(one for one in got if one >= 9000) == list(range(9000, 9050))
    eventually(lambda: len(list(folder.glob("*.db"))) == 1)


def test_dead_letters_of_a_dead_process_stay_where_they_are_and_go_when_they_are_old(tmp_path, opened):
    folder = tmp_path / "many"
    left_behind(folder, "1-00000001.db", 9)
    left_behind(folder, "2-00000002.db", 2, dead=2)
    spool = opened(at=folder)
    assert (spool.stats().size, spool.stats().dead) == (9, 0)
    spool.close()
    assert rows(folder / "2-00000002.db", "SELECT count(*) FROM dead") == [(2,)]
    with contextlib.closing(sqlite3.connect(folder / "2-00000002.db")) as connection, connection:
        connection.execute("UPDATE dead SET since_ns = 1")
    opened(at=folder)
    assert [one.name for one in folder.glob("*.db")] == ["1-00000001.db"]


def test_the_largest_file_of_the_dead_is_taken_over(tmp_path, opened):
    folder = tmp_path / "many"
    left_behind(folder, "1-00000001.db", 5)
    left_behind(folder, "2-00000002.db", 900, first=100)
    spool = opened(at=folder)
    assert spool.stats().size == 905
    assert spool._store.own.file.path.name == "2-00000002.db"
    assert len(claim_all(spool)) == 905
    eventually(lambda: [one.name for one in folder.glob("*.db")] == ["2-00000002.db"])


def test_what_is_no_spool_of_ours_is_left_alone(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir(mode=0o700)
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
    assert len(list(path.glob("*.db"))) == 2
    spool = SqliteSpool(path)
    assert spool.start() == 203
    assert sorted(numbers(claim_all(spool))) == [*range(200), 1000, 1001, 1002]
    spool.close()
    assert list(path.iterdir()) == []


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
    assert len(claim_all(spool)) == got >= 8
    spool.close()
    assert list(path.iterdir()) == []


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path):
    one, two = FileLock(tmp_path / "a"), FileLock(tmp_path / "a")
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
    directory = SpoolDirectory(tmp_path)
    directory.files = lambda: [tmp_path / "1-00000001.db"]
    assert list(directory.orphans()) == []
    assert list(tmp_path.iterdir()) == []


def newer(path):
    left_behind(path.parent, path.name, 5)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE spool SET version = 7")
        connection.execute("PRAGMA user_version = 7")


def test_a_dead_process_s_file_of_a_newer_schema_is_left_alone(tmp_path, opened):
    folder = tmp_path / "many"
    for number in (1, 2):
        newer(folder / f"{number}-0000000{number}.db")
    spool = opened(at=folder)
    assert (spool.stats().size, dict(spool.stats().faults)["unreadable"]) == (0, 2)
    assert spool.put(message(1)) is None
    spool.close()
    (own,) = folder.glob(f"{os.getpid()}-*.db")
    assert {one.name for one in folder.glob("*.db")} == {"1-00000001.db", "2-00000002.db", own.name}
    assert rows(folder / "1-00000001.db", "SELECT version FROM spool") == [(7,)]


def test_an_orphan_is_drained_while_there_is_no_room(tmp_path, opened):
    folder = tmp_path / "many"
    spool = opened(at=folder, look_interval=0.01)
    for number in range(50):
        spool.put(message(number, 500))
    assert spool.sync(10.0)
    connection = spool._store.own.file._connection
    with spool._writer.gate:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    left_behind(folder, "1-00000001.db", 600, first=1000)
    adopted = []
    eventually(lambda: adopted.append(spool.adopt()) or sum(adopted) == 600)
    assert sorted(numbers(claim_all(spool))) == [*range(50), *range(1000, 1600)]
    eventually(lambda: not (folder / "1-00000001.db").exists())


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
        with spool._writer.gate:
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
    assert len(list(path.glob("*.db"))) == 1


@posix
@pytest.mark.parametrize("used", ["used", "unused"])
def test_a_daemon_that_closes_all_descriptors_delivers_and_keeps_what_is_left(tmp_path, sink, used):
    script = """
    from wirewitness import HttpSender, Outbox
    url, used = sys.stdin.readline().split()
    box = Outbox(HttpSender(threads=2), spool=SqliteSpool(path))
    if used == "used":
        box("POST", url, {"by": "parent"})
        assert box.flush(20.0).empty
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.closerange(3, 256)
    for number in range(20):
        box("POST", url, {"by": "daemon"})
    empty = box.flush(20.0).empty
    # Nobody listens there.
    box("POST", "http://127.0.0.1:9/nobody", {"by": "daemon"})
    left = box.close(1.0)
    say(empty, left.kept, left.lost)
    os._exit(0)
    """
    process = start(script, tmp_path / "spool")
    out, _ = process.communicate(f"{sink.url}/v1/events {used}\n", timeout=60)
    assert out.split() == ["True", "1", "0"]
    assert len(sink.requests) == 20 + (used == "used")
    spool = SqliteSpool(tmp_path / "spool")
    assert spool.start() == 1
    spool.close()


@posix
def test_nothing_is_written_to_descriptors_that_are_somebody_else_s_by_now(tmp_path, opened):
    script = """
    spool = SqliteSpool(path)
    spool.start()
    for number in range(10):
        spool.put(message(number))
    assert spool.sync(20.0)
    os.closerange(3, 256)
    files = [os.open(f"{path}-{number}", os.O_RDWR | os.O_CREAT) for number in range(20)]
    for number in range(10, 20):
        spool.put(message(number))
    eventually(lambda: spool.sync(20.0))
    say(spool.stats().size, spool.stats().durable, sum(os.fstat(file).st_size for file in files))
    os.kill(os.getpid(), 9)
    """
    process = start(script, tmp_path / "spool")
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["20", "20", "0"]
    # What was in memory is in a new file, and in the old one, too.
    assert set(numbers(claim_all(opened(at=tmp_path / "spool")))) == set(range(20))


@posix
def test_a_child_that_python_is_not_told_of_has_a_file_of_its_own(path):
    script = """
    import ctypes
    spool = SqliteSpool(path)
    spool.start()
    child = ctypes.PyDLL(None).fork()
    if not child:
        say(spool.stats().size, spool.start(), spool.put(message(1)), spool.sync(20.0), spool.stats().durable)
        os._exit(0)
    os.waitpid(child, 0)
    say(spool.put(message(2)), spool.sync(20.0), spool.stats().size)
    spool.close()
    """
    assert run(script, path) == ["0", "0", "None", "True", "1", "None", "True", "1"]
    assert sorted(numbers_on_disk(path)) == [1, 2]


def numbers_on_disk(path):
    return [int(body) for (body,) in rows(path)]
