"""
The dispatches that wait are found by their bytes, and are never too many nor waited for in vain.
"""

from __future__ import annotations

import contextlib
import threading

import pytest

from wirewitness._current import Dispatch
from wirewitness._flights import Flights
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import Payload
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.wire.recorder import Recorder


class Owner:
    """Settles nothing, and remembers what it's told to."""

    def __init__(self, flights):
        self.flights = flights
        self.given_up = []
        self.told = threading.Condition()

    def give_up(self, dispatch, reason):
        with self.told:
            self.given_up.append((dispatch.body, reason))
            self.told.notify_all()

    def wait_for(self, count):
        with self.told:
            return self.told.wait_for(lambda: len(self.given_up) >= count, 10)


class Here:
    """Flights, their owner, and dispatches between them."""

    def __init__(self, **limits):
        self.flights = Flights(**limits)
        self.owner = Owner(self.flights)

    def add(self, body):
        dispatch = Dispatch("d", self.owner, payload=Payload(body))
        self.flights.add(dispatch)
        return dispatch

    def wait(self, body, seconds=600.0):
        dispatch = self.add(body)
        self.flights.wait(dispatch, seconds)
        return dispatch


@pytest.fixture
def here():
    return Here()


def test_a_dispatch_is_found_by_its_bytes(here):
    one, other = here.add(b"one"), here.add(b"other")
    assert here.flights.whose(b"one") == [one]
    assert here.flights.whose(b"other") == [other]
    assert here.flights.whose(b"else") == []


def test_a_discarded_dispatch_is_not_found(here):
    here.flights.discard(here.add(b"one"))
    assert here.flights.whose(b"one") == []
    assert not here.flights.by_body


def test_discarding_twice_changes_nothing(here):
    gone, kept = here.wait(b"same"), here.wait(b"same")
    here.flights.discard(gone)
    here.flights.discard(gone)
    assert here.flights.whose(b"same") == [kept]
    assert here.flights.waiting() == [kept]


def test_an_unknown_dispatch_can_be_discarded(here):
    kept = here.add(b"same")
    here.flights.discard(Dispatch("d", here.owner, payload=Payload(b"same")))
    assert here.flights.whose(b"same") == [kept]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_of_equal_payloads_the_oldest_is_found_whatever_goes_first(here, order):
    same = [here.add(b"same") for _ in range(3)]
    left = list(same)
    for index in order:
        assert here.flights.whose(b"same") == [left[0]]
        here.flights.discard(same[index])
        left.remove(same[index])
    assert not here.flights.by_body
    assert here.flights.whose(b"same") == []


def busy_with(dispatch):
    Recorder(dispatch, scheme="http", host="h", port=80, method="POST", target="/")


def test_of_equal_payloads_one_without_a_request_under_way_is_found_first(here):
    oldest, younger = here.add(b"same"), here.add(b"same")
    busy_with(oldest)
    assert here.flights.whose(b"same") == [younger]
    busy_with(younger)
    assert here.flights.whose(b"same") == [oldest]


def test_a_batch_is_everyones_whom_it_embeds(here):
    one, other = here.add(b'{"a": 1}'), here.add(b'{"b": 2}')
    here.add(b'{"c": 3}')
    here.add(b"")
    assert here.flights.whose(b'[{"a": 1},{"b": 2}]') == [one, other]


def test_a_payload_that_only_seems_to_stand_in_a_body_is_not_found(here):
    here.add(b"1")
    here.add(b"[2, 3]")
    assert here.flights.whose(b'{"text": "1 [2, 3] "}') == []


def test_a_dispatch_without_a_known_payload_is_embedded_in_nothing(here):
    here.flights.add(Dispatch("d", here.owner))
    assert here.flights.whose(b"[1]") == []


def test_only_the_oldest_payloads_are_searched_for(here, monkeypatch):
    monkeypatch.setattr("wirewitness._flights._MOST_SEARCHED_FOR", 1)
    oldest = here.add(b'{"a": 1}')
    here.add(b'{"b": 2}')
    assert here.flights.whose(b'[{"a": 1},{"b": 2}]') == [oldest]


def test_a_large_body_is_searched_for_fewer_payloads(here, monkeypatch):
    body = b'[{"a": 1},{"b": 2}]'
    monkeypatch.setattr("wirewitness._flights._MOST_SEARCHED_BYTES", len(body))
    oldest = here.add(b'{"a": 1}')
    here.add(b'{"b": 2}')
    assert here.flights.whose(body) == [oldest]


def test_more_than_the_most_evict_the_oldest():
    here = Here(most=2)
    for body in (b"1", b"2", b"3", b"4"):
        here.wait(body)
    assert here.owner.given_up == [(b"1", Reason.EVICTED), (b"2", Reason.EVICTED)]
    assert [dispatch.body for dispatch in here.flights.waiting()] == [b"3", b"4"]
    assert set(here.flights.by_body) == {b"3", b"4"}


def test_more_bytes_than_the_most_evict_the_oldest():
    here = Here(most_bytes=10)
    for body in (b"1" * 4, b"2" * 4, b"3" * 4):
        here.wait(body)
    assert here.owner.given_up == [(b"1" * 4, Reason.EVICTED)]


