"""
Circuit breakers: every time is an argument, so nothing here waits.
"""

from __future__ import annotations

import itertools
import math
import threading

from concurrent.futures import ThreadPoolExecutor

import pytest

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirewitness.errors import ConfigurationError
from wirewitness.outbox.breaker import CLOSED, HALF_OPEN, OPEN, Breakers
from wirewitness.outbox.message import Origin


A = Origin("https", "a.example", 443)
B = Origin("https", "b.example", 443)


def opened(*origins, at=0.0, **options):
    breakers = Breakers(**({"failures": 3, "cooldown": 10.0, "ceiling": 35.0} | options))
    for origin in origins or (A,):
        for _ in range(3):
            breakers.failed(origin, at)
    return breakers


def test_an_unknown_origin_may_be_sent_to():
    breakers = Breakers()
    assert breakers.allow(A, 0.0)
    assert breakers.quiet
    assert breakers.all_closed
    assert (breakers.closed_to(0.0), breakers.next_probe(0.0), breakers.state(0.0)) == (frozenset(), None, CLOSED)


def test_so_many_failures_in_a_row_open_a_circuit():
    breakers = Breakers(failures=3, cooldown=10.0)
    for _ in range(2):
        breakers.failed(A, 0.0)
    assert (breakers.allow(A, 0.0), breakers.state(0.0), breakers.all_closed) == (True, CLOSED, True)
    breakers.failed(A, 0.0)
    assert (breakers.allow(A, 0.0), breakers.state(0.0), breakers.all_closed) == (False, OPEN, False)
    assert breakers.closed_to(0.0) == {A}
    assert breakers.next_probe(0.0) == 10.0


def test_a_success_between_begins_the_count_anew():
    breakers = Breakers(failures=2)
    for _ in range(5):
        breakers.failed(A, 0.0)
        assert not breakers.quiet
        breakers.succeeded(A)
        assert breakers.quiet
    assert breakers.all_closed


def test_an_origin_s_failures_close_no_other():
    breakers = opened(A)
    breakers.failed(B, 0.0)
    assert (breakers.allow(A, 0.0), breakers.allow(B, 0.0)) == (False, True)
    assert breakers.closed_to(0.0) == {A}


def test_after_the_cooldown_exactly_one_probe_goes():
    breakers = opened()
    assert not breakers.allow(A, 9.999)
    assert breakers.closed_to(10.0) == frozenset()
    assert breakers.state(10.0) == HALF_OPEN
    assert [breakers.allow(A, 10.0) for _ in range(3)] == [True, False, False]
    assert breakers.closed_to(10.0) == {A}
    assert breakers.state(10.0) == HALF_OPEN


def test_a_probe_s_success_closes_the_circuit():
    breakers = opened()
    assert breakers.allow(A, 10.0)
    breakers.succeeded(A)
    assert [breakers.allow(A, 10.0) for _ in range(3)] == [True, True, True]
    assert (breakers.quiet, breakers.all_closed, breakers.state(10.0)) == (True, True, CLOSED)


def test_a_probe_s_failure_doubles_the_cooldown_up_to_the_ceiling():
    breakers, now, waits = opened(), 10.0, []
    for _ in range(4):
        assert breakers.allow(A, now)
        breakers.failed(A, now)
        assert breakers.state(now) == OPEN
        waits.append(breakers.next_probe(now) - now)
        now += waits[-1]
    assert waits == [20.0, 35.0, 35.0, 35.0]


def refusals(number, breakers):
    """When so many messages were refused, each as soon as one may go, and none was taken."""
    now, times = 0.0, []
    for message in range(number):
        while not breakers.allow(A, now):
            now = breakers.next_probe(now)
        breakers.failed(A, now, refused=message)
        times.append(now)
    return times


