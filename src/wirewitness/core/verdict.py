"""
What happened to a payload's bytes on one exchange.
"""

from __future__ import annotations

import enum
import json
import zlib

from collections.abc import Iterator
from decimal import Context, Decimal, InvalidOperation
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Payload


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
        ``UNOBSERVED`` where the content is in an encoding that can't be undone here, or nested too deeply to be read.
    """
    if body == payload.body:
        return IDENTICAL
    decoded = decode_content(body, content_encoding, limit=_most_decoded(payload))
    if decoded is None:
        return UNOBSERVED
    same = decoded == payload.body or _same_json(payload.body, decoded)
    if same is None:
        return UNOBSERVED
    if same:
        return EQUIVALENT
    if _embeds(decoded, payload.body):
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
        return bool(_json_value(body) == _json_value(payload or b"null"))
    except ValueError:
        return False
    except RecursionError:
        return None


def _json_value(text: bytes) -> Any:
    return _tagged(_parse(text, object_pairs_hook=_Members))


def _parse(text: bytes, **hooks: Any) -> Any:
    # RFC 8259 section 8.1: UTF-8 without a byte order mark. Given bytes, json.loads() would guess.
    return json.loads(text.decode("utf-8"), parse_int=_number, parse_float=_number, parse_constant=_Constant, **hooks)


# The caller's own decimal context may trap nothing.
_TRAPS = Context(traps=[InvalidOperation])


def _number(literal: str) -> Decimal | _Constant:
    try:
        return Decimal(literal, _TRAPS)
    except InvalidOperation:
        return _Constant(literal)


class _Constant(str):
    """
    A number that no Decimal holds, equal to itself only; NaN and the infinities, which are sent though they aren't JSON
    (RFC 8259 section 6), among them.
    """

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
    return _Scalar(value, type(value).__name__ if value is not None else "")


_DELIMITERS = b"[]{},: \t\r\n"
_WHITESPACE = b" \t\r\n"
# Of a payload such as 1 or [] only the first places in the body are looked at: each costs a reading of the body.
_MOST_PLACES = 4
_PLACEHOLDER = b'[""]'


def _embeds(body: bytes, payload: bytes) -> bool:
    content = payload.strip(_WHITESPACE)
    if not content or len(body) <= len(payload):
        return False
    if not _is_json(payload):
        return _stands_on_lines_of_its_own(body, payload)
    # Where another value can take its place, it's a value there, and not a part of a text, a name or a number.
    other = payload.replace(content, _PLACEHOLDER, 1)
    places = islice(_places(body, payload, _DELIMITERS), _MOST_PLACES)
    return any(_is_json_or_lines_of_it(body[:start] + other + body[end:]) for start, end in places)


def _places(body: bytes, payload: bytes, delimiters: bytes) -> Iterator[tuple[int, int]]:
    # A payload may bring its own: a line with its end, say.
    before, after = payload[:1] in delimiters, payload[-1:] in delimiters
    start = body.find(payload)
    while start >= 0:
        end = start + len(payload)
        if (before or body[max(start - 1, 0) : start] in delimiters) and (after or body[end : end + 1] in delimiters):
            yield start, end
        start = body.find(payload, start + 1)


def _stands_on_lines_of_its_own(body: bytes, payload: bytes) -> bool:
    return any(_places(body, payload, b"\r\n"))


def _is_json(text: bytes) -> bool:
    try:
        _parse(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json_or_lines_of_it(text: bytes) -> bool:
    return _is_json(text) or all(_is_json(line) for line in text.splitlines() if line.strip())
