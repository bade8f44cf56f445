"""
What an Outbox shows: spans, metrics and lines.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time

from types import SimpleNamespace

import pytest
import requests

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from wirewitness import HttpSender, MemorySpool, Outbox, RetryPolicy, SqliteSpool, witness
from wirewitness.outbox import Breakers


FAST = RetryPolicy(attempts=3, base=0.01, ceiling=0.02)
PATIENT = RetryPolicy(attempts=None, base=0.01, ceiling=0.02)
PATIENCE = 20.0

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
# From 3.12 on, Python itself warns of forks in processes with threads.
may_warn_of_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def eventually(true):
    deadline = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def in_child(work):
    """
    What a forked child's work returns; a child that hangs is ended by a signal.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        answer = told.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(answer)


@pytest.fixture
def make(seen):
    made = []

    def outbox(sender=None, **options):
        options = {"retry": FAST, "name": "queue", **seen.options, **options}
        made.append(Outbox(HttpSender(threads=1, timeout=2.0) if sender is None else sender, **options))
        return made[-1]

    yield outbox
    for one in made:
        one.close(1.0)


@pytest.fixture
def request_span(seen):
    with seen.tracer_provider.get_tracer("application").start_as_current_span("request") as span:
        yield span


def named(seen, name):
    return [span for span in seen.spans if span.name == name]


def test_the_acceptance_is_under_the_callers_span_and_the_delivery_under_it_and_linked(make, seen, sink, request_span):
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    assert outbox.flush(5.0).empty
    accepted, delivered, exchange = seen.span("accept queue"), seen.span("dispatch queue"), seen.span("POST")
    assert accepted.kind is SpanKind.PRODUCER
    assert accepted.parent.span_id == request_span.get_span_context().span_id
    assert delivered.parent.span_id == accepted.context.span_id
    assert accepted.context.span_id in {link.context.span_id for link in delivered.links}
    assert exchange.parent.span_id == delivered.context.span_id
    assert delivered.attributes["wirewitness.outcome"] == "delivered"


