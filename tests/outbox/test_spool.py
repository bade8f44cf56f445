"""
The spool in memory, and the shelf that every spool keeps its messages in order on.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirewitness import Outbox
from wirewitness.core.outcome import Reason
from wirewitness.errors import ConfigurationError
from wirewitness.outbox.message import OVERHEAD, Form, Message, origin_of_url
from wirewitness.outbox.overflow import Spill
from wirewitness.outbox.spool import MemorySpool, ReadyQueue, Spool, SpoolStats


HOSTS = ("a.example", "b.example", "c.example")
LONG_AFTER = 1e9


def message(host="a.example", body=b"{}", at=0, url=None):
    return Message("POST", url or f"https://{host}/v1/events", (), body, Form.VALUE, at)


def origin(host):
    return origin_of_url(f"https://{host}/")


def filled(*hosts, **options):
    spool = MemorySpool(**options)
    messages = [message(host, at=number) for number, host in enumerate(hosts, 1)]
    assert [spool.put(each) for each in messages] == [None] * len(messages)
    return spool, messages


def ids(messages):
    return [each.id for each in messages]


def drained(spool):
    """
    Everything that can be claimed still, acknowledged.
    """
    given = []
    while claimed := spool.claim(2, LONG_AFTER):
        given += claimed
        spool.ack(claimed)
    return given


# Order, claims and their ends.


def test_messages_are_claimed_in_the_order_in_which_they_were_put():
    spool, messages = filled(*["a.example"] * 5)
    assert ids(messages) == [1, 2, 3, 4, 5]
    assert spool.claim(2, 0.0) == messages[:2]
    assert spool.claim(9, 0.0) == messages[2:]
    assert spool.claim(9, 0.0) == []


def test_what_is_acknowledged_is_gone_and_leaves_its_room():
    spool, messages = filled("a.example", "a.example", most=2)
    spool.ack(spool.claim(1, 0.0))
    assert spool.stats() == SpoolStats(size=1, bytes=messages[1].size, capacity=2, bytes_capacity=64 << 20, oldest_ns=2)
    assert spool.put(message()) is None
    assert spool.put(message()) is Reason.QUEUE_FULL


def test_what_is_acknowledged_twice_counts_once():
    spool, messages = filled("a.example", "a.example")
    claimed = spool.claim(1, 0.0)
    spool.ack(claimed)
    spool.ack(claimed)
    assert (spool.stats().size, spool.stats().bytes) == (1, messages[1].size)


def test_what_is_claimed_takes_its_room_still():
    spool, _ = filled("a.example", most=1)
    spool.claim(1, 0.0)
    assert spool.put(message()) is Reason.QUEUE_FULL
    assert (spool.stats().size, spool.stats().claimed) == (1, 1)


def test_what_is_put_back_at_once_keeps_its_place():
    spool, messages = filled(*["a.example"] * 5)
    for each in spool.claim(4, 0.0):
        spool.retry_at(each, 0.0)
    assert spool.claim(9, 0.0) == messages


def test_what_is_put_back_for_later_is_not_given_before_and_then_goes_first():
    spool, messages = filled(*["a.example"] * 4)
    for each, due in zip(spool.claim(2, 0.0), (20.0, 10.0), strict=True):
        spool.retry_at(each, due)
    assert spool.next_due() == 0.0
    assert spool.claim(1, 9.999) == messages[2:3]
    assert spool.claim(1, 20.0) == messages[:1]
    assert spool.claim(9, 20.0) == [messages[1], messages[3]]


def test_only_what_is_claimed_can_be_put_back():
    spool, messages = filled("a.example", "a.example")
    spool.retry_at(messages[0], 0.0)
    assert len(spool.claim(9, 0.0)) == 2
    spool.ack(messages)
    spool.retry_at(messages[0], 0.0)
    assert spool.claim(9, 0.0) == []


def test_an_unwanted_origin_s_messages_stay():
    spool, messages = filled("a.example", "b.example", "a.example")
    assert spool.claim(9, 0.0, {origin("a.example")}) == [messages[1]]
    assert spool.next_due({origin("a.example")}) is None
    assert spool.next_due() == 0.0
    assert spool.claim(9, 0.0) == [messages[0], messages[2]]


def test_no_origin_starves_another():
    spool, _ = filled(*["a.example"] * 9, *["b.example"] * 9, *["c.example"] * 9)
    served = Counter(origin.host for _ in range(6) for origin in {each.origin for each in spool.claim(3, 0.0)})
    assert served == {"a.example": 2, "b.example": 2, "c.example": 2}


def test_origins_that_nothing_waits_for_are_forgotten():
    spool = MemorySpool()
    for number in range(500):
        spool.put(message(f"host{number}.example"))
    assert len(drained(spool)) == 500
    assert len(spool._shelf._ready) == 0


def test_next_due_is_when_the_first_can_be_claimed():
    spool, _ = filled("a.example", "a.example")
    first, second = spool.claim(2, 0.0)
    assert spool.next_due() is None
    spool.retry_at(first, 30.0)
    spool.retry_at(second, 20.0)
    assert spool.next_due() == 20.0
    assert spool.stats().later == 2
    spool.claim(9, 20.0)
    assert spool.next_due() == 30.0


def test_what_an_earlier_process_put_back_for_later_is_on_the_shelf_for_later():
    shelf, waiting = ReadyQueue(), message()
    waiting.id, waiting.due = 7, 30.0
    shelf.add(waiting)
    assert (len(shelf), shelf.later, shelf.next_due(), shelf.claim(9, 29.9)) == (1, 1, 30.0, [])
    assert shelf.claim(9, 30.0) == [waiting]
    assert waiting.due == 0.0


# Bounds.


def test_no_more_messages_are_held_than_configured():
    spool, _ = filled(*["a.example"] * 3, most=3)
    assert spool.put(message()) is Reason.QUEUE_FULL
    assert spool.stats().size == 3


def test_no_more_bytes_are_held_than_configured():
    spool = MemorySpool(most_bytes=2 * OVERHEAD + 11)
    assert spool.put(message(body=b"12345")) is None
    assert spool.put(message(body=b"1234567")) is Reason.QUEUE_FULL
    assert spool.put(message(body=b"123456")) is None
    assert spool.put(message(body=b"")) is Reason.QUEUE_FULL
    assert spool.stats().bytes == 2 * OVERHEAD + 11


def test_what_no_room_is_enough_for_is_too_large():
    spool = MemorySpool(most=1, most_bytes=OVERHEAD + 5)
    assert spool.put(message(body=b"123456")) is Reason.TOO_LARGE
    assert spool.put(message(body=b"12345")) is None
    assert spool.put(message(body=b"123456")) is Reason.TOO_LARGE
    assert spool.put(message(body=b"12345")) is Reason.QUEUE_FULL


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "5", None])
@pytest.mark.parametrize("name", ["most", "most_bytes"])
def test_a_nonsensical_bound_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}=.*whole number greater than 0"):
        MemorySpool(**{name: value})


# Making room.


def test_the_oldest_of_all_origins_is_taken_out():
    spool, messages = filled("a.example", "b.example", "a.example")
    spool.claim(1, 0.0)
    assert [spool.evict(), spool.evict()] == messages[1:]
    assert spool.stats() == SpoolStats(
        size=1, claimed=1, bytes=messages[0].size, capacity=10_000, bytes_capacity=64 << 20, oldest_ns=1
    )


def test_what_was_put_back_is_older_than_what_nobody_has_had():
    spool, messages = filled(*["a.example"] * 3)
    for each in spool.claim(2, 0.0):
        spool.retry_at(each, 0.0)
    assert [spool.evict() for _ in range(3)] == messages


def test_where_all_are_due_later_the_next_is_taken_out():
    spool, _ = filled("a.example", "a.example")
    for each, due in zip(spool.claim(2, 0.0), (20.0, 10.0), strict=True):
        spool.retry_at(each, due)
    assert [spool.evict().due, spool.evict().due] == [10.0, 20.0]
    assert (spool.evict(), spool.next_due(), spool.stats().later) == (None, None, 0)


def test_what_is_claimed_is_never_taken_out():
    spool, _ = filled("a.example")
    spool.claim(1, 0.0)
    assert spool.evict() is None


@pytest.mark.parametrize(
    ("options", "utilization"), [({"most": 8}, 0.25), ({"most_bytes": 4 * (OVERHEAD + 2)}, 0.5), ({"most": 2}, 1.0)]
)
def test_how_full_it_is_goes_by_the_bound_that_is_nearer(options, utilization):
    spool, _ = filled("a.example", "a.example", **options)
    assert spool.stats().utilization == utilization


def test_a_spool_that_tells_no_bounds_tells_no_utilization():
    assert SpoolStats(size=3, bytes=100).utilization == 0.0


# Dead letters.


def test_a_buried_message_is_a_dead_letter_and_takes_no_room_of_the_living():
    spool, messages = filled("a.example", most=1)
    spool.claim(1, 0.0)
    spool.dead_letter(messages[0], "status_4xx")
    assert spool.dead_letters() == [(messages[0], "status_4xx")]
    assert spool.stats() == SpoolStats(capacity=1, bytes_capacity=64 << 20, dead=1)
    assert spool.put(message()) is None


def test_dead_letters_fill_an_eighth_of_the_space_and_the_oldest_make_room():
    spool, messages = filled(*["a.example"] * 6, most_bytes=8 * 3 * (OVERHEAD + 2))
    for each in spool.claim(9, 0.0):
        spool.dead_letter(each, "expired")
    assert [letter.message for letter in spool.dead_letters()] == messages[3:]


# Beginnings and ends.


def test_closing_gives_back_all_that_is_lost_and_nothing_is_given_afterwards():
    spool, messages = filled(*["a.example"] * 4)
    first, second = spool.claim(2, 0.0)
    spool.retry_at(second, 10.0)
    assert sorted(ids(spool.close())) == ids(messages)
    spool.retry_at(first, 0.0)
    spool.ack([first])
    assert (spool.claim(9, LONG_AFTER), spool.evict(), spool.next_due()) == ([], None, None)
    assert spool.stats() == SpoolStats(capacity=10_000, bytes_capacity=64 << 20)
    assert spool.close() == []


def test_a_forked_child_s_spool_holds_nothing_even_where_the_lock_is_held():
    spool, _ = filled("a.example", most=1)
    thread = threading.Thread(target=spool._shelf.lock.acquire)
    thread.start()
    thread.join()
    spool.abandon()
    assert spool.start() == 0
    assert spool.stats() == SpoolStats(capacity=1, bytes_capacity=64 << 20)
    assert spool.put(message()) is None


def test_memory_is_as_durable_as_it_gets_and_leaves_nothing_to_adopt():
    spool, _ = filled("a.example")
    assert (spool.durable, spool.sync(0.0), spool.adopt()) == (False, True, 0)
    assert repr(spool) == "<MemorySpool 1 of 10000>"


# Threads.


def test_of_eight_threads_none_loses_a_message_and_no_two_have_the_same():
    spool = MemorySpool(most=500)
    each, producers = 300, 4
    out, delivered, twice = set(), Counter(), []
    book, all_put = threading.Lock(), threading.Event()

    def produce(number):
        for sequence in range(each):
            one = message(HOSTS[sequence % 3], body=b"%d-%d" % (number, sequence))
            while spool.put(one) is not None:
                pass

    def consume(_):
        while not all_put.is_set() or spool.stats().size:
            for claimed in spool.claim(7, LONG_AFTER):
                with book:
                    twice.extend({claimed.id} & out)
                    out.add(claimed.id)
                claimed.attempts += 1
                again = (claimed.id + claimed.attempts) % 3 == 0
                with book:
                    out.discard(claimed.id)
                    delivered[claimed.body] += not again
                if again:
                    spool.retry_at(claimed, float(claimed.id % 2))
                else:
                    spool.ack([claimed])

    with ThreadPoolExecutor(8) as threads:
        consumers = [threads.submit(consume, number) for number in range(4)]
        for done in [threads.submit(produce, number) for number in range(producers)]:
            done.result()
        all_put.set()
        for done in consumers:
            done.result()
    assert twice == []
    assert delivered == {b"%d-%d" % (n, s): 1 for n in range(producers) for s in range(each)}
    assert spool.stats() == SpoolStats(capacity=500, bytes_capacity=64 << 20)


# A thread that enters again: a signal handler's or a finalizer's put, inside another operation.


class Startling(str):
    """
    A URL that something happens at, whenever the spool asks where it leads.
    """

    __slots__ = ("happens",)

    def __hash__(self):
        happens, self.happens = getattr(self, "happens", None), None
        if happens is not None:
            happens()
        return super().__hash__()

    __eq__ = str.__eq__


def startling(happens):
    url = Startling("https://a.example/v1/events")
    url.happens = happens
    return message(url=url)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
def test_a_signal_handler_may_put_while_its_thread_puts():
    spool, inner = MemorySpool(), message()
    before = signal.signal(signal.SIGUSR1, lambda *_: spool.put(inner))
    try:
        outer = startling(lambda: signal.raise_signal(signal.SIGUSR1))
        assert spool.put(outer) is None
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sorted(ids(drained(spool))) == ids([outer, inner]) == [1, 2]


def test_a_finalizer_may_put_while_its_thread_puts():
    spool, inner = MemorySpool(), message()

    class Dying:
        def __init__(self):
            self.itself = self

        def __del__(self):
            spool.put(inner)

    def collect():
        Dying()
        gc.collect()

    outer = startling(collect)
    assert spool.put(outer) is None
    assert sorted(ids(drained(spool))) == ids([outer, inner]) == [1, 2]


def test_a_put_inside_a_put_exceeds_the_bound_by_no_more_than_itself():
    for moment in range(100):
        spool, _ = filled("a.example", most=2)
        fired = during(lambda spool=spool: spool.put(message()), lambda spool=spool: spool.put(message()), moment)
        assert 2 <= spool.stats().size <= 3
        assert spool.stats().bytes == spool.stats().size * message().size
        if not fired:
            break


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


class Scene:
    """
    Two origins: one message out, one put back at once, one due later, and one that nobody has had at each.
    """

    def __init__(self):
        self.spool, self.accepted = filled("a.example", "a.example", "a.example", "a.example", "b.example")
        self.out = self.spool.claim(3, 0.0)
        self.gone = []
        self.spool.retry_at(self.out.pop(0), 0.0)
        self.spool.retry_at(self.out.pop(0), 2.0)

    def put(self, host="a.example"):
        one = message(host)
        self.accepted.append(one)
        assert self.spool.put(one) is None

    def put_elsewhere(self):
        self.put("c.example")

    def claim(self):
        self.out += self.spool.claim(2, 5.0)

    def claim_all(self):
        self.out += self.spool.claim(99, 5.0)

    def ack(self):
        one = self.out.pop()
        self.gone.append(one)
        self.spool.ack([one])

    def dead_letter(self):
        one = self.out.pop()
        self.gone.append(one)
        self.spool.dead_letter(one, "expired")

    def retry_now(self):
        self.spool.retry_at(self.out.pop(), 0.0)

    def retry_later(self):
        self.spool.retry_at(self.out.pop(), 10.0)

    def evict(self):
        self.gone += [each for each in [self.spool.evict()] if each is not None]

    def evict_all(self):
        while evicted := self.spool.evict():
            self.gone.append(evicted)

    def look(self):
        self.spool.stats()
        self.spool.next_due({origin("a.example")})

    def close(self):
        assert self.spool.stats().bytes == sum(each.size for each in self.accepted if each not in self.gone)
        self.spool.ack(self.out)
        left = drained(self.spool)
        assert sorted(ids(left + self.out + self.gone)) == sorted(ids(self.accepted))
        assert (self.spool.stats().size, self.spool.stats().bytes, self.spool.stats().claimed) == (0, 0, 0)


@pytest.mark.parametrize("intrusion", ["put", "put_elsewhere", "evict", "evict_all", "look"])
@pytest.mark.parametrize(
    "operation",
    [
        "put",
        "put_elsewhere",
        "claim",
        "claim_all",
        "ack",
        "dead_letter",
        "retry_now",
        "retry_later",
        "evict",
        "evict_all",
        "look",
    ],
)
def test_at_no_moment_of_an_operation_does_another_of_the_same_thread_lose_anything(operation, intrusion):
    moment, interrupted = 0, True
    while interrupted:
        scene = Scene()
        interrupted = during(getattr(scene, operation), getattr(scene, intrusion), moment)
        scene.close()
        moment += 1
    assert moment > 5


# All at once, against a model.


class Held:
    """
    What the model knows of a message.
    """

    def __init__(self, one, host):
        self.message, self.host, self.due, self.back = one, host, None, False

    @property
    def place(self):
        return (not self.back, self.message.id)


class MemorySpoolModel(RuleBasedStateMachine):
    """
    Nothing is lost, nothing is given twice, and each origin's messages come in their order.
    """

    MOST, MOST_BYTES = 6, 5 * OVERHEAD + 100

    def __init__(self):
        super().__init__()
        self.spool = MemorySpool(most=self.MOST, most_bytes=self.MOST_BYTES)
        self.now = 1.0
        self.ready, self.later, self.out = {}, {}, {}
        self.dead = []

    @property
    def held(self):
        return self.ready | self.later | self.out

    @property
    def bytes(self):
        return sum(each.message.size for each in self.held.values())

    def line(self, host):
        return sorted((each for each in self.ready.values() if each.host == host), key=lambda each: each.place)

    @rule(host=st.sampled_from(HOSTS), size=st.sampled_from([0, 1, 30, 99, 4 * OVERHEAD, 5 * OVERHEAD]))
    def put(self, host, size):
        one = message(host, b"x" * size)
        refused = self.spool.put(one)
        if one.size > self.MOST_BYTES:
            assert refused is Reason.TOO_LARGE
        elif len(self.held) == self.MOST or self.bytes + one.size > self.MOST_BYTES:
            assert refused is Reason.QUEUE_FULL
        else:
            assert refused is None
            assert one.id not in self.held
            one.accepted_ns = one.id
            self.ready[one.id] = Held(one, host)

    @rule(most=st.integers(1, 4), closed=st.sets(st.sampled_from(HOSTS)))
    def claim(self, most, closed):
        for each in [each for each in self.later.values() if each.due <= self.now]:
            each.back = True
            self.ready[each.message.id] = self.later.pop(each.message.id)
        claimed = self.spool.claim(most, self.now, {origin(host) for host in closed})
        lines = {host: self.line(host) for host in HOSTS if host not in closed}
        assert len(claimed) == min(most, sum(map(len, lines.values())))
        for host, line in lines.items():
            given = [each for each in claimed if each.origin == origin(host)]
            assert given == [each.message for each in line[: len(given)]]
        assert not {each.origin.host for each in claimed} & closed
        for each in claimed:
            self.out[each.id] = self.ready.pop(each.id)

    @precondition(lambda self: self.out)
    @rule(pick=st.randoms())
    def ack(self, pick):
        picked = pick.sample(sorted(self.out), pick.randint(1, len(self.out)))
        self.spool.ack([self.out.pop(each).message for each in picked])

    @precondition(lambda self: self.out)
    @rule(pick=st.randoms(), wait=st.sampled_from([0.0, 1.0, 5.0]))
    def retry(self, pick, wait):
        each = self.out.pop(pick.choice(sorted(self.out)))
        self.spool.retry_at(each.message, wait and self.now + wait)
        each.due, each.back = self.now + wait, not wait
        (self.later if wait else self.ready)[each.message.id] = each

    @precondition(lambda self: self.out)
    @rule(pick=st.randoms())
    def dead_letter(self, pick):
        each = self.out.pop(pick.choice(sorted(self.out)))
        self.spool.dead_letter(each.message, "expired")
        self.dead.append(each.message)
        while sum(dead.size for dead in self.dead) > self.MOST_BYTES // 8:
            self.dead.pop(0)

    @rule()
    def evict(self):
        firsts = [line[0] for line in map(self.line, HOSTS) if line]
        if firsts:
            expected = min(firsts, key=lambda each: each.message.id)
        else:
            expected = min(self.later.values(), key=lambda each: (each.due, each.message.id), default=None)
        evicted = self.spool.evict()
        assert evicted is (expected and expected.message)
        if evicted is not None:
            (self.ready if firsts else self.later).pop(evicted.id)

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(closed=st.sets(st.sampled_from(HOSTS)))
    def next_due(self, closed):
        due = self.spool.next_due({origin(host) for host in closed})
        if any(each.host not in closed for each in self.ready.values()):
            assert due == 0.0
        else:
            assert due == min((each.due for each in self.later.values()), default=None)

    @invariant()
    def the_stats_are_exact(self):
        assert self.spool.stats() == SpoolStats(
            size=len(self.held),
            claimed=len(self.out),
            later=len(self.later),
            bytes=self.bytes,
            capacity=self.MOST,
            bytes_capacity=self.MOST_BYTES,
            oldest_ns=min(self.held, default=None),
            dead=len(self.dead),
        )
        assert [letter.message for letter in self.spool.dead_letters()] == self.dead

    def teardown(self):
        assert sorted(ids(self.spool.close())) == sorted(self.held)
        assert self.spool.stats().size == 0


TestMemorySpoolModel = MemorySpoolModel.TestCase
TestMemorySpoolModel.settings = settings(stateful_step_count=40, max_examples=100)


METHODS = sorted(name for name in vars(Spool) if not name.startswith("_"))


@pytest.mark.parametrize("lacks", METHODS)
def test_a_spool_that_lacks_a_method_is_refused_and_the_method_named(lacks):
    partial = SimpleNamespace(**{name: None for name in METHODS if name != lacks})
    for make in (lambda: Outbox(lambda event: None, spool=partial), lambda: Spill(to=partial)):
        with pytest.raises(ConfigurationError, match=f"it has no {lacks};"):
            make()


@pytest.mark.parametrize(
    ("partial", "lacks"),
    [
        (SimpleNamespace(threads=1), "send"),
        (SimpleNamespace(send=print), "threads"),
        (SimpleNamespace(run=print), "threads"),
    ],
)
def test_a_sender_that_lacks_something_is_refused_and_it_is_named(partial, lacks):
    with pytest.raises(ConfigurationError, match=f"it has no {lacks};"):
        Outbox(partial)
