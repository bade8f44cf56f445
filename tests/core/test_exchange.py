"""
An exchange tells what happened, and keeps its secrets.
"""

from __future__ import annotations

import hashlib

import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core.exchange import (
    REDACTED,
    Exchange,
    address_of,
    normal_address,
    redact_query,
    redact_target,
    resolve,
)


# No value of theirs can stand in a repr or URL for another reason.
secrets = st.text("\u4e00\u4e01\u4e02\u4e03", min_size=1)
names = st.text("abc[]~ %\u00e9", min_size=1)


@given(secrets)
def test_an_exchanges_repr_never_holds_body_query_or_digest(secret):
    body = secret.encode("utf-8")
    shown = repr(Exchange("POST", query=secret, body=body, received_digest=body))
    assert secret not in shown
    assert repr(body)[2:-1] not in shown


@given(st.lists(st.tuples(names, secrets), min_size=1))
def test_a_url_never_holds_a_querys_values(pairs):
    query = "&".join(f"{name}={secret}" for name, secret in pairs)
    url = Exchange("GET", host="h", query=query).url
    assert all(secret not in url for _, secret in pairs)
    assert url.count(REDACTED) == len(pairs)


@given(st.text())
def test_any_query_can_be_redacted(query):
    assert REDACTED in redact_query(query)


def test_a_query_without_names_is_redacted_whole():
    assert redact_query("t0ken") == REDACTED
    assert redact_query("t0ken&a=1") == f"{REDACTED}&a={REDACTED}"


def test_only_what_stands_before_the_first_equals_sign_is_a_name():
    assert redact_query("a=b=c") == f"a={REDACTED}"


def test_a_name_is_percent_encoded_once():
    assert redact_query("a%5B%5D+b=1") == f"a%5B%5D+b={REDACTED}"


def test_an_empty_query_is_no_query():
    assert Exchange("GET", host="h").url == "http://h/"


@pytest.mark.parametrize(
    ("scheme", "host", "port", "url"),
    [
        ("http", "h", 80, "http://h/e"),
        ("https", "h", 443, "https://h/e"),
        ("https", "h", 80, "https://h:80/e"),
        ("http", "h", 8080, "http://h:8080/e"),
        ("http", "::1", 8080, "http://[::1]:8080/e"),
    ],
)
def test_a_url_names_the_port_only_where_it_is_another_than_the_schemes(scheme, host, port, url):
    assert Exchange("GET", scheme=scheme, host=host, port=port, path="/e").url == url


def test_size_and_digest_are_the_bodys():
    exchange = Exchange("POST", body=b"abc")
    assert (exchange.size, exchange.digest) == (3, hashlib.sha256(b"abc").digest())


def test_a_body_that_could_not_be_seen_has_neither_size_nor_digest():
    exchange = Exchange("POST", body=None)
    assert (exchange.size, exchange.digest) == (None, None)


@pytest.mark.parametrize("status", [None, 101, 199, 200, 204, 299, 300, 302, 399, 400, 503])
def test_success_is_2xx_and_a_redirect_is_3xx(status):
    exchange = Exchange("POST", status=status)
    assert exchange.succeeded is (status in {200, 204, 299})
    assert exchange.redirected is (status in {300, 302, 399})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h", ("http", "h", 80, "/")),
        ("https://h/e?a=1#f", ("https", "h", 443, "/e")),
        ("http://H:8080/E", ("http", "h", 8080, "/E")),
        ("http://user:secret@h/e", ("http", "h", 80, "/e")),
        ("http://[::1]:1/e", ("http", "::1", 1, "/e")),
    ],
)
def test_an_address_is_where_a_url_leads(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url", ["", "/e", "h/e", "http:///e", "ftp://h/e", "http://h:x/e", "http://h:99999/e", "http://["]
)
def test_what_is_no_absolute_http_url_has_no_address(url):
    assert address_of(url) is None


@given(st.text())
def test_any_text_can_be_asked_for_its_address(url):
    address_of(url)


def test_an_exchanges_address_is_that_of_its_url():
    exchange = Exchange("GET", scheme="https", host="h", port=444, path="/e")
    assert exchange.address == address_of(exchange.url)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/there?a=1", ("http", "::1", 8080, "/there")),
        ("https://b/", ("https", "b", 443, "/")),
        ("//b:81/x", ("http", "b", 81, "/x")),
        ("mailto:a@b", None),
        ("http://[", None),
        ("http://b:port/", None),
    ],
)
def test_a_location_is_resolved_against_where_the_request_went(location, where):
    assert resolve(("http", "::1", 8080, "/here"), location) == where


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v1/events", "/v1/events"),
        ("*", "*"),
        ("/a?", "/a?"),
        ("/a?b", "/a?REDACTED"),
        ("/a?b=c&d=e", "/a?b=REDACTED&d=REDACTED"),
        ("/a;b=c/d;e", "/a;b=REDACTED/d;e"),
        ("/a#b", "/a#REDACTED"),
        ("http://a:b@c/d?e=f", "http://REDACTED@c/d?e=REDACTED"),
        ("http://a:b@c@d/", "http://REDACTED@d/"),
        ("a:b@c:443", "REDACTED@c:443"),
        ("c:443", "c:443"),
        ("//a:b@c/d", "//REDACTED@c/d"),
        ("/@a/b", "/@a/b"),
    ],
)
def test_a_target_is_shown_without_what_it_tells_in_confidence(target, shown):
    assert redact_target(target) == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://[0:0:0:0:0:0:0:1]/a", "http://[::1]/a"),
        ("https://b\xfccher.example/a", "https://xn--bcher-kva.example/a"),
        ("http://h/\xe9 x", "http://h/%c3%A9%20x"),
        ("http://h/%7euser/a", "http://h/~user/a"),
        ("http://h", "http://h/"),
        ("http://h/a/b/..", "http://h/a/"),
        ("http://h/a/.", "http://h/a/"),
        ("http://h/../../a", "http://h/a"),
        ("http://h/..", "http://h/"),
        ("http://h/%", "http://h/%"),
    ],
)
def test_spellings_of_one_address_are_equal(one, other):
    assert address_of(one) == address_of(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("http://h/a//b", "http://h/a/b"), ("http://h/a%2Fb", "http://h/a/b"), ("http://h/a/", "http://h/a")],
)
def test_addresses_that_may_be_two_are_not_equal(one, other):
    assert address_of(one) != address_of(other)


@pytest.mark.parametrize("host", ["fe80::1%eth0", "not:an:address", "\xfc" * 70, "h" * 300])
def test_a_host_that_has_no_normal_form_keeps_its_own(host):
    assert normal_address("http", host.upper(), 80, "*") == ("http", host, 80, "*")
