"""
The dispatches that wait are found by their bytes, and are never too many nor waited for in vain.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import sys
import threading

import pytest

from wirewitness.core.exchange import address_of
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import SMALL, Payload
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.dispatch import Dispatch
from wirewitness.evidence import EvidenceIndex
from wirewitness.wire.recorder import Recorder


URL = "http://host/events"


class Owner:
    """Settles nothing, and remembers what it's told to."""

    def __init__(self):
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
    """An index, an owner, and dispatches between them."""

    def __init__(self, **limits):
        self.index = EvidenceIndex(**limits)
        self.owner = Owner()

    def add(self, body, url=URL):
        dispatch = Dispatch("d", self.owner, payload=Payload(body), url=url)
        self.index.add(dispatch)
        return dispatch

    def found(self, body, url=URL):
        return self.index.match(body, address_of(url)).dispatches

    def wait(self, body, seconds=600.0):
        dispatch = self.add(body)
        self.index.wait(dispatch, seconds)
        return dispatch


@pytest.fixture
def here():
    return Here()


def test_a_dispatch_is_found_by_its_bytes(here):
    one, other = here.add(b"one"), here.add(b"other")
    assert here.found(b"one") == [one]
    assert here.found(b"other") == [other]
    assert here.found(b"else") == []


def test_a_discarded_dispatch_is_not_found(here):
    here.index.discard(here.add(b"one"))
    assert here.found(b"one") == []
    assert not here.index.by_body


def test_discarding_twice_changes_nothing(here):
    gone, kept = here.wait(b"same"), here.wait(b"same")
    here.index.discard(gone)
    here.index.discard(gone)
    assert here.found(b"same") == [kept]
    assert here.index.waiting() == [kept]


def test_an_unknown_dispatch_can_be_discarded(here):
    kept = here.add(b"same")
    for url in (URL, None, "http://there/"):
        here.index.discard(Dispatch("d", here.owner, payload=Payload(b"same"), url=url))
    assert here.found(b"same") == [kept]
    other = here.add(b"same")
    here.index.discard(Dispatch("d", here.owner, payload=Payload(b"same"), url="http://there/"))
    here.index.discard(Dispatch("d", here.owner, payload=Payload(b"same"), url=URL))
    here.index.discard(kept)
    assert here.found(b"same") == [other]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_of_equal_payloads_the_oldest_is_found_whatever_goes_first(here, order):
    same = [here.add(b"same") for _ in range(3)]
    left = list(same)
    for index in order:
        assert here.found(b"same") == [left[0]]
        here.index.discard(same[index])
        left.remove(same[index])
    assert not here.index.by_body
    assert here.found(b"same") == []


def busy_with(dispatch):
    Recorder(dispatch, scheme="http", host="h", port=80, method="POST", target="/")


def test_of_equal_payloads_one_without_a_request_under_way_is_found_first(here):
    oldest, younger = here.add(b"same"), here.add(b"same")
    busy_with(oldest)
    assert here.found(b"same") == [younger]
    busy_with(younger)
    assert here.found(b"same") == [oldest]


def test_a_batch_is_everyones_whom_it_embeds(here):
    one, other = here.add(b'{"a": 1}'), here.add(b'{"b": 2}')
    here.add(b'{"c": 3}')
    here.add(b"")
    assert here.found(b'[{"a": 1},{"b": 2}]') == [one, other]


def test_a_payload_that_only_seems_to_stand_in_a_body_is_not_found(here):
    here.add(b"1")
    here.add(b"[2, 3]")
    assert here.found(b'{"text": "1 [2, 3] "}') == []


def test_a_dispatch_without_a_known_payload_is_embedded_in_nothing(here):
    here.index.add(Dispatch("d", here.owner))
    assert here.found(b"[1]") == []


def long(number):
    return json.dumps({"number": number, "text": "x" * SMALL}).encode("ascii")


def test_a_payload_is_found_at_its_target_only(here):
    mine = here.add(long(1))
    assert here.found(long(1), "http://elsewhere/events") == []
    assert here.found(b"[%s, 1]" % long(1), "http://elsewhere/events") == []
    assert here.found(b"[%s, 1]" % long(1)) == [mine]
    assert here.found(long(1), "HTTP://HOST:80/events?key=1") == [mine]


