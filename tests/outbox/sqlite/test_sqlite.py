"""
The spool on disk, as long as all goes well.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sqlite3
import stat
import sys
import threading

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_messages import claim_all, eventually, file_in, first_record, message, numbers, rows

from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError
from wirewitness.outbox import Form, MemorySpool, Message, SqliteSpool
from wirewitness.outbox.clock import steady
from wirewitness.outbox.message import OVERHEAD, origin_of_url
from wirewitness.outbox.sqlite.file import APPLICATION_ID


@pytest.fixture(params=["group", "sync"])
def durability(request):
    return request.param


def fill(spool, count, size=32):
    assert [spool.put(message(number, size)) for number in range(count)] == [None] * count


def test_what_was_put_is_there_for_the_next_process_as_it_was(opened, durability):
    spool = opened(durability)
    body = bytes(range(256))
    url = "https://caf\u00e9.example/v1/\ud800?q=1#f"
    put = Message("GET", url, (("A", "1"), ("a", "\udcff")), body, Form.QUERY, 123_456_789)
    spool.put(put)
    assert spool.close() == []
    (got,) = opened(durability).claim(10, steady())
    # When it was accepted, the other process's clock alone knows: see test_sqlite_clock.py.
    for name in ("method", "url", "headers", "body", "form", "attempts", "due"):
        assert getattr(got, name) == getattr(put, name), name


def test_start_tells_how_many_were_left(opened, path):
    spool = opened()
    fill(spool, 3)
    spool.close()
    again = SqliteSpool(path)
    assert again.start() == 3
    assert again.start() == 0
    assert again.stats().size == 3
    again.close()


def test_what_was_acknowledged_is_gone(opened, durability):
    spool = opened(durability)
    fill(spool, 5)
    claimed = spool.claim(3, steady())
    spool.ack(claimed[:2])
    spool.close()
    assert numbers(claim_all(opened(durability))) == [2, 3, 4]


def test_sync_is_on_disk_when_put_returns(opened):
    spool = opened("sync")
    spool.put(message(7))
    assert spool.stats().durable == 1
    assert first_record(spool).message.body == message(7).body


def test_what_is_acknowledged_before_it_was_written_is_never_written(opened):
    spool = opened()
    written = []
    write = spool._store.own.file.write
    spool._store.own.file.write = lambda batch: written.append(batch.rows) or write(batch)
    with spool._writer.gate:
        fill(spool, 3)
        spool.ack(spool.claim(2, steady()))
    assert spool.sync(10.0)
    assert [[row[-1].strip() for row in some] for some in written] == [[b"2"]]


def test_attempts_and_due_times_outlive_the_process(opened):
    spool = opened()
    fill(spool, 2)
    first, second = spool.claim(2, steady())
    first.attempts = 3
    due = steady() + 50.0
    spool.retry_at(first, due)
    second.attempts = 1
    spool.retry_at(second, 1.0)
    spool.close()
    again = opened()
    (got,) = again.claim(5, steady())
    assert (numbers([got]), got.attempts) == ([1], 1)
    assert again.next_due() == pytest.approx(due, abs=0.01)
    (late,) = again.claim(5, due + 1.0)
    assert (numbers([late]), late.attempts) == ([0], 3)


def test_a_due_time_of_a_clock_that_was_a_day_ahead_is_at_most_an_hour_off(opened):
    spool = opened()
    fill(spool, 1)
    (one,) = spool.claim(1, steady())
    spool.retry_at(one, steady() + 86_400.0)
    spool.close()
    assert opened().next_due() <= steady() + 3600.0


def test_a_due_time_that_is_no_number_does_no_harm(opened):
    spool = opened()
    fill(spool, 1)
    (one,) = spool.claim(1, steady())
    one.attempts = 1
    spool.retry_at(one, float("nan"))
    assert spool.sync(10.0)
    spool.close()
    assert len(claim_all(opened())) == 1


def test_dead_letters_are_kept_with_their_reason(opened, path):
    spool = opened()
    fill(spool, 2)
    one, other = spool.claim(2, steady())
    one.attempts = 4
    spool.dead_letter(one, "status_4xx")
    assert spool.sync(10.0)
    spool.dead_letter(other, "expired")
    assert spool.stats().dead == 2
    spool.close()
    assert rows(path, "SELECT attempts, reason, length(body) FROM dead ORDER BY id") == [
        (4, "status_4xx", 32),
        (0, "expired", 32),
    ]
    assert rows(path) == []
    assert opened().stats().dead == 2


def test_the_oldest_dead_letters_make_room(opened, path):
    spool = opened(most_bytes=80 * (32 + OVERHEAD))
    for _ in range(3):
        fill(spool, 50)
        for one in spool.claim(50, steady()):
            spool.dead_letter(one, "expired")
        assert spool.sync(10.0)
    assert spool.stats().dead == 10
    spool.close()
    assert [int(body) for (body,) in rows(path, "SELECT body FROM dead ORDER BY id")] == list(range(40, 50))


def test_it_is_bounded_in_messages_and_in_bytes(opened):
    spool = opened(most=3)
    fill(spool, 3)
    assert spool.put(message(4)) is Reason.QUEUE_FULL
    spool.ack(spool.claim(1, steady()))
    assert spool.put(message(4)) is None
    spool.close()
    small = opened(most_bytes=5 * (100 + OVERHEAD))
    assert small.put(message(1, 5 * (100 + OVERHEAD))) is Reason.TOO_LARGE
    assert small.put(message(1, 3 * (100 + OVERHEAD))) is Reason.QUEUE_FULL
    assert small.put(message(1, 100)) is None


def test_evicting_makes_room(opened):
    spool = opened(most=2)
    fill(spool, 2)
    assert numbers([spool.evict()]) == [0]
    spool.claim(1, steady())
    assert spool.evict() is None
    spool.close()
    assert numbers(claim_all(opened())) == [1]


@pytest.mark.parametrize("size", [40, 5000])
def test_what_does_not_fit_into_memory_comes_from_disk_in_order(opened, durability, size):
    spool = opened(durability, memory_bytes=20 * (size + OVERHEAD))
    fill(spool, 150, size)
    assert spool._prefetch.ready.bytes <= spool.memory_bytes
    assert spool.stats().size == 150
    assert numbers(claim_all(spool, 7)) == list(range(150))
    assert spool.sync(10.0)
    assert spool.stats().size == spool.stats().bytes == 0


def test_a_message_larger_than_the_memory_s_bound_comes_from_disk(opened):
    spool = opened(memory_bytes=1)
    fill(spool, 3, 10_000)
    assert numbers(claim_all(spool)) == [0, 1, 2]


def test_more_than_fits_into_memory_is_found_by_the_next_process(opened):
    spool = opened(memory_bytes=10 * (32 + OVERHEAD))
    fill(spool, 700)
    spool.close()
    again = opened(memory_bytes=10 * (32 + OVERHEAD))
    assert again.stats().size == 700
    fill(again, 5)
    assert numbers(claim_all(again, 3)) == [*range(700), *range(5)]


def test_closed_origins_are_left_out(opened):
    spool = opened()
    spool.put(message(1, url="http://a/"))
    spool.put(message(2, url="http://b/"))
    closed = {origin_of_url("http://a/")}
    assert numbers(spool.claim(5, steady(), closed)) == [2]
    assert spool.next_due(closed) is None
    assert spool.next_due() == 0.0


def test_messages_of_threads_are_all_kept(opened, durability):
    spool = opened(durability, memory_bytes=50 * (32 + OVERHEAD))

    def put(thread):
        for number in range(50):
            assert spool.put(message(thread * 50 + number)) is None

    threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()
    assert sorted(numbers(claim_all(opened()))) == list(range(800))


@pytest.mark.skipif(sys.platform == "win32", reason="has no interval timer")
def test_a_signal_handler_may_put(opened, durability):
    spool = opened(durability, memory_bytes=300 * (32 + OVERHEAD))
    handled, nested = [], []

    def handler(*_):
        # As deep as it comes, which is no deeper than a slow disk and a fast timer make it.
        if len(nested) < 5:
            nested.append(1)
            handled.append(spool.put(message(1)))
            nested.pop()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
    try:
        put = 0
        while len(handled) < 200:
            assert spool.put(message(0)) is None
            put += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    spool.close()
    assert handled == [None] * len(handled)
    got = numbers(claim_all(opened()))
    assert (got.count(0), got.count(1)) == (put, len(handled))


def test_a_finalizer_in_any_thread_may_put(opened, durability):
    spool = opened(durability)
    put = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            put.append(spool.put(message(1)))

    threshold = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        for _ in range(300):
            Cycle()
            assert spool.put(message(0)) is None
            spool.ack(spool.claim(1, steady()))
    finally:
        gc.set_threshold(*threshold)
    # While the writer's thread collects, a collection in here does nothing.
    eventually(lambda: gc.collect() is not None and len(put) == 300)
    assert put == [None] * 300
    assert spool.sync(10.0)
    assert spool.stats().size == 300


def test_a_put_in_the_writer_s_own_thread_does_not_wait_for_it(opened):
    spool = opened("sync")
    results = []
    store = spool._store
    real = store.checkpoint

    def checkpoint():
        if not results:
            results.append(spool.put(message(2)))
        real()

    store.checkpoint = checkpoint
    spool.put(message(1))
    assert spool.sync(10.0)
    assert results == [None]
    assert sorted(numbers(claim_all(spool))) == [1, 2]


def test_closing_twice_and_putting_afterwards_do_no_harm(opened, path):
    spool = opened()
    fill(spool, 1)
    assert spool.close() == []
    SqliteSpool(path).close()
    assert spool.close() == []
    SqliteSpool(path).close()
    assert spool.put(message(2)) is Reason.SPOOL_FAILED
    assert spool.stats().size == 0
    assert spool.start() == 1


def test_sync_tells_what_is_durable(opened):
    spool = opened(group_interval=0.001)
    fill(spool, 100)
    assert spool.sync(10.0)
    assert spool.stats().durable == spool.stats().size == 100


def test_an_idle_spool_is_checkpointed(opened, path):
    spool = opened()
    fill(spool, 100)
    assert spool.sync(10.0)
    spool._store.own.file._checked_at -= 10.0
    eventually(lambda: spool._store.own.file.settled)
    assert spool._store.own.pending is False


@pytest.mark.skipif(sys.platform == "win32", reason="has no such permissions")
def test_nobody_else_may_read_the_files(opened, path):
    before = os.umask(0)
    try:
        spool = opened()
        fill(spool, 10)
        spool.sync(10.0)
    finally:
        os.umask(before)
    name = file_in(path).name
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.iterdir()}
    assert set(modes) == {name, f"{name}-wal", f"{name}-reserve", f"{name}.lock"}
    assert set(modes.values()) == {0o600}


def test_a_file_that_is_empty_is_removed(opened, path):
    spool = opened()
    fill(spool, 300, 10_000)
    assert spool.sync(10.0)
    claim_all(spool)
    spool.close()
    assert list(path.iterdir()) == []


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2)),
        st.tuples(st.just("claim"), st.integers(1, 5)),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("retry"), st.integers(0, 5)),
        st.tuples(st.just("dead_letter"), st.integers(0, 5)),
        st.tuples(st.just("evict"), st.just(0)),
        st.tuples(st.just("sync"), st.just(0)),
    ),
    max_size=60,
)


class Pair:
    """
    A spool and its model, that are asked the same.
    """

    def __init__(self, spool):
        self.spools = (spool, MemorySpool(most=20))
        self.claimed = []
        self.number = 0
        self.now = 1000.0

    def put(self, origin):
        self.number += 1
        made = [message(self.number, url=f"http://{origin}/") for _ in self.spools]
        assert len({spool.put(one) for spool, one in zip(self.spools, made, strict=True)}) == 1

    def claim(self, most):
        self.now += 1.0
        got = [spool.claim(most, self.now) for spool in self.spools]
        assert numbers(got[0]) == numbers(got[1])
        self.claimed += zip(*got, strict=True)

    def _each(self, index, act):
        if index < len(self.claimed):
            for spool, one in zip(self.spools, self.claimed.pop(index), strict=True):
                act(spool, one)

    def ack(self, index):
        self._each(index, lambda spool, one: spool.ack([one]))

    def retry(self, index):
        def retry(spool, one):
            one.attempts += 1
            spool.retry_at(one, self.now + index)

        self._each(index, retry)

    def dead_letter(self, index):
        self._each(index, lambda spool, one: spool.dead_letter(one, "expired"))

    def evict(self, _):
        got = [spool.evict() for spool in self.spools]
        assert len({one and one.body for one in got}) == 1

    def sync(self, _):
        assert self.spools[0].sync(10.0)

    def compare(self):
        one, two = (spool.stats() for spool in self.spools)
        for name in ("size", "claimed", "later", "bytes", "dead"):
            assert getattr(one, name) == getattr(two, name), name
        assert self.spools[0].next_due() == self.spools[1].next_due()


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_it_does_what_the_spool_in_memory_does(tmp_path_factory, operations):
    path = tmp_path_factory.mktemp("spool")
    spool = SqliteSpool(path, most=20, group_interval=0.001)
    spool.start()
    pair = Pair(spool)
    for name, argument in operations:
        getattr(pair, name)(argument)
        pair.compare()
    memory = pair.spools[1]
    left = sorted(numbers(memory._shelf.messages()))
    spool.close()
    assert sorted(int(body) for (body,) in rows(path)) == left


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"durability": "fsync"}, "durability=a str of 5 characters: must be one of group, sync"),
        ({"most": 0}, "most=0"),
        ({"most_bytes": 1.5}, "most_bytes=1.5"),
        ({"memory_bytes": True}, "memory_bytes=True"),
        ({"group_interval": -1}, "group_interval=-1"),
        ({"look_interval": float("nan")}, "look_interval=nan"),
        ({"path": ":memory:"}, "path=a str of 8 characters"),
        ({"path": ""}, "path=a str of 0 characters"),
        ({"path": 3}, "path=3"),
        ({"path": "/nowhere/at/all"}, "/nowhere/at/all can't be made: No such file or directory; make the folder"),
        ({"path": "/dev/null"}, "/dev/null is a file: name a folder"),
        ({"path": "/dev/null/x"}, "/dev/null/x can't be made: Not a directory"),
    ],
)
def test_nonsense_is_refused_at_construction(tmp_path, options, told):
    with pytest.raises(ConfigurationError) as raised:
        SqliteSpool(**{"path": tmp_path / "spool", **options})
    assert told in str(raised.value)


def test_a_file_of_a_newer_schema_is_left_alone(opened, path):
    spool = opened()
    fill(spool, 1)
    spool.close()
    newer = file_in(path)
    with contextlib.closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("UPDATE spool SET version = 7")
        connection.execute("PRAGMA user_version = 7")
    spool = opened()
    fill(spool, 1)
    assert spool.stats().size == 1
    assert dict(spool.stats().faults)["unreadable"] == 1
    spool.close()
    assert rows(newer, "SELECT version FROM spool") == [(7,)]


def test_another_application_s_database_is_left_alone(opened, path):
    cats = path / "1-00000001.db"
    with contextlib.closing(sqlite3.connect(cats)) as connection, connection:
        connection.execute("CREATE TABLE cats (name)")
    spool = opened()
    fill(spool, 1)
    assert dict(spool.stats().faults)["unreadable"] == 1
    spool.close()
    assert rows(cats, "SELECT name FROM sqlite_master") == [("cats",)]


def test_a_file_that_another_program_has_open_waits(opened, path):
    spool = opened()
    fill(spool, 1)
    spool.close()
    connection = sqlite3.connect(file_in(path), isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    spool = opened(look_interval=0.01)
    assert spool.stats().size == 0
    connection.close()
    spool._directory._left_alone.clear()
    eventually(spool.adopt)
    assert numbers(claim_all(spool)) == [0]


def test_the_file_says_what_it_is(opened, path):
    spool = opened()
    fill(spool, 1)
    spool.close()
    assert rows(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(path, "PRAGMA user_version") == [(1,)]
    ((headers,),) = rows(path, "SELECT headers FROM message")
    assert json.loads(headers)[0] == ["Content-Type", "application/json"]


def test_its_repr_tells_where_it_is_and_how_full(opened, path):
    spool = opened(most=5)
    fill(spool, 2)
    assert repr(spool) == f"<SqliteSpool {path} 2 of 5>"


def during(operation, intrusion, moment):
    """
    Run an operation, and an intrusion when so many calls have begun or ended in it: there, a signal's handler may run.

    Returns:
        Whether the operation was long enough.
    """
    left = moment

    def profile(_, event, __):
        nonlocal left
        if event != "c_call":
            left -= 1
            if left == -1:
                intrusion()

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        operation()
    finally:
        sys.setprofile(before)
    return left < 0


@pytest.mark.parametrize("name", ["put", "claim", "ack", "retry", "dead_letter", "evict", "stats"])
@pytest.mark.parametrize("room", [3, 4, 5, 6, 7, 100])
def test_a_put_may_come_in_at_every_call_of_any_other(path, name, room):
    spool = SqliteSpool(path, memory_bytes=room * (32 + OVERHEAD), group_interval=0.001)
    spool.start()
    moment, long_enough, expected = 0, True, 0
    while long_enough:
        fill(spool, 5)
        out, evicted = spool.claim(3, steady()), []
        operations = {
            "put": lambda: spool.put(message(5)),
            "claim": lambda out=out: out.extend(spool.claim(2, steady())),
            "ack": lambda out=out: spool.ack([out.pop()]),
            "retry": lambda out=out: spool.retry_at(out.pop(), 0.0),
            "dead_letter": lambda out=out: spool.dead_letter(out.pop(), "expired"),
            "evict": lambda evicted=evicted: evicted.append(spool.evict()),
            "stats": spool.stats,
        }
        long_enough = during(operations[name], lambda: spool.put(message(6)), moment)
        for one in out:
            spool.retry_at(one, 0.0)
        # Where all in memory are claimed, there's none to evict.
        gone = name in {"ack", "dead_letter"} or evicted not in ([], [None])
        expected = 5 + (name == "put") - gone + long_enough
        assert spool.stats().size == expected
        assert spool.stats().bytes == expected * (32 + OVERHEAD)
        got = claim_all(spool)
        assert len(got) == len({one.id for one in got}) == expected
        moment += 1
    assert spool.sync(10.0)
    assert spool.stats().bytes == 0
    spool.close()
    assert rows(path) == []