def test_a_server_that_refuses_every_message_is_asked_less_and_less():
    times = refusals(200, Breakers(failures=5, cooldown=1.0, ceiling=60.0))
    # Five at once, twenty more a second apart, twenty more two seconds apart, and so on, up to one in each minute.
    assert times[4] == 0.0
    pauses = [after - before for before, after in itertools.pairwise(times[4:])]
    assert pauses[:40] == [1.0] * 20 + [2.0] * 20
    assert set(pauses[120:]) == {60.0}


def test_a_message_that_is_refused_again_makes_no_cooldown_longer():
    breakers, now = Breakers(failures=2, cooldown=1.0, ceiling=60.0), 0.0
    for message in range(50):
        while not breakers.allow(A, now):
            now = breakers.next_probe(now)
        breakers.failed(A, now, refused=message % 3)
    assert breakers.next_probe(now) == now + 1.0


def test_what_is_kept_of_refused_messages_is_bounded():
    breakers = Breakers(failures=5, cooldown=1.0, ceiling=60.0)
    refusals(1000, breakers)
    assert len(breakers._circuits[A].refused) <= 5 + 20 * 6


def test_a_recovery_is_a_message_that_is_taken_after_a_failure():
    breakers = Breakers()
    assert breakers.recoveries(A) == 0
    breakers.succeeded(A)
    assert breakers.recoveries(A) == 0
    breakers.failed(A, 0.0, refused=1)
    breakers.succeeded(A, took=False)
    assert breakers.recoveries(A) == 0
    breakers.failed(A, 0.0, refused=1)
    breakers.succeeded(A)
    assert breakers.recoveries(A) > 0
    assert breakers.recoveries(B) == 0


def test_of_no_more_origins_than_configured_recoveries_are_remembered():
    breakers = Breakers(most=3)
    for number in range(100):
        origin = Origin("https", str(number), 443)
        breakers.failed(origin, 0.0)
        breakers.succeeded(origin)
    assert len(breakers._recoveries) == 3
    assert breakers.recoveries(Origin("https", "99", 443)) == 100


def test_once_closed_the_cooldown_is_the_first_again():
    breakers = opened()
    assert breakers.allow(A, 10.0)
    breakers.failed(A, 10.0)
    breakers.succeeded(A)
    for _ in range(3):
        breakers.failed(A, 100.0)
    assert breakers.next_probe(100.0) == 110.0


def test_what_was_under_way_when_a_circuit_opened_prolongs_nothing_by_failing():
    breakers = opened()
    for now in (1.0, 5.0, 10.0, 11.0):
        breakers.failed(A, now)
    assert breakers.allow(A, 11.0)


def test_what_was_under_way_when_a_circuit_opened_closes_it_by_succeeding():
    breakers = opened()
    breakers.succeeded(A)
    assert breakers.allow(A, 0.0)


def test_a_probe_that_never_reports_is_followed_by_another():
    breakers = opened()
    assert breakers.allow(A, 10.0)
    assert breakers.next_probe(10.0) == 45.0
    assert not breakers.allow(A, 44.9)
    assert [breakers.allow(A, 45.0), breakers.allow(A, 45.0)] == [True, False]


def test_the_next_probe_is_the_earliest_of_all_origins_and_none_where_one_may_go_already():
    breakers = opened(A)
    for _ in range(3):
        breakers.failed(B, 4.0)
    assert breakers.next_probe(5.0) == 10.0
    assert breakers.next_probe(10.0) == 14.0
    assert breakers.next_probe(14.0) is None


def test_the_state_is_the_worst_of_all_origins():
    breakers = opened(A)
    breakers.failed(B, 0.0)
    assert breakers.state(0.0) == OPEN
    assert breakers.state(10.0) == HALF_OPEN
    for _ in range(2):
        breakers.failed(B, 10.0)
    assert breakers.state(10.0) == OPEN


def test_no_more_origins_are_remembered_than_configured_and_the_open_ones_are_kept():
    breakers = opened(A, most=3)
    for number in range(100):
        breakers.failed(Origin("https", str(number), 443), 0.0)
        assert len(breakers._circuits) <= 3
    assert breakers.closed_to(0.0) == {A}


