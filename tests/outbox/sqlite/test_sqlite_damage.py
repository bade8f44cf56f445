"""
Files that are damaged, truncated, or no database at all.
"""

from __future__ import annotations

import random
import shutil
import sqlite3

import pytest

from sqlite_messages import claim_all, eventually, message, numbers, rows

from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.sqlite.salvage import scan


COUNT = 120
SIZE = 900


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """
    A file with messages in it, closed.
    """
    path = tmp_path_factory.mktemp("sound") / "events.db"
    fill(path)
    return path


def fill(path):
    spool = SqliteSpool(path)
    spool.start()
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    first = spool.claim(1, steady())[0]
    spool.bury(first, "expired")
    assert spool.close() == []


def damaged(path, *, whole_page=False):
    """
    A file's bytes, the 60th message's damaged. It may stand there more than once: pages that are free keep their content.
    """
    whole = bytearray(path.read_bytes())
    while (at := whole.find(message(60, SIZE).body)) >= 0:
        whole[at] = ord("9")
        if whole_page:
            begin = at // 4096 * 4096
            whole[begin : begin + 4096] = b"\xaa" * 4096
    return bytes(whole)


def faults(spool):
    return dict(spool.stats().faults)


def read(path):
    """
    Start on a file, and return what is claimed, and the spool's faults.
    """
    spool = SqliteSpool(path)
    left = spool.start()
    assert spool.stats().size == left
    got = claim_all(spool)
    assert len(got) + spool.take_lost() == left
    for one in got:
        assert one.body == message(int(one.body), SIZE).body
    assert spool.put(message(500)) is None
    assert spool.sync(10.0)
    found = faults(spool)
    spool.close()
    assert rows(path) == [(message(500).body,)]
    return numbers(got), found


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_is_never_sent_and_stops_nothing(path, sound, seed):
    shutil.copy(sound, path)
    where = random.Random(seed)
    whole = bytearray(path.read_bytes())
    for _ in range(1 + seed % 3):
        whole[where.randrange(len(whole))] ^= 1 << where.randrange(8)
    path.write_bytes(whole)
    got, found = read(path)
    assert set(got) <= set(range(1, COUNT))
    assert len(got) == len(set(got))
    assert len(got) == COUNT - 1 or found["corrupt"]


@pytest.mark.parametrize("seed", range(15))
def test_a_truncated_file_stops_nothing(path, sound, seed):
    whole = sound.read_bytes()
    path.write_bytes(whole[: random.Random(seed).randrange(1, len(whole))])
    got, found = read(path)
    assert found["corrupt"]
    assert set(got) <= set(range(1, COUNT))
    (aside,) = path.parent.glob("events.db.corrupt-*[0-9]")
    assert aside.stat().st_size > 0


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\0" * 9000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_what_is_no_database_is_set_aside(path, content):
    path.write_bytes(content)
    got, found = read(path)
    assert (got, found["corrupt"]) == ([], 1)
    (aside,) = path.parent.glob("events.db.corrupt-*[0-9]")
    assert aside.read_bytes()[:9000] == content[:9000]


def test_what_can_be_read_is_salvaged(path, sound):
    path.write_bytes(damaged(sound, whole_page=True))
    got, found = read(path)
    assert found["corrupt"]
    assert 60 not in got
    assert len(got) >= COUNT - 1 - 10
    assert rows(path, "SELECT reason FROM dead") == [("expired",)]


def test_a_flipped_payload_is_kept_as_a_dead_letter(path, sound):
    path.write_bytes(damaged(sound))
    got, found = read(path)
    assert got == [number for number in range(1, COUNT) if number != 60]
    assert found["corrupt"] == 1
    assert [reason for (reason,) in rows(path, "SELECT reason FROM dead ORDER BY id")] == ["expired", "corrupt"]


def killed(path):
    """
    Leave a file as a kill leaves it, with what was written in the write-ahead log.
    """
    spool = SqliteSpool(path.with_name("other.db"))
    spool.start()
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    assert spool.sync(10.0)
    for suffix in ("", "-wal"):
        shutil.copy(f"{spool._journal.path}{suffix}", f"{path}{suffix}")
    spool.close()
    for one in path.parent.glob("other.db*"):
        one.unlink()


def test_the_log_of_a_killed_process_is_read(path):
    killed(path)
    assert read(path)[0] == list(range(COUNT))


