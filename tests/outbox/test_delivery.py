"""
What one message, one thread or one server does, the others must not suffer from.
"""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import threading
import time
import urllib.request

from collections import Counter
from dataclasses import replace

import pytest
import requests

from outbox_events import FAST

from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.outbox import (
    Answer,
    Breakers,
    CurlSender,
    HttpSender,
    MemorySpool,
    Outbox,
    RetryPolicy,
    Spill,
    SqliteSpool,
    Unsendable,
)


class Endpoint:
    """
    A server that answers what ``answer(body)`` says: a status code and header fields; 0 for a connection that ends.
    """

    def __init__(self, answer):
        self.bodies = []
        self.times = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.bodies.append(body)
                owner.times.append(time.monotonic())
                status, fields = answer(body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": "0", **fields}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            # The default is 5: of more connections at once, some wait for seconds, or are reset.
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint():
    started = []

    def start(answer):
        started.append(Endpoint(answer))
        return started[-1]

    yield start
    for one in started:
        one.close()


def body_of(**value):
    return json.dumps(value).encode()


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def poison(body):
    return (500, {}) if b"poison" in body else (204, {})


@pytest.mark.processes
@pytest.mark.parametrize("poisoned", [3, 12])
def test_a_poison_payload_blocks_no_other(make, endpoint, poisoned):
    server = endpoint(poison)
    # With all defaults: five failures open a circuit, for a second and more.
    outbox = make(retry=RetryPolicy(), breakers=Breakers())
    for number in range(poisoned):
        outbox("POST", server.url, {"poison": number})
    until(lambda: len(server.bodies) >= min(poisoned, 5))
    for number in range(20):
        outbox("POST", server.url, {"good": number})
    until(lambda: outbox.ledger.book().count(Outcome.DELIVERED) == 20)
    assert {body_of(good=number) for number in range(20)} <= set(server.bodies)


@pytest.mark.processes
def test_a_payload_that_breaks_its_connection_blocks_no_other(make, endpoint):
    server = endpoint(lambda body: (0, {}) if b"poison" in body else (204, {}))
    # A circuit that opened would stay open for longer than this test waits.
    outbox = make(retry=RetryPolicy(base=0.01, ceiling=0.02), breakers=Breakers(cooldown=300.0, ceiling=300.0))
    outbox("POST", server.url, {"poison": 1})
    until(lambda: len(server.bodies) > 12)
    outbox("POST", server.url, {"good": 1})
    until(lambda: outbox.ledger.book().count(Outcome.DELIVERED) == 1)
    assert outbox.gauges().circuit_state == 0


def test_a_header_that_cannot_be_sent_says_nothing_of_its_server(make, sink):
    def send(event):
        # http.client has begun the request when it refuses the field, and no byte has left.
        fields = {"X-Note": event.params["note"]}
        urllib.request.urlopen(urllib.request.Request(event.url, b"{}", fields), timeout=5).close()

    outbox = make(send, retry=replace(FAST, attempts=8), breakers=Breakers(cooldown=300.0, ceiling=300.0))
    outbox("POST", f"{sink.url}/v1/events", {"note": "a\nb"})
    assert outbox.flush(30.0).dead == 1
    assert outbox.gauges().circuit_state == 0


def test_what_could_not_be_sent_says_nothing_of_its_server(make, sink):
    def send(http_verb, url, params):
        requests.post(url, json=params, timeout=5)

    outbox = make(send, retry=RetryPolicy(base=0.01, ceiling=0.02, attempts=20), breakers=Breakers())
    for number in range(6):
        # requests refuses to encode it, before any connection.
        outbox("POST", f"{sink.url}/v1/events", {"not a number": float("nan"), "number": number})
    for number in range(6):
        outbox("POST", f"{sink.url}/v1/events", {"good": number})
    assert outbox.flush(30.0).dead == 6
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 6
    assert outbox.gauges().circuit_state == 0


@pytest.mark.processes
def test_a_server_that_is_away_costs_a_message_no_attempt(make, unused_port_number):
    outbox = make(retry=replace(FAST, attempts=2, lifetime=None), breakers=Breakers(cooldown=0.01, ceiling=0.02))
    outbox("POST", f"http://127.0.0.1:{unused_port_number}/", {"a": 1})
    until(lambda: outbox.ledger.book().exchanges > 6)
    assert outbox.ledger.book().open == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_costs_a_message_no_attempt(make, endpoint, status):
    answers = Counter()

    def answer(body):
        answers[body] += 1
        return (204, {}) if answers[body] > 8 else (status, {})

    server = endpoint(answer)
    outbox = make(retry=replace(FAST, attempts=2, lifetime=None), breakers=Breakers(cooldown=0.01, ceiling=0.02))
    outbox("POST", server.url, {"a": 1})
    assert outbox.flush(30.0).empty
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 1


@pytest.mark.parametrize("spool", ["memory", "sqlite"])
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_payload_that_a_server_refuses_while_it_takes_others_is_given_up(make, endpoint, tmp_path, status, spool):
    server = endpoint(lambda body: (status, {}) if b"poison" in body else (204, {}))
    held = MemorySpool() if spool == "memory" else SqliteSpool(tmp_path / "spool")
    outbox = make(
        spool=held,
        retry=RetryPolicy(attempts=3, base=0.01, ceiling=0.02, lifetime=None),
        breakers=Breakers(cooldown=0.01, ceiling=0.02),
    )
    outbox("POST", server.url, {"poison": 1})
    good = 0

    def given_up():
        nonlocal good
        if server.bodies.count(body_of(poison=1)) > good:
            good += 1
            outbox("POST", server.url, {"good": good})
        return outbox.spool.stats().dead == 1

    until(given_up)
    # An hour of such answers to all would have cost it no attempt.
    assert outbox.ledger.book().count(Outcome.REJECTED) == 1
    assert outbox.flush(30.0).remaining == 0
    assert outbox.ledger.book().count(Outcome.DELIVERED) == good


def test_what_is_refused_in_an_outage_is_not_given_up_when_the_server_is_back(make, endpoint):
    answers = Counter()

    def answer(body):
        answers[body] += 1
        # An outage of eight answers for each, twice, and one is taken in between.
        return (204, {}) if answers[body] > 8 else (503, {})

    server = endpoint(answer)
    outbox = make(retry=replace(FAST, attempts=3, lifetime=None), breakers=Breakers(cooldown=0.01, ceiling=0.02))
    outbox("POST", server.url, {"first": 1})
    until(lambda: outbox.ledger.book().count(Outcome.DELIVERED) == 1)
    outbox("POST", server.url, {"second": 1})
    assert outbox.flush(30.0).empty
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 2


@pytest.mark.processes
def test_messages_of_two_spools_with_the_same_ids_are_different_ones(make, endpoint):
    server = endpoint(lambda _: (500, {}))
    outbox = make(
        spool=MemorySpool(most=1),
        overflow=Spill(MemorySpool(most=10)),
        retry=RetryPolicy(base=0.01, ceiling=0.02),
        breakers=Breakers(failures=2, cooldown=300.0, ceiling=300.0),
    )
    # Each spool gives the id 1 to its first.
    outbox("POST", server.url, {"number": 1})
    outbox("POST", server.url, {"number": 2})
    until(lambda: outbox.gauges().circuit_state == 2)


def test_an_answer_to_a_message_counts_against_its_attempts(make, endpoint):
    server = endpoint(lambda _: (500, {}))
    outbox = make(retry=replace(FAST, attempts=3))
    outbox("POST", server.url, {"a": 1})
    assert outbox.flush(30.0).dead == 1
    assert len(server.bodies) == 3


class Shouts(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, Shouts])
def test_whatever_an_inner_dispatcher_raises_the_others_are_sent(make, sink, kind):
    raised = []

    def send(http_verb, url, params):
        if params["number"] == 0 and len(raised) < 2:
            raised.append(kind)
            raise kind
        requests.post(url, json=params, timeout=5)

    outbox = make(send)
    for number in range(20):
        outbox("POST", f"{sink.url}/v1/events", {"number": number})
    assert outbox.flush(30.0).empty
    assert sorted(json.loads(received.body)["number"] for received in sink.requests) == list(range(20))


