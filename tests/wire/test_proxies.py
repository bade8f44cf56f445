"""
Through a proxy, plain or by CONNECT, the exchange names the server asked and carries the payload's own bytes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.request

import pytest
import requests
import urllib3

from seen import BODY, PATIENCE, assert_agreement, assert_delivered, ending, one

from wirewitness import Outcome, Verdict
from wirewitness.typing import Evidence, Reason


LIBRARIES = ["requests", "urllib3", "urllib", "http.client"]


def through(library, proxy, context, authority_file):
    """A dispatcher that goes through a proxy."""

    def by_requests(http_verb, url, params):
        proxies = {"http": proxy.url, "https": proxy.url}
        body = json.dumps(params)
        requests.request(http_verb, url, data=body, timeout=PATIENCE, proxies=proxies, verify=authority_file)

    def by_urllib3(http_verb, url, params):
        with urllib3.ProxyManager(proxy.url, timeout=PATIENCE, retries=False, ssl_context=context) as pool:
            pool.request(http_verb, url, body=json.dumps(params))

    def by_urllib(http_verb, url, params):
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"http": proxy.url, "https": proxy.url}),
            urllib.request.HTTPSHandler(context=context),
        )
        request = urllib.request.Request(url, json.dumps(params).encode(), method=http_verb)
        with contextlib.closing(opener.open(request, timeout=PATIENCE)):
            pass

    def by_http_client(http_verb, url, params):
        scheme, _, rest = url.partition("://")
        server, _, path = rest.partition("/")
        if scheme == "https":
            connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=PATIENCE, context=context)
            connection.set_tunnel(server)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(http_verb, f"/{path}" if scheme == "https" else url, json.dumps(params))
            connection.getresponse()

    return dict(zip(LIBRARIES, (by_requests, by_urllib3, by_urllib, by_http_client), strict=True))[library]


@pytest.fixture(params=LIBRARIES)
def inner(request, proxy, trusting, authority_file):
    return through(request.param, proxy, trusting, authority_file)


def test_a_payload_through_a_plain_proxy_is_identical(sink, proxy, inner):
    dispatch = one(inner, f"{sink.url}/echo-digest")
    assert proxy.asked == [f"POST {sink.url}/echo-digest HTTP/1.1"]
    assert dispatch.exchanges[0].url == f"{sink.url}/echo-digest"
    assert dispatch.evidence is Evidence.RECEIVER
    assert_delivered(sink, dispatch)


def test_a_payload_through_a_tunnel_is_identical(secure_sink, proxy, inner):
    dispatch = one(inner, f"{secure_sink.url}/echo-digest")
    assert [line.rpartition(" ")[0] for line in proxy.asked] == [f"CONNECT 127.0.0.1:{secure_sink.port}"]
    assert dispatch.exchanges[0].url == f"{secure_sink.url}/echo-digest"
    assert_delivered(secure_sink, dispatch)


def test_a_tunnel_without_tls_is_seen_through(sink, proxy):
    def inner(http_verb, url, params):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
        connection.set_tunnel(sink.host, sink.port)
        with contextlib.closing(connection):
            connection.request(http_verb, "/v1/events", json.dumps(params))
            connection.getresponse()

    assert_delivered(sink, one(inner, f"{sink.url}/v1/events"))


def test_the_connect_itself_is_no_exchange(secure_sink, proxy, inner):
    (exchange,) = one(inner, f"{secure_sink.url}/v1/events").exchanges
    assert exchange.method == "POST"


def test_a_tunnel_that_the_proxy_refuses_is_failed(secure_sink, proxy, inner):
    proxy.refuse_with = "407 Proxy Authentication Required"
    dispatch = one(inner, f"{secure_sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)
    (exchange,) = dispatch.exchanges
    assert (exchange.host, exchange.port, exchange.status) == ("127.0.0.1", secure_sink.port, None)
    assert secure_sink.requests == []


def test_a_plain_proxy_s_refusal_is_a_rejection(sink, proxy, inner):
    proxy.refuse_with = "407 Proxy Authentication Required"
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_4XX)
    assert dispatch.exchanges[0].body == BODY
    assert sink.requests == []


def test_a_proxy_that_is_down_is_failed(sink, proxy, inner):
    proxy.close()
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)


def test_an_untrusted_server_behind_a_tunnel_is_failed(secure_sink, proxy):
    def inner(http_verb, url, params):
        requests.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE, proxies={"https": proxy.url})

    dispatch = one(inner, f"{secure_sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)


def test_a_receiver_that_got_other_bytes_than_were_sent_tells_of_it(sink, proxy, inner):
    proxy.change = lambda piece: piece.replace(b"v1", b"v2")
    dispatch = one(inner, f"{sink.url}/echo-digest")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.ALTERED, Evidence.RECEIVER, Reason.ALTERED_IN_TRANSIT)
    (exchange,) = dispatch.exchanges
    assert exchange.body == BODY
    assert exchange.received_digest == sink.requests[0].digest != exchange.digest


def test_a_receiver_that_says_nothing_leaves_an_alteration_in_transit_unseen(sink, proxy, inner):
    proxy.change = lambda piece: piece.replace(b"v1", b"v2")
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    assert sink.requests[0].body != dispatch.payload.body


def test_a_redirect_through_a_proxy_is_an_exchange_each(sink, proxy):
    def inner(http_verb, url, params):
        requests.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE, proxies={"http": proxy.url})

    dispatch = one(inner, f"{sink.url}/redirect/307/v1/events")
    assert [exchange.status for exchange in dispatch.exchanges] == [307, 204]
    assert_agreement(sink, dispatch)
    assert_delivered(sink, dispatch)
