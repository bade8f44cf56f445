"""
What CurlSender says of an answer, and of one that does not come.
"""

from __future__ import annotations

import pytest

from curling import BODY, Endpoint, ending, message, one_by_one, query, refused_port, rejected, sent

from wirewitness import Outcome, Verdict
from wirewitness.outbox.curl import CurlSender
from wirewitness.outbox.curl_evidence import (
    DELIVERED,
)
from wirewitness.typing import Evidence, Reason


def test_retry_after_is_reported(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/status/429?retry-after=7"))
    assert ending(attempt) == rejected(Reason.STATUS_4XX)
    assert (attempt.status, attempt.retry_after) == (429, "7")
    assert attempt.dispatch.exchanges[0].retry_after == "7"


def test_a_retry_after_date_is_reported_in_seconds(sender):
    date = b"HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec 2099 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
    with Endpoint(date) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert int(attempt.retry_after) > 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(sink, sender, status):
    (attempt,) = sent(sender, message(f"{sink.url}/redirect/{status}/v1/events"))
    assert ending(attempt) == rejected(Reason.STATUS_3XX)
    assert attempt.dispatch.exchanges[0].location == ("http", "127.0.0.1", sink.port, "/v1/events")
    assert [received.target for received in sink.requests] == [f"/redirect/{status}/v1/events"]


def test_nobody_listening_is_refused(sender):
    (attempt,) = sent(sender, message(f"http://127.0.0.1:{refused_port()}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
    assert attempt.settlement.error_type == "pycurl.E_COULDNT_CONNECT"
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.body, exchange.complete, exchange.status) == (b"", False, None)


@pytest.mark.parametrize("body", [BODY, b"x" * 10_000_000], ids=["small", "10 MB"])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_reset_is_failed_with_what_was_handed_over(sink, sender, moment, body):
    (attempt,) = sent(sender, message(f"{sink.url}/reset/{moment}", body))
    settled = attempt.settlement
    assert (settled.outcome, settled.reason) == (Outcome.FAILED, Reason.RESET)
    (exchange,) = attempt.dispatch.exchanges
    assert body.startswith(exchange.body)
    assert exchange.complete is (exchange.body == body)
    assert settled.verdict is (Verdict.IDENTICAL if exchange.complete else Verdict.UNOBSERVED)
    if moment == "after":
        assert (exchange.digest, exchange.complete) == (sink.requests[0].digest, True)
        assert settled.evidence is Evidence.SOCKET
    assert len(sink.requests) == 1


@pytest.mark.parametrize(
    "again",
    [
        message,
        lambda url: message(url, b"x" * 1_000_000),
        lambda url: message(url, b""),
        lambda url: query(url, {"a": 1}),
    ],
    ids=["small", "1 MB", "empty", "query"],
)
def test_a_dead_kept_alive_connection_is_a_failure_and_not_a_second_request(sink, sender, again):
    first, second = one_by_one(sender, message(f"{sink.url}/v1/events"), again(f"{sink.url}/reset/after"))
    assert first.settlement == DELIVERED
    assert (second.settlement.outcome, second.settlement.reason) == (Outcome.FAILED, Reason.RESET)
    assert [received.connection for received in sink.requests] == [0, 0]
    assert second.dispatch.exchanges[0].complete


def test_an_answer_that_does_not_come_is_a_timeout(sink):
    (attempt,) = sent(CurlSender(timeout=0.2), message(f"{sink.url}/slow/60000"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.TIMEOUT)


def test_an_answer_before_the_whole_upload_is_no_identity(sender):
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Endpoint(early, close=False) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events", b"x" * 50_000_000))
    assert ending(attempt) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX)
    assert not attempt.dispatch.exchanges[0].complete


def test_a_success_before_the_whole_upload_is_no_delivery(sender):
    early = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Endpoint(early) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events", b"x" * 50_000_000))
    assert attempt.settlement.outcome is not Outcome.DELIVERED
    assert attempt.settlement.verdict is Verdict.UNOBSERVED
    assert not attempt.dispatch.exchanges[0].complete


def test_an_interim_answer_is_none(sender):
    with Endpoint(b"HTTP/1.1 103 Early Hints\r\n\r\n") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.RESET)
    assert attempt.status is None


def test_an_answer_that_is_no_http_is_failed(sender):
    with Endpoint(b"220 smtp\r\n") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.ERROR)


def test_an_answer_s_content_goes_nowhere(sender, capfd):
    with Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert attempt.settlement == DELIVERED
    assert capfd.readouterr() == ("", "")


def test_a_status_line_counts_though_the_content_breaks_off(sender):
    with Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement, attempt.status) == (DELIVERED, 200)