def test_a_payload_larger_than_all_that_may_wait_is_evicted_itself():
    here = Here(most_bytes=10)
    here.wait(b"1" * 4)
    here.wait(b"2" * 11)
    assert here.owner.given_up == [(b"1" * 4, Reason.EVICTED), (b"2" * 11, Reason.EVICTED)]
    assert here.flights.waiting() == []


def test_what_is_discarded_makes_room():
    here = Here(most=2, most_bytes=8)
    for body in (b"1111", b"2222", b"3333", b"4444"):
        here.flights.discard(here.wait(body))
    here.wait(b"5555")
    here.wait(b"6666")
    assert here.owner.given_up == []


def test_what_was_given_up_is_remembered(here):
    here.flights.give_up(here.wait(b"one"), Reason.SHUTDOWN)
    assert here.owner.given_up == [(b"one", Reason.SHUTDOWN)]
    assert here.flights.was_given_up(b"one")
    assert not here.flights.was_given_up(b"other")
    assert here.flights.waiting() == []


def test_what_was_given_up_is_remembered_of_the_youngest_only():
    here = Here(most=2)
    for body in (b"1", b"2", b"3"):
        here.flights.give_up(here.add(body), Reason.SHUTDOWN)
    assert [here.flights.was_given_up(body) for body in (b"1", b"2", b"3")] == [False, True, True]


def test_what_was_settled_in_between_does_not_wait(here):
    dispatch = here.add(b"one")
    dispatch.end(Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE), ())
    here.flights.wait(dispatch, 600.0)
    assert here.flights.waiting() == []


def sweepers():
    return [thread for thread in threading.enumerate() if thread.name == "wirewitness-sweeper"]


def test_what_waits_too_long_is_given_up_and_the_sweeper_stops_and_starts_again(here):
    before = set(sweepers())
    for number in (1, 2):
        here.wait(b"%d" % number, seconds=0.001)
        assert here.owner.wait_for(number)
        for sweeper in set(sweepers()) - before:
            sweeper.join(10)
        assert set(sweepers()) <= before
    assert here.owner.given_up == [(b"1", Reason.NO_EVIDENCE), (b"2", Reason.NO_EVIDENCE)]


def test_the_sweeper_wakes_earlier_for_what_ends_earlier(here):
    here.wait(b"late", seconds=600.0)
    here.wait(b"soon", seconds=0.001)
    assert here.owner.wait_for(1)
    assert here.owner.given_up == [(b"soon", Reason.NO_EVIDENCE)]


def test_what_is_extended_waits_on(here):
    extended = here.wait(b"extended", seconds=600.0)
    here.wait(b"soon", seconds=0.001)
    here.flights.extend(extended, 900.0)
    assert here.owner.wait_for(1)
    assert extended in here.flights.waiting()
    assert here.owner.given_up == [(b"soon", Reason.NO_EVIDENCE)]


def test_one_sweeper_serves_all_that_wait(here):
    before = set(sweepers())
    for number in range(20):
        here.wait(b"%d" % number)
    assert len(set(sweepers()) - before) == 1


def test_an_owner_that_settles_nothing_is_asked_once(here):
    before = set(sweepers())
    here.wait(b"one", seconds=0.001)
    for sweeper in set(sweepers()) - before:
        sweeper.join(10)
    assert here.owner.given_up == [(b"one", Reason.NO_EVIDENCE)]
    assert here.flights.waiting() == []


def test_where_no_thread_can_be_started_the_next_one_is_tried(here, monkeypatch):
    def unstartable(thread):
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", unstartable)
        with pytest.raises(RuntimeError):
            here.wait(b"one", seconds=0.001)
    here.wait(b"two", seconds=0.001)
    assert here.owner.wait_for(2)


def test_where_the_sweeper_could_not_be_woken_the_next_one_wakes_it(here, monkeypatch):
    def unwakable():
        raise RecursionError

    here.wait(b"late", seconds=600.0)
    with monkeypatch.context() as broken:
        broken.setattr(here.flights._sweeper._sooner, "set", unwakable)
        with contextlib.suppress(RecursionError):  # it may be awake just then
            here.wait(b"one", seconds=0.001)
    here.wait(b"two", seconds=0.002)
    assert here.owner.wait_for(2)


def test_everything_can_be_forgotten(here):
    here.wait(b"one")
    here.flights.give_up(here.wait(b"two"), Reason.SHUTDOWN)
    here.flights.forget_all()
    assert here.flights.waiting() == []
    assert here.flights.whose(b"one") == []
    assert not here.flights.was_given_up(b"two")


def test_the_table_is_sound_after_many_threads_used_it():
    here = Here(most=50)
    begin = threading.Barrier(4)

    def use(name):
        begin.wait(10)
        for number in range(200):
            dispatch = here.wait(b"%d %d" % (name, number % 7))
            here.flights.whose(dispatch.body)
            if number % 2:
                here.flights.discard(dispatch)

    threads = [threading.Thread(target=use, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(here.flights.waiting()) <= 50
    for dispatch in here.flights.waiting():
        here.flights.discard(dispatch)
    assert (dict(here.flights.by_body), here.flights._same, here.flights._waiting_bytes) == ({}, {}, 0)
