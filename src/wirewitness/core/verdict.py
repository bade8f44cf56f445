"""
What happened to a payload's bytes on one exchange.
"""

from __future__ import annotations

import enum
import json
import re
import zlib

from collections.abc import Iterator
from decimal import Context, Decimal, InvalidOperation
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Payload
from wirewitness.core.pieces import is_json, is_json_lines


class Verdict(enum.StrEnum):
    """
    How the bytes on the wire compare with the payload's.
    """

    IDENTICAL = "identical"
    """The wire carried exactly the payload's bytes."""
    EQUIVALENT = "equivalent"
    """The same value after content-decoding and JSON-decoding."""
    EMBEDDED = "embedded"
    """The payload's bytes stand verbatim inside a larger body."""
    ALTERED = "altered"
    """Something else went out."""
    UNOBSERVED = "unobserved"
    """Nothing was seen that could tell. Not a success."""


class Evidence(enum.StrEnum):
    """
    How far the payload was followed.
    """

    CALL = "call"
    """Only the call was seen."""
    SOCKET = "socket"
    """Its bytes were handed to the socket or the TLS layer."""
    RESPONSE = "response"
    """A status line came back."""
    RECEIVER = "receiver"
    """The receiver reported the digest of what it got."""


class Comparison(NamedTuple):
    """
    A verdict on one body.

    Attributes:
        verdict: How the body compares.
        reason: What was done to it, if it's ``ALTERED``.
        offset: Index of the first byte, in the payload, that the decoded body doesn't share; None unless ``ALTERED``.
    """

    verdict: Verdict
    reason: Reason = Reason.NONE
    offset: int | None = None


IDENTICAL = Comparison(Verdict.IDENTICAL)
EQUIVALENT = Comparison(Verdict.EQUIVALENT)
EMBEDDED = Comparison(Verdict.EMBEDDED)
UNOBSERVED = Comparison(Verdict.UNOBSERVED)


def compare(payload: Payload, body: bytes, content_encoding: str = "") -> Comparison:
    """
    Compare a request's content with the payload.

    Args:
        payload: What was meant.
        body: What a receiver reads, framing removed.
        content_encoding: The request's ``Content-Encoding``, lower-case.

    Returns:
        ``UNOBSERVED`` where the content is in an encoding that can't be undone here, or nested too deeply to be read, or where
        the payload stands in too many places to look at each.
    """
    if body == payload.body:
        return IDENTICAL
    decoded = decode_content(body, content_encoding, limit=_most_decoded(payload))
    if decoded is None:
        return UNOBSERVED
    same = decoded == payload.body or _same_json(payload.body, decoded)
    if same:
        return EQUIVALENT
    embedded = None if same is None else _embeds(decoded, payload.body)
    if embedded is None:
        return UNOBSERVED
    if embedded:
        return EMBEDDED
    return Comparison(Verdict.ALTERED, Reason.BYTES_DIFFER, first_difference(payload.body, decoded))


def compare_query(payload: Payload, query: str) -> Comparison:
    """
    Compare a request's query with the query that was meant.

    Another percent-encoding of the same pairs in the same order is ``EQUIVALENT``.
    """
    sent = query.encode("utf-8", "surrogatepass")
    if sent == payload.body:
        return IDENTICAL
    if _pairs(sent) == _pairs(payload.body):
        return EQUIVALENT
    return Comparison(Verdict.ALTERED, Reason.BYTES_DIFFER, first_difference(payload.body, sent))


