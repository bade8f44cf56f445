from __future__ import annotations

import threading

import pytest
import requests

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from wirewitness import witness
from wirewitness.testing import capture


def post(http_verb, url, params):
    return requests.post(url, json=params, timeout=5)


def post_with_retries(http_verb, url, params):
    with requests.Session() as session:
        retry = Retry(total=3, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        return session.post(url, json=params, timeout=5)


def test_a_dispatch_has_an_internal_span_and_a_client_span_for_its_exchange(seen, sink):
    witness(post, name="mine", **seen.options)("POST", f"{sink.url}/v1/events", {"a": 1})

    dispatch, exchange = seen.span("dispatch mine"), seen.span("POST")
    assert (dispatch.kind, exchange.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert exchange.parent.span_id == dispatch.context.span_id
    assert exchange.context.trace_id == dispatch.context.trace_id
    assert dispatch.status.status_code is exchange.status.status_code is StatusCode.UNSET
    assert dispatch.start_time <= exchange.start_time <= exchange.end_time <= dispatch.end_time


def test_the_spans_say_what_the_contract_says(seen, sink):
    witness(post, name="mine", **seen.options)("POST", f"{sink.url}/v1/events", {"a": 1})

    assert dict(seen.span("dispatch mine").attributes) == {
        "wirewitness.dispatcher.name": "mine",
        "wirewitness.outcome": "delivered",
        "wirewitness.verdict": "identical",
        "wirewitness.evidence": "response",
        "wirewitness.exchange.count": 1,
        "wirewitness.payload.digest": sink.requests[0].digest.hex(),
        "wirewitness.payload.size": len(sink.requests[0].body),
    }
    assert dict(seen.span("POST").attributes) == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": sink.port,
        "url.full": f"{sink.url}/v1/events",
        "peer.service": "127.0.0.1",
        "service.peer.name": "127.0.0.1",
        "http.request.body.size": 8,
        "http.response.status_code": 204,
    }


def test_retries_are_spans_of_their_own_and_flag_only_themselves(seen, sink):
    witness(post_with_retries, name="mine", **seen.options)("POST", f"{sink.url}/flaky/2/503", {"a": 1})

    exchanges = sorted((span for span in seen.spans if span.name == "POST"), key=lambda span: span.start_time)
    assert [span.status.status_code for span in exchanges] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [span.attributes.get("http.request.resend_count") for span in exchanges] == [None, 1, 2]
    assert [span.attributes.get("error.type") for span in exchanges] == ["503", "503", None]
    assert seen.span("dispatch mine").status.status_code is StatusCode.UNSET


def test_a_rejected_dispatch_is_an_error_with_its_type(seen, sink):
    witness(post, name="mine", **seen.options)("POST", f"{sink.url}/status/503", {"a": 1})

    dispatch = seen.span("dispatch mine")
    assert dispatch.status.status_code is StatusCode.ERROR
    assert dispatch.status.description == "rejected: status_5xx"
    assert dispatch.attributes["error.type"] == "503"
    assert dispatch.attributes["wirewitness.reason"] == "status_5xx"


def test_an_altered_payload_is_an_error_with_the_offset_even_if_it_was_accepted(seen, sink):
    @witness(name="mine", **seen.options)
    def tamper(http_verb, url, params):
        requests.post(url, json={**params, "b": 2}, timeout=5)

    tamper("POST", f"{sink.url}/v1/events", {"a": 1})

    dispatch = seen.span("dispatch mine")
    assert dispatch.status.status_code is StatusCode.ERROR
    assert dispatch.attributes["wirewitness.verdict"] == "altered"
    assert dispatch.attributes["wirewitness.difference.offset"] == 7


def test_an_exception_is_named_on_the_span_without_its_text(seen):
    @witness(name="mine", **seen.options)
    def fail(http_verb, url, params):
        raise ValueError(params["secret"])

    with pytest.raises(ValueError, match="hunter2"):
        fail("POST", "http://127.0.0.1/x", {"secret": "hunter2"})

    dispatch = seen.span("dispatch mine")
    assert dispatch.attributes["error.type"] == "ValueError"
    assert "hunter2" not in dispatch.to_json()


def test_no_span_holds_a_payload_a_query_value_or_a_credential(seen, sink):
    url = f"http://user:s3cret@127.0.0.1:{sink.port}/v1/events?token=s3cret"
    witness(post, name="mine", **seen.options)("POST", url, {"visitor": "s3cret"})
    witness(lambda http_verb, url, params: requests.get(url, params, timeout=5), name="got", **seen.options)(
        "GET", f"{sink.url}/v1/events?key=s3cret", {"visitor": "s3cret"}
    )

    everything = "".join(span.to_json() for span in seen.spans)
    assert "s3cret" not in everything
    assert "token=REDACTED" in everything
    assert "key=REDACTED&visitor=REDACTED" in everything


def test_the_span_is_current_within_the_inner_call_and_not_after(seen):
    @witness(name="mine", **seen.options)
    def look(http_verb, url, params):
        return trace.get_current_span().get_span_context()

    before = trace.get_current_span()
    with capture(timeout=0):
        inside = look("POST", "http://127.0.0.1/x", b"")
        assert trace.get_current_span() is before
    assert seen.span("dispatch mine").context.span_id == inside.span_id


def test_a_dispatch_is_part_of_the_callers_trace(seen, sink):
    tracer = seen.tracer_provider.get_tracer("app")
    with tracer.start_as_current_span("request"):
        witness(post, name="mine", **seen.options)("POST", f"{sink.url}/v1/events", {"a": 1})

    assert seen.span("dispatch mine").parent.span_id == seen.span("request").context.span_id


def test_a_late_exchange_is_a_child_of_its_dispatch_across_the_thread(seen, sink):
    threads = []

    @witness(name="mine", **seen.options)
    def hand_over(http_verb, url, params):
        threads.append(threading.Thread(target=post, args=(http_verb, url, params)))

    with capture() as dispatches:
        hand_over("POST", f"{sink.url}/v1/events", {"a": 1})
        assert seen.spans == []
        threads[0].start()
        assert dispatches.wait_for(1)
        threads[0].join()

    assert seen.span("POST").parent.span_id == seen.span("dispatch mine").context.span_id


def test_a_dispatch_is_linked_to_the_span_in_which_another_thread_sends_it(seen, sink):
    queue = []
    witness(lambda event: queue.insert(0, event), name="mine", payload="event", **seen.options)(
        b"a payload that is long enough to be known anywhere"
    )

    def flush():
        with seen.tracer_provider.get_tracer("worker").start_as_current_span("flush"):
            requests.post(f"{sink.url}/v1/events", data=queue.pop(), timeout=5)

    with capture() as dispatches:
        worker = threading.Thread(target=flush)
        worker.start()
        assert dispatches.wait_for(1)
        worker.join()

    dispatch = seen.span("dispatch mine")
    assert [link.context.span_id for link in dispatch.links] == [seen.span("flush").context.span_id]
    assert seen.span("POST").parent.span_id == dispatch.context.span_id


def test_an_unsampled_trace_costs_no_exchange_spans_and_still_counts(seen, sink):
    seen.tracer_provider.sampler = ALWAYS_OFF
    dispatcher = witness(post, name="mine", **seen.options)
    dispatcher("POST", f"{sink.url}/v1/events", {"a": 1})

    assert seen.spans == []
    assert dispatcher.ledger.book().closes
    assert dispatcher.ledger.book().accepted == 1


@pytest.fixture
def other_instrumentation(seen):
    instrumentors = [RequestsInstrumentor(), URLLib3Instrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=seen.tracer_provider)
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


@pytest.mark.usefixtures("other_instrumentation")
def test_other_http_instrumentation_neither_doubles_the_spans_nor_touches_the_headers(seen, sink):
    token = context.attach(baggage.set_baggage("account", "s3cret"))
    try:
        witness(post, name="mine", **seen.options)("POST", f"{sink.url}/v1/events", {"a": 1})
    finally:
        context.detach(token)

    assert sorted(span.name for span in seen.spans) == ["POST", "dispatch mine"]
    names = {name.lower() for name, _ in sink.requests[0].headers}
    assert not names & {b"traceparent", b"baggage", "traceparent", "baggage"}
    assert propagate.get_global_textmap().fields >= {"traceparent", "baggage"}


@pytest.mark.usefixtures("other_instrumentation")
def test_one_option_leaves_other_http_instrumentation_on(seen, sink):
    witness(post, name="mine", suppress_http_instrumentation=False, **seen.options)(
        "POST", f"{sink.url}/v1/events", {"a": 1}
    )

    assert len([span for span in seen.spans if span.name == "POST"]) > 1


def test_a_caller_who_suppresses_telemetry_gets_no_span_and_is_verified_all_the_same(seen, sink):
    with capture() as dispatches, suppress_instrumentation():
        witness(post, name="mine", **seen.options)("POST", f"{sink.url}/v1/events", {"a": 1})

    assert seen.spans == []
    assert [dispatch.verdict.value for dispatch in dispatches] == ["identical"]


def test_an_unknown_method_is_named_by_the_conventions(seen, sink):
    @witness(name="mine", **seen.options)
    def brew(http_verb, url, params):
        requests.request("BREW", url, json=params, timeout=5)

    brew("BREW", f"{sink.url}/v1/events", {"a": 1})

    assert seen.span("HTTP").attributes["http.request.method"] == "_OTHER"
