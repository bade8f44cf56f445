"""
A message as a row: with a checksum, so that a flipped bit is never sent.
"""

from __future__ import annotations

import functools
import json
import math
import zlib

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from wirewitness.outbox.message import OVERHEAD, Fields, Form, Message


COLUMNS: Final = ("id", "method", "url", "headers", "form", "accepted_ns", "origin", "crc", "body")
"""The columns that both a message and a dead letter have."""

Row = tuple[int, "str | bytes", "str | bytes", str, str, int, "str | None", int, bytes]
"""Their values."""


class Record(NamedTuple):
    """
    A row that was read.

    Attributes:
        id: Its id in its file.
        message: What was made of it, with that id; None if its checksum is wrong.
        origin: Its identity in the file that accepted it first; empty if that's this file.
        size: Bytes that the bounds reckon it with.
    """

    id: int
    message: Message | None
    origin: str
    size: int


class _Head(NamedTuple):
    """
    What most messages have in common.
    """

    method: str | bytes
    url: str | bytes
    headers: str
    form: str
    crc: int


def _text(value: str) -> str | bytes:
    # SQLite's TEXT holds no lone surrogates; a URL that somebody made up can.
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


@functools.lru_cache(maxsize=256)
def _head(method: str, url: str, headers: Fields, form: Form) -> _Head:
    fields = json.dumps(headers)
    parts = (method, url, fields, form.value)
    crc = zlib.crc32(b"\0".join([part.encode("utf-8", "surrogatepass") for part in parts]))
    return _Head(_text(method), _text(url), fields, form.value, crc)


def _crc(head: int, accepted_ns: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(b"%d" % accepted_ns, head))


def row_of(message: Message, origin: str | None = None) -> Row:
    """
    The row of a message.

    Args:
        message: The message.
        origin: Its identity, if another file has accepted it.
    """
    head = _head(message.method, message.url, message.headers, message.form)
    crc = _crc(head.crc, message.accepted_ns, message.body)
    return (message.id, head.method, head.url, head.headers, head.form, message.accepted_ns, origin, crc, message.body)


def finite(due: float) -> float:
    """
    A due time that SQLite can hold: it knows no NaN.
    """
    return due if math.isfinite(due) else 0.0


class _Shared(NamedTuple):
    """
    What most rows have in common.
    """

    method: str
    url: str
    headers: Fields
    form: Form
    crc: int


@functools.lru_cache(maxsize=256)
def _shared(method: str, url: str, headers: str, form: str) -> _Shared:
    parts = [bytes.fromhex(part) for part in (method, url, headers, form)]
    texts = [part.decode("utf-8", "surrogatepass") for part in parts]
    fields = tuple((str(name), str(value)) for name, value in json.loads(texts[2]))
    return _Shared(texts[0], texts[1], fields, Form(texts[3]), zlib.crc32(b"\0".join(parts)))


def message_of(row: Sequence[Any]) -> Message | None:
    """
    The message of a row that was read by itself; None if its checksum is wrong.

    Args:
        row: It, its columns in the order of :data:`COLUMNS`, and others behind them.
    """
    number, accepted_ns, crc, body = row[0], row[5], row[7], row[8]
    try:
        parts = [value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape") for value in row[1:5]]
        shared = _shared(*[part.hex().upper() for part in parts])
        if _crc(shared.crc, accepted_ns, body) != crc:
            return None
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return Message(*shared[:3], body, shared.form, accepted_ns, id=number)


# One line a row, because one value a chunk: see SpoolFile.read.
HEAD_LINE: Final = (
    "m.id||' '||coalesce(m.accepted_ns,0)||' '||coalesce(m.crc,0)||' '||coalesce(a.attempts,0)||' '||coalesce(a.due,0)"
    "||' '||hex(m.origin)||' '||hex(m.method)||' '||hex(m.url)||' '||hex(m.headers)||' '||hex(m.form)||' '"
)
"""The SQL that makes a line of a row ``m`` and its attempts ``a``, but for the body."""

LINE: Final = f"{HEAD_LINE}||hex(m.body)"
"""The same, with the body."""


def record_of(line: str, large: bytes | None = None) -> Record:
    """
    Read a line.

    Args:
        line: What SQLite made of the row.
        large: The body, where it was read beside the line.
    """
    number, accepted, crc, attempts, due, origin, method, url, headers, form, body = line.split(" ")
    content = bytes.fromhex(body) if large is None else large
    own = bytes.fromhex(origin).decode("ascii", "replace")
    try:
        shared = _shared(method, url, headers, form)
        if _crc(shared.crc, int(accepted), content) == int(crc):
            message = Message(*shared[:3], content, shared.form, int(accepted), int(attempts), float(due), int(number))
            return Record(int(number), message, own, message.size)
    except (ValueError, TypeError, RecursionError):
        pass
    return Record(int(number), None, own, len(content) + OVERHEAD)
