"""
How the bytes on the wire compare with the payload's: never better than they are, and never worse.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import threading
import zlib

from decimal import Context, Decimal, localcontext

import pytest

from hypothesis import assume, example, given
from hypothesis import strategies as st

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Payload, freeze, freeze_query
from wirewitness.core.verdict import (
    Verdict,
    compare,
    compare_query,
    decode_content,
    first_difference,
    resembles,
)


EVENT = b'{"visitor": "v1", "n": 1, "tags": ["a", "b"]}'
WHITESPACE = b" \t\r\n"

texts = st.text(max_size=8)
numbers = st.integers() | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
events = st.dictionaries(texts, values, min_size=1, max_size=4)
LINE_ENDS = {b"\r", b"\n"}
plain_bytes = st.integers(0, 255).filter(lambda byte: byte not in WHITESPACE).map(lambda byte: bytes([byte]))


def verdict(payload, body, encoding=""):
    return compare(Payload(payload), body, encoding).verdict


def naive_first_difference(one, other):
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


@given(st.binary(), st.binary())
def test_the_first_difference_is_where_a_loop_finds_it(one, other):
    assert first_difference(one, other) == naive_first_difference(one, other)


@given(st.binary(), st.binary(), st.binary())
def test_the_first_difference_is_behind_what_is_shared(shared, one, other):
    assert first_difference(shared + one, shared + other) == len(shared) + naive_first_difference(one, other)


@given(st.binary())
def test_the_same_bytes_are_identical(body):
    assert compare(Payload(body), body).verdict is Verdict.IDENTICAL


payloads = events.map(lambda event: json.dumps(event).encode("ascii")) | st.binary(min_size=1)


@given(payloads, st.data(), plain_bytes)
def test_one_changed_byte_is_never_called_unchanged_and_is_found(payload, data, byte):
    index = data.draw(st.integers(0, len(payload) - 1))
    assume(payload[index : index + 1] not in WHITESPACE and payload[index : index + 1] != byte)
    check_tampering(payload, payload[:index] + byte + payload[index + 1 :])


@given(payloads, st.data(), plain_bytes)
def test_one_inserted_byte_is_never_called_unchanged_and_is_found(payload, data, byte):
    index = data.draw(st.integers(0, len(payload)))
    # In front of a payload's own line end, or behind it, another line begins: see the next test.
    assume(index > 0 or payload[:1] not in LINE_ENDS)
    assume(index < len(payload) or payload[-1:] not in LINE_ENDS)
    check_tampering(payload, payload[:index] + byte + payload[index:])


def test_a_line_before_or_behind_a_payload_that_brings_its_line_end_leaves_it_embedded():
    assert verdict(b"\n\x00", b"\x00\n\x00") is Verdict.EMBEDDED
    assert verdict(b"\x00\n", b"\x00\n\x00") is Verdict.EMBEDDED


@given(payloads, st.data())
def test_one_deleted_byte_is_never_called_unchanged_and_is_found(payload, data):
    index = data.draw(st.integers(0, len(payload) - 1))
    assume(payload[index : index + 1] not in WHITESPACE)
    check_tampering(payload, payload[:index] + payload[index + 1 :])


def check_tampering(payload, body):
    comparison = compare(Payload(payload), body)
    assert comparison.verdict in {Verdict.ALTERED, Verdict.EQUIVALENT}
    if comparison.verdict is Verdict.EQUIVALENT:  # 1.0 and 1.00, say
        assert exactly(payload or b"null") == exactly(body)
    else:
        assert comparison.offset == naive_first_difference(payload, body)
        assert comparison.reason is Reason.BYTES_DIFFER


def exactly(text):
    """An independent reading: a value's canonical form, numbers exact and members as sorted pairs."""

    def canonical(value):
        if isinstance(value, tuple):
            return value
        if isinstance(value, list):
            return ["list", *map(canonical, value)]
        return [type(value).__name__, value]

    return canonical(
        json.loads(
            text.decode("utf-8"),
            parse_float=lambda digits: ("number", Decimal(digits)),
            parse_int=lambda digits: ("number", Decimal(digits)),
            parse_constant=lambda name: ("constant", name),
            object_pairs_hook=lambda pairs: (
                "members",
                [(name, canonical(value)) for name, value in sorted(pairs, key=lambda pair: pair[0])],
            ),
        )
    )


