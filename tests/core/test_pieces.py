"""
Cutting a body finds every payload that stands in it as a value or a line, and nothing else.
"""

from __future__ import annotations

import json
import sys

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from wirewitness.core.payload import Payload
from wirewitness.core.pieces import TooMuch, is_json_lines, pieces_of
from wirewitness.core.verdict import Verdict, compare


EVENT = b'{"visitor": "v1", "n": 1, "tags": ["a", "b"]}'
OTHER = b'{"visitor": "v2", "n": [{"deep": {}}]}'

texts = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def encoded(value):
    return json.dumps(value).encode("ascii")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[%s, %s]" % (EVENT, OTHER), [EVENT, OTHER]),
        (b'{"batch": [%s,%s,%s]}' % (OTHER, EVENT, OTHER), [OTHER, EVENT, OTHER]),
        (b"%s\n%s\n" % (EVENT, OTHER), [EVENT, OTHER]),
        (b"\xef\xbb\xbf%s\n" % EVENT, []),
        (b'{"text": " %s "}' % EVENT.replace(b'"', b'\\"'), []),
        (b'{"a": {"b": %s}}' % EVENT, [EVENT]),
        (b"x=1&event=" + EVENT, []),
        (b"[%s" % EVENT, []),
        (b"%s]" % EVENT, []),
        (EVENT, []),
        (b"  %s\r\n" % EVENT, []),
        (b"not JSON\n%s\n" % EVENT, []),
        (b"", []),
    ],
)
def test_values_and_lines_are_found(body, found):
    assert pieces_of(body, {EVENT, OTHER}) == found


@pytest.mark.parametrize(
    ("body", "wanted", "found"),
    [
        (b"a,b\nc,d\n", {b"a,b"}, [b"a,b"]),
        (b"a,b\nc,d\n", {b"a,b\n"}, [b"a,b\n"]),
        (b"a,b\r\nc,d\r\n", {b"a,b\r\n", b"c,d\r\n"}, [b"a,b\r\n", b"c,d\r\n"]),
        (b"a,b\nc,d", {b"a,b\n", b"c,d"}, [b"a,b\n", b"c,d"]),
        (b"a,b", {b"a,b"}, []),
        (b"xa,b\n", {b"a,b"}, []),
        (EVENT + b"\n" + OTHER + b"\n", {EVENT + b"\n"}, [EVENT + b"\n"]),
        (b"[1, 12, -1, 1.0, true]", {b"1", b"true", b"2"}, [b"1", b"true"]),
        (b'{"a": "a", "b": ["a"]}', {b'"a"'}, [b'"a"', b'"a"']),
        (b"[[], {}, [[]]]", {b"[]"}, [b"[]", b"[]"]),
        (b"[NaN, -Infinity]", {b"NaN", b"-Infinity"}, [b"NaN", b"-Infinity"]),
    ],
)
def test_pieces_of_every_kind_are_found(body, wanted, found):
    assert pieces_of(body, wanted) == found


@given(st.lists(values, min_size=1, max_size=5), st.sampled_from(["array", "object", "lines"]), st.data())
@settings(max_examples=300)
def test_what_is_found_is_what_a_comparison_calls_embedded(batch, kind, data):
    parts = [encoded(value) for value in batch]
    body = {
        "array": b"[%s]" % b", ".join(parts),
        "object": b'{"batch": [%s]}' % b",".join(parts),
        "lines": b"\n".join(parts) + b"\n",
    }[kind]
    wanted = {part for part in parts if data.draw(st.booleans())} | {b"never", b'{"never": 1}'}
    found = pieces_of(body, wanted)
    for payload in wanted:
        verdict = compare(Payload(payload), body).verdict
        # A comparison looks at a few places only, and calls the rest unobserved; an equal value isn't embedded.
        if verdict is not Verdict.UNOBSERVED:
            assert (payload in found) == (verdict is Verdict.EMBEDDED) or verdict is Verdict.EQUIVALENT


@given(st.binary(max_size=60), st.lists(st.binary(min_size=1, max_size=10), min_size=1))
def test_whatever_is_found_stands_in_the_body(body, wanted):
    found = pieces_of(body, set(wanted))
    assert all(piece in wanted and piece in body and len(piece) < len(body) for piece in found)


def test_a_search_that_would_cost_too_much_is_given_up():
    deep = b"[" * 400 + EVENT + b"]" * 400
    with pytest.raises(TooMuch):
        pieces_of(b"[" + b",".join([deep] * 400 + [b"1"] * 200_000) + b"]", {EVENT, b"[" * 90 + b"x" * 600_000})
    assert pieces_of(b"[%s]" % deep, {EVENT}) == [EVENT]


@pytest.mark.parametrize("unit", [b"[],", b'"",', b"1,", b"1\n", b"a\n", b"{}\n", b"[", b'"', b"\\", b'"a":1,'])
def test_the_work_grows_with_the_body_and_not_faster(unit):
    def work(length):
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event == "c_call"

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            pieces_of(b"[" + unit * (length // len(unit)), {b"[]", b"1", b'""', b"{}", b"a", b"x" * 40})
        finally:
            sys.setprofile(before)
        return calls

    assert work(8_000) <= 2 * work(4_000) + 100


def test_lines_of_json_may_be_empty():
    assert is_json_lines(b"1\n\n \r\n[2]\n")
    assert not is_json_lines(b"1\nx\n")


@pytest.mark.parametrize("size", [1 << 10, 1 << 17])
def test_a_text_without_an_end_is_read_once(size):
    # From each quotation mark of it anew, the larger one would take half an hour.
    body = b'{"wanted": "it is long enough"}, "' + b'\\"' * size
    assert pieces_of(body, {b'{"wanted": "it is long enough"}'}) == []
    assert pieces_of(body, {b'"wanted"'}) == []
