"""
What a request may look like: h11 and a real endpoint agree with the policy.
"""

from __future__ import annotations

import contextlib
import enum
import uuid

from decimal import Decimal
from http import HTTPMethod

import h11
import pytest

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wirewitness.core.request import (
    MOST_FIELDS,
    MOST_URL,
    destination_of,
    fields_of,
    method_of,
    request_of,
    verb_of,
)
from wirewitness.errors import UnsupportedPayload


HEAD_ENDS = "\r\n\0 \t\x0b\x0c\x85\x7f"
near_tokens = st.one_of(
    st.text("abcXYZ019!#$%&'*+.^_`|~-", min_size=1, max_size=12),
    st.text(st.sampled_from('POST:/()<>@,;[]?={}\\"' + HEAD_ENDS), max_size=8),
    st.text(max_size=6),
    st.sampled_from(
        ["Content-Length", "transfer-encoding", "Host", "Connection", "Trailer", "Proxy-X", "Content_Length"]
    ),
)
near_values = st.one_of(st.text(max_size=12), st.text(st.sampled_from("ab,;:=\xe4\xff" + HEAD_ENDS), max_size=8))
pieces = st.one_of(
    st.sampled_from(["http:", "https:", "HTTP:", "/", "//", "h", "H.example", "127.0.0.1", "[::1]", ":", "80", "@"]),
    st.sampled_from(["user:pw@", "%40", "?", "#", "a=1", "%zz", "%0d%0a", "\xe4", "..", "X: y", " HTTP/1.1", "\\"]),
    st.sampled_from(["\r\n", " ", "\0", "\t", "\x7f", "\ud800"]),
)
near_urls = st.one_of(
    st.lists(pieces, max_size=12).map("".join),
    st.lists(pieces, max_size=8).map(lambda rest: "http://h/" + "".join(rest)),
    st.text(max_size=12).map(lambda rest: "http://h" + rest),
    st.text(max_size=12).map(lambda host: f"http://{host}/e"),
)


def accepted(function, *given):
    with contextlib.suppress(UnsupportedPayload):
        return function(*given)
    return None


@settings(max_examples=400, deadline=None)
@given(
    near_tokens,
    near_urls,
    st.lists(st.tuples(near_tokens, near_values), max_size=4),
    st.none() | st.binary(max_size=12),
)
@example("POST", "http://h/", [("Host", "other"), ("X", "")], None)
@example("0", "http://h/", [("0", ""), ("HOST", "0")], None)
@example("GET", "http://h/?a", [], b"a b\r\nX: y#\xff")
def test_what_the_policy_accepts_is_a_request_to_h11_too_and_arrives_as_given(method, url, headers, query):
    request = accepted(request_of, method, url, tuple(headers), query)
    if request is None:
        return
    own = [] if any(name.lower() == "host" for name, _ in request.fields) else [("Host", request.destination.host)]
    fields = [(name.encode(), value.encode("latin-1")) for name, value in request.fields]
    client, server = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER)
    asked = h11.Request(method=request.method, target=request.target, headers=[*own, *fields, ("Content-Length", "3")])
    server.receive_data(client.send(asked) + client.send(h11.Data(b"abc")) + client.send(h11.EndOfMessage()))
    received = server.next_event()
    assert (received.method, received.target) == (request.method.encode(), request.target.encode())
    # h11's client writes Host first, wherever it stood; all else keeps its order.
    sent = sorted([(name.lower(), value) for name, value in fields], key=lambda field: field[0] != b"host")
    assert list(received.headers)[len(own) : -1] == sent
    assert (server.next_event().data, type(server.next_event())) == (b"abc", h11.EndOfMessage)


@given(near_urls)
def test_a_url_once_put_together_is_accepted_as_it_is(url):
    request = accepted(request_of, "POST", url, ())
    if request is not None:
        again = request_of("POST", request.url, ())
        assert (again.url, again.target) == (request.url, request.target)
        assert request.url.isascii()
        assert not set(request.url) & set("\r\n\0 \t@#") - set(request.target)


@pytest.mark.parametrize(
    ("given", "verb"),
    [
        ("post", "POST"),
        (b"put", "PUT"),
        (HTTPMethod.PATCH, "PATCH"),
        (enum.Enum("Verb", {"POST": "post"}).POST, "POST"),
        (enum.Enum("Verb", {"POST": "post"}, type=str).POST, "POST"),
        ("stra\xdfe", "stra\xdfe"),
        (None, ""),
        (7, ""),
    ],
)
def test_a_verb_is_read_as_sdks_name_it(given, verb):
    assert verb_of(given) == verb


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "PO ST",
        "POST\r\nX-Injected: 1",
        "GET /admin HTTP/1.1\r\nX:",
        "POST\nX:",
        "POST\0X",
        "POST ",
        "stra\xdfe",
        "CONNECT",
        "TRACE",
        "P" * 65,
    ],
)
def test_a_method_that_is_no_token_or_no_request_with_content_is_unsendable(verb):
    with pytest.raises(UnsupportedPayload) as raised:
        method_of(verb)
    assert raised.value.reason == "unsendable"


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"Authorization": b"Basic a2V5Og==", b"X-Key": "k"}, (("Authorization", "Basic a2V5Og=="), ("X-Key", "k"))),
        ({"X-Trace": None, "X-One": 1}, (("X-One", "1"),)),
        ([("x-one", "1"), ("X-One", "two")], (("x-one", "1"), ("X-One", "two"))),
        ({"X-Num": 1.5, "X-Money": Decimal("1.10")}, (("X-Num", "1.5"), ("X-Money", "1.10"))),
        ({"X-Id": uuid.UUID(int=1)}, (("X-Id", "00000000-0000-0000-0000-000000000001"),)),
        ({"X-Empty": "", "X-Latin": "\xf6"}, (("X-Empty", ""), ("X-Latin", "\xf6"))),
        ({"X-Blank": " \ta b\t "}, (("X-Blank", "a b"),)),
        ({"Host": "other:8080"}, (("Host", "other:8080"),)),
        ({"X-Enum": enum.Enum("E", {"A": "a"}, type=str).A}, (("X-Enum", "a"),)),
    ],
)
def test_header_fields_are_read_as_sdks_give_them(given, fields):
    assert fields_of(given) == (fields, ())