@pytest.mark.parametrize("tail", [b",", b"]", b"}", b"{", b":", b"x", b" ", b"\x00"])
def test_a_byte_behind_a_payload_that_is_not_json_is_altered_at_its_end(tail):
    comparison = compare(Payload(b"a=1&b=2"), b"a=1&b=2" + tail)
    assert (comparison.verdict, comparison.offset) == (Verdict.ALTERED, 7)


@given(values)
@example({"x": float("nan"), "y": float("inf"), "z": -float("inf")})
@example({"a": "\ud800"})
def test_a_value_serialised_another_way_is_equivalent(value):
    meant = json.dumps(value).encode("ascii")
    for sent in (
        json.dumps(value, indent=1),
        json.dumps(value, separators=(",", ":")),
        json.dumps(value, sort_keys=True),
    ):
        assert verdict(meant, sent.encode("ascii")) in {Verdict.IDENTICAL, Verdict.EQUIVALENT}


@given(st.recursive(numbers | st.text(st.characters(codec="utf-8")), st.lists, max_leaves=5))
def test_unescaped_text_is_equivalent(value):
    sent = json.dumps(value, ensure_ascii=False).encode("utf-8")
    assert verdict(json.dumps(value).encode("ascii"), sent) in {Verdict.IDENTICAL, Verdict.EQUIVALENT}


literals = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(literals)
def test_a_number_read_and_written_is_equivalent_unless_its_value_changed(literal):
    written = json.dumps([json.loads(literal)])
    same = written not in {"[Infinity]", "[-Infinity]"} and Decimal(written[1:-1]) == Decimal(literal)
    meant = f"[{literal}]".encode("ascii")
    expected = Verdict.IDENTICAL if meant.decode() == written else Verdict.EQUIVALENT if same else Verdict.ALTERED
    assert verdict(meant, written.encode("ascii")) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[1.10]", b"[1.1]"),
        (b"[1E5]", b"[100000.0]"),
        (b"[1]", b"[1.0]"),
        (b'["\\/"]', b'["/"]'),
        (b'["\\u00e9"]', '["\u00e9"]'.encode()),
        (b'["\\ud83d\\ude00"]', '["\U0001f600"]'.encode()),
        (b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}'),
        (b'{"a": {"x": 1, "y": 2}}', b'{"a": {"y": 2, "x": 1}}'),
        (b"[NaN]", b"[ NaN ]"),
        (b"[-Infinity]", b"[-Infinity ]"),
        (b'{"a": 1}', b'\r\n\t {"a": 1}\n'),
        (b'{"a": 1, "a": 2}', b'{"a":1,"a":2}'),
        (b"[1e999999999999999999]", b"[1E999999999999999999]"),
        (b"[1e99999999999999999999999]", b"[ 1e99999999999999999999999]"),
        (b"[" + b"9" * 5000 + b"]", b"[ " + b"9" * 5000 + b"]"),
        (b"", b"null"),
    ],
)
def test_the_same_value_in_other_bytes_is_equivalent(one, other):
    assert verdict(one, other) is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[1]", b"[true]"),
        (b"[0]", b"[false]"),
        (b"[0]", b"[null]"),
        (b'["1"]', b"[1]"),
        (b'["true"]', b"[true]"),
        (b'["NaN"]', b"[NaN]"),
        (b"[NaN]", b"[null]"),
        (b"[NaN]", b"[Infinity]"),
        (b"[Infinity]", b"[-Infinity]"),
        (b"[]", b"{}"),
        (b'[["a", 1]]', b'{"a": 1}'),
        (b'{"a": 1, "a": 2}', b'{"a": 2}'),
        (b'{"a": 1, "a": 2}', b'{"a": 2, "a": 1}'),
        (b"[1, 2]", b"[2, 1]"),
        (b'["a"]', b'["A"]'),
        (b'[""]', b"[null]"),
        (b'{"a": null}', b"{}"),
        (b"[0.1]", b"[0.10000000000000001]"),
        (b"[12345678901234567890]", b"[12345678901234567000]"),
        (b"[1e99999999999999999999999]", b"[2e99999999999999999999999]"),
        ('["\u00e9"]'.encode(), '["e\u0301"]'.encode()),
        (b"null", b""),
        (b"null", b" "),
        (b"", b"[]"),
        (b"", b"0"),
    ],
)
def test_another_value_is_altered(one, other):
    comparison = compare(Payload(one), other)
    assert (comparison.verdict, comparison.offset) == (Verdict.ALTERED, naive_first_difference(one, other))


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_json_in_another_text_encoding_is_altered(coding):
    assert verdict(EVENT, EVENT.decode().encode(coding)) is Verdict.ALTERED