def _pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    # Not parse_qsl(): given bytes, it can't return what isn't ASCII.
    parts = (part.replace(b"+", b" ").partition(b"=") for part in query.split(b"&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in parts]


def resembles(payload: bytes, body: bytes, *, least: int = 1) -> bool:
    """
    Whether at least half of the payload's bytes, and ``least`` bytes, stand at the start and the end of ``body``.

    It tells a changed payload from another request altogether, such as one for a token.
    """
    start = first_difference(payload, body)
    rest = min(len(payload), len(body)) - start
    end = first_difference(payload[::-1][:rest], body[::-1][:rest])
    return start + end >= max(least, len(payload) / 2)


def first_difference(one: bytes, other: bytes) -> int:
    """
    The index of the first byte in which two byte strings differ: the shorter one's length if it's a prefix.
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# JSON text can grow six-fold by escaping alone, and a batch can hold many payloads. Past this a body may be a bomb.
_GROWTH = 64
_ALLOWANCE = 1 << 20
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def _most_decoded(payload: Payload) -> int:
    return _GROWTH * len(payload) + _ALLOWANCE


def decode_content(body: bytes, content_encoding: str, *, limit: int) -> bytes | None:
    """
    Undo content codings (RFC 9110 section 8.4.1): gzip and deflate, the last one applied first.

    Args:
        body: The encoded bytes.
        content_encoding: Names separated by commas.
        limit: The most bytes to produce.

    Returns:
        The decoded bytes, or None where a coding is unknown, broken, or makes more than ``limit`` bytes. Nothing is
        nothing in every coding: a redirect can lose a body and keep its ``Content-Encoding``.
    """
    if not body:
        return body
    names = [name.strip() for name in content_encoding.split(",")]
    for name in reversed([name for name in names if name not in {"", "identity"}]):
        inflated = _inflate(body, _WINDOW_BITS.get(name), limit)
        if inflated is None:
            return None
        body = inflated
    return body


def _inflate(body: bytes, window_bits: int | None, limit: int) -> bytes | None:
    if window_bits is None:
        return None
    inflate = zlib.decompressobj(window_bits)
    try:
        inflated = inflate.decompress(body, limit)
    except zlib.error:
        return None
    # Bytes behind the end may be a second member (RFC 1952 section 2.2), or garbage.
    return inflated if inflate.eof and not inflate.unused_data else None


def _same_json(payload: bytes, body: bytes) -> bool | None:
    # The body first: most that isn't JSON at all is another request's. Parameters that are None make an empty payload,
    # and json.dumps sends null for them.
    try:
        sent = _literals(body)
        meant = _literals(payload or b"null")
        return bool(sent == meant) or _same_value(sent, meant)
    except ValueError:
        return False
    except RecursionError:
        return None


def _literals(text: bytes) -> Any:
    """
    The value of JSON text, with numbers as they're written: as bytes, which equal nothing else.

    NaN and the infinities are sent though they aren't JSON (RFC 8259 section 6): each is a number that equals itself only.
    """
    # Section 8.1: UTF-8 without a byte order mark. Given bytes, json.loads() would guess.
    decoded, written = text.decode("utf-8"), str.encode
    return json.loads(
        decoded, parse_int=written, parse_float=written, parse_constant=written, object_pairs_hook=_members
    )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any] | tuple[tuple[str, Any], ...]:
    # RFC 8259 section 4: members are unordered; of duplicates the order can matter, and sorting keeps it.
    members = dict(pairs)
    return members if len(members) == len(pairs) else tuple(sorted(pairs, key=itemgetter(0)))


def _same_value(one: Any, other: Any) -> bool:
    if type(one) is not type(other):  # in Python 1 == True
        return False
    if isinstance(one, bytes):
        return one == other or _same_number(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_value(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same_value, one, other))
    return bool(one == other)


# The caller's own decimal context may trap nothing.
_TRAPS = Context(traps=[InvalidOperation])


def _same_number(one: bytes, other: bytes) -> bool:
    try:
        return Decimal(one.decode(), _TRAPS) == Decimal(other.decode(), _TRAPS)
    except InvalidOperation:  # an exponent that no Decimal holds: such a number equals itself only
        return False


_WHITESPACE = b" \t\r\n"
_BESIDE_A_VALUE = re.compile(rb"[\[\]{},: \t\r\n]")
_BESIDE_A_LINE = re.compile(rb"[\r\n]")
# Of a payload such as 1 or [] only the first places in the body are looked at: each costs a reading of the body.
_MOST_PLACES = 4
_PLACEHOLDER = b'[""]'


def _embeds(body: bytes, payload: bytes) -> bool | None:
    """
    Whether the payload stands in the body as a value, or on lines of its own; None where that would cost too much to know.
    """
    content = payload.strip(_WHITESPACE)
    if not content or len(body) <= len(payload):
        return False
    if not is_json(payload):
        line = next(_places(body, payload, _BESIDE_A_LINE), False)
        return None if line is None else bool(line)
    # Where another value can take its place, it's a value there, and not a part of a text, a name or a number.
    other = payload.replace(content, _PLACEHOLDER, 1)
    places = _places(body, payload, _BESIDE_A_VALUE)
    for place in islice(places, _MOST_PLACES):
        if place is None:
            return None
        start, end = place
        replaced = body[:start] + other + body[end:]
        if is_json(replaced) or is_json_lines(replaced):
            return True
    return False if next(places, False) is False else None


def _places(body: bytes, payload: bytes, beside: re.Pattern[bytes]) -> Iterator[tuple[int, int] | None]:
    """
    Where the payload stands between delimiters or at an end of the body.

    One search is linear. A periodic payload can stand in nearly as many places as the body has bytes, so the places that
    don't fit are bounded in bytes, too: past that the last thing yielded is None.
    """
    # A payload may bring its own: a line with its end, say.
    own_before, own_after = beside.match(payload), beside.match(payload[-1:])
    allowed = 4 * len(body) + _ALLOWANCE
    start = body.find(payload)
    while start >= 0 and allowed >= 0:
        end = start + len(payload)
        before = own_before or start == 0 or beside.match(body, start - 1)
        if before and (own_after or end == len(body) or beside.match(body, end)):
            yield start, end
        allowed -= len(payload) + _COST_OF_A_PLACE
        # Where nothing fits before it, the next that can begins behind the next delimiter.
        begins = start if before else _end_of_next(beside, body, start)
        start = body.find(payload, begins + 1) if begins >= 0 else -1
    if start >= 0:
        yield None


_COST_OF_A_PLACE = 64


def _end_of_next(beside: re.Pattern[bytes], body: bytes, start: int) -> int:
    found = beside.search(body, start)
    return -1 if found is None else found.start()
