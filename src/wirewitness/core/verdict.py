"""
What happened to a payload's bytes on one exchange.
"""

from __future__ import annotations

import enum
import json
import zlib

from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Payload


class Verdict(str, enum.Enum):
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


class Evidence(str, enum.Enum):
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
        ``UNOBSERVED`` where the content is in an encoding that can't be undone here.
    """
    if body == payload.body:
        return IDENTICAL
    decoded = decode_content(body, content_encoding, limit=_most_decoded(payload))
    if decoded is None:
        return UNOBSERVED
    if decoded == payload.body or _same_json(payload.body, decoded):
        return EQUIVALENT
    if _embeds(decoded, payload.body):
        return EMBEDDED
    return Comparison(Verdict.ALTERED, Reason.BYTES_DIFFER, first_difference(payload.body, decoded))


def compare_query(payload: Payload, query: str) -> Comparison:
    """
    Compare a request's query with the query that was meant.

    Another percent-encoding of the same pairs in the same order is ``EQUIVALENT``.
    """
    sent = query.encode("utf-8", "surrogateescape")
    if sent == payload.body:
        return IDENTICAL
    if _pairs(sent) == _pairs(payload.body):
        return EQUIVALENT
    return Comparison(Verdict.ALTERED, Reason.BYTES_DIFFER, first_difference(payload.body, sent))


def _pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    return parse_qsl(query, keep_blank_values=True)


def resembles(payload: bytes, body: bytes) -> bool:
    """
    Whether at least half of the payload's bytes stand at the start and the end of ``body``.

    It tells a changed payload from another request altogether, such as one for a token.
    """
    start = first_difference(payload, body)
    rest = min(len(payload), len(body)) - start
    end = first_difference(payload[::-1][:rest], body[::-1][:rest])
    return 2 * (start + end) >= len(payload)


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
        The decoded bytes, or None where a coding is unknown, broken, or makes more than ``limit`` bytes.
    """
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
    return inflated if inflate.eof else None


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(_json_value(one) == _json_value(other))
    except (ValueError, RecursionError):
        return False


def _json_value(text: bytes) -> Any:
    if not text:
        return _Scalar(None)
    return _tagged(
        json.loads(text, parse_float=Decimal, parse_constant=_Constant, object_pairs_hook=_Members),
    )


class _Constant(str):
    """NaN or an infinity: not JSON (RFC 8259 section 6), yet sent; equal to itself, unlike the float."""

    __slots__ = ()


class _Members(list):  # type: ignore[type-arg]
    """An object's members, duplicates included, in the order in which they stand."""


class _Scalar(NamedTuple):
    """A value with its type's name, for in Python ``1 == True`` and ``"NaN"`` would equal the constant."""

    value: Any
    kind: str = ""


def _tagged(value: Any) -> Any:
    if isinstance(value, _Members):
        # RFC 8259 section 4: members are unordered; of duplicates the order can matter, and sorting keeps it.
        return {"members": [(name, _tagged(member)) for name, member in sorted(value, key=lambda pair: pair[0])]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return _Scalar(value, "number")
    return _Scalar(value, type(value).__name__ if value is not None else "")


_DELIMITERS = b"[]{},: \t\r\n"


def _embeds(body: bytes, payload: bytes) -> bool:
    if not payload or len(body) <= len(payload):
        return False
    return _stands_delimited(body, payload) and (not _is_json(payload) or _is_json_or_lines_of_it(body))


def _stands_delimited(body: bytes, payload: bytes) -> bool:
    start = body.find(payload)
    while start >= 0:
        end = start + len(payload)
        if body[max(start - 1, 0) : start] in _DELIMITERS and body[end : end + 1] in _DELIMITERS:
            return True
        start = body.find(payload, start + 1)
    return False


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json_or_lines_of_it(text: bytes) -> bool:
    return _is_json(text) or all(_is_json(line) for line in text.splitlines() if line.strip())
