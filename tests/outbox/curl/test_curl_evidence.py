"""
What CurlSender concludes from what libcurl tells of a transfer.
"""

from __future__ import annotations

import errno

import pytest

from curling import BODY, ending, message

from wirewitness import Outcome, Verdict
from wirewitness.outbox.curl_evidence import (
    Transcript,
    Transferred,
    attempt_of,
    exchange_of,
    failure_of,
)
from wirewitness.typing import Evidence, Reason


HEAD = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def told(**more):
    known = {
        "url": b"http://127.0.0.1/v1/events",
        "code": 0,
        "errno": 0,
        "proxied": False,
        "tunnel": 0,
        "status": 204,
        "uploaded": len(BODY),
        "asked": True,
        "duration": 0.5,
        "redirect": None,
        "retry_after": 0,
        "transcript": None,
    }
    return Transferred(**(known | more))


MESSAGE = message("http://127.0.0.1/v1/events")


def test_other_bytes_on_the_wire_are_altered_whatever_was_counted():
    other = BODY.replace(b"1.1", b"1.2")
    transcript = Transcript(HEAD % len(other), other, b"HTTP/1.1 204 No Content\r\n\r\n")
    attempt = attempt_of(MESSAGE, told(transcript=transcript), 10**9)
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BYTES_DIFFER)
    assert attempt.settlement.offset == BODY.index(b"1.1") + 2
    assert attempt.dispatch.started_ns == 5 * 10**8


def test_a_receiver_that_was_named_and_got_other_bytes_is_believed():
    received = b"HTTP/1.1 204 No Content\r\nwirewitness-received-digest: sha-256=:%s:\r\n\r\n" % (b"A" * 43 + b"=")
    transferred = told(transcript=Transcript(HEAD % len(BODY), BODY, received))
    stranger = attempt_of(MESSAGE, transferred, 10**9)
    assert ending(stranger) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    attempt = attempt_of(MESSAGE, transferred, 10**9, frozenset({("http", "127.0.0.1", 80)}))
    assert ending(attempt)[1:] == (Verdict.ALTERED, Evidence.RECEIVER, Reason.ALTERED_IN_TRANSIT)


def test_more_than_the_framing_promised_is_truncated():
    transcript = Transcript(HEAD % (len(BODY) - 1), BODY, b"")
    assert ending(attempt_of(MESSAGE, told(transcript=transcript), 10**9))[3] is Reason.BODY_TRUNCATED


def test_what_went_to_a_proxy_before_the_request_is_not_the_request():
    connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
    answers = b"HTTP/1.1 200 OK\r\nWirewitness-Received-Digest: none\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    exchange = exchange_of(MESSAGE, told(transcript=Transcript(connect + HEAD % len(BODY), BODY, answers)), 0)
    assert (exchange.body, exchange.complete, exchange.received_digest) == (BODY, True, None)


def test_a_transcript_without_a_whole_head_is_incomplete():
    exchange = exchange_of(MESSAGE, told(transcript=Transcript(b"POST / HT", b"", b""), status=0, code=55), 0)
    assert (exchange.complete, exchange.body, exchange.query) == (False, b"", "")


@pytest.mark.parametrize("uploaded", [0, 1, len(BODY) - 1])
def test_less_than_the_payload_is_never_a_delivery(uploaded):
    attempt = attempt_of(MESSAGE, told(uploaded=uploaded), 10**9)
    assert attempt.settlement.outcome is not Outcome.DELIVERED
    assert attempt.settlement.verdict is Verdict.UNOBSERVED


@pytest.mark.parametrize(
    ("code", "error", "more", "reason"),
    [
        (5, 0, {}, Reason.PROXY),
        (6, 0, {}, Reason.DNS),
        (7, errno.ECONNREFUSED, {}, Reason.REFUSED),
        (7, errno.ETIMEDOUT, {}, Reason.TIMEOUT),
        (7, errno.ENETUNREACH, {}, Reason.ERROR),
        (7, errno.ECONNREFUSED, {"proxied": True}, Reason.PROXY),
        (28, 0, {}, Reason.TIMEOUT),
        (35, 0, {}, Reason.TLS),
        (35, errno.ECONNRESET, {}, Reason.RESET),
        (52, 0, {}, Reason.RESET),
        (56, 0, {"proxied": True, "tunnel": 407}, Reason.PROXY),
        (56, 0, {"proxied": True, "tunnel": 200}, Reason.RESET),
        (60, 0, {}, Reason.TLS),
        (97, 0, {"proxied": True}, Reason.PROXY),
        (2, 0, {}, Reason.ERROR),
    ],
)
def test_an_error_of_libcurl_s_is_a_reason(code, error, more, reason):
    error_type, found = failure_of(told(code=code, errno=error, status=0, **more))
    assert found is reason
    assert error_type.startswith("pycurl.E_")


def test_the_names_of_errors_are_libcurl_s():
    import pycurl

    from wirewitness.outbox.curl_evidence import FAILURES

    known = {name: getattr(pycurl, f"E_{name}", code) for code, (name, _) in FAILURES.items()}
    assert known == {name: code for code, (name, _) in FAILURES.items()}