def test_a_thread_that_can_not_be_started_is_started_later(make, sink, monkeypatch):
    start = threading.Thread.start
    refused = []

    def no_room(thread):
        if thread.name.startswith("wirewitness-outbox") and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_room)
    outbox = make()
    for number in range(10):
        outbox("POST", f"{sink.url}/v1/events", {"number": number})
    assert outbox.flush(30.0).empty
    assert len(refused) == 3
    assert len(sink.requests) == 10


def test_a_message_that_came_while_no_thread_could_be_started_is_sent_by_a_flush(make, sink, monkeypatch):
    start = threading.Thread.start
    full = True

    def no_room(thread):
        if full and thread.name.startswith("wirewitness-outbox"):
            raise RuntimeError
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_room)
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", {"number": 1})
    full = False
    assert outbox.flush(30.0).empty
    assert len(sink.requests) == 1


def test_a_sender_that_has_the_response_is_believed_where_the_tap_sees_nothing(make, monkeypatch):
    statuses = [503, 503, 204]

    def mocked(_, request, **options):
        response = requests.Response()
        response.status_code = statuses.pop(0)
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", mocked)
    settled = []
    outbox = make(HttpSender(threads=1), on_settle=settled.append, evidence_timeout=3600.0)
    outbox("POST", "http://127.0.0.1:9/", {"a": 1})
    assert outbox.flush(30.0).empty
    assert statuses == []
    (dispatch,) = settled
    # The response proves the delivery, and nothing proves the bytes.
    assert (dispatch.outcome, dispatch.verdict, dispatch.evidence) == (
        Outcome.DELIVERED,
        Verdict.UNOBSERVED,
        Evidence.RESPONSE,
    )


