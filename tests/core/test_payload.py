"""
What the caller meant becomes bytes, and the caller's object stays as it was.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json

from collections import UserDict
from types import MappingProxyType
from urllib.parse import parse_qsl

import pytest
import requests

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Payload, digest_from_header, freeze, freeze_query, repr_digest
from wirewitness.errors import UnsupportedPayload


EVENT = {"visitor": "v\u00e9", "n": 1.5, "tags": [None, True, "x"]}

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def refusal(function, *args, **kwargs):
    with pytest.raises(UnsupportedPayload) as caught:
        function(*args, **kwargs)
    return caught.value


@given(values.filter(lambda value: value is not None and not isinstance(value, str)))
def test_values_are_what_json_dumps_makes_of_them(value):
    assert freeze(value).body == json.dumps(value).encode("utf-8")


@given(st.binary())
def test_bytes_of_every_kind_are_those_bytes(body):
    for params in (body, bytearray(body), memoryview(body)):
        assert freeze(params).body == body


def test_a_memoryview_wider_than_a_byte_is_all_its_bytes():
    wide = memoryview(b"abcdefgh").cast("I")
    assert freeze(wide).body == b"abcdefgh"


def test_a_strided_memoryview_is_the_bytes_that_it_shows():
    assert freeze(memoryview(b"abcdef")[::2]).body == b"ace"


def test_a_bytearray_is_copied_at_acceptance():
    params = bytearray(b"before")
    payload = freeze(params)
    params[:] = b"after!"
    assert payload.body == b"before"


@given(texts)
def test_text_is_utf_8(text):
    assert freeze(text).body == text.encode("utf-8")


def test_text_with_a_lone_surrogate_is_unserializable():
    assert refusal(freeze, "a\ud800b").reason == Reason.UNSERIALIZABLE


def test_a_mapping_with_a_lone_surrogate_is_escaped_as_json_does_it():
    assert freeze({"a": "\ud800"}).body == b'{"a": "\\ud800"}'


def test_none_is_empty():
    assert freeze(None).body == b""


def test_nan_is_sent_as_json_dumps_sends_it():
    assert freeze({"x": float("nan")}).body == b'{"x": NaN}'


def test_keys_that_become_equal_stand_twice():
    assert freeze({1: "a", "1": "b"}).body == b'{"1": "a", "1": "b"}'


def test_an_in_memory_file_is_read_from_its_position_without_moving_it():
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    assert freeze(stream).body == b"456789"
    assert stream.tell() == 4


def test_an_in_memory_file_behind_its_end_is_empty():
    stream = io.BytesIO(b"012")
    stream.seek(9)
    assert freeze(stream).body == b""


def test_an_in_memory_file_can_still_grow_afterwards():
    stream = io.BytesIO(b"012")
    freeze(stream)
    stream.write(b"0123456789")
    assert stream.getvalue() == b"0123456789"


@pytest.mark.parametrize("params", [io.StringIO("x"), iter([b"x"]), (piece for piece in [b"x"])])
def test_what_can_be_read_once_is_unreadable_and_stays_unread(params):
    assert refusal(freeze, params).reason == Reason.UNREADABLE
    assert next(iter(params)) in {"x", b"x"}


@pytest.mark.parametrize("params", [{1, 2}, object(), UserDict(a=1), MappingProxyType({"a": 1}), {(1, 2): 3}])
def test_what_json_dumps_refuses_is_unserializable(params):
    assert refusal(freeze, params).reason == Reason.UNSERIALIZABLE


def test_what_contains_itself_is_unserializable():
    params = {}
    params["self"] = params
    assert refusal(freeze, params).reason == Reason.UNSERIALIZABLE


def test_what_is_nested_too_deeply_is_unserializable():
    params = []
    for _ in range(200_000):
        params = [params]
    assert refusal(freeze, params).reason == Reason.UNSERIALIZABLE
    while params:  # freeing it at once would nest as deeply
        params = params.pop()


class Quoting:
    def __repr__(self):
        return "s3cret"


def test_a_refusal_does_not_quote_the_payload():
    assert "s3cret" not in str(refusal(freeze, {"a": Quoting()}))
    assert "s3cret" not in str(refusal(freeze_query, None, Quoting()))


@pytest.mark.parametrize("encoded", [b"<b>", "<b>"])
def test_another_encoder_can_make_the_bytes(encoded):
    assert freeze(EVENT, encode=lambda params: encoded).body == b"<b>"


def test_another_encoder_gets_the_very_same_object():
    assert freeze(EVENT, encode=lambda params: str(params is EVENT)).body == b"True"


@given(values)
def test_the_parameters_are_never_changed(value):
    before = copy.deepcopy(value)
    freeze(value)
    assert repr(value) == repr(before)


@given(st.binary())
def test_the_digest_is_the_sha_256_of_the_bytes(body):
    payload = Payload(body)
    assert payload.digest == hashlib.sha256(body).digest()
    assert len(payload) == len(body)


@given(st.binary(min_size=4), st.booleans())
def test_a_payloads_repr_never_holds_its_body(body, in_query):
    shown = repr(Payload(body, in_query))
    assert shown == f"Payload(in_query={in_query})"


def test_a_payload_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Payload(b"").body = b"x"


@given(st.binary())
def test_a_digest_survives_its_header_form(body):
    digest = hashlib.sha256(body).digest()
    assert digest_from_header(repr_digest(digest)) == digest


def test_the_header_form_is_rfc_9530s():
    # RFC 9530 appendix D: the digest of {"hello": "world"} and a newline.
    digest = hashlib.sha256(b'{"hello": "world"}\n').digest()
    assert repr_digest(digest) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_a_digest_is_found_behind_one_of_another_kind():
    digest = hashlib.sha256(b"x").digest()
    assert digest_from_header(f"sha-512=:AAAA:, {repr_digest(digest)}") == digest


@pytest.mark.parametrize(
    "value", ["", "sha-256=", "sha-256=:AAAA", "sha-512=:AAAA:", "sha-256=:\u00e4\u00f6:", "sha-256=:A:"]
)
def test_a_header_of_another_form_holds_no_digest(value):
    assert digest_from_header(value) is None


def test_a_digest_of_another_length_is_none_so_that_it_accuses_nobody():
    assert digest_from_header("sha-256=:YWJj:") is None


URL = "http://host/path"


def as_requests_sends(url, params):
    return requests.Request("GET", url, params=params).prepare().url.partition("?")[2]


@pytest.mark.parametrize(
    "params",
    [
        {"a": "1", "b": "x y&z"},
        {"a": ["1", 2, None], "b": None, "c": []},
        [("a", "1"), ("a", "2")],
        {"a": ("x", "y"), "b": {"k": "v"}},
        {"a": b"raw", "n": 1.5, "t": True},
        {"a": [[1, 2], "x"]},
        {"\u00e9": "\u00fc"},
        {},
        (),
        None,
        "a=1&b=2",
        b"a=1&b=2",
    ],
)
@pytest.mark.parametrize("url", [URL, f"{URL}?own=0"])
def test_a_query_is_what_requests_makes_of_it(url, params):
    payload = freeze_query(url, params)
    assert payload.in_query
    assert payload.body.decode("ascii") == as_requests_sends(url, params)


@given(st.dictionaries(texts, texts | st.integers() | st.lists(texts)))
def test_a_querys_pairs_are_the_parameters(params):
    sent = parse_qsl(freeze_query(URL, params).body.decode("ascii"), keep_blank_values=True)
    meant = [
        (name, str(value))
        for name, values in params.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    assert sent == meant


def test_without_a_url_the_query_is_the_parameters_alone():
    assert freeze_query(None, {"a": 1}).body == b"a=1"


@pytest.mark.parametrize("params", [(pair for pair in [("a", 1)]), iter([("a", 1)])])
def test_pairs_that_can_be_read_once_are_unreadable_and_stay_unread(params):
    assert refusal(freeze_query, URL, params).reason == Reason.UNREADABLE
    assert list(params) == [("a", 1)]


def test_a_value_that_can_be_read_once_is_unreadable_and_stays_unread():
    value = iter([1, 2])
    assert refusal(freeze_query, URL, {"a": value}).reason == Reason.UNREADABLE
    assert list(value) == [1, 2]


@pytest.mark.parametrize(
    ("url", "params"),
    [(URL, 5), (URL, [1, 2]), (URL, {"a": "\ud800"}), (URL, "\ud800"), ("http://[", {}), ("http://h/?a=\ud800", {})],
)
def test_what_makes_no_query_is_unserializable(url, params):
    assert refusal(freeze_query, url, params).reason == Reason.UNSERIALIZABLE
