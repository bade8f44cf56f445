"""
The pieces of a body that can each be a payload: the values of JSON text, of JSON lines, and lines of text.

A batch of many payloads is read once, whoever waits for one of them: each piece is cut out as it stands and looked up by
its bytes. That costs time in proportion to the body, and none for payloads that aren't in it.

Other structures (forms, multipart, compressed content, values in other spellings) belong in :func:`pieces_of`: each is a
further way to cut a body, and the look-up stays the same.
"""

from __future__ import annotations

import json
import re

from collections.abc import Collection
from typing import Final


class TooMuch(Exception):  # noqa: N818 -- it says that the search has an end, and nothing of a fault
    """
    Cutting and looking up all pieces of a body would cost more than a fixed number of bytes for each of its own.
    """


# How often each byte of a body may be looked at: values are nested, and each level is cut out by itself.
_MOST_LOOKS: Final = 32
_ALLOWANCE: Final = 1 << 20

# A text with the colon that makes a name of it; what opens and closes; a text without an end; and all other values. Everything
# between is skipped.
_CONTAINERS: Final = rb"""("(?:[^"\\]++|\\.)*+")(?:[ \t\r\n]*+(:))?|([\[{])|([\]}])|(")"""
_CONTAINER: Final = re.compile(_CONTAINERS, re.DOTALL)
_VALUE: Final = re.compile(_CONTAINERS + rb"|([-+.0-9A-Za-z]++)", re.DOTALL)
_NAME: Final = 2
_OPENS: Final = 3
_CLOSES: Final = 4
_ENDLESS: Final = 5
_LINE: Final = re.compile(rb"[^\r\n]++")
_LINE_ENDS: Final = (b"\r\n", b"\n", b"\r")
_WHITESPACE: Final = b" \t\r\n"
_LONGEST_PLAIN: Final = 32
"""Bytes: numbers, true, false and null that are longer are not looked for where all that is wanted is longer, too."""
_PREFIX: Final = 5
_MOST_PREFIXES: Final = 64


def pieces_of(body: bytes, wanted: Collection[bytes]) -> list[bytes]:
    """
    The pieces of a body that are wanted, in the order in which they end, as often as they stand there.

    A piece is smaller than the body: what is a whole body with white space around isn't embedded in it.

    Args:
        body: What a receiver reads, content-decoded.
        wanted: What is looked for.

    Raises:
        TooMuch: Where looking for all would cost too much.
    """
    # Nearly all bodies carry nothing that is wanted, and a few searches in C tell that at once.
    prefixes = {each[:_PREFIX] for each in wanted}
    if len(prefixes) <= _MOST_PREFIXES and not any(prefix in body for prefix in prefixes):
        return []
    values = _values(body, wanted)
    if values and (is_json(body) or is_json_lines(body)):
        return values
    lines = _lines(body, wanted)
    # A JSON payload on one line among others that aren't JSON is no value of anything: it may be a part of a text.
    texts = {line for line in set(lines) if not is_json(line)}
    return [line for line in lines if line in texts]


def is_json_lines(body: bytes) -> bool:
    """
    Whether each line is JSON text, or empty.
    """
    return all(is_json(line) for line in _LINE.findall(body) if line.strip(_WHITESPACE))


def is_json(text: bytes) -> bool:
    """
    Whether JSON text can be read, NaN and the infinities included.
    """
    try:
        # Whole numbers as floats, to look no further: int() refuses those of more than some 4300 digits.
        json.loads(text.decode("utf-8"), parse_int=float)
    except (ValueError, RecursionError):
        return False
    return True


def _values(body: bytes, wanted: Collection[bytes]) -> list[bytes]:
    found: list[bytes] = []
    opened: list[int] = []
    least, most = min(map(len, wanted)), min(max(map(len, wanted)), len(body.strip(_WHITESPACE)) - 1)
    token = _CONTAINER if least > _LONGEST_PLAIN else _VALUE
    ended = _some_bring_line_ends(wanted)
    left = _MOST_LOOKS * len(body) + _ALLOWANCE
    for each in token.finditer(body):
        kind, start, end = each.lastindex, each.start(), each.end()
        if kind == _OPENS:
            opened.append(start)
            continue
        if kind == _NAME:
            continue
        if kind in {_CLOSES, _ENDLESS}:
            # Neither is JSON. To look on from an endless text's next quotation mark, and from each after it, would cost the square.
            if kind == _ENDLESS or not opened:
                return []
            start = opened.pop()
        if not least - ended <= end - start <= most:
            continue
        left -= end - start
        if left < 0:
            raise TooMuch
        piece = body[start:end]
        if piece in wanted:
            found.append(piece)
        elif ended:
            found += _with_end(body, piece, end, wanted)
    return found


def _lines(body: bytes, wanted: Collection[bytes]) -> list[bytes]:
    if not _some_bring_line_ends(wanted):
        return [line for line in _LINE.findall(body) if line in wanted and len(line) < len(body)]
    found: list[bytes] = []
    for each in _LINE.finditer(body):
        line = each[0]
        found += [line] if line in wanted else _with_end(body, line, each.end(), wanted)
    return [line for line in found if len(line) < len(body)]


def _some_bring_line_ends(wanted: Collection[bytes]) -> int:
    # How long the ends are that payloads bring: as lines of an NDJSON or CSV upload do.
    return 2 * any(each.endswith((b"\n", b"\r")) for each in wanted)


def _with_end(body: bytes, piece: bytes, end: int, wanted: Collection[bytes]) -> list[bytes]:
    return [piece + ends for ends in _LINE_ENDS if body.startswith(ends, end) and piece + ends in wanted][:1]
