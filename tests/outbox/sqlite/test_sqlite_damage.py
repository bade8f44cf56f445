"""
Files that are damaged, truncated, or no database at all.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3

import pytest

from sqlite_messages import claim_all, eventually, file_in, message, numbers, rows

from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.sqlite.directory import SpoolDirectory
from wirewitness.outbox.sqlite.faults import TROUBLES
from wirewitness.outbox.sqlite.salvage import salvage, scan


COUNT = 120
SIZE = 900


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """
    A file with messages in it, closed.
    """
    folder = tmp_path_factory.mktemp("sound")
    spool = SqliteSpool(folder)
    spool.start()
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    first = spool.claim(1, steady())[0]
    spool.dead_letter(first, "expired")
    assert spool.close() == []
    return file_in(folder)


def leave(path, content):
    """
    Leave a dead process's file.
    """
    orphan = path / "1-00000001.db"
    orphan.write_bytes(content)
    return orphan


def damaged(path, *, whole_page=False):
    """
    A file's bytes, the 60th message's damaged. It may stand there more than once: pages that are free keep their content.
    """
    whole = bytearray(path.read_bytes())
    body, at = message(60, SIZE).body, -1
    while (at := whole.find(body, at + 1)) >= 0:
        if whole[at + len(body) :].startswith(b" "):
            # Another message's, of one digit, behind a byte that happens to be a 6.
            continue
        whole[at] = ord("9")
        if whole_page:
            begin = at // 4096 * 4096
            whole[begin : begin + 4096] = b"\xaa" * 4096
    return bytes(whole)


def faults(spool):
    return dict(spool.stats().faults)


def read(path):
    """
    Start on a folder, and return what is claimed, the files that were set aside, and the spool's faults.
    """
    spool = SqliteSpool(path)
    left = spool.start()
    lost = spool.take_lost()
    assert spool.stats().size + lost == left
    got = claim_all(spool)
    assert len(got) + lost + spool.take_lost() == left
    for one in got:
        assert one.body == message(int(one.body), SIZE).body
    assert spool.put(message(500)) is None
    assert spool.sync(10.0)
    found = faults(spool)
    spool.ack(spool.claim(1, steady()))
    assert spool.close() == []
    assert rows(path) == []
    return numbers(got), sorted(path.glob("*.corrupt-*[0-9]")), found


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_is_never_sent_stops_nothing_and_what_it_damages_is_counted(path, sound, seed):
    where = random.Random(seed)
    whole = bytearray(sound.read_bytes())
    for _ in range(1 + seed % 3):
        whole[where.randrange(len(whole))] ^= 1 << where.randrange(8)
    leave(path, whole)
    got, aside, found = read(path)
    assert set(got) <= set(range(1, COUNT))
    assert len(got) == len(set(got))
    # Where the first page is damaged, nothing tells how many messages there were.
    assert len(got) + found["corrupt"] >= COUNT - 1 or aside
    for file in aside:
        salvage(file)
    more, _, _ = read(path)
    assert not set(got) & set(more)
    assert len(got) + len(more) >= COUNT - 40


@pytest.mark.parametrize("seed", range(15))
def test_a_truncated_file_stops_nothing(path, sound, seed):
    whole = sound.read_bytes()
    leave(path, whole[: random.Random(seed).randrange(1, len(whole))])
    got, (aside,), found = read(path)
    assert (got, aside.stat().st_size > 0) == ([], True)
    assert found["corrupt"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\0" * 9000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_what_is_no_database_is_set_aside(path, content):
    leave(path, content)
    got, (aside,), found = read(path)
    assert (got, found["corrupt"]) == ([], 1)
    assert aside.read_bytes()[:9000] == content[:9000]
    with contextlib.suppress(*TROUBLES):
        assert salvage(aside) == (0, 0, 0, 0)
    assert read(path)[0] == []


def test_what_can_be_read_is_put_back_into_the_queue_by_a_salvage(path, sound):
    leave(path, damaged(sound, whole_page=True))
    got, (aside,), found = read(path)
    # All that is in the file is counted.
    assert (got, found["corrupt"]) == ([], COUNT - 1)
    done = salvage(aside)
    assert done.queued >= COUNT - 1 - 10
    assert (done.dead, done.damaged + done.missing) == (1, COUNT - 1 - done.queued)
    spool = SqliteSpool(path)
    assert spool.start() == done.queued
    again = claim_all(spool)
    assert numbers(again) == sorted(numbers(again))
    assert set(numbers(again)) < set(range(COUNT)) - {60}
    spool.close()
    assert rows(path, "SELECT reason FROM dead") == [("expired",)]
    assert [file.name.split("-")[0] for file in SpoolDirectory(path).aside()] == ["1"]
    assert ".db.salvaged-" in SpoolDirectory(path).aside()[0].name


def test_a_flipped_payload_is_kept_as_a_dead_letter(path, sound):
    leave(path, damaged(sound))
    got, aside, found = read(path)
    assert (got, aside) == ([number for number in range(1, COUNT) if number != 60], [])
    assert found["corrupt"] == 1
    assert [reason for (reason,) in rows(path, "SELECT reason FROM dead ORDER BY id")] == ["expired", "corrupt"]


def killed(path):
    """
    Leave a file as a kill leaves it, with what was written in the write-ahead log.
    """
    spool = SqliteSpool(path.parent / "other")
    spool.start()
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    assert spool.sync(10.0)
    for suffix in ("", "-wal"):
        shutil.copy(f"{spool._store.own.file.path}{suffix}", path / f"1-00000001.db{suffix}")
    spool.close()


def test_the_log_of_a_killed_process_is_read(path):
    killed(path)
    assert read(path)[0] == list(range(COUNT))


@pytest.mark.parametrize("seed", range(15))
def test_a_damaged_log_stops_nothing(path, seed):
    killed(path)
    log = path / "1-00000001.db-wal"
    where = random.Random(seed)
    whole = bytearray(log.read_bytes())
    whole[where.randrange(len(whole))] ^= 0x10
    if seed % 2:
        del whole[where.randrange(len(whole)) :]
    log.write_bytes(whole)
    got, _, _ = read(path)
    assert set(got) <= set(range(COUNT))
    assert len(got) == len(set(got))


def test_damage_that_comes_while_it_runs_is_counted_and_the_rest_sent(opened):
    spool = opened(memory_bytes=10_000)
    put = [message(number, SIZE) for number in range(COUNT)]
    for one in put:
        spool.put(one)
    assert spool.sync(10.0)
    with spool._writer.gate:
        connection = spool._store.own.file._connection
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
    ("error", "kind"), [("database disk image is malformed", "corrupt"), ("disk I/O error", "io_error")]
)
def test_a_file_that_breaks_while_it_runs_is_written_no_more_and_what_it_has_is_sent(opened, path, step, error, kind):
    spool = opened(memory_bytes=10_000)
    for number in range(COUNT):
        spool.put(message(number, SIZE))
    assert spool.sync(10.0)
    first = file_in(path)
    got = spool.claim(5, steady())
    spool.ack(got[:2])
    broken = []

    def fail(*_, **__):
        broken.append(1)
        raise sqlite3.DatabaseError(error)

    setattr(spool._store.own.file, step, fail)
    spool.put(message(COUNT, SIZE))
    left = numbers(claim_all(spool))
    assert sorted(left) == list(range(5, COUNT + 1))
    assert spool.sync(10.0)
    # Once, and never again.
    assert broken == [1]
    assert faults(spool)[kind] == 1
    for one in got[2:]:
        spool.retry_at(one, 0.0)
    eventually(lambda: not first.exists())
    assert spool.close() == []
    assert [int(body) for (body,) in rows(path)] == [2, 3, 4]


@pytest.mark.parametrize("breaks", ["own", "other"])
def test_a_file_that_can_t_be_opened_again_is_set_aside_and_what_was_in_it_alone_is_counted(
    opened, path, sound, breaks
):
    spool = opened(memory_bytes=10_000, look_interval=0.01)
    put = COUNT if breaks == "own" else 5
    for number in range(put):
        assert spool.put(message(number, SIZE)) is None
    assert spool.sync(10.0)
    if breaks == "other":
        shutil.copy(sound, path / "1-00000001.db")
        eventually(spool.adopt)
    store = spool._store
    with spool._writer.gate:
        source = store.own if breaks == "own" else store.others[0]
        parts = [source.file.path, source.file.path.with_name(f"{source.file.path.name}-wal")]
        on_disk = source.ranges.count

        def fail(*_):
            # A disk that forgets.
            for part in parts:
                part.write_bytes(b"\xaa" * part.stat().st_size)
            raise sqlite3.DatabaseError(*["disk I/O error"])

        source.file.read = fail
    got = claim_all(spool)
    assert len(got) == (put - on_disk if breaks == "own" else put) == 5
    assert spool.take_lost() == on_disk > 0
    assert len(SpoolDirectory(path).aside()) == 1
    assert spool.put(message(COUNT, SIZE)) is None
    assert spool.sync(10.0)
    assert spool.stats().durable == 1


def test_a_damaged_orphan_is_set_aside_while_others_live(opened, path, sound):
    spool = opened(look_interval=0.01)
    orphan = leave(path, damaged(sound, whole_page=True))
    eventually(lambda: spool.adopt() or not orphan.exists())
    assert faults(spool)["corrupt"] == COUNT - 1
    assert len(SpoolDirectory(path).aside()) == 1
    assert claim_all(spool) == []


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


@pytest.mark.parametrize("order", [[5, 3, 9], [9, 5, 3], [5, 5, 5], [1, 2]])
def test_scanning_ends_where_a_damaged_page_tells_ids_in_a_wrong_order(order):
    asked = []

    def read(first, last, most):
        asked.append(1)
        assert len(asked) < 30_000
        # As SQLite does: the first bound is where it looks, and is not looked at again.
        found = order[next((at for at, id_ in enumerate(order) if id_ >= first), len(order)) :]
        return [id_ for id_ in found if id_ <= last]

    got = [number for chunk in scan(read, int) for number in chunk]
    assert len(got) == len(set(got))
    assert set(got) <= set(order)