def test_values_that_are_equal_but_not_the_same_are_told_apart():
    assert [fields_of({"X": value})[0][0][1] for value in (1, True, 1.0, "1")] == ["1", "True", "1.0", "1"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b\r\nX-Injected: 1"},
        {"X-A": "b\r\n folded"},
        {"X-A": b"b\nc"},
        {"X-A": "b\0"},
        {"X-A": "b\x0bc"},
        {"X-A": "b\x7f"},
        {"X-A: b\r\nX-Injected": "1"},
        {"X A": "1"},
        {"": "1"},
        {":authority": "h"},
        {"X-A": "\u0436"},
        {"X-A": ["a", "b"]},
        {"X-A": object()},
        {1: "a"},
        {"Transfer-Encoding": "gzip, chunked"},
        {"Host": "a b"},
        {"Host": "user:pw@h"},
        {"Host": ""},
        [("Host", "a"), ("host", "a")],
        {"X-A": "x" * (MOST_FIELDS + 1)},
        "X-A: b",
        [("a", "b", "c")],
        7,
    ],
)
def test_a_header_field_that_cannot_be_sent_is_unsendable(headers):
    with pytest.raises(UnsupportedPayload) as raised:
        fields_of(headers)
    assert raised.value.reason == "unsendable"


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length",
        "Transfer-Encoding",
        "CONNECTION",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Proxy-Connection",
        "HTTP2-Settings",
        "Content_Length",
    ],
)
def test_fields_of_the_hop_are_left_out(name):
    value = "chunked" if name == "Transfer-Encoding" else "3"
    fields, left_out = fields_of({"X-One": "1", name: value})
    assert fields == (("X-One", "1"),)
    assert len(left_out) == 1


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h", "http://h/"),
        ("HTTPS://H.example:443/E?a=1#f", "https://h.example/E?a=1"),
        ("http://h:8080?", "http://h:8080/?"),
        ("http://h:/", "http://h/"),
        ("http://[::1]:1/e", "http://[::1]:1/e"),
        ("http://b\xfccher.example/\xe4?\xe4", "http://xn--bcher-kva.example/%C3%A4?%C3%A4"),
        ("http://h/a/../B%2f?q=%zz&\"<>`{}|\\^[]'~", "http://h/a/../B%2f?q=%zz&\"<>`{}|\\^[]'~"),
        ("http://h//double/@scope/x", "http://h//double/@scope/x"),
        ("http://h_h.example./", "http://h_h.example./"),
    ],
)
def test_a_url_is_sent_as_given(url, sent):
    assert request_of("POST", url, ()).url == sent


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/e",
        "h/e",
        "ftp://h/e",
        "http:///e",
        "http://h\r\nX: y/",
        "http://h/a b",
        " http://h/",
        "http://h/\n",
        "http://h/\x7f",
        "http://h:0/",
        "http://h:99999/",
        "http://h:x/",
        "http://[::1/",
        "http://[1::2::3]/",
        "http://[fe80::1%25eth0]/",
        "http://h%41/",
        "http://a..b/",
        "http://*.h/",
        "http://h\\@evil/",
        "http://a@b@c/",
        "http://\u0301/",
        "http://h/\ud800",
        "http://h/?\ud800",
        "http://\ud800:x@h/",
        "http://us%0d%0aer:pw@h/",
        "http://" + "h" * 64 + "/",
        "http://h/" + "u" * MOST_URL,
    ],
)
def test_a_url_that_cannot_be_asked_for_is_unsendable(url):
    with pytest.raises(UnsupportedPayload) as raised:
        destination_of(url)
    assert raised.value.reason == "unsendable"


@pytest.mark.parametrize(
    ("user_info", "authorization"),
    [
        ("user:pw", "Basic dXNlcjpwdw=="),
        ("user", "Basic dXNlcjo="),
        (":pw", "Basic OnB3"),
        ("us%40er:p%3Aw", "Basic dXNAZXI6cDp3"),
        ("", None),
        (":", None),
    ],
)
def test_user_info_becomes_a_field_and_leaves_the_url(user_info, authorization):
    request = request_of("POST", f"http://{user_info}@h/e", (("authorization", "given"),))
    assert [value for name, value in request.fields if name.lower() == "authorization"] == [authorization or "given"]
    assert request.url == "http://h/e"
    assert destination_of(f"http://{user_info}@h/e").authorization == authorization


def test_a_repr_shows_the_method_and_the_origin_only():
    request = request_of("POST", "http://kim:hunter2@h/hunter2?t=hunter2", (("X-Key", "hunter2"),))
    assert "hunter2" not in repr(request)
    assert "kim" not in repr(request)
    assert "a2lt" not in repr(request)
