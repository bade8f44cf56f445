"""
What an Outbox shows: spans, metrics and lines.
"""

from __future__ import annotations

import json
import logging
import os
import threading

import pytest

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from wirewitness import HttpSender, MemorySpool, Outbox, RetryPolicy
from wirewitness.outbox import Breakers
from wirewitness.outbox.spool import SpoolStats


FAST = RetryPolicy(attempts=3, base=0.01, ceiling=0.02)


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
    outbox("POST", f"{sink.url}/status/503", {"a": 1})
    assert outbox.flush(5.0).dead == 1
    attempts = named(seen, "dispatch queue")
    assert [span.status.status_code for span in attempts] == [StatusCode.UNSET, StatusCode.UNSET, StatusCode.ERROR]
    assert [span.status.status_code for span in named(seen, "POST")] == [StatusCode.ERROR] * 3
    assert len(named(seen, "accept queue")) == 1


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
    assert read == {"size": 0, "capacity": 7, "oldest.age": 0.0, "circuit.state": 0}


GAUGES = ("size", "capacity", "oldest.age", "circuit.state")


def test_the_gauges_tell_of_an_endpoint_that_is_down(make, seen, unused_port):
    outbox = make(
        retry=RetryPolicy(attempts=None, base=0.01, ceiling=0.02), breakers=Breakers(failures=2, cooldown=30.0)
    )
    for number in range(5):
        outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": number})
    outbox.flush(0.5)
    points = seen.collect()
    read = {name: points(f"wirewitness.outbox.{name}", outbox="queue")[0].value for name in GAUGES}
    assert (read["size"], read["circuit.state"]) == (5, 2)
    assert read["oldest.age"] > 0
    assert points("wirewitness.ledger.pending", **{"dispatcher.name": "queue", "stage": "queued"})[0].value == 5


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


def test_an_exemplar_of_the_duration_leads_to_the_delivery(make, seen, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    outbox.flush(5.0)
    (point,) = seen.points("wirewitness.dispatch.duration", **{"dispatcher.name": "queue"})
    assert {exemplar.span_id for exemplar in point.exemplars} == {seen.span("dispatch queue").context.span_id}


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
    outbox("POST", "no://PAYLOADSECRET", {"who": "PAYLOADSECRET"})
    outbox.flush(5.0)
    assert sink.requests[0].header("authorization") == "Bearer HEADERSECRET"
    shown = "".join(span.to_json() for span in seen.spans) + caplog.text + str(seen.collect()("wirewitness.exchanges"))
    assert "dispatch.rejected" in caplog.text
    assert "SECRET" not in shown


def test_lines_come_at_a_bounded_rate(make, sink, caplog):
    caplog.set_level(logging.WARNING, logger="wirewitness")
    outbox = make(spool=MemorySpool(most=1, most_bytes=2_000))
    for _ in range(500):
        outbox("POST", f"{sink.url}/v1/events", b"x" * 20_000)
    lines = [record for record in caplog.records if "dispatch.dropped" in record.getMessage()]
    assert 0 < len(lines) <= 30
    assert outbox.ledger.book().accepted == 500


class Stuck:
    """
    A sender that takes a message and never reports it.
    """

    threads = 1

    def __init__(self):
        self.release = threading.Event()

    def run(self, desk):
        while (messages := desk.take(1, None)) is not None:
            if messages:
                self.release.wait(10.0)


def test_two_outboxes_of_one_name_add_up(make, seen):
    senders = [Stuck(), Stuck()]
    for sender in senders:
        make(sender, spool=MemorySpool(most=5))("POST", "http://127.0.0.1:9/", {})
    points = seen.collect()
    assert points("wirewitness.outbox.size", outbox="queue")[0].value == 2
    assert points("wirewitness.outbox.capacity", outbox="queue")[0].value == 10
    for sender in senders:
        sender.release.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_shows_nothing_of_the_parents(make, seen):
    sender = Stuck()
    outbox = make(sender)
    outbox("POST", "http://127.0.0.1:9/", {})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        shown = [
            outbox.gauges().size,
            outbox.ledger.book().accepted,
            outbox.spool.stats() == SpoolStats(capacity=10_000),
        ]
        os.write(write, json.dumps(shown).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(read, 1000)) == [0, 0, True]
    os.close(read)
    os.close(write)
    assert outbox.gauges().size == 1
    sender.release.set()


def test_a_span_is_current_while_an_inner_dispatcher_sends(make, seen, sink, request_span):
    within = []
    outbox = make(lambda http_verb, url, params: within.append(trace.get_current_span().get_span_context().span_id))
    outbox("POST", f"{sink.url}/v1/events", {})
    outbox.close(0.5)
    assert within == [seen.span("dispatch queue").context.span_id]
