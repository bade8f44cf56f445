"""
What CurlSender is given is what arrives.
"""

from __future__ import annotations

import os

import pytest

from curling import BODY, ending, message, one_by_one, query, rejected, sent

from wirewitness import Outcome, Verdict, __version__
from wirewitness.outbox.curl import CurlSender
from wirewitness.outbox.curl_evidence import (
    DELIVERED,
)
from wirewitness.typing import Evidence, Reason


def test_a_message_is_delivered_with_the_fields_asked_for(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    (received,) = sink.requests
    assert (received.method, received.target, received.body) == ("POST", "/v1/events", BODY)
    assert dict(received.headers) == {
        "host": f"127.0.0.1:{sink.port}",
        "user-agent": f"wirewitness/{__version__}",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": str(len(BODY)),
    }
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    assert (attempt.exchanges, attempt.status, attempt.retry_after) == (1, 204, None)
    assert attempt.duration > 0
    assert attempt.ended_ns > 1


def test_a_plain_success_keeps_no_record(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    assert attempt.dispatch is None
    assert attempt.settlement is DELIVERED


def test_a_desk_that_records_gets_every_record_with_the_very_bytes(sink):
    (attempt,) = sent(
        CurlSender(audit=0, receiver_origins=[sink.url]), message(f"{sink.url}/echo-digest"), recording=True
    )
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.method, exchange.url, exchange.status) == ("POST", f"{sink.url}/echo-digest", 204)
    assert exchange.body == BODY
    assert exchange.received_digest == sink.requests[0].digest
    assert attempt.dispatch.settlement is attempt.settlement
    assert attempt.settlement.evidence is Evidence.RECEIVER


def test_a_traced_message_keeps_its_record(sink, sender):
    traced = message(f"{sink.url}/v1/events")
    traced.traced = True
    first, second = sent(sender, traced, message(f"{sink.url}/v1/events"))
    assert first.dispatch.exchanges[0].body == BODY
    assert first.dispatch.duration == first.duration
    assert second.dispatch is None


def test_a_message_that_was_tried_before_is_audited(sink):
    sender = CurlSender(audit=0, receiver_origins=[sink.url])
    first, again = one_by_one(
        sender, message(f"{sink.url}/echo-digest"), message(f"{sink.url}/echo-digest", attempts=1)
    )
    assert [first.settlement.evidence, again.settlement.evidence] == [Evidence.RESPONSE, Evidence.RECEIVER]


def test_one_message_in_so_many_is_audited(sink):
    messages = [message(f"{sink.url}/echo-digest") for _ in range(9)]
    attempts = one_by_one(CurlSender(audit=0.25, receiver_origins=[sink.url]), *messages)
    evidence = [attempt.settlement.evidence for attempt in attempts]
    assert [index for index, seen in enumerate(evidence) if seen is Evidence.RECEIVER] == [0, 4, 8]
    assert set(evidence) == {Evidence.RECEIVER, Evidence.RESPONSE}


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\r\n\r\n\xff\xfe0\r\n\r\n",
        "жук, 虫, \u2028".encode(),
        b"%s&=?#",
        b"@/etc/hosts",
        bytes(range(256)) * 300,
        os.urandom(10_000_000),
    ],
    ids=["framing", "unicode", "query", "file", "77 kB", "10 MB"],
)
def test_a_body_arrives_as_it_is(sink, sender, body):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", body))
    assert sink.requests[0].body == body
    assert sink.requests[0].complete
    assert attempt.settlement == DELIVERED


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "REPORT"])
def test_other_methods_are_kept(sink, sender, method):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", method=method))
    assert (sink.requests[0].method, sink.requests[0].body) == (method, BODY)
    assert attempt.settlement == DELIVERED


def test_an_empty_payload_is_sent_as_such(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", b""), recording=True)
    (received,) = sink.requests
    assert (received.method, received.body, received.header("Content-Length")) == ("POST", b"", "0")
    assert (attempt.settlement.outcome, attempt.status) == (Outcome.DELIVERED, 204)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("params", [{"a": "ä b", "c": [1, 2]}, {}, "x=1&y=2"], ids=["pairs", "none", "ready"])
def test_a_query_is_sent_once_behind_the_url_s_own(sink, sender, method, params):
    asked = query(f"{sink.url}/v1/events?own=1", params, method)
    (attempt,) = sent(sender, asked)
    (received,) = sink.requests
    assert (received.method, received.body) == (method, b"")
    assert received.target == f"/v1/events?{asked.body.decode()}"
    assert received.header("Content-Length") is received.header("Content-Type") is None
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)


