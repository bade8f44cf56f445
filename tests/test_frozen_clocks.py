"""
Clocks that stand still, or that somebody sets, keep nobody waiting and reach no histogram.
"""

from __future__ import annotations

import math
import time

import pytest
import requests

from hypothesis import given
from hypothesis import strategies as st

from wirewitness import Outcome, _clock, witness
from wirewitness._clock import Deadline, plausible
from wirewitness.outbox import HttpSender, Outbox, RetryPolicy
from wirewitness.testing import capture


STEADY = RetryPolicy(attempts=None, base=0.01, ceiling=0.02)


@pytest.fixture
def frozen(monkeypatch):
    """
    As tools for tests do it: the names in the module are replaced.
    """
    for name, value in (("monotonic", 1.0), ("perf_counter", 1.0), ("time", 1.0), ("time_ns", 1), ("monotonic_ns", 1)):
        monkeypatch.setattr(time, name, lambda value=value: value)


@pytest.fixture
def stopped(monkeypatch):
    """
    As tools do it that reach into the functions themselves.
    """
    monkeypatch.setattr(_clock.monotonic, "__defaults__", (lambda: 1.0,))


@pytest.mark.usefixtures("frozen")
def test_capture_ends_while_the_clock_is_frozen():
    dispatcher = witness(lambda http_verb, url, params: None, name="mute")
    with capture(timeout=0.05) as seen:
        dispatcher("POST", "http://127.0.0.1:9/", {"n": 1})
        assert not seen.wait_for(1, timeout=0.01)
    assert [dispatch.outcome for dispatch in seen] == [Outcome.UNCONFIRMED]


@pytest.mark.usefixtures("stopped")
def test_capture_ends_while_the_clock_itself_stands_still():
    dispatcher = witness(lambda http_verb, url, params: None, name="mute")
    with capture(timeout=0.05) as seen:
        dispatcher("POST", "http://127.0.0.1:9/", {"n": 2})
    assert [dispatch.outcome for dispatch in seen] == [Outcome.UNCONFIRMED]


@pytest.mark.parametrize("clock", ["frozen", "stopped"])
def test_flush_and_close_end_while_the_clock_stands_still(request, clock, unused_port):
    outbox = Outbox(HttpSender(threads=1), name="frozen", retry=STEADY)
    request.getfixturevalue(clock)
    outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": 1})
    assert outbox.flush(0.1).remaining == 1
    assert outbox.close(0.1).lost == 1


@pytest.mark.usefixtures("frozen")
def test_what_is_dispatched_while_the_clock_is_frozen_is_delivered(sink):
    outbox = Outbox(HttpSender(threads=1), name="frozen")
    outbox("POST", f"{sink.url}/v1/events", {"n": 1})
    assert outbox.flush(20).empty
    assert outbox.close(5).empty
    assert len(sink.requests) == 1


@pytest.mark.parametrize("jump", [-1.6e9, 1.6e9])
def test_a_clock_that_jumps_in_the_middle_of_a_dispatch_makes_no_duration_of_decades(sink, monkeypatch, jump):
    real = time.perf_counter
    settled = []

    def inner(http_verb, url, params):
        for name in ("perf_counter", "monotonic", "time"):
            monkeypatch.setattr(time, name, lambda: real() + jump)
        monkeypatch.setattr(_clock.perf_counter, "__defaults__", (lambda: real() + jump,))
        requests.post(url, json=params, timeout=5)

    dispatcher = witness(inner, name="jumping", on_settle=settled.append)
    dispatcher("POST", f"{sink.url}/v1/events", {"n": 1})
    (dispatch,) = settled
    for duration in (dispatch.duration, *(exchange.duration for exchange in dispatch.exchanges)):
        assert 0.0 <= duration < 10 * 86_400


@given(st.floats())
def test_a_plausible_duration_is_a_number_between_zero_and_the_process_age(seconds):
    duration = plausible(seconds)
    assert math.isfinite(duration)
    assert 0.0 <= duration <= 2 * 86_400 + _clock.monotonic()
    if 0.0 <= seconds <= 1.0:
        assert duration == seconds


@pytest.mark.usefixtures("stopped")
def test_a_deadline_comes_though_its_clock_stands_still():
    deadline, naps = Deadline(0.02), 0
    while deadline.nap(0.005):
        naps += 1
    assert 4 <= naps <= 5
    assert deadline.left == 0.0