@pytest.mark.parametrize("seed", range(15))
def test_a_damaged_log_stops_nothing(path, seed):
    killed(path)
    log = path.with_name("events.db-wal")
    where = random.Random(seed)
    whole = bytearray(log.read_bytes())
    whole[where.randrange(len(whole))] ^= 0x10
    if seed % 2:
        del whole[where.randrange(len(whole)) :]
    log.write_bytes(whole)
    got, _ = read(path)
    assert set(got) <= set(range(COUNT))
    assert len(got) == len(set(got))


def test_damage_that_comes_while_it_runs_is_counted_and_the_rest_sent(opened, path):
    spool = opened(memory_bytes=10_000)
    put = [message(number, SIZE) for number in range(COUNT)]
    for one in put:
        spool.put(one)
    assert spool.sync(10.0)
    with spool._committer.gate:
        connection = spool._journal.file._connection
        for number, change in ((69, "body = x'36'"), (70, "crc = 'x'"), (71, "headers = x'00'")):
            connection.execute(f"UPDATE message SET {change} WHERE id = {put[number].id}")
    got = numbers(claim_all(spool))
    assert got == [number for number in range(COUNT) if number not in {69, 70, 71}]
    assert spool.sync(10.0)
    assert spool.take_lost() == 3
    assert spool.take_lost() == 0
    assert spool.sync(10.0)
    assert (faults(spool)["corrupt"], spool.stats().dead, spool.stats().size) == (3, 3, 0)


@pytest.mark.parametrize("step", ["read", "write", "checkpoint"])
@pytest.mark.parametrize(
    ("error", "kind"), [("database disk image is malformed", "corrupt"), ("disk I/O error", "failed")]
)
def test_a_file_that_breaks_while_it_runs_is_given_up_for_a_new_one(opened, path, step, error, kind):
    spool = opened(memory_bytes=10_000)
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    assert spool.sync(10.0)
    got = spool.claim(5, steady())
    spool.ack(got[:2])
    broken = []

    def fail(*_, **__):
        broken.append(1)
        raise sqlite3.DatabaseError(error)

    setattr(spool._journal.file, step, fail)
    spool.put(message(COUNT, SIZE))
    left = numbers(claim_all(spool))
    assert left == list(range(5, COUNT + 1))
    assert spool.sync(10.0)
    # Once, and never again.
    assert broken == [1]
    assert faults(spool)[{"failed": "io_error"}.get(kind, kind)] == 1
    assert list(path.parent.glob(f"events.db.{kind}-*[0-9]"))
    for one in got[2:]:
        spool.retry_at(one, 0.0)
    assert spool.close() == []
    assert [int(body) for (body,) in rows(path)] == [2, 3, 4]


def test_a_damaged_orphan_is_salvaged(tmp_path, sound, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    spool = opened(at=folder)
    orphan = folder / "1-00000001.db"
    orphan.write_bytes(damaged(sound, whole_page=True))
    spool._adopt_interval = spool._committer._adopt_interval = 0.01
    spool._committer._adopt_at = 0.0
    adopted = []
    eventually(lambda: adopted.append(spool.adopt()) or sum(adopted) > COUNT - 20)
    eventually(lambda: not orphan.exists())
    assert len(claim_all(spool)) == sum(adopted)
    assert faults(spool)["corrupt"]
    assert len(list(folder.glob("1-00000001.db.corrupt-*[0-9]"))) == 1


def test_an_orphan_with_a_flipped_payload_is_kept_aside(tmp_path, sound, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "1-00000001.db").write_bytes(damaged(sound))
    shutil.copy(sound, folder / "2-00000002.db")
    with (folder / "2-00000002.db").open("ab") as larger:
        larger.write(b"\0" * 4096)
    spool = opened(at=folder)
    assert spool.stats().size == COUNT - 1 + COUNT - 2
    assert list(folder.glob("1-00000001.db.corrupt-*[0-9]"))


@pytest.mark.parametrize("damaged", [set(), {0}, {37}, set(range(300, 420)), {1, 500, 999}, set(range(1000))])
def test_scanning_leaves_out_the_damaged_only(damaged):
    asked = []

    def read(first, last, most):
        asked.append(1)
        found = [number for number in range(1000) if first <= number <= last][:most]
        if damaged.intersection(found):
            raise sqlite3.DatabaseError
        return found

    got = [number for chunk in scan(read, int) for number in chunk]
    assert sorted(got) == [number for number in range(1000) if number not in damaged]
    assert len(asked) < 20_000