def test_a_lone_surrogate_sent_as_bytes_is_altered_for_no_receiver_can_read_it():
    assert verdict(b'"\\ud800"', '"\ud800"'.encode("utf-8", "surrogatepass")) is Verdict.ALTERED


@pytest.mark.parametrize("depth", [2000, 200_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_too_deeply_to_be_read_is_unobserved_and_raises_nothing(depth, opening):
    closing = b"]" if opening == b"[" else b"}"
    nested = opening * depth + b"1" + closing * depth
    assert verdict(nested, nested) is Verdict.IDENTICAL
    assert verdict(nested, b" " + nested) in {Verdict.UNOBSERVED, Verdict.EQUIVALENT}
    assert verdict(EVENT, nested) in {Verdict.UNOBSERVED, Verdict.ALTERED}


def test_a_call_near_the_recursion_limit_accuses_nobody():
    meant, sent = b'{"a": [1, [2, [3, [4]]]]}', b'{"a":[1,[2,[3,[4]]]]}'
    seen = set()

    def descend():
        with contextlib.suppress(RecursionError):
            descend()
        with contextlib.suppress(RecursionError):  # no room even for the call
            seen.add(verdict(meant, sent))

    thread = threading.Thread(target=descend)
    thread.start()
    thread.join()
    assert Verdict.EQUIVALENT in seen
    assert seen <= {Verdict.EQUIVALENT, Verdict.UNOBSERVED}


def test_numbers_are_compared_whatever_the_decimal_context_traps():
    with localcontext(Context(prec=1, traps=[])):
        assert verdict(b"[1.234567]", b"[1.2345678]") is Verdict.ALTERED
        assert verdict(b"[1.234567]", b"[ 1.234567]") is Verdict.EQUIVALENT
        assert verdict(b"[1e99999999999999999999999]", b"[ 1e99999999999999999999999]") is Verdict.EQUIVALENT


compressors = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "gzip, deflate": lambda body: zlib.compress(gzip.compress(body)),
    " gzip ,, identity": gzip.compress,
}


@given(st.binary(), st.sampled_from(sorted(compressors)))
def test_a_compressed_payload_is_equivalent(body, coding):
    sent = compressors[coding](body)
    assert verdict(body, sent, coding) is (Verdict.IDENTICAL if sent == body else Verdict.EQUIVALENT)


@given(events, st.sampled_from(sorted(compressors)))
def test_a_reserialised_and_compressed_payload_is_equivalent(event, coding):
    sent = compressors[coding](json.dumps(event, indent=1).encode("ascii"))
    assert verdict(json.dumps(event).encode("ascii"), sent, coding) is Verdict.EQUIVALENT


def test_a_change_beneath_compression_is_altered_at_the_payloads_offset():
    comparison = compare(Payload(EVENT), gzip.compress(EVENT.replace(b"v1", b"v2")), "gzip")
    assert (comparison.verdict, comparison.offset) == (Verdict.ALTERED, EVENT.index(b"1"))


def test_a_batch_beneath_compression_is_embedded():
    assert verdict(EVENT, gzip.compress(b"[" + EVENT + b"]"), "gzip") is Verdict.EMBEDDED


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip2"])
def test_a_coding_that_is_not_known_is_unobserved(coding):
    assert verdict(EVENT, b"whatever", coding) is Verdict.UNOBSERVED


@pytest.mark.parametrize(
    "sent",
    [
        gzip.compress(EVENT, mtime=0)[:-1],
        gzip.compress(EVENT, mtime=0)[:20],
        b"no gzip",
        gzip.compress(EVENT, mtime=0)[:-8] + b"\0" * 8,
    ],
)
def test_broken_compression_is_unobserved(sent):
    assert verdict(EVENT, sent, "gzip") is Verdict.UNOBSERVED


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("more", [b"x", b"\0", gzip.compress(b"more", mtime=0)])
def test_bytes_behind_the_compressed_payload_are_unobserved_for_a_receiver_may_read_them(coding, compress, more):
    assert verdict(EVENT, compress(EVENT) + more, coding) is Verdict.UNOBSERVED


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_nothing_is_altered_in_every_coding(coding):
    assert verdict(EVENT, b"", coding) is Verdict.ALTERED


def test_a_decompression_bomb_is_unobserved():
    bomb = gzip.compress(b"\0" * (8 << 20))
    assert verdict(EVENT, bomb, "gzip") is Verdict.UNOBSERVED


def test_a_bomb_within_a_bomb_is_unobserved():
    bomb = gzip.compress(gzip.compress(b"\0" * (64 << 20)))
    assert len(bomb) < 1000
    assert verdict(EVENT, bomb, "gzip, gzip") is Verdict.UNOBSERVED


@pytest.mark.parametrize(("limit", "decoded"), [(9, None), (10, None), (11, b"x" * 10)])
def test_no_more_than_the_limit_is_decoded(limit, decoded):
    assert decode_content(gzip.compress(b"x" * 10), "gzip", limit=limit) in {
        decoded,
        b"x" * 10 if limit == 10 else None,
    }


@given(st.lists(events, min_size=2, max_size=4), st.data())
def test_an_array_of_payloads_embeds_each_of_them(batch, data):
    payload = json.dumps(data.draw(st.sampled_from(batch))).encode("ascii")
    body = b"[" + b",".join(json.dumps(event).encode("ascii") for event in batch) + b"]"
    assert verdict(payload, body) is Verdict.EMBEDDED


@given(st.lists(events, min_size=2, max_size=4), st.data())
def test_lines_of_payloads_embed_each_of_them(batch, data):
    payload = json.dumps(data.draw(st.sampled_from(batch))).encode("ascii")
    body = b"\n".join(json.dumps(event).encode("ascii") for event in batch) + b"\n"
    assert verdict(payload, body) is Verdict.EMBEDDED


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (EVENT, b'{"batch": [' + EVENT + b', {"other": 1}], "sent_at": "now"}'),
        (EVENT, b'{"type": "event"}\r\n' + EVENT + b"\r\n\r\n"),
        (EVENT + b"\n", EVENT + b"\n" + EVENT + b"\n"),
        (b"\n" + EVENT, b'{"a": 1}\n' + EVENT),
        (b"1", b"[-1, 21, 1.5, 1e1, 1]"),
        (b"[NaN]", b"[[NaN], [1]]"),
        (b"a,b", b"x,y\na,b\n"),
        (b"a,b\n", b"x,y\na,b\nc,d\n"),
        (b"a,b", b"a,b\r\nc,d"),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n{"c": 3}'),
    ],
)
def test_a_payload_verbatim_in_a_batch_is_embedded(payload, body):
    assert verdict(payload, body) is Verdict.EMBEDDED


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (EVENT, EVENT + b","),
        (EVENT, EVENT + b"]"),
        (EVENT, b"[" + EVENT),
        (EVENT, b"x=1&e=" + EVENT),
        (EVENT, b"[" + EVENT + b"]x"),
        (EVENT, EVENT + b"\nx"),
        (b"1", b"[12, -1, 1.0]"),
        (b"[1, 2]", b'{"text": " [1, 2] "}'),
        (b'"a"', b'{"a": 1}'),
        (b"1", b'{"text": "is 1 "}'),
        (b"a,b", b"xa,b\n"),
        (b"a,b", b"a,b;\n"),
        (b"a,b", b"[a,b]"),
        (b" ", b"[ ]"),
        (b" \n", b" \n "),
        (b"abc", b"ab"),
    ],
)
def test_a_payload_that_only_seems_to_stand_in_the_body_is_altered(payload, body):
    assert verdict(payload, body) is Verdict.ALTERED


