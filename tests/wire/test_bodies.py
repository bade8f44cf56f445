"""
Every kind of payload gets the true verdict, held against what the sink received.
"""

from __future__ import annotations

import array
import contextlib
import gzip
import http.client
import io
import itertools
import json
import zlib

import pytest
import requests
import urllib3

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from seen import (
    BODY,
    CLIENTS,
    ONLY_REDIRECTS,
    PATIENCE,
    PAYLOAD,
    assert_agreement,
    assert_delivered,
    by_http_client,
    by_requests,
    by_urllib3,
    ending,
    one,
    settled,
)

from wirewitness import Outcome, Verdict, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason
from wirewitness.wire import recorder


client = pytest.mark.parametrize("inner", CLIENTS.values(), ids=CLIENTS)


def altered(dispatch, reason=Reason.BYTES_DIFFER, outcome=Outcome.DELIVERED):
    assert ending(dispatch) == (outcome, Verdict.ALTERED, Evidence.RESPONSE, reason)
    return dispatch


# What the caller may hand over.


@client
@pytest.mark.parametrize(
    ("params", "body"),
    [
        (PAYLOAD, BODY),
        ([1, {"a": None}], b'[1, {"a": null}]'),
        (b"\x00\xff\r\n\r\n0\r\n\r\n", b"\x00\xff\r\n\r\n0\r\n\r\n"),
        (bytearray(b"changeable"), b"changeable"),
        (memoryview(b"a view of bytes"), b"a view of bytes"),
        ("plain text", b"plain text"),
        ({"not a number": float("nan")}, b'{"not a number": NaN}'),
        ({"endless": float("-inf")}, b'{"endless": -Infinity}'),
        ({"lone": "\ud800"}, b'{"lone": "\\ud800"}'),
        ({1: "a", "1": "b"}, b'{"1": "a", "1": "b"}'),
        ({}, b"{}"),
        (b"x" * 300_000, b"x" * 300_000),
    ],
    ids=lambda value: (repr(bytes(value)) if isinstance(value, memoryview) else repr(value))[:24],
)
def test_a_payload_sent_as_it_was_given_is_identical(sink, inner, params, body):
    dispatch = one(inner, f"{sink.url}/echo-digest", params)
    assert sink.requests[0].body == body
    assert dispatch.evidence is Evidence.RECEIVER
    assert_delivered(sink, dispatch)


@pytest.mark.parametrize("inner", [by_requests, by_urllib3], ids=["requests", "urllib3"])
def test_text_beyond_ascii_is_identical_where_it_goes_out_as_utf_8(sink, inner):
    assert_delivered(sink, one(inner, f"{sink.url}/v1/events", "Zoë \N{SNOWMAN}"))


def test_text_beyond_ascii_is_altered_by_http_client_s_latin_1(sink):
    dispatch = altered(one(by_http_client, f"{sink.url}/v1/events", "Zoë"))
    assert dispatch.offset == 2
    assert sink.requests[0].body == b"Zo\xeb"
    assert_agreement(sink, dispatch)


def test_text_beyond_latin_1_fails_in_http_client(sink):
    dispatch = one(by_http_client, f"{sink.url}/v1/events", "\N{SNOWMAN}")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR)
    assert dispatch.settlement.error_type == "UnicodeEncodeError"


@client
def test_text_with_a_lone_surrogate_is_dropped_as_unserializable(sink, inner):
    dispatch = one(inner, f"{sink.url}/v1/events", "\ud800")
    assert ending(dispatch) == (Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSERIALIZABLE)
    assert sink.requests == []


def test_a_lone_surrogate_that_was_sent_all_the_same_is_delivered_unobserved(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, params.encode("utf-8", "surrogatepass"))

    dispatch = one(inner, f"{sink.url}/v1/events", "\ud800")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    assert dispatch.exchanges[0].body == sink.requests[0].body == b"\xed\xa0\x80"


@client
def test_parameters_that_json_refuses_are_dropped_as_unserializable(sink, inner):
    dispatch = one(inner, f"{sink.url}/v1/events", {"a": {1, 2}})
    assert ending(dispatch) == (Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSERIALIZABLE)
    assert sink.requests == []