def test_without_a_callers_span_the_acceptance_is_a_root(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    outbox.flush(5.0)
    assert seen.span("accept queue").parent is None
    assert seen.span("dispatch queue").context.trace_id == seen.span("accept queue").context.trace_id


def test_a_caller_that_is_not_sampled_leaves_no_span(make, seen, sink):
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    outbox = make()
    with provider.get_tracer("application").start_as_current_span("request"):
        outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    outbox.flush(5.0)
    assert seen.spans == []
    assert len(sink.requests) == 1


def test_every_attempt_has_a_span_and_only_the_last_failure_is_an_error(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/status/500", {"a": 1})
    assert outbox.flush(5.0).dead == 1
    attempts = named(seen, "dispatch queue")
    assert [span.status.status_code for span in attempts] == [StatusCode.UNSET, StatusCode.UNSET, StatusCode.ERROR]
    assert [span.status.status_code for span in named(seen, "POST")] == [StatusCode.ERROR] * 3
    accepted = seen.span("accept queue")
    waits = [(span.start_time - accepted.start_time) / 1e9 for span in attempts]
    assert waits == sorted(waits)
    assert [span.attributes["wirewitness.queue.wait"] for span in attempts] == pytest.approx(waits)


def test_a_retry_that_succeeds_leaves_no_error_on_a_dispatch(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/flaky/1/503", {"a": 1})
    assert outbox.flush(5.0).empty
    assert {span.status.status_code for span in named(seen, "dispatch queue")} == {StatusCode.UNSET}


def test_durations_are_recorded_once_a_payload_and_once_a_request(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/flaky/2/503", {"a": 1})
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    outbox.flush(5.0)
    points = seen.collect()
    assert sum(point.count for point in points("wirewitness.dispatch.duration", **{"dispatcher.name": "queue"})) == 2
    assert sum(point.count for point in points("wirewitness.exchange.duration", **{"dispatcher.name": "queue"})) == 4
    assert sum(point.count for point in points("wirewitness.payload.size", **{"dispatcher.name": "queue"})) == 2
    assert sum(point.count for point in points("wirewitness.outbox.wait.duration", outbox="queue")) == 2


def test_the_gauges_are_there_from_construction(make, seen):
    make(spool=MemorySpool(most=7))
    points = seen.collect()
    read = {name: points(f"wirewitness.outbox.{name}", outbox="queue")[0].value for name in GAUGES}
    assert read == {"size": 0, "capacity": 7, "utilization": 0.0, "oldest.age": 0.0, "circuit.state": 0}


GAUGES = ("size", "capacity", "utilization", "oldest.age", "circuit.state")


@pytest.mark.processes
def test_the_gauges_tell_of_an_endpoint_that_is_down(make, seen, unused_port):
    outbox = make(retry=PATIENT, breakers=Breakers(failures=2, cooldown=30.0))
    for number in range(5):
        outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": number})
    eventually(lambda: outbox.gauges().circuit_state == 2 and not outbox.spool.stats().claimed)
    points = seen.collect()
    read = {name: points(f"wirewitness.outbox.{name}", outbox="queue")[0].value for name in GAUGES}
    assert (read["size"], read["circuit.state"]) == (5, 2)
    assert read["oldest.age"] > 0
    assert points("wirewitness.ledger.pending", **{"dispatcher.name": "queue", "stage": "queued"})[0].value == 5


@pytest.mark.processes
def test_the_gauges_tell_of_an_outbox_that_is_full(make, seen):
    sender = Stuck()
    outbox = make(sender, spool=MemorySpool(most=3))
    for number in range(5):
        outbox("POST", "http://127.0.0.1:9/", {"n": number})
    sender.has_one.wait(PATIENCE)
    points = seen.collect()
    assert [points(f"wirewitness.outbox.{name}", outbox="queue")[0].value for name in GAUGES[:3]] == [3, 3, 1.0]
    assert pending(points) == {"queued": 2, "in_flight": 1, "awaiting_evidence": 0}
    dropped = points("wirewitness.ledger.settled", **{"dispatcher.name": "queue", "reason": "queue_full"})
    assert [point.value for point in dropped] == [2]
    sender.release.set()


def pending(points):
    found = points("wirewitness.ledger.pending", **{"dispatcher.name": "queue"})
    return {point.attributes["stage"]: point.value for point in found}


def test_drops_are_counted_by_their_reasons_from_zero(make, seen):
    outbox = make(name="drops", spool=MemorySpool(most=1, most_bytes=10_000))
    labels = {"dispatcher.name": "drops", "outcome": "dropped"}
    before = {point.attributes["reason"]: point.value for point in seen.points("wirewitness.ledger.settled", **labels)}
    assert set(before.values()) == {0}
    outbox("POST", "nowhere", {})
    outbox("POST", "http://127.0.0.1:9/", b"x" * 20_000)
    after = {point.attributes["reason"]: point.value for point in seen.points("wirewitness.ledger.settled", **labels)}
    assert {reason: number for reason, number in after.items() if number} == {"unsendable": 1, "too_large": 1}
    assert {"queue_full", "expired", "shutdown", "spool_failed", "corrupt"} <= set(before)


def test_a_drop_has_a_span_with_an_error(make, seen, request_span):
    outbox = make(spool=MemorySpool(most=1, most_bytes=2_000))
    outbox("POST", "http://127.0.0.1:9/", b"x" * 20_000)
    span = seen.span("dispatch queue")
    assert span.status.status_code is StatusCode.ERROR
    assert span.parent.span_id == request_span.get_span_context().span_id
    assert span.attributes["wirewitness.reason"] == "too_large"


def test_exemplars_lead_from_the_duration_to_the_delivery_and_from_the_wait_to_the_acceptance(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    outbox.flush(5.0)
    points = seen.collect()
    (duration,) = points("wirewitness.dispatch.duration", **{"dispatcher.name": "queue"})
    (wait,) = points("wirewitness.outbox.wait.duration", outbox="queue")
    assert {one.span_id for one in duration.exemplars} == {seen.span("dispatch queue").context.span_id}
    assert {one.span_id for one in wait.exemplars} == {seen.span("accept queue").context.span_id}


def test_nothing_of_a_payload_a_query_or_a_credential_is_shown(make, seen, sink, caplog):
    caplog.set_level(logging.DEBUG, logger="wirewitness")
    outbox = make()
    event = {
        "url": f"{sink.url}/status/400?token=QUERYSECRET",
        "params": {"who": "PAYLOADSECRET"},
        "http_verb": "POST",
        "headers": {"Authorization": "Bearer HEADERSECRET"},
    }
    outbox.dispatch_event(event)
    outbox.dispatch_event({**event, "url": f"{sink.url}/flaky/1/503?token=QUERYSECRET"})
    outbox("GET", f"{sink.url}/v1/events?token=QUERYSECRET", {"who": "PAYLOADSECRET"})
    outbox("POST", "no://PAYLOADSECRET", {"who": "PAYLOADSECRET"})
    outbox.flush(5.0)
    assert {request.header("authorization") for request in sink.requests} == {"Bearer HEADERSECRET", None}
    metrics = seen.everything()
    assert {"dispatch.rejected", "dispatch.retried", "dispatch.delivered", "dispatch.dropped"} <= said(caplog)
    assert "wirewitness.outbox.wait.duration" in metrics
    assert "SECRET" not in "".join(span.to_json() for span in seen.spans) + caplog.text + metrics


def said(caplog):
    return {record.getMessage().partition(" ")[0].removeprefix("event=") for record in caplog.records}


@pytest.fixture
def clock(monkeypatch):
    """
    What the limits of lines go by.
    """
    time_of = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("wirewitness.telemetry.logs.monotonic", lambda: time_of.now)
    return time_of


def test_lines_of_drops_come_at_a_bounded_rate_and_count_those_held_back(make, sink, caplog, clock):
    caplog.set_level(logging.WARNING, logger="wirewitness")
    outbox = make(spool=MemorySpool(most=1, most_bytes=2_000))
    for _ in range(500):
        outbox("POST", f"{sink.url}/v1/events", b"x" * 20_000)
    clock.now += 61
    outbox("POST", f"{sink.url}/v1/events", b"x" * 20_000)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 11
    assert all(line.startswith("event=dispatch.dropped") for line in lines)
    assert "suppressed=490" in lines[-1]
    assert outbox.ledger.book().accepted == 501


def test_lines_of_payloads_that_fail_come_at_a_bounded_rate(make, sink, caplog, clock):
    caplog.set_level(logging.WARNING, logger="wirewitness")
    outbox = make()
    for number in range(40):
        outbox("POST", f"{sink.url}/status/400", {"n": number})
    assert outbox.flush(PATIENCE).dead == 40
    assert said(caplog) == {"dispatch.rejected"}
    assert len(caplog.records) == 30


class Stuck:
    """
    A sender that takes a message and never reports it.
    """

    threads = 1

    def __init__(self):
        self.has_one = threading.Event()
        self.release = threading.Event()

    def run(self, desk):
        while (messages := desk.take(1, None)) is not None:
            if messages:
                self.has_one.set()
                self.release.wait(PATIENCE)


@pytest.mark.processes
def test_two_outboxes_of_one_name_add_up(make, seen):
    senders = [Stuck(), Stuck()]
    for sender in senders:
        make(sender, spool=MemorySpool(most=5))("POST", "http://127.0.0.1:9/", {})
    points = seen.collect()
    assert points("wirewitness.outbox.size", outbox="queue")[0].value == 2
    assert points("wirewitness.outbox.capacity", outbox="queue")[0].value == 10
    assert points("wirewitness.outbox.utilization", outbox="queue")[0].value == 0.2
    for sender in senders:
        sender.release.set()


@pytest.mark.processes
@forks
@may_warn_of_threads
def test_a_forked_child_shows_nothing_of_the_parents(make, seen):
    sender = Stuck()
    outbox = make(sender, name="forked")
    for number in range(3):
        outbox("POST", "http://127.0.0.1:9/", {"n": number})
    sender.has_one.wait(PATIENCE)

    def shown():
        points = seen.collect()
        gauges = [points(f"wirewitness.outbox.{name}", outbox="forked")[0].value for name in GAUGES]
        book = points("wirewitness.ledger.accepted", **{"dispatcher.name": "forked"})
        return [gauges, [point.value for point in book]]

    assert in_child(shown) == [[0, 10_000, 0.0, 0.0, 0], [0]]
    assert in_child(lambda: outbox.spool.stats() == MemorySpool().stats())
    (size, *_), accepted = shown()
    assert (size, accepted) == (3, [3])
    sender.release.set()


@forks
@may_warn_of_threads
def test_a_forked_child_writes_its_lines_even_where_the_parent_s_lock_was_held(make, caplog, monkeypatch):
    limits = []

    def limited(*args, **options):
        limits.append(threading.RLock())
        return limits[-1]

    monkeypatch.setattr("wirewitness.telemetry.logs.threading", SimpleNamespace(RLock=limited))
    outbox = make(spool=MemorySpool(most=1, most_bytes=2_000))
    assert limits
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in limits:
            lock.acquire()
        held.set()
        release.wait(PATIENCE)
        for lock in limits:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(PATIENCE)

    def drop():
        outbox("POST", "http://127.0.0.1:9/", b"x" * 20_000)
        return len(caplog.records)

    try:
        assert in_child(drop) == 1
    finally:
        release.set()
        holder.join()


@pytest.mark.processes
def test_what_an_earlier_process_accepted_has_a_delivery_without_an_acceptance_or_a_wait(make, seen, sink, tmp_path):
    sender = Stuck()
    stopped = make(sender, name="stopped", spool=SqliteSpool(tmp_path / "spool"))
    stopped("POST", f"{sink.url}/v1/events", {"a": 1})
    sender.has_one.wait(PATIENCE)
    sender.release.set()
    assert stopped.close(0.1).lost == 0
    faults = seen.value("wirewitness.internal.errors", component="telemetry")
    outbox = make(spool=SqliteSpool(tmp_path / "spool"))
    assert outbox.flush(PATIENCE).empty
    assert len(sink.requests) == 1
    assert named(seen, "accept queue") == []
    delivered = seen.span("dispatch queue")
    assert delivered.parent is None
    assert list(delivered.links) == []
    assert seen.points("wirewitness.outbox.wait.duration", outbox="queue") == []
    assert seen.value("wirewitness.internal.errors", component="telemetry") == faults


def test_a_witnessed_inner_dispatcher_adds_no_span_and_no_measurement_of_its_own(make, seen, sink, request_span):
    @witness(name="inner", **seen.options)
    def send(http_verb, url, params):
        requests.post(url, json=params, timeout=5)

    outbox = make(send)
    outbox("POST", f"{sink.url}/flaky/1/503", {"a": 1})
    assert outbox.flush(PATIENCE).empty
    attempts = {span.context.span_id for span in named(seen, "dispatch queue")}
    assert len(attempts) == 2
    assert {span.parent.span_id for span in named(seen, "POST")} == attempts
    assert named(seen, "dispatch inner") == []
    points = seen.collect()
    measured = {
        name: sum(point.count for point in points("wirewitness.exchange.duration", **{"dispatcher.name": name}))
        for name in ("queue", "inner")
    }
    assert measured == {"queue": 2, "inner": 0}
    assert points("wirewitness.ledger.accepted", **{"dispatcher.name": "inner"})[0].value == 0


def test_a_span_is_current_while_an_inner_dispatcher_sends(make, seen, sink, request_span):
    within = []
    outbox = make(lambda http_verb, url, params: within.append(trace.get_current_span().get_span_context().span_id))
    outbox("POST", f"{sink.url}/v1/events", {})
    outbox.close(0.5)
    assert within == [seen.span("dispatch queue").context.span_id]
