"""
Many connections from one thread: CurlSender and the lane that it sends for.
"""

from __future__ import annotations

import contextlib
import gc
import os

from collections import Counter

import pytest

from curling import BODY, JSON, PATIENCE, SOON, Endpoint, ending, message, one_by_one, query, sent
from lanes import Tray

from wirewitness import Outcome, Verdict
from wirewitness.conformance import Sink
from wirewitness.outbox import Outbox
from wirewitness.outbox.curl import CurlSender
from wirewitness.outbox.curl_evidence import (
    BROKEN,
    DELIVERED,
)
from wirewitness.outbox.message import Form, Message
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


def test_connections_are_kept_and_used_again(sink, sender):
    attempts = one_by_one(sender, *[message(f"{sink.url}/v1/events", b"%d" % number) for number in range(1, 6)])
    assert {attempt.settlement for attempt in attempts} == {DELIVERED}
    assert [(received.connection, received.body) for received in sink.requests] == [
        (0, b"%d" % number) for number in range(1, 6)
    ]


def test_one_handle_sends_whatever_comes(sink, sender):
    url = f"{sink.url}/v1/events"
    messages = [
        message(url),
        query(url, {"a": 1}),
        message(url, b"", "PUT"),
        query(url, {"a": 2}, "HEAD"),
        message(url, b"2", headers=(("X-One", "1"),)),
        message(f"{sink.url}/status/503"),
        message(url, b"3", "DELETE"),
        message(url, b"4"),
    ]
    attempts = one_by_one(sender, *messages)
    assert [(received.method, received.body) for received in sink.requests] == [
        ("POST", BODY), ("GET", b""), ("PUT", b""), ("HEAD", b""), ("POST", b"2"), ("POST", BODY), ("DELETE", b"3"), ("POST", b"4"),
    ]  # fmt: skip
    assert sink.requests[4].header("Content-Type") is None
    assert {received.connection for received in sink.requests} == {0}
    assert [attempt.status for attempt in attempts] == [204] * 5 + [503] + [204] * 2


def test_many_are_under_way_at_once_and_no_more_than_there_are_connections(sink):
    messages = [message(f"{sink.url}/slow/20", b"%d" % number) for number in range(100)]
    tray = Tray(messages)
    take = tray.take

    def watched(most, timeout):
        taken = take(most, timeout)
        assert tray.out <= 16 + 1  # and one for a server that is not known yet
        return taken

    tray.take = watched
    CurlSender(connections=16).run(tray)
    assert {attempt.settlement.outcome for attempt in tray.attempts} == {Outcome.DELIVERED}
    assert sorted(received.body for received in sink.requests) == sorted(each.body for each in messages)
    assert 1 < len({received.connection for received in sink.requests}) <= 16 + 1


def test_several_servers_are_served_together(sink, sender):
    with Sink() as other:
        messages = [message(f"{(sink, other)[number % 2].url}/v1/events", b"%d" % number) for number in range(40)]
        attempts = sent(sender, *messages)
        assert {attempt.settlement for attempt in attempts} == {DELIVERED}
        for number, endpoint in enumerate((sink, other)):
            expected = sorted(each.body for each in messages[number::2])
            assert sorted(received.body for received in endpoint.requests) == expected


class Later(Tray):
    """A second message comes only when the first is under way."""

    def __init__(self, first, second, begun):
        super().__init__([first])
        self._second = second
        self._begun = begun

    def take(self, most, timeout):
        if self.taken == 1 and self._begun.is_set():
            self.waiting.append(self._second)
        if self.waiting or self.taken == 2:
            return super().take(most, timeout)
        assert timeout == 0
        return []


def test_a_message_that_comes_later_does_not_wait_for_the_earlier(sink, sender):
    with Endpoint(None) as held:
        first, second = message(f"{held.url}/v1/events"), message(f"{sink.url}/v1/events")
        tray = Later(first, second, held.begun)
        done = tray.done

        def report(attempts):
            done(attempts)
            held.go_on.set()

        tray.done = report
        sender.run(tray)
    assert [attempt.message for attempt in tray.attempts] == [second, first]
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED, DELIVERED]


