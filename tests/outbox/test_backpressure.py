"""
A server that asks for less is asked less, by all messages together.
"""

from __future__ import annotations

import threading
import time

import pytest

from hypothesis import given
from hypothesis import strategies as st
from outbox_events import FAST
from test_delivery import Endpoint

from wirewitness.core.outcome import Outcome
from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox import Breakers, HttpSender
from wirewitness.outbox.backpressure import BackPressure
from wirewitness.outbox.message import Origin


HERE, THERE = Origin("http", "here", 80), Origin("http", "there", 80)


class Limited:
    """
    An endpoint that takes so many requests in each second, and answers 429 to the others.
    """

    def __init__(self, per_second, retry_after="1"):
        self.lock = threading.Lock()
        self.per_second = per_second
        self.retry_after = retry_after
        self.second, self.taken = 0, 0

    def __call__(self, _):
        with self.lock:
            second = int(time.monotonic())
            if second != self.second:
                self.second, self.taken = second, 0
            if self.taken >= self.per_second:
                return 429, {"Retry-After": self.retry_after}
            self.taken += 1
            return 204, {}


@pytest.fixture
def limited():
    server = Endpoint(Limited(10))
    yield server
    server.close()


@pytest.mark.processes
def test_a_backlog_at_a_limited_server_costs_few_requests_more_than_it_has_messages(make, limited):
    outbox = make(HttpSender(threads=8), retry=RetryPolicy(attempts=3), breakers=Breakers())
    for number in range(60):
        outbox("POST", limited.url, {"number": number})
    assert outbox.flush(60.0).empty
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 60
    # Each message by itself would ask again and again: some nine requests for each.
    assert len(limited.bodies) <= 2 * 60


@pytest.mark.parametrize("retry_after", ["0", "soon", "-3", "", "999999999999", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_whatever_a_server_says_of_later_nothing_is_lost(make, retry_after):
    answers = iter([429, 503, 429])
    server = Endpoint(lambda _: (next(answers, 204), {"Retry-After": retry_after}))
    outbox = make(HttpSender(threads=1), retry=FAST)
    outbox("POST", server.url, {"a": 1})
    try:
        assert outbox.flush(30.0).empty
        assert len(server.bodies) == 4
    finally:
        server.close()


def test_one_answer_pauses_all_messages_for_that_server_and_for_no_other():
    pressure = BackPressure()
    pressure.throttled(HERE, 100.0, 5.0)
    assert not pressure.allow(HERE, 104.9, {})
    assert pressure.allow(THERE, 100.0, {})
    assert pressure.closed_to(101.0, {}) == {HERE}
    assert pressure.next_free(101.0) == 105.0


def test_after_a_pause_one_goes_then_two_then_four():
    pressure = BackPressure()
    pressure.throttled(HERE, 0.0, 1.0)
    assert pressure.allow(HERE, 1.0, {HERE: 0})
    assert not pressure.allow(HERE, 1.0, {HERE: 1})
    pressure.taken(HERE)
    assert pressure.allow(HERE, 1.1, {HERE: 1})
    assert not pressure.allow(HERE, 1.1, {HERE: 2})
    for _ in range(8):
        pressure.taken(HERE)
    assert pressure.quiet


def test_a_limit_that_is_gone_is_forgotten():
    pressure = BackPressure()
    pressure.throttled(HERE, 0.0, 1.0)
    for _ in range(5):
        pressure.taken(HERE)
    pressure.throttled(HERE, 2.0, 1.0)
    now = 3.0
    while not pressure.quiet:
        pressure.allow(HERE, now, {})
        pressure.taken(HERE)
        now += 0.05
        assert now < 60.0


@given(
    st.integers(1, 50),
    st.floats(0.5, 3.0),
    st.integers(2, 16),
)
def test_of_a_limited_server_at_most_a_third_more_is_asked(per_period, period, threads):
    # A server with a window of `period` seconds, asked as fast as is allowed; answers come at once.
    pressure, now, asked, taken = BackPressure(), 0.0, 0, 0
    window, used = 0, 0
    while taken < 20 * per_period and asked < 10_000:
        if not pressure.allow(HERE, now, {HERE: 0}):
            free = pressure.next_free(now)
            now = now + 0.001 if free is None else free
            continue
        asked += 1
        if int(now / period) != window:
            window, used = int(now / period), 0
        used += 1
        now += 0.001
        if used > per_period:
            pressure.throttled(HERE, now, (window + 1) * period - now)
        else:
            taken += 1
            pressure.taken(HERE)
    assert asked <= taken * 4 / 3 + 16