def test_a_view_of_wider_items_is_identical_where_its_length_is_counted_in_bytes(sink):
    dispatch = one(by_urllib3, f"{sink.url}/v1/events", memoryview(array.array("I", range(8))))
    assert len(sink.requests[0].body) == 8 * array.array("I").itemsize
    assert_delivered(sink, dispatch)


def test_a_view_of_wider_items_is_truncated_where_its_length_is_counted_in_items(sink):
    dispatch = altered(
        one(by_requests, f"{sink.url}/v1/events", memoryview(array.array("I", range(8)))), Reason.BODY_TRUNCATED
    )
    assert dispatch.offset == 8 == len(sink.requests[0].body)
    assert dispatch.exchanges[0].truncated
    assert_agreement(sink, dispatch)


def test_what_was_truncated_spoils_no_other_dispatch_s_verdict(sink):
    with requests.Session() as session, capture() as dispatches:

        @witness
        def inner(http_verb, url, params):
            session.request(http_verb, url, data=params, timeout=PATIENCE)

        inner("POST", f"{sink.url}/v1/events", memoryview(array.array("I", [0x41414141, 0x42424242])))
        with contextlib.suppress(requests.RequestException):
            inner("POST", f"{sink.url}/v1/events", b"innocent")
    truncated, innocent = dispatches
    assert truncated.reason is Reason.BODY_TRUNCATED
    assert innocent.verdict is Verdict.IDENTICAL
    assert innocent.outcome is not Outcome.DELIVERED or sink.requests[-1].body == b"innocent"


@client
@pytest.mark.parametrize("position", [0, 3])
def test_a_file_in_memory_is_sent_from_where_it_stands(sink, inner, position):
    file = io.BytesIO(b"0123456789")
    file.seek(position)
    dispatch = one(inner, f"{sink.url}/v1/events", file)
    assert sink.requests[0].body == b"0123456789"[position:]
    assert_delivered(sink, dispatch)


def test_a_file_that_is_sent_from_its_begin_though_it_stood_elsewhere_is_altered(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, params.getvalue())

    file = io.BytesIO(b"0123456789")
    file.seek(3)
    assert altered(one(inner, f"{sink.url}/v1/events", file)).offset == 0


@client
def test_a_file_on_disk_is_delivered_unobserved(sink, inner, tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(b"on disk")  # and nowhere else: what no other dispatch has is this one's
    with path.open("rb") as file:
        dispatch = one(inner, f"{sink.url}/v1/events", file)
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    assert sink.requests[0].body == dispatch.exchanges[0].body == b"on disk"


def test_an_iterator_is_delivered_unobserved_and_not_consumed_by_the_witness(sink):
    dispatch = one(by_requests, f"{sink.url}/v1/events", iter([b"ab", b"", b"c"]))
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    assert dispatch.exchanges[0].body == sink.requests[0].body


def test_an_unreadable_payload_that_is_refused_early_is_rejected(sink):
    dispatch = one(by_requests, f"{sink.url}/early/413", iter([b"x" * 65536] * 128))
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.REJECTED,
        Verdict.UNOBSERVED,
        Reason.STATUS_4XX,
    )


def test_an_iterator_given_by_the_caller_is_rejected_where_a_307_sends_it_on_empty(sink):
    dispatch = one(by_requests, f"{sink.url}/redirect/307/v1/events", iter([b"abc"]))
    assert [received.body for received in sink.requests] == [b"abc", b""]
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_3XX)


# What an inner dispatcher may make of it.


def pieces(params, size=7):
    body = json.dumps(params).encode("ascii")
    return (body[start : start + size] for start in range(0, len(body), size))


def chunked_by_requests(http_verb, url, params):
    requests.request(http_verb, url, data=pieces(params), timeout=PATIENCE)


def chunked_by_urllib3(http_verb, url, params):
    with urllib3.PoolManager(timeout=PATIENCE, retries=ONLY_REDIRECTS) as pool:
        pool.request(http_verb, url, body=pieces(params))