def test_a_payload_without_a_target_is_found_anywhere(here):
    mine = here.add(long(1), url=None)
    assert here.found(long(1), "http://elsewhere/") == [mine]
    assert here.found(b"[%s, 1]" % long(1), "http://elsewhere/") == [mine]


def test_a_small_payload_is_found_at_its_own_target_only(here):
    here.add(b"{}", url=None)
    assert here.found(b"{}") == []
    assert here.found(b"[{}, 1]") == []
    mine = here.add(b"{}")
    assert here.found(b"{}") == [mine]
    assert here.found(b"{}", "http://elsewhere/events") == []


@pytest.mark.parametrize("size", [SMALL - 1, SMALL])
def test_the_smallest_payload_that_proves_something_has_32_bytes(here, size):
    mine = here.add(b"x" * size, url=None)
    assert here.found(b"x" * size) == ([mine] if size == SMALL else [])


def test_of_equal_payloads_each_target_has_its_own(here):
    here_, there = here.add(long(1)), here.add(long(1), url="http://there/")
    anywhere = here.add(long(1), url=None)
    assert here.found(long(1)) == [here_]
    assert here.found(long(1), "http://there/") == [there]
    assert here.found(long(1), "http://other/") == [anywhere]
    for gone in (here_, there, anywhere):
        here.index.discard(gone)
    assert not here.index.by_body


@pytest.mark.parametrize("equal", [1, 3])
def test_a_redirect_leads_a_payload_to_another_address(here, equal):
    same = [here.add(long(1)) for _ in range(equal)]
    to = address_of("http://there/")
    here.index.redirected(same[:1], to)
    here.index.redirected(same[:1], to)
    assert here.found(long(1), "http://there/") == same[:1]
    assert here.index.most_recorded(to)
    for dispatch in same:
        here.index.discard(dispatch)
    here.index.redirected(same[:1], to)
    assert here.found(long(1), "http://there/") == []
    assert not here.index.most_recorded(to)


def test_a_redirect_is_followed_in_its_own_context_only(here):
    mine, to = here.add(long(1)), address_of("http://there/")
    contextvars.copy_context().run(here.index.redirected, [mine], to)
    assert here.index.following(to) == []
    here.index.redirected([mine], to)
    assert EvidenceIndex().following(to) == []
    here.index.redirected([mine], to)
    assert here.index.following(address_of(URL)) == []
    assert here.index.following(to) == []
    here.index.redirected([mine], to)
    assert here.index.following(to) == [mine]


def test_a_payload_that_stands_several_times_in_a_batch_is_that_many_dispatches(here):
    same, other = [here.add(long(1)) for _ in range(3)], here.add(long(2))
    batch = b"[%s]" % b", ".join([long(1), long(2), long(1)])
    assert here.found(batch) == [same[0], other, same[1]]


def test_every_one_of_500_payloads_in_a_batch_is_found(here):
    all_ = [here.add(json.dumps({"i": number, "x": "y" * 700}).encode("ascii")) for number in range(500)]
    for batch in (
        b'{"batch": [%s], "n": 1}' % b",".join([each.body for each in all_]),
        b"\n".join([each.body for each in all_]),
    ):
        assert len(batch) > 350_000
        found = here.index.match(batch, address_of(URL))
        assert found.dispatches == all_
        assert found.embedded == {each.body for each in all_}


def test_a_query_is_found_by_a_query_only(here):
    query = Dispatch("d", here.owner, payload=Payload(b"a=1", in_query=True), url=URL)
    here.index.add(query)
    at = address_of(URL)
    assert here.index.match(b"a=1", at).dispatches == []
    assert here.index.match(b"a=1", at, in_query=True).dispatches == [query]
    assert here.index.match(b"[a=1]", at, in_query=True).dispatches == []


def test_a_search_that_is_given_up_is_told_to_those_that_may_have_been_in_it(here, monkeypatch):
    monkeypatch.setattr("wirewitness.core.pieces._ALLOWANCE", -(1 << 20))
    mine, other = here.wait(long(1)), here.add(long(2), url="http://there/")
    here.index.wait(other, 600.0)
    assert here.found(b"[%s, 1]" % long(1)) == []
    assert (mine.unseen, other.unseen) == (Reason.SEARCH_GIVEN_UP, Reason.NO_EVIDENCE)