def test_told_to_stop_it_finishes_what_it_has(sink, sender):
    tray = Tray([message(f"{sink.url}/slow/50") for _ in range(5)])
    sender.run(tray)
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED] * 5


def test_told_to_stop_at_once_it_returns(sender):
    tray = Tray([])
    sender.run(tray)
    assert tray.attempts == []


class Breaking(Tray):
    """Its second take fails."""

    def take(self, most, timeout):
        if self.taken:
            raise RuntimeError
        return super().take(most, timeout)


def test_a_desk_that_breaks_down_has_had_a_report_of_all_it_gave(sink, sender):
    messages = [message(f"{sink.url}/slow/60000") for _ in range(5)]
    tray = Breaking(messages)
    with pytest.raises(RuntimeError):
        sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    assert [attempt.settlement for attempt in tray.attempts] == [BROKEN] * 5
    assert ending(tray.attempts[0]) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR)


class Unreadable(Message):
    """A message that a fault lies in."""

    __slots__ = ()

    @property
    def content(self):
        raise RuntimeError


def test_a_fault_in_the_middle_of_a_claim_loses_no_message(sink, sender):
    good = [message(f"{sink.url}/slow/60000") for _ in range(4)]
    bad = Unreadable("POST", f"{sink.url}/v1/events", JSON, BODY, Form.VALUE, 1)
    messages = [*good[:2], bad, *good[2:]]
    tray = Tray(messages)
    with pytest.raises(RuntimeError):
        sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    assert {attempt.settlement for attempt in tray.attempts} == {BROKEN}


def test_it_can_run_again_after_a_breakdown(sink, sender):
    with pytest.raises(RuntimeError):
        sender.run(Breaking([message(f"{sink.url}/slow/60000")]))
    assert [attempt.settlement for attempt in sent(sender, message(f"{sink.url}/v1/events"))] == [DELIVERED]


def test_a_process_with_many_open_files_sends_too(sink, sender):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("no process may have so many here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        descriptor = 0
        # What select(2) can't wait for.
        while descriptor < 1024:
            descriptor = os.open(os.devnull, os.O_RDONLY)
            opened.callback(os.close, descriptor)
        (attempt,) = sent(sender, message(f"{sink.url}/slow/20"))
    assert attempt.settlement == DELIVERED


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_sends_on_connections_of_its_own(secure_sink, authority_file):
    sender = CurlSender(verify=authority_file)
    url = f"{secure_sink.url}/v1/events"

    class Forking(Tray):
        child = None

        def take(self, most, timeout):
            if self.out == 0 and len(self.attempts) == 1 and self.child is None:
                self.child = _fork(sender, message(url, b"child"))
            return super().take(most, timeout)

    tray = Forking([message(url, b"before"), message(url, b"after")], at_once=1)
    sender.run(tray)
    assert tray.child == 0
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED, DELIVERED]
    assert {received.body: received.connection for received in secure_sink.requests} == {
        b"before": 0,
        b"child": 1,
        b"after": 0,
    }


def _fork(sender, child_s):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        gc.collect()
        code = int([attempt.settlement for attempt in sent(sender, child_s)] != [DELIVERED])
    finally:
        os._exit(code)


def test_an_outbox_retries_by_what_it_says_and_shows_it_under_its_own_name(sink):
    with capture() as dispatches, contextlib.closing(Outbox(CurlSender(), name="events", retry=SOON)) as outbox:
        for path in ("v1/events", "status/404", "flaky/2/503"):
            outbox("POST", f"{sink.url}/{path}", {"path": path})
        assert not outbox.flush(PATIENCE).remaining
        book = outbox.ledger.book()
    assert (book.count(Outcome.DELIVERED), book.count(Outcome.REJECTED), book.exchanges) == (2, 1, 5)
    assert book.verdicts[Verdict.IDENTICAL] == 3
    assert len(sink.requests) == 5
    assert [dispatch.name for dispatch in dispatches] == ["events"] * 3
    assert {dispatch.exchanges[-1].body for dispatch in dispatches} == {received.body for received in sink.requests}