def chunked_by_http_client(http_verb, url, params):
    host, _, path = url.removeprefix("http://").partition("/")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=PATIENCE)) as connection:
        connection.request(http_verb, f"/{path}", pieces(params), encode_chunked=True)
        connection.getresponse()


@pytest.mark.parametrize("inner", [chunked_by_requests, chunked_by_urllib3, chunked_by_http_client])
def test_a_chunked_body_is_identical(sink, inner):
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert sink.requests[0].header("Transfer-Encoding") == "chunked"
    assert_delivered(sink, dispatch)


def test_a_body_handed_to_the_socket_in_single_bytes_is_identical(sink):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
            connection.putrequest(http_verb, "/v1/events")
            connection.putheader("Content-Length", str(len(BODY)))
            connection.endheaders()
            for index in range(len(BODY)):
                connection.send(BODY[index : index + 1])
            connection.getresponse()

    assert_delivered(sink, one(inner, f"{sink.url}/v1/events"))


def test_a_file_handed_to_the_socket_s_own_reading_is_unobserved(sink):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
            connection.putrequest(http_verb, "/v1/events")
            connection.putheader("Content-Length", str(len(BODY)))
            connection.endheaders()
            connection.send(io.BytesIO(BODY))
            connection.getresponse()

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    assert (dispatch.exchanges[0].body, sink.requests[0].body) == (None, BODY)


@pytest.mark.parametrize("status", [307, 308])
def test_an_iterator_body_that_a_redirect_sends_on_empty_is_not_resent(sink, status):
    dispatch = altered(
        one(chunked_by_requests, f"{sink.url}/redirect/{status}/v1/events"), Reason.BODY_NOT_RESENT, Outcome.REJECTED
    )
    assert [received.body for received in sink.requests] == [BODY, b""]
    assert_agreement(sink, dispatch)


def test_an_iterator_body_that_a_retry_sends_empty_is_not_resent(sink):
    def inner(http_verb, url, params):
        body = pieces(params)
        for _ in range(2):
            requests.request(http_verb, url, data=body, timeout=PATIENCE)

    dispatch = altered(one(inner, f"{sink.url}/flaky/1/503"), Reason.BODY_NOT_RESENT, Outcome.REJECTED)
    assert [received.body for received in sink.requests] == [BODY, b""]
    assert_agreement(sink, dispatch)


def test_a_body_that_was_never_sent_is_lost(sink):
    dispatch = one(lambda http_verb, url, params: requests.post(url, timeout=PATIENCE), f"{sink.url}/v1/events")
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.FAILED,
        Verdict.ALTERED,
        Reason.BODY_LOST,
    )
    assert_agreement(sink, dispatch)


@pytest.mark.parametrize(
    "dumps",
    [
        lambda params: json.dumps(params, separators=(",", ":")),
        lambda params: json.dumps(params, ensure_ascii=False),
        lambda params: json.dumps(params, sort_keys=True, indent=1),
    ],
    ids=["compact", "utf-8", "sorted"],
)
def test_a_reserialised_payload_is_equivalent(sink, dumps):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, dumps(params).encode())

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert sink.requests[0].body != BODY
    assert_delivered(sink, dispatch, Verdict.EQUIVALENT)


def test_urllib3_s_own_json_is_equivalent(sink):
    def inner(http_verb, url, params):
        with urllib3.PoolManager(timeout=PATIENCE) as pool:
            pool.request(http_verb, url, json=params)

    assert_delivered(sink, one(inner, f"{sink.url}/v1/events"), Verdict.EQUIVALENT)