def test_nothing_is_worth_recording_where_nothing_is_expected(here):
    assert here.index.most_recorded(address_of(URL)) == 0
    mine = here.add(long(1))
    assert here.index.most_recorded(address_of("http://there/")) == 0
    least = here.index.most_recorded(address_of(URL))
    big = here.add(b"x" * least)
    assert here.index.most_recorded(address_of(URL)) > least
    for gone in (mine, big):
        here.index.discard(gone)
    assert here.index.most_recorded(address_of(URL)) == 0
    here.add(long(1), url=None)
    assert here.index.most_recorded(address_of("http://there/")) == least


def test_thousands_of_equal_payloads_cost_no_more_than_one():
    def work(number):
        here = Here()
        same = [here.add(long(1)) for _ in range(number)]
        last = same.pop()

        def use():
            here.found(long(1))
            here.index.forget(last)
            here.index.add(last)
            here.index.discard(same[0])

        return calls_of_python_and_c(use)

    work(10)
    assert work(5_000) <= work(50) + 20


def calls_of_python_and_c(function):
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def test_more_than_the_most_evict_the_oldest():
    here = Here(most=2)
    for body in (b"1", b"2", b"3", b"4"):
        here.wait(body)
    assert here.owner.given_up == [(b"1", Reason.EVICTED), (b"2", Reason.EVICTED)]
    assert [dispatch.body for dispatch in here.index.waiting()] == [b"3", b"4"]
    assert set(here.index.by_body) == {b"3", b"4"}


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
    assert here.index.waiting() == []


def test_what_is_discarded_makes_room():
    here = Here(most=2, most_bytes=8)
    for body in (b"1111", b"2222", b"3333", b"4444"):
        here.index.discard(here.wait(body))
    here.wait(b"5555")
    here.wait(b"6666")
    assert here.owner.given_up == []


def test_what_was_given_up_is_remembered(here):
    here.index.give_up(here.wait(b"one"), Reason.SHUTDOWN)
    assert here.owner.given_up == [(b"one", Reason.SHUTDOWN)]
    assert here.index.was_given_up(b"one")
    assert not here.index.was_given_up(b"other")
    assert here.index.waiting() == []


def test_what_was_given_up_is_remembered_of_the_youngest_only():
    here = Here(most=2)
    for body in (b"1", b"2", b"3"):
        here.index.give_up(here.add(body), Reason.SHUTDOWN)
    assert [here.index.was_given_up(body) for body in (b"1", b"2", b"3")] == [False, True, True]


def test_what_was_settled_in_between_does_not_wait(here):
    dispatch = here.add(b"one")
    dispatch.end(Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE), ())
    here.index.wait(dispatch, 600.0)
    assert here.index.waiting() == []


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
    here.index.extend(extended, 900.0)
    assert here.owner.wait_for(1)
    assert extended in here.index.waiting()
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
    assert here.index.waiting() == []


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
        broken.setattr(here.index._sweeper._sooner, "set", unwakable)
        with contextlib.suppress(RecursionError):  # it may be awake just then
            here.wait(b"one", seconds=0.001)
    here.wait(b"two", seconds=0.002)
    assert here.owner.wait_for(2)


def test_everything_can_be_forgotten(here):
    here.wait(b"one")
    here.index.give_up(here.wait(b"two"), Reason.SHUTDOWN)
    here.index.forget_all()
    assert here.index.waiting() == []
    assert here.found(b"one") == []
    assert not here.index.was_given_up(b"two")


def test_the_table_is_sound_after_many_threads_used_it():
    here = Here(most=50)
    begin = threading.Barrier(4)

    def use(name):
        begin.wait(10)
        for number in range(200):
            dispatch = here.wait(b"%d %d" % (name, number % 7))
            here.found(dispatch.body)
            if number % 2:
                here.index.discard(dispatch)

    threads = [threading.Thread(target=use, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(here.index.waiting()) <= 50
    for dispatch in here.index.waiting():
        here.index.discard(dispatch)
    left = (dict(here.index.by_body), here.index._targets, here.index._bytes, here.index._waiting_bytes)
    assert left == ({}, {}, 0, 0)
