"""
CurlSender through TLS and proxies.
"""

from __future__ import annotations

import ssl

from pathlib import Path

import pytest

from curling import BODY, Endpoint, ending, message, one_by_one, query, refused_port, sent

from wirewitness import Outcome, Verdict
from wirewitness.conformance import Sink
from wirewitness.outbox.curl import CurlSender
from wirewitness.outbox.curl_evidence import (
    DELIVERED,
)
from wirewitness.typing import Evidence, Reason


def test_a_payload_sent_through_tls_is_identical(secure_sink, authority_file):
    sender = CurlSender(verify=authority_file, audit=1, receiver_origins=[secure_sink.url])
    first, second = one_by_one(
        sender, message(f"{secure_sink.url}/echo-digest"), message(f"{secure_sink.url}/echo-digest", b"2")
    )
    assert [received.body for received in secure_sink.requests] == [BODY, b"2"]
    assert {received.connection for received in secure_sink.requests} == {0}
    assert ending(first) == ending(second) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RECEIVER, Reason.NONE)


def test_a_folder_of_certificates_is_taken(secure_sink, authority_file):
    # OpenSSL finds no certificate in it by its hash: it was used, and nothing else.
    (attempt,) = sent(CurlSender(verify=Path(authority_file).parent), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement.reason is Reason.TLS


def test_the_environment_names_certificates_as_for_requests(secure_sink, authority_file, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority_file)
    (attempt,) = sent(CurlSender(), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement == DELIVERED


def test_a_certificate_that_is_not_trusted_is_failed(secure_sink, sender):
    (attempt,) = sent(sender, message(f"{secure_sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)
    assert secure_sink.requests == []


def test_any_certificate_is_taken_if_asked_for(secure_sink):
    (attempt,) = sent(CurlSender(verify=False), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement == DELIVERED


def test_a_certificate_for_another_name_is_failed(authority, authority_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with Sink(tls=context) as sink:
        (attempt,) = sent(CurlSender(verify=authority_file), message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)


def test_tls_spoken_to_a_server_without_it_is_failed(sink, sender):
    (attempt,) = sent(sender, message(f"https://127.0.0.1:{sink.port}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.TLS)


def test_a_proxy_of_the_environment_is_used(sink, sender, monkeypatch):
    with Endpoint(b"HTTP/1.1 204 No Content\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        (attempt,) = sent(sender, message(f"{sink.url}/v1/events?a=1"), recording=True)
    assert proxy.heads[0].startswith(f"POST {sink.url}/v1/events?a=1 HTTP/1.1\r\n".encode())
    assert attempt.settlement == DELIVERED
    exchange = attempt.dispatch.exchanges[0]
    assert (exchange.port, exchange.path, exchange.query) == (sink.port, "/v1/events", "a=1")
    assert sink.requests == []


def test_no_proxy_is_used_for_what_the_environment_excepts(sink, sender, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert [attempt.settlement for attempt in sent(sender, message(f"{sink.url}/v1/events"))] == [DELIVERED]


def test_a_proxy_that_is_not_there_is_to_blame(sink, sender, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)


@pytest.mark.parametrize("make", [message, lambda url: query(url, {"a": 1})], ids=["content", "query"])
def test_a_proxy_that_refuses_a_tunnel_is_to_blame(secure_sink, sender, monkeypatch, make):
    with Endpoint(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        (attempt,) = sent(sender, make(f"{secure_sink.url}/v1/events"))
    assert proxy.heads[0].startswith(b"CONNECT ")
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)
    assert attempt.status is None