@pytest.mark.parametrize(
    ("coding", "encode"), [("gzip", gzip.compress), ("X-GZIP", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_payload_is_equivalent(sink, coding, encode):
    def inner(http_verb, url, params):
        body = encode(json.dumps(params).encode("ascii"))
        requests.request(http_verb, url, data=body, headers={"Content-Encoding": coding}, timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/echo-digest")
    assert dispatch.evidence is Evidence.RECEIVER
    assert_delivered(sink, dispatch, Verdict.EQUIVALENT)


def test_a_compressed_and_changed_payload_is_altered_where_the_decoded_bytes_differ(sink):
    def inner(http_verb, url, params):
        body = gzip.compress(json.dumps({**params, "revision": 4}).encode("ascii"))
        requests.request(http_verb, url, data=body, headers={"Content-Encoding": "gzip"}, timeout=PATIENCE)

    assert altered(one(inner, f"{sink.url}/v1/events")).offset == BODY.index(b"3}")


def test_an_unknown_coding_is_unobserved(sink):
    def inner(http_verb, url, params):
        requests.request(http_verb, url, data=b"\x01\x02", headers={"Content-Encoding": "zstd"}, timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    assert_agreement(sink, dispatch)


@pytest.mark.parametrize(
    "batch",
    [b'[{"n": 1}, %b]', b'{"batch":[%b]}', b'{"n": 1}\n%b\n'],
    ids=["list", "member", "lines"],
)
def test_a_payload_within_a_batch_is_embedded(sink, batch):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, batch % json.dumps(params).encode("ascii"))

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert_delivered(sink, dispatch, Verdict.EMBEDDED)


def test_a_mapping_that_the_dispatcher_changes_before_it_sends_is_altered(sink):
    def inner(http_verb, url, params):
        params["sent_at"] = 1
        by_requests(http_verb, url, params)

    dispatch = altered(one(inner, f"{sink.url}/v1/events", {"event": "buy"}))
    assert dispatch.payload.body == b'{"event": "buy"}'
    assert sink.requests[0].body == b'{"event": "buy", "sent_at": 1}'
    assert dispatch.offset == len(b'{"event": "buy"')
    assert_agreement(sink, dispatch)


def test_a_bytearray_that_changes_between_attempts_is_altered(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, bytes(params))
        params[2:3] = b"X"
        by_requests(http_verb, url, bytes(params))

    dispatch = altered(one(inner, f"{sink.url}/flaky/1/503", bytearray(b"abcdef")))
    assert [received.body for received in sink.requests] == [b"abcdef", b"abXdef"]
    assert dispatch.offset == 2
    assert_agreement(sink, dispatch)


def test_a_bytearray_is_recorded_as_it_was_when_it_was_sent(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, params)
        params[:] = b"other"

    assert_delivered(sink, one(inner, f"{sink.url}/v1/events", bytearray(b"abcdef")))


def test_one_altered_attempt_among_true_ones_is_altered(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, {**params, "revision": 4})
        by_requests(http_verb, url, params)

    dispatch = altered(one(inner, f"{sink.url}/flaky/1/503"))
    assert dispatch.offset == BODY.index(b"3}")
    assert_agreement(sink, dispatch)


def test_a_request_larger_than_what_is_recorded_is_unobserved(sink, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_RECORDED", 1000)
    monkeypatch.setattr(recorder, "LEAST_RECORDED", 50)
    dispatch = one(by_requests, f"{sink.url}/v1/events", b"x" * 2000)
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
    (exchange,) = dispatch.exchanges
    assert (exchange.body, exchange.digest, exchange.size) == (None, None, None)
    assert (exchange.method, exchange.path, exchange.complete) == ("POST", "/v1/events", True)
    assert sink.requests[0].body == b"x" * 2000


def test_a_chunked_request_larger_than_what_is_recorded_is_unobserved(sink, monkeypatch):
    monkeypatch.setattr(recorder, "MOST_RECORDED", 1000)
    monkeypatch.setattr(recorder, "LEAST_RECORDED", 50)
    dispatch = one(chunked_by_requests, f"{sink.url}/v1/events", {"large": "x" * 2000})
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)


# One byte, anywhere.

TAMPERED = json.dumps({"id": "v1", "n": [10, 1.5, None, True], "name": "Zoë"}).encode("ascii")
EDITS = {
    "change": lambda at, byte: TAMPERED[:at] + bytes([byte]) + TAMPERED[at + 1 :],
    "insert": lambda at, byte: TAMPERED[:at] + bytes([byte]) + TAMPERED[at:],
    "delete": lambda at, byte: TAMPERED[:at] + TAMPERED[at + 1 :],
}


def same_value(one_text, other_text):
    try:
        return json.loads(one_text) == json.loads(other_text)
    except ValueError:
        return False


def shared(some, other):
    """The length of what two byte strings begin with alike, counted byte by byte."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(some, other, strict=False)))


@pytest.fixture(scope="module")
def tampering():
    """A dispatcher on a kept-alive connection that sends what it's told to."""
    with Sink() as sink, contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as to:

        def inner(http_verb, url, params):
            to.request(http_verb, "/echo-digest", inner.sends)
            to.getresponse().read()

        yield sink, inner


LAST = len(TAMPERED) - 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edit=st.sampled_from(sorted(EDITS)), at=st.integers(0, LAST), byte=st.integers(0, 255), addressed=st.booleans())
@example(edit="change", at=0, byte=0, addressed=True)
@example(edit="change", at=LAST, byte=0, addressed=False)
@example(edit="insert", at=0, byte=0, addressed=False)
@example(edit="insert", at=LAST, byte=0, addressed=True)
@example(edit="delete", at=0, byte=0, addressed=True)
@example(edit="delete", at=LAST, byte=0, addressed=False)
def test_one_byte_changed_inserted_or_deleted_is_altered_at_the_first_difference(tampering, edit, at, byte, addressed):
    sink, inner = tampering
    inner.sends = EDITS[edit](at, byte)
    assume(not same_value(inner.sends, TAMPERED))
    sink.clear()
    url = f"{sink.url}/echo-digest" if addressed else None
    dispatch = one(inner, url, TAMPERED, receiver_origins=[sink.url])
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.ALTERED, Evidence.RECEIVER, Reason.BYTES_DIFFER)
    assert dispatch.offset == shared(TAMPERED, sink.requests[0].body)
    assert_agreement(sink, dispatch)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400))