def test_of_closed_ones_those_are_forgotten_that_have_not_failed_for_longest():
    breakers = Breakers(failures=3, most=2)
    for origin in (A, B, A, Origin("https", "c.example", 443), A):
        breakers.failed(origin, 0.0)
    assert breakers.closed_to(0.0) == {A}


def test_where_all_are_open_the_one_that_failed_first_is_forgotten():
    breakers = opened(A, B, most=2)
    breakers.failed(Origin("https", "c.example", 443), 0.0)
    assert breakers.closed_to(0.0) == {B}
    breakers.succeeded(B)
    assert breakers.all_closed


def test_renewed_nothing_is_known_even_where_the_lock_is_held():
    breakers = opened()
    thread = threading.Thread(target=breakers._lock.acquire)
    thread.start()
    thread.join()
    breakers.renew()
    assert breakers.quiet
    assert breakers.all_closed
    assert breakers.allow(A, 0.0)


def test_of_many_threads_one_sends_the_probe():
    breakers = opened()
    together = threading.Barrier(8)

    def ask(_):
        together.wait()
        return breakers.allow(A, 10.0)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 1


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "5", None, math.nan])
@pytest.mark.parametrize("name", ["failures", "most"])
def test_a_nonsensical_number_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}=.*whole number greater than 0"):
        Breakers(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1", None])
@pytest.mark.parametrize("name", ["cooldown", "ceiling"])
def test_a_nonsensical_time_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}=.*number of seconds greater than 0"):
        Breakers(**{name: value})


def test_a_ceiling_below_the_cooldown_is_refused():
    with pytest.raises(ConfigurationError, match=r"ceiling=1.0: must not be less than cooldown=2.0"):
        Breakers(cooldown=2.0, ceiling=1.0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_no_wait_for_a_probe_is_longer_than_the_ceiling(pauses):
    breakers, now = opened(), 0.0
    for pause in pauses:
        probe = breakers.next_probe(now)
        assert probe is None or probe <= now + 35.0
        now += pause
        if breakers.allow(A, now):
            breakers.failed(A, now)
            assert not breakers.allow(A, now)


class OneOrigin(RuleBasedStateMachine):
    """
    Messages go where they may, and end in any order, or never.
    """

    def __init__(self):
        super().__init__()
        self.breakers = Breakers(failures=3, cooldown=2.0, ceiling=8.0)
        self.now = 0.0
        self.row = 0
        self.opened_at = None
        self.probed_at = None

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def a_message_wants_to_go(self):
        refused = A in self.breakers.closed_to(self.now)
        allowed = self.breakers.allow(A, self.now)
        assert allowed is not refused
        if self.opened_at is None:
            assert allowed
        elif allowed:
            # Never before the cooldown is over, and no second one while a first may still report.
            assert self.now >= self.opened_at + 2.0
            assert self.probed_at is None or self.now >= self.probed_at + 8.0
            self.probed_at = self.now

    @rule()
    def one_fails(self):
        self.breakers.failed(A, self.now)
        self.row += 1
        if self.row == 3 or self.probed_at is not None:
            self.opened_at, self.probed_at = self.now, None

    @rule()
    def one_succeeds(self):
        self.breakers.succeeded(A)
        self.row, self.opened_at, self.probed_at = 0, None, None

    @precondition(lambda self: self.opened_at is not None)
    @rule()
    def it_is_never_left_alone_for_ever(self):
        self.now += 8.0
        assert self.breakers.allow(A, self.now)
        self.probed_at = self.now

    @invariant()
    def it_says_what_it_does(self):
        assert self.breakers.all_closed == (self.opened_at is None)
        assert self.breakers.quiet == (self.row == 0)
        assert (self.breakers.state(self.now) == CLOSED) == (self.opened_at is None)
        probe = self.breakers.next_probe(self.now)
        assert (probe is not None) == (A in self.breakers.closed_to(self.now))
        assert probe is None or self.now < probe <= self.now + 8.0


TestOneOrigin = OneOrigin.TestCase