def test_threads_that_have_just_been_started_share_the_work_at_once(make, endpoint):
    together = threading.Barrier(8)

    def answer(_):
        together.wait(30.0)
        return 204, {}

    server = endpoint(answer)
    outbox = make(HttpSender(threads=8, timeout=40.0))
    for number in range(16):
        outbox("POST", server.url, {"number": number})
    # Only if eight are in flight at once does any get its answer.
    assert outbox.flush(40.0).empty
    assert together.broken is False


def test_a_slow_server_leaves_room_for_others(make, endpoint):
    released = threading.Event()

    def stall(_):
        released.wait(60.0)
        return 204, {}

    slow, quick = endpoint(stall), endpoint(lambda _: (204, {}))
    outbox = make(HttpSender(threads=4, timeout=70.0))
    outbox("POST", quick.url, {"first": True})
    until(lambda: len(quick.bodies) == 1)
    for number in range(20):
        outbox("POST", slow.url, {"number": number})
    until(lambda: len(slow.bodies) == 4)
    for number in range(20):
        outbox("POST", quick.url, {"number": number})
    until(lambda: len(quick.bodies) == 21)
    assert len(slow.bodies) == 4
    released.set()
    assert outbox.flush(60.0).empty


@pytest.mark.parametrize("at_once", [1, 4, 16])
@pytest.mark.parametrize("kind", ["http", "curl"])
def test_a_server_that_is_slow_from_the_first_leaves_room_for_the_first_message_to_another(
    make, endpoint, kind, at_once
):
    released = threading.Event()

    def stall(_):
        released.wait(60.0)
        return 204, {}

    slow, quick = endpoint(stall), endpoint(lambda _: (204, {}))
    sender = (
        HttpSender(threads=at_once, timeout=70.0) if kind == "http" else CurlSender(connections=at_once, timeout=70.0)
    )
    outbox = make(sender)
    for number in range(80):
        outbox("POST", slow.url, {"number": number})
    until(lambda: len(slow.bodies) == at_once)
    for number in range(20):
        outbox("POST", quick.url, {"number": number})
    until(lambda: len(quick.bodies) == 20)
    assert len(slow.bodies) == at_once
    released.set()
    assert outbox.flush(60.0).empty


class ThirtyLines:
    """
    A stranger's sender.
    """

    threads = 2

    def __init__(self):
        self.seen = []

    def send(self, message):
        if b"unsendable" in message.body:
            raise Unsendable
        if b"crash" in message.body and len(self.seen) < 3:
            self.seen.append(message.body)
            raise ValueError
        self.seen.append(message.body)
        return Answer(204)


def test_a_stranger_s_sender_needs_two_attributes():
    dropped = []
    sender = ThirtyLines()
    outbox = Outbox(
        sender, spool=MemorySpool(), retry=FAST, on_drop=lambda message, reason: dropped.append((message.body, reason))
    )
    for word in ("good", "unsendable", "crash"):
        outbox("POST", "http://127.0.0.1:9/", {"word": word})
    remaining = outbox.flush(30.0)
    book = outbox.ledger.book()
    outbox.close()
    assert remaining.remaining == 0
    assert remaining.dead == 1
    assert dropped == [(body_of(word="unsendable"), Reason.UNSENDABLE)]
    assert book.count(Outcome.DELIVERED) == 2