@pytest.mark.parametrize("asked", [b"a=%2f%c3%a4&b=%zz&%", b"a=\"<>`{}|\\^[]'~", b"&&=&", b"a=?/../x"])
def test_a_query_s_bytes_are_kept(sink, sender, asked):
    (attempt,) = sent(sender, query(f"{sink.url}/v1/events", asked))
    assert sink.requests[0].target == f"/v1/events?{asked.decode()}"
    assert attempt.settlement == DELIVERED


def test_what_cannot_stand_in_a_request_line_is_quoted_and_said_to_be(sink, sender):
    (attempt,) = sent(sender, query(f"{sink.url}/v1/events", b"a=b c#d\r\nX: y\xff"))
    assert sink.requests[0].target == "/v1/events?a=b%20c%23d%0D%0AX:%20y%FF"
    assert ending(attempt)[:2] == (Outcome.DELIVERED, Verdict.EQUIVALENT)


def test_a_url_keeps_its_query_and_its_dots(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/a/../B%2F%C3%A4?q=%zz&r#fragment"))
    assert sink.requests[0].target == "/a/../B%2F%C3%A4?q=%zz&r"
    assert ending(attempt) == rejected(Reason.STATUS_4XX)


def test_fields_are_the_caller_s_but_for_the_framing(sink, sender):
    headers = (
        ("X-One", "1"),
        ("X-Empty", ""),
        ("x-one", "two"),
        ("X-Latin", "ö"),
        ("User-Agent", "mine/1"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    )
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", headers=headers))
    received = sink.requests[0].headers
    named = {
        "x-one",
        "x-empty",
        "x-latin",
        "user-agent",
        "content-length",
        "transfer-encoding",
        "expect",
        "content-type",
    }
    assert sorted(field for field in received if field[0] in named) == [
        ("content-length", str(len(BODY))),
        ("user-agent", "mine/1"),
        ("x-empty", ""),
        ("x-latin", "ö"),
        ("x-one", "1"),
        ("x-one", "two"),
    ]
    assert attempt.settlement == DELIVERED


def test_a_large_body_is_not_announced_by_an_expect(sink, sender):
    sent(sender, message(f"{sink.url}/v1/events", b"x" * 2_000_000))
    assert sink.requests[0].header("Expect") is None


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("{sink}/v1/events", (("X-One", "1\r\nX-Two: 2"),)),
        ("{sink}/v1/events", (("X-One\r\nX-Two", "2"),)),
        ("{sink}/v1/events", (("X-One", "жук"),)),
        ("{sink}/v1/events", (("X-One", "1\x00"),)),
        ("ftp://127.0.0.1:9/v1/events", ()),
        ("127.0.0.1/v1/events", ()),
        ("http://[::1/v1/events", ()),
    ],
)
def test_what_cannot_be_sent_is_dropped_and_others_are_not(sink, sender, url, headers):
    bad = message(url.format(sink=sink.url), headers=headers)
    before, attempt, after = one_by_one(sender, message(f"{sink.url}/v1/events"), bad, message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSENDABLE)
    assert (attempt.exchanges, attempt.dispatch.exchanges) == (0, ())
    assert before.settlement == after.settlement == DELIVERED
    assert len(sink.requests) == 2


@pytest.mark.parametrize(
    ("status", "reason"), [(503, Reason.STATUS_5XX), (413, Reason.STATUS_4XX), (404, Reason.STATUS_4XX)]
)
def test_a_rejection_has_its_status_and_its_record(sink, sender, status, reason):
    (attempt,) = sent(sender, message(f"{sink.url}/status/{status}"))
    assert ending(attempt) == rejected(reason)
    assert (attempt.status, attempt.settlement.error_type) == (status, str(status))
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.digest, exchange.status) == (sink.requests[0].digest, status)
    assert len(sink.requests) == 1