@example(body=b"")
@example(body=b"\r\n\r\n")
@example(body=b"0\r\n\r\n")
def test_any_bytes_are_identical_when_they_are_sent_as_they_are(tampering, body):
    sink, inner = tampering
    inner.sends = body
    sink.clear()
    assert_delivered(sink, one(inner, f"{sink.url}/echo-digest", body))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), body=st.binary(min_size=1, max_size=200))
def test_any_division_into_chunks_is_identical(sizes, body, tampering):
    sink, inner = tampering
    edges = [0]
    for size in sizes:
        edges.append(min(edges[-1] + size, len(body)))
    edges.append(len(body))
    inner.sends = iter([body[start:end] for start, end in itertools.pairwise(edges) if end > start])
    sink.clear()
    assert_delivered(sink, one(inner, f"{sink.url}/echo-digest", body))


def test_a_batch_of_many_payloads_is_embedded_for_each(sink):
    queue = []

    def inner(http_verb, url, params):
        queue.append(json.dumps(params))
        if len(queue) == 3:
            by_requests(http_verb, url, f"[{', '.join(queue)}]")

    with capture() as dispatches:
        dispatcher = witness(inner)
        for number in range(3):
            dispatcher("POST", f"{sink.url}/v1/events", {"number": number})
    seen = [(dispatch.payload.body, dispatch.outcome, dispatch.verdict) for dispatch in dispatches]
    embedded = (Outcome.DELIVERED, Verdict.EMBEDDED)
    assert sorted(seen) == [(b'{"number": %d}' % number, *embedded) for number in range(3)]
    assert len(sink.requests) == 1


def test_an_encoder_s_bytes_are_the_payload(sink):
    def compact(params):
        return json.dumps(params, separators=(",", ":"))

    def inner(http_verb, url, params):
        by_requests(http_verb, url, compact(params))

    (dispatch,) = settled(inner, f"{sink.url}/v1/events", encode=compact)
    assert_delivered(sink, dispatch)
