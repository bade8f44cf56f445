"""
Reading an HTTP/1.1 request out of the bytes handed to a socket (RFC 9112).
"""

from __future__ import annotations

import re

from dataclasses import dataclass, field
from typing import NamedTuple


END_OF_HEAD = b"\r\n\r\n"
CRLF = b"\r\n"


class Head(NamedTuple):
    """
    A request's start line and the header fields that frame and encode its content.

    Attributes:
        method: As sent.
        target: The request target as sent (RFC 9112 section 3.2).
        content_length: What ``Content-Length`` promises in bytes, or None; -1 where that's no number.
        chunked: Whether the last transfer coding is ``chunked``.
        content_encoding: ``Content-Encoding``, lower-case; empty if there's none.
    """

    method: str
    target: str
    content_length: int | None
    chunked: bool
    content_encoding: str


@dataclass(frozen=True)
class Content:
    """
    A request's content as a receiver would read it.

    Attributes:
        body: The bytes without framing.
        complete: Whether all that the framing promised is there.
        truncated: Whether bytes stand behind what the framing promised.
    """

    body: bytes = field(repr=False)
    complete: bool
    truncated: bool


def split_head(sent: bytes) -> tuple[bytes, bytes] | None:
    """
    Split what was sent into the head without its empty line and what follows, or None while the head isn't whole.
    """
    head, separator, rest = sent.partition(END_OF_HEAD)
    return (head, rest) if separator else None


def parse_head(head: bytes) -> Head:
    """
    Parse a request's head.

    Raises:
        ValueError: Where the start line doesn't have three parts.
    """
    start, _, _ = head.partition(CRLF)
    method, target, _ = start.decode("latin-1").split(" ", 2)
    fields = _framing_fields(head)
    length = fields.get(b"content-length")
    return Head(
        method,
        target,
        None if length is None else _length(length),
        fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked"),
        fields.get(b"content-encoding", b"").decode("latin-1").lower(),
    )


_FRAMING_FIELD = re.compile(
    rb"\r\n(content-length|transfer-encoding|content-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE
)


def _framing_fields(head: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in _FRAMING_FIELD.findall(head):
        # RFC 9110 section 5.3: fields of one name are one list.
        key, said = name.lower(), fields.get(name.lower())
        fields[key] = value.strip() if said is None else b"%s, %s" % (said, value.strip())
    return fields


def _length(value: bytes) -> int:
    # int() would take signs and underscores, too.
    return int(value) if value.isdigit() else -1


def read_content(head: Head, sent: bytes) -> Content:
    """
    Remove the framing from the bytes that were sent behind a head (RFC 9112 section 6).

    What is framed wrongly is never ``complete``: what a receiver makes of it can't be known.
    """
    if head.chunked:
        return _dechunk(sent)
    if head.content_length is None:
        return Content(b"", complete=True, truncated=bool(sent))
    if head.content_length < 0:
        return Content(sent, complete=False, truncated=False)
    body = sent[: head.content_length]
    return Content(body, complete=len(body) == head.content_length, truncated=len(sent) > head.content_length)


_HEXADECIMAL = b"0123456789abcdefABCDEF"


def _dechunk(sent: bytes) -> Content:
    pieces: list[bytes] = []
    position = 0
    while True:
        size, start = _chunk_size(sent, position)
        if size is None:
            return Content(b"".join(pieces), complete=False, truncated=False)
        if size == 0:
            return _last_chunk(b"".join(pieces), sent, start)
        piece = sent[start : start + size]
        pieces.append(piece)
        position = start + size + len(CRLF)
        if not sent.startswith(CRLF, start + size):
            return Content(b"".join(pieces), complete=False, truncated=False)


def _chunk_size(sent: bytes, position: int) -> tuple[int | None, int]:
    end = sent.find(CRLF, position)
    if end < 0:
        return None, position
    # int() would take signs, underscores and 0x, too.
    digits = sent[position:end].partition(b";")[0].strip(b" \t")
    if not digits or digits.strip(_HEXADECIMAL):
        return None, position
    return int(digits, 16), end + len(CRLF)


def _last_chunk(body: bytes, sent: bytes, start: int) -> Content:
    # Trailer fields may stand between the last chunk and the empty line.
    nothing = sent.startswith(CRLF, start)
    end = start + len(CRLF) if nothing else sent.find(END_OF_HEAD, start) + len(END_OF_HEAD)
    complete = end >= start + len(CRLF)
    return Content(body, complete=complete, truncated=complete and len(sent) > end)
