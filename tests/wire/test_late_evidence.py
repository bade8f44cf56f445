"""
Dispatchers with a thread or a queue of their own are settled by their bytes on the wire, wherever these show up.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import queue
import socket
import threading
import tracemalloc

import pytest
import requests

from opentelemetry.instrumentation.utils import suppress_instrumentation
from seen import (
    PATIENCE,
    assert_agreement,
    assert_delivered,
    by_http_client,
    by_requests,
    by_urllib3,
    ending,
)

from wirewitness import Outcome, Verdict, ledger_of, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason
from wirewitness.wire.http_client import KEY


DELIVERED = (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
NEVER = (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)

_numbers = itertools.count()


def unique():
    """A payload that no other test has, for what was given up is remembered."""
    return {"late": next(_numbers)}


class Threaded:
    """
    Hands every dispatch over to a thread of its own, which sends when it's let go.
    """

    def __init__(self, send):
        self._send = send
        self._queue = queue.SimpleQueue()
        self.go = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def dispatch(self, http_verb, url, params):
        self._queue.put((http_verb, url, params))

    def _run(self):
        while (job := self._queue.get()) is not None:
            self.go.wait()
            with contextlib.suppress(requests.RequestException):
                self._send(*job)

    def close(self):
        self.go.set()
        self._queue.put(None)
        self._thread.join()


@pytest.fixture
def threaded():
    with contextlib.ExitStack() as stack:

        def start(send=by_requests):
            inner = Threaded(send)
            stack.callback(inner.close)
            return inner

        yield start


@pytest.mark.parametrize("send", [by_requests, by_urllib3, by_http_client])
def test_a_payload_sent_by_another_thread_is_settled_late(sink, threaded, send):
    inner = threaded(send)
    dispatcher = witness(inner)
    with capture() as dispatches:
        dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        assert dispatches == []
        assert ledger_of(dispatcher).book().open == 1
        inner.go.set()
        assert dispatches.wait_for(1)
    (dispatch,) = dispatches
    assert ending(dispatch) == DELIVERED
    assert ledger_of(dispatcher).book().open == 0
    assert_delivered(sink, dispatch)


def test_a_payload_sent_by_another_thread_before_the_call_returns_is_settled_at_once(sink):
    def inner(http_verb, url, params):
        thread = threading.Thread(target=by_requests, args=(http_verb, url, params))
        thread.start()
        thread.join()

    with capture() as dispatches:
        witness(inner)("POST", f"{sink.url}/v1/events", unique())
        assert len(dispatches) == 1
    assert_delivered(sink, *dispatches)


def test_late_chunks_are_settled_by_what_they_make(sink, threaded):
    def send(http_verb, url, params):
        requests.post(url, data=iter([json.dumps(params).encode("ascii")]), timeout=PATIENCE)

    inner = threaded(send)
    inner.go.set()
    with capture() as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/v1/events", unique())
    assert_delivered(sink, *dispatches)


def test_a_threaded_retry_after_a_503_is_delivered_with_both_exchanges(sink, threaded):
    def send(http_verb, url, params):
        for _ in range(2):
            by_requests(http_verb, url, params)

    inner = threaded(send)
    inner.go.set()
    with capture() as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/flaky/1/503", unique())
    (dispatch,) = dispatches
    assert [(exchange.status, exchange.resend_count) for exchange in dispatch.exchanges] == [(503, 0), (204, 1)]
    assert_delivered(sink, dispatch)


@pytest.mark.processes
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_another_thread_follows_without_the_payload_is_found_out(sink, threaded, status):
    inner = threaded()
    inner.go.set()
    with capture() as dispatches:
        witness(inner, evidence_timeout=0.5).dispatch("POST", f"{sink.url}/redirect/{status}", unique())
        assert dispatches.wait_for(1)
    (dispatch,) = dispatches
    assert [(exchange.method, exchange.status) for exchange in dispatch.exchanges] == [("POST", status), ("GET", 200)]
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.REJECTED,
        Verdict.ALTERED,
        Reason.BODY_LOST,
    )
    assert_agreement(sink, dispatch)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_another_thread_follows_with_the_payload_is_a_delivery(sink, threaded, status):
    inner = threaded()
    inner.go.set()
    with capture() as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/redirect/{status}", unique())
        assert dispatches.wait_for(1)
    (dispatch,) = dispatches
    assert [exchange.status for exchange in dispatch.exchanges] == [status, 200]
    assert ending(dispatch) == DELIVERED
    assert_agreement(sink, dispatch)


def test_a_redirect_that_is_not_followed_takes_no_other_request_of_its_thread(sink, threaded):
    def send(http_verb, url, params):
        requests.request(http_verb, url, json=params, allow_redirects=False, timeout=PATIENCE)
        requests.get(f"{sink.url}/elsewhere", timeout=PATIENCE)
        requests.get(f"{sink.url}/v1/events", timeout=PATIENCE)

    inner = threaded(send)
    inner.go.set()
    with capture() as dispatches:
        witness(inner, evidence_timeout=0.3).dispatch("POST", f"{sink.url}/redirect/302", unique())
        assert dispatches.wait_for(1)
    (dispatch,) = dispatches
    assert [exchange.status for exchange in dispatch.exchanges] == [302]
    assert dispatch.outcome is Outcome.REJECTED
    assert len(sink.requests) == 3


def test_a_late_rejection_is_settled_when_no_retry_follows(sink, threaded):
    inner = threaded()
    inner.go.set()
    with capture(timeout=0.0) as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/status/503", unique())
        inner.close()
        assert dispatches == []
    (dispatch,) = dispatches
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_5XX)
    assert_agreement(sink, dispatch)


def test_a_late_reset_is_failed_when_no_retry_follows(sink, threaded):
    inner = threaded()
    inner.go.set()
    with capture(timeout=0.0) as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/reset/after", unique())
        inner.close()
        assert dispatches == []
    (dispatch,) = dispatches
    assert ending(dispatch) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.RESET)
    assert_agreement(sink, dispatch)


def test_a_late_batch_is_embedded_for_each_payload_in_it(sink, threaded):
    jobs = []

    def send(http_verb, url, params):
        jobs.append(json.dumps(params))
        if len(jobs) == 3:
            by_requests(http_verb, url, f'{{"batch": [{", ".join(jobs)}]}}')

    inner = threaded(send)
    dispatcher = witness(inner)
    with capture() as dispatches:
        for _ in range(3):
            dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        inner.go.set()
    embedded = (Outcome.DELIVERED, Verdict.EMBEDDED, Evidence.RESPONSE, Reason.NONE)
    assert [ending(dispatch) for dispatch in dispatches] == [embedded] * 3
    assert {dispatch.exchanges[0].body for dispatch in dispatches} == {sink.requests[0].body}


def test_two_identical_payloads_are_two_deliveries(sink, threaded):
    inner = threaded()
    dispatcher, params = witness(inner), unique()
    with capture() as dispatches:
        for _ in range(2):
            dispatcher.dispatch("POST", f"{sink.url}/v1/events", params)
        inner.go.set()
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 2
    assert [len(dispatch.exchanges) for dispatch in dispatches] == [1, 1]
    assert_agreement(sink, *dispatches)


def test_two_identical_payloads_in_flight_at_once_are_two_deliveries(sink):
    params, threads, both = unique(), [], threading.Barrier(2)

    def send(http_verb, url, params):
        host, _, path = url.removeprefix("http://").partition("/")
        with contextlib.closing(http.client.HTTPConnection(host, timeout=PATIENCE)) as connection:
            connection.request(http_verb, f"/{path}", json.dumps(params))
            both.wait(PATIENCE)
            connection.getresponse()

    @witness
    def inner(http_verb, url, params):
        threads.append(threading.Thread(target=send, args=(http_verb, url, params)))

    with capture() as dispatches:
        for _ in range(2):
            inner("POST", f"{sink.url}/slow/50", params)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 2
    assert_agreement(sink, *dispatches)


class Queued:
    """
    Keeps what it gets, and sends everything in the call of the last of a batch, each by itself.
    """

    def __init__(self, size, send=by_requests):
        self._size = size
        self._send = send
        self._jobs = []

    def dispatch(self, http_verb, url, params):
        self._jobs.append((http_verb, url, params))
        if len(self._jobs) == self._size:
            self.flush()

    def flush(self):
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            self._send(*job)


def test_a_queue_flushed_by_a_later_call_charges_each_body_to_its_own_dispatch(sink):
    dispatcher = witness(Queued(3))
    with capture() as dispatches:
        for _ in range(3):
            dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        assert len(dispatches) == 3
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 3
    assert_agreement(sink, *dispatches)


def test_a_queue_flushed_outside_of_any_call_is_settled(sink):
    inner = Queued(9)
    dispatcher = witness(inner)
    with capture() as dispatches:
        for _ in range(2):
            dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        inner.flush()
        assert len(dispatches) == 2
    assert_agreement(sink, *dispatches)


def test_a_batch_flushed_by_a_later_call_that_queues_its_own_payload_is_not_the_later_one_s(sink):
    held = []

    @witness
    def inner(http_verb, url, params):
        if held:
            by_requests(*held.pop())
        held.append((http_verb, url, params))

    with capture() as dispatches:
        for _ in range(3):
            inner("POST", f"{sink.url}/v1/events", unique())
        assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 2
        by_requests(*held.pop())
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 3
    assert_agreement(sink, *dispatches)


def test_a_queue_of_queries_flushed_by_a_later_call_charges_each_to_its_own_dispatch(sink):
    dispatcher = witness(Queued(2))
    with capture() as dispatches:
        for _ in range(2):
            dispatcher.dispatch("GET", f"{sink.url}/v1/events", unique())
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 2
    assert_agreement(sink, *dispatches)


def test_a_query_sent_by_another_thread_is_settled_late(sink, threaded):
    inner = threaded()
    inner.go.set()
    with capture() as dispatches:
        witness(inner).dispatch("GET", f"{sink.url}/v1/events", unique())
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED]


def test_content_that_reads_like_a_query_in_flight_is_not_the_query(sink):
    params = unique()
    with capture(timeout=0.0) as dispatches:
        witness(Queued(9)).dispatch("GET", f"{sink.url}/v1/events", params)
        by_requests("POST", f"{sink.url}/v1/events", f"late={params['late']}")
    (dispatch,) = dispatches
    assert dispatch.payload.body == sink.requests[0].body
    assert ending(dispatch) == NEVER


def test_a_payload_that_never_shows_up_is_unconfirmed_after_its_time():
    with capture() as dispatches:
        witness(Queued(9), evidence_timeout=0.01).dispatch("POST", "http://127.0.0.1:1/", unique())
        assert dispatches.wait_for(1)
    assert [ending(dispatch) for dispatch in dispatches] == [NEVER]


def test_evidence_after_the_time_is_too_late(sink, threaded):
    inner = threaded()
    dispatcher = witness(inner, evidence_timeout=0.01)
    with capture() as dispatches:
        dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        assert dispatches.wait_for(1)
        inner.go.set()
        assert sink.wait_for(1)
    assert [ending(dispatch) for dispatch in dispatches] == [NEVER]
    assert str(ledger_of(dispatcher).book()).startswith("accepted 1 = delivered 0")


def test_a_body_sent_after_its_dispatch_was_given_up_is_not_charged_to_the_current_one(sink):
    dispatcher = witness(Queued(2), evidence_timeout=0.01)
    with capture() as dispatches:
        dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
        assert dispatches.wait_for(1)
        dispatcher.dispatch("POST", f"{sink.url}/v1/events", unique())
    gone, current = dispatches
    assert ending(gone) == NEVER
    assert ending(current) == DELIVERED
    assert [received.body for received in sink.requests] == [gone.payload.body, current.payload.body]
    assert [exchange.body for exchange in current.exchanges] == [current.payload.body]


def test_an_empty_payload_that_was_given_up_takes_no_bodyless_request_from_others(sink):
    with capture() as dispatches:
        witness(Queued(9), evidence_timeout=0.01).dispatch("POST", "http://127.0.0.1:1/", b"")
        assert dispatches.wait_for(1)
        witness(by_requests)("GET", f"{sink.url}/v1/events", {"a": "1"})
    assert ending(dispatches[-1]) == DELIVERED
    assert_agreement(sink, dispatches[-1])


def test_another_payload_sent_by_the_current_call_is_still_altered(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, unique())

    with capture(timeout=0.0) as dispatches:
        witness(Queued(9)).dispatch("POST", f"{sink.url}/v1/events", unique())
        witness(inner)("POST", f"{sink.url}/v1/events", unique())
    altered, waiting = dispatches
    assert (altered.outcome, altered.verdict) == (Outcome.DELIVERED, Verdict.ALTERED)
    assert ending(waiting) == NEVER


def test_an_exporter_s_request_in_another_thread_is_nobody_s(sink, threaded):
    def send(http_verb, url, params):
        with suppress_instrumentation():
            by_requests("POST", f"{sink.url}/status/200", {"resourceSpans": []})
        by_requests(http_verb, url, params)

    inner = threaded(send)
    inner.go.set()
    with capture() as dispatches:
        witness(inner).dispatch("POST", f"{sink.url}/v1/events", unique())
    (dispatch,) = dispatches
    assert [exchange.path for exchange in dispatch.exchanges] == ["/v1/events"]
    assert ending(dispatch) == DELIVERED


def test_many_threads_and_payloads_are_each_settled_by_their_own_bytes(sink):
    threads = []

    @witness
    def inner(http_verb, url, params):
        threads.append(threading.Thread(target=by_http_client, args=(http_verb, url, params)))
        threads[-1].start()

    with capture() as dispatches:
        for _ in range(30):
            inner("POST", f"{sink.url}/v1/events", unique())
        for thread in threads:
            thread.join()
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 30
    assert all(dispatch.exchanges[0].body == dispatch.payload.body for dispatch in dispatches)
    assert {dispatch.payload.digest for dispatch in dispatches} == {received.digest for received in sink.requests}


# Where matters.


def elsewhere_is_no_evidence(sink, other, body):
    with capture(timeout=0.2) as dispatches:
        witness(Queued(9)).dispatch("POST", f"{sink.url}/v1/events", body)
        by_requests("POST", f"{other.url}/v1/events", body)
        by_requests("POST", f"{sink.url}/other", body)
    assert [ending(dispatch) for dispatch in dispatches] == [NEVER]


def test_the_same_two_bytes_posted_elsewhere_are_no_evidence(sink):
    with Sink() as other:
        elsewhere_is_no_evidence(sink, other, {})


def test_a_copy_sent_elsewhere_by_the_application_is_no_evidence(sink):
    with Sink() as other:
        elsewhere_is_no_evidence(sink, other, {**unique(), "long": "x" * 40})


def test_a_report_of_a_refused_event_makes_no_delivery_whatever_its_form(sink):
    with Sink() as logs:

        @witness
        def dispatch_event(http_verb, url, params):
            if by_requests(http_verb, url, params).status_code >= 300:
                for report in ({"error": 503, "event": params}, params, {"text": json.dumps(params)}):
                    by_requests("POST", f"{logs.url}/v1/events", report)

        with capture() as dispatches:
            dispatch_event("POST", f"{sink.url}/status/503", {**unique(), "long": "x" * 40})
        assert len(logs.requests) == 3
    (dispatch,) = dispatches
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_5XX)
    assert len(dispatch.exchanges) == 4


def test_a_refused_audit_copy_and_a_masked_one_change_nothing(sink):
    with Sink() as audit:

        @witness
        def dispatch_event(http_verb, url, params):
            by_requests(http_verb, url, params)
            by_requests("POST", f"{audit.url}/status/500", params)
            by_requests("POST", f"{audit.url}/v1/events", {**params, "long": "***"})

        with capture() as dispatches:
            dispatch_event("POST", f"{sink.url}/v1/events", {**unique(), "long": "x" * 40})
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED]


@pytest.mark.parametrize(
    "spelling", ["{url}/v1/events#part", "{url}/v1/./events", "{url}/v1/%65vents?key=1", "HTTP{rest}/v1/events"]
)
def test_a_target_is_known_in_every_spelling(sink, threaded, spelling):
    inner = threaded(lambda verb, url, params: by_http_client(verb, f"{sink.url}/v1/events", params))
    inner.go.set()
    with capture() as dispatches:
        url = spelling.format(url=sink.url, rest=sink.url.removeprefix("http"))
        witness(inner).dispatch("POST", url, unique())
        assert dispatches.wait_for(1)
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED]


def test_a_target_may_be_an_object_whose_text_is_the_url(sink):
    class Url:
        def __str__(self):
            return f"{sink.url}/v1/events"

    def relay(url, body):
        by_requests("POST", f"{other.url}/v1/events", b"{}")

    with Sink() as other, capture() as dispatches:
        for url in (Url(), f"{sink.url}/v1/events".encode()):
            witness(relay, payload="body", url="url", evidence_timeout=0.1)(url, b"{}")
    assert {dispatch.target for dispatch in dispatches} == {("http", "127.0.0.1", sink.port, "/v1/events")}
    assert {dispatch.outcome for dispatch in dispatches} == {Outcome.UNCONFIRMED}


def test_a_url_that_cannot_be_read_is_no_target(sink):
    class Broken:
        def __str__(self):
            raise ArithmeticError

    with capture() as dispatches:
        for url in (Broken(), object(), 5, b"\xff"):
            witness(lambda url, body: by_requests("POST", f"{sink.url}/v1/events", body), payload="body", url="url")(
                url, b"x" * 40
            )
    assert {dispatch.target for dispatch in dispatches} == {None}
    assert {ending(dispatch) for dispatch in dispatches} == {DELIVERED}


# What costs nothing.


def test_a_batch_of_hundreds_is_hashed_for_none_of_them(sink, monkeypatch):
    hashed = []
    monkeypatch.setattr("wirewitness.core.exchange.hashlib.sha256", lambda body: hashed.append(len(body)))
    bodies = [json.dumps({**unique(), "long": "x" * 40}) for _ in range(200)]
    with capture() as dispatches:
        dispatcher = witness(Queued(999))
        for body in bodies:
            dispatcher.dispatch("POST", f"{sink.url}/v1/events", body)
        by_http_client("POST", f"{sink.url}/v1/events", f"[{','.join(bodies)}]")
        assert len(dispatches) == 200
        assert hashed == []
    assert {dispatch.verdict for dispatch in dispatches} == {Verdict.EMBEDDED}


def recorded_bytes(sink, path, size):
    """How many bytes are allocated at most while somebody uploads ``size`` bytes in pieces."""
    pieces = (b"x" * 65536 for _ in range(size // 65536))
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        tracemalloc.start()
        try:
            for piece in pieces:
                connection.send(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(("path", "most"), [("/upload", 1 << 20), ("/v1/events", 6 << 20)])
def test_an_upload_by_other_code_is_not_kept_because_a_small_event_waits(path, most):
    with Swallowing() as server, capture(timeout=0.0):
        witness(Queued(9)).dispatch("POST", f"http://127.0.0.1:{server.port}/v1/events", unique())
        assert recorded_bytes(server, path, 32 << 20) < most


class Swallowing:
    """A server that reads and forgets."""

    host = "127.0.0.1"

    def __enter__(self):
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self):
        client, _ = self._listener.accept()
        with client:
            buffer = bytearray(1 << 16)
            while client.recv_into(buffer):
                pass

    def __exit__(self, *_):
        self._thread.join()
        self._listener.close()


def test_a_request_that_nobody_waits_for_is_not_recorded_at_all(sink):
    with capture(timeout=0.0), contextlib.closing(http.client.HTTPConnection(sink.host, sink.port)) as connection:
        witness(Queued(9)).dispatch("POST", f"{sink.url}/v1/events", unique())
        connection.request("POST", "/other", b"x")
        assert getattr(connection, KEY) is None
        connection.getresponse().read()
        connection.request("POST", "/v1/events", b"x")
        assert getattr(connection, KEY) is not None
        connection.getresponse().read()


def test_an_interim_answer_is_no_final_one():
    answers = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(answers)
            client.recv(65536)

    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1])) as connection:
            connection.request(http_verb, "/v1/events", json.dumps(params))
            assert connection.getresponse().status == 103

    thread = threading.Thread(target=serve)
    thread.start()
    with listener, capture(timeout=0.1) as dispatches:
        witness(inner)("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/v1/events", unique())
        thread.join()
    (dispatch,) = dispatches
    assert ending(dispatch) == (Outcome.UNCONFIRMED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.RESPONSE_UNREAD)
