"""
What goes out through TLS is seen above it, and a handshake that fails is told apart.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.request

import pytest
import requests
import urllib3

from seen import BODY, PATIENCE, assert_agreement, assert_delivered, ending, one

from wirewitness import Outcome, Verdict, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


LIBRARIES = ["requests", "urllib3", "urllib", "http.client"]


def over_tls(library, context, authority_file):
    """A dispatcher that trusts a context, or for requests an authority's file."""

    def by_requests(http_verb, url, params):
        requests.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE, verify=authority_file or True)

    def by_urllib3(http_verb, url, params):
        with urllib3.PoolManager(timeout=PATIENCE, retries=False, ssl_context=context) as pool:
            pool.request(http_verb, url, body=json.dumps(params))

    def by_urllib(http_verb, url, params):
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        request = urllib.request.Request(url, json.dumps(params).encode(), method=http_verb)
        with contextlib.closing(opener.open(request, timeout=PATIENCE)):
            pass

    def by_http_client(http_verb, url, params):
        host, _, path = url.removeprefix("https://").partition("/")
        connection = http.client.HTTPSConnection(host, timeout=PATIENCE, context=context)
        with contextlib.closing(connection):
            connection.request(http_verb, f"/{path}", json.dumps(params))
            connection.getresponse()

    return dict(zip(LIBRARIES, (by_requests, by_urllib3, by_urllib, by_http_client), strict=True))[library]


@pytest.fixture(params=LIBRARIES)
def inner(request, trusting, authority_file):
    return over_tls(request.param, trusting, authority_file)


@pytest.fixture(params=LIBRARIES)
def distrusting(request):
    return over_tls(request.param, ssl.create_default_context(), None)


def test_a_payload_sent_through_tls_is_identical(secure_sink, inner):
    dispatch = one(inner, f"{secure_sink.url}/echo-digest")
    (exchange,) = dispatch.exchanges
    assert (exchange.scheme, exchange.url) == ("https", f"{secure_sink.url}/echo-digest")
    assert (exchange.body, dispatch.evidence) == (BODY, Evidence.RECEIVER)
    assert_delivered(secure_sink, dispatch)


def test_a_rejection_through_tls_is_seen(secure_sink, inner):
    dispatch = one(inner, f"{secure_sink.url}/status/503")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_5XX)
    assert_agreement(secure_sink, dispatch)


def test_a_certificate_that_is_not_trusted_is_failed(secure_sink, distrusting):
    dispatch = one(distrusting, f"{secure_sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)
    (exchange,) = dispatch.exchanges
    assert (exchange.method, exchange.host, exchange.port) == ("POST", "127.0.0.1", secure_sink.port)
    assert (exchange.body, exchange.status) == (b"", None)
    assert secure_sink.requests == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_certificate_for_another_name_is_failed(authority, trusting, authority_file, library):
    from wirewitness.conformance import Sink

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with Sink(tls=context) as sink:
        dispatch = one(over_tls(library, trusting, authority_file), f"{sink.url}/v1/events")
        assert sink.requests == []
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)


def test_tls_spoken_to_a_server_without_it_is_failed(sink, inner):
    dispatch = one(inner, f"https://127.0.0.1:{sink.port}/v1/events")
    assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.TLS)
    assert sink.requests == []


def test_every_retried_handshake_is_an_exchange(secure_sink):
    def inner(http_verb, url, params):
        with urllib3.PoolManager(retries=urllib3.Retry(2, backoff_factor=0)) as pool:
            pool.request(http_verb, url, body=json.dumps(params))

    dispatch = one(inner, f"{secure_sink.url}/v1/events")
    assert [exchange.failure for exchange in dispatch.exchanges] == [Reason.TLS] * 3
    assert [exchange.resend_count for exchange in dispatch.exchanges] == [0, 1, 2]


def test_a_second_connection_that_is_trusted_delivers(secure_sink, authority_file):
    def inner(http_verb, url, params):
        with contextlib.suppress(requests.exceptions.SSLError):
            requests.post(url, json.dumps(params), timeout=PATIENCE)
        requests.post(url, json.dumps(params), timeout=PATIENCE, verify=authority_file)

    dispatch = one(inner, f"{secure_sink.url}/v1/events")
    assert [exchange.failure for exchange in dispatch.exchanges] == [Reason.TLS, None]
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    assert secure_sink.requests[0].digest == dispatch.exchanges[1].digest


def test_a_kept_alive_tls_connection_gives_each_dispatch_its_own_exchange(secure_sink, authority_file):
    with requests.Session() as session, capture() as dispatches:

        @witness
        def inner(http_verb, url, params):
            session.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE, verify=authority_file)

        for number in range(3):
            inner("POST", f"{secure_sink.url}/v1/events", {"number": number})
    assert {received.connection for received in secure_sink.requests} == {0}
    assert_agreement(secure_sink, *dispatches)


def test_chunks_through_tls_are_identical(secure_sink, authority_file):
    def inner(http_verb, url, params):
        body = iter([json.dumps(params).encode("ascii")])
        requests.request(http_verb, url, data=body, timeout=PATIENCE, verify=authority_file)

    dispatch = one(inner, f"{secure_sink.url}/v1/events")
    assert secure_sink.requests[0].header("Transfer-Encoding") == "chunked"
    assert_delivered(secure_sink, dispatch)


def test_a_reset_within_tls_is_failed(secure_sink, inner):
    dispatch = one(inner, f"{secure_sink.url}/reset/after")
    assert dispatch.outcome is Outcome.FAILED
    assert dispatch.reason is Reason.RESET
    assert_agreement(secure_sink, dispatch)