def calls_of_c(function):
    """How many calls into C a function makes: its work, whatever the machine does meanwhile."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "c_call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("unit", [b"a", b"1", b"ab", b"[", b"\n", b"a\n", b"1 ", b'"', b" ", b"{}"])
@pytest.mark.parametrize("times", [2, 3, 8])
def test_a_periodic_payload_sent_several_times_over_costs_no_more_work_than_its_length(unit, times):
    def work(length):
        payload = Payload(unit * (length // len(unit)) + b"x")
        return calls_of_c(lambda: compare(payload, payload.body[:-1] * times + b"yx"))

    compare(Payload(b"warm"), b"up")
    assert work(8_000) <= 2 * work(4_000) + 100


def test_a_payload_in_more_places_than_are_looked_at_is_unobserved():
    assert verdict(b"1", b'{"text": " 1 , 1 , 1 , 1 "}') is Verdict.ALTERED
    assert verdict(b"1", b'{"text": " 1 , 1 , 1 , 1 , 1 "}') is Verdict.UNOBSERVED


@pytest.mark.parametrize("body", [b"\n" + b"a,b;\n" * 20_000, b'{"text": "' + b" 1x" * 20_000 + b'"}'])
def test_a_search_that_costs_too_much_is_given_up_and_unobserved(body, monkeypatch):
    monkeypatch.setattr("wirewitness.core.verdict._ALLOWANCE", 0)
    assert verdict(b"1" if b'"' in body else b"a,b", body) is Verdict.UNOBSERVED


def test_an_empty_payload_is_embedded_in_nothing():
    assert verdict(b"", b"anything") is Verdict.ALTERED


@given(payloads, st.binary())
def test_what_is_called_embedded_stands_verbatim_in_a_larger_body(payload, body):
    for sent in (body, b"[" + payload + b"]", b"[" + payload + b"," + body + b"]", payload + b"\n" + body):
        if verdict(payload, sent) is Verdict.EMBEDDED:
            assert payload in sent
            assert len(sent) > len(payload)


@given(st.binary(), st.binary(), st.sampled_from(["", "gzip", "deflate", "br", "identity", ",", "gzip,gzip"]))
def test_any_bodies_can_be_compared(payload, body, coding):
    comparison = compare(Payload(payload), body, coding)
    altered = comparison.verdict is Verdict.ALTERED
    assert (comparison.offset is not None) is altered
    assert comparison.reason is (Reason.BYTES_DIFFER if altered else Reason.NONE)


@pytest.mark.parametrize("sent", ["a=1&b=x+y", "a=1&b=x%20y", "a=1&&b=x%20y&", "%61=1&b=x%20y"])
def test_a_query_in_another_percent_encoding_is_the_same_query(sent):
    payload = freeze_query(None, {"a": 1, "b": "x y"})
    expected = Verdict.IDENTICAL if sent == "a=1&b=x+y" else Verdict.EQUIVALENT
    assert compare_query(payload, sent).verdict is expected


@pytest.mark.parametrize(
    ("sent", "offset"),
    [
        ("a=1", 3),
        ("a=1&b=2", 6),
        ("b=x+y&a=1", 0),
        ("a=1&b=x+y&c=3", 9),
        ("a=1&b=x%2By", 7),
        ("", 0),
        ("a%3D1&b=x+y", 1),
    ],
)
def test_another_query_is_altered(sent, offset):
    comparison = compare_query(freeze_query(None, {"a": 1, "b": "x y"}), sent)
    assert (comparison.verdict, comparison.offset) == (Verdict.ALTERED, offset)


@pytest.mark.parametrize("sent", ["q=%C3%A9", "q=\u00e9"])
def test_a_query_beyond_ascii_can_be_compared(sent):
    assert compare_query(Payload("q=\u00e9".encode(), in_query=True), sent).verdict in {
        Verdict.IDENTICAL,
        Verdict.EQUIVALENT,
    }


def test_bytes_that_are_no_utf_8_are_told_apart():
    assert compare_query(Payload(b"q=%FF", in_query=True), "q=%FE").verdict is Verdict.ALTERED


@given(st.binary(), st.text())
def test_any_queries_can_be_compared(payload, sent):
    compare_query(Payload(payload, in_query=True), sent)


@given(st.binary(min_size=2), st.data(), st.binary(max_size=3))
def test_a_payload_resembles_itself_with_a_few_bytes_changed(payload, data, put):
    index = data.draw(st.integers(0, len(payload) - 1))
    assert resembles(payload, payload[:index] + put + payload[index + 1 :])


@pytest.mark.parametrize(
    "body",
    [b"grant_type=client_credentials", b'{"token": 1}', b""],
)
def test_another_request_does_not_resemble_a_payload(body):
    assert not resembles(EVENT, body)


def test_nothing_resembles_an_empty_payload():
    assert not resembles(b"", b"")
    assert not resembles(b"", b"anything")


def test_a_resemblance_can_be_asked_to_be_long():
    assert resembles(b"{}", b'{"a": 1}')
    assert not resembles(b"{}", b'{"a": 1}', least=16)
    assert resembles(EVENT, EVENT.replace(b"v1", b"v2"), least=16)


def test_the_values_that_a_caller_gives_are_those_compared():
    assert compare(freeze({"a": 1}), b'{"a": 1}').verdict is Verdict.IDENTICAL
    assert sys.float_info.max == json.loads(freeze(sys.float_info.max).body)
