"""
Reading an HTTP/1.1 request out of the bytes handed to a socket (RFC 9112).

One law rules this file: content counts as complete only where every receiver reads the same content. The grammar is the
strict one of RFC 9112, which h11 and llhttp enforce. A lenient receiver may make something of a head that breaks it;
what, nobody can know from here. Such a head is not ``clear``, and its content is never ``complete``.
"""

from __future__ import annotations

import re

from dataclasses import dataclass, field
from typing import Final, NamedTuple


END_OF_HEAD: Final = b"\r\n\r\n"
CRLF: Final = b"\r\n"


class Head(NamedTuple):
    """
    A request's start line and the header fields that frame and encode its content.

    Attributes:
        method: As sent.
        target: The request target as sent (RFC 9112 section 3.2).
        content_length: What ``Content-Length`` promises in bytes, or None where it promises nothing that can be relied on.
        chunked: Whether the content is framed in chunks.
        content_encoding: ``Content-Encoding``, lower-case; empty if there's none.
        clear: Whether all receivers agree where the content begins and ends.
    """

    method: str
    target: str
    content_length: int | None
    chunked: bool
    content_encoding: str
    clear: bool = True

    def __repr__(self) -> str:
        return f"<Head {self.method}>"


@dataclass(frozen=True)
class Content:
    """
    A request's content as a receiver would read it.

    Attributes:
        body: The bytes without framing.
        complete: Whether all that the framing promised is there.
        truncated: Whether bytes stand behind what the framing promised.
        clear: Whether every receiver reads the same.
    """

    body: bytes = field(repr=False)
    complete: bool
    truncated: bool
    clear: bool = True


def split_head(sent: bytes) -> tuple[bytes, bytes] | None:
    """
    Split what was sent into the head without its empty line and what follows, or None while the head isn't whole.
    """
    head, separator, rest = sent.partition(END_OF_HEAD)
    return (head, rest) if separator else None


_TOKEN: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
# RFC 9112 section 5: no space before the colon, no folded line, no bare CR or LF, no NUL. Vertical tabs and form feeds are
# white space to some receivers and not to others.
_FIELD: Final = _TOKEN + rb":[^\x00\n\r\x0b\x0c]*+"
_HEAD: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])(?:\r\n" + _FIELD + rb")*+")
_TRAILER: Final = re.compile(rb"(?:" + _FIELD + rb"\r\n)*+\r\n")
_NAMED: Final = re.compile(rb"\r\n(content-length|transfer-encoding|content-encoding|host):([^\r\n]*)")
# RFC 9110 section 6.5.1: what frames a message must not stand behind it.
_FRAMING_IN_TRAILER: Final = re.compile(rb"(?:^|\n)(?:content-length|transfer-encoding|host):", re.IGNORECASE)

# As many as h11 reads. int() would take signs and underscores, too, and refuse some 4300 digits with an error.
_MOST_DIGITS: Final = 20


def parse_head(head: bytes) -> Head:
    """
    Parse a request's head.

    Raises:
        ValueError: Where the start line doesn't have three parts.
    """
    grammatical = _HEAD.fullmatch(head)
    if grammatical is not None:
        start, aim, version = grammatical.groups()
        method, target = start.decode("ascii"), aim.decode("ascii")
    else:
        method, target, _ = head.partition(CRLF)[0].decode("latin-1").split(" ", 2)
        version = b""
    fields: dict[bytes, bytes] = {}
    repeated = False
    # In lower case the search is twice as fast as in any case, and none of these values has a case that matters.
    for name, value in _NAMED.findall(head.lower()):
        if name in fields:
            # RFC 9110 section 5.3: fields of one name are one list, where a list is allowed.
            repeated = repeated or name == b"host"
            fields[name] += b", " + value.strip(b" \t")
        else:
            fields[name] = value.strip(b" \t")
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    promised = int(length) if length is not None and length.isdigit() and len(length) <= _MOST_DIGITS else None
    chunked = coding is not None and coding == b"chunked"
    clear = (
        grammatical is not None
        # RFC 9112 section 6.3: one of both, if any, and only in the one form that everybody reads alike.
        and (coding is None or (chunked and length is None and version == b"1"))
        and (length is None or promised is not None)
        # Section 3.2: a server must answer 400 to any other number.
        and not repeated
        and (b"host" in fields or version == b"0")
    )
    encoding = fields.get(b"content-encoding", b"").decode("latin-1")
    return Head(method, target, promised, chunked, encoding, clear)


def read_content(head: Head, sent: bytes) -> Content:
    """
    Remove the framing from the bytes that were sent behind a head (RFC 9112 section 6).

    What is framed wrongly is never ``complete``: what a receiver makes of it can't be known.
    """
    if not head.clear:
        return Content(sent, complete=False, truncated=False, clear=False)
    if head.chunked:
        return _dechunk(sent)
    if head.content_length is None:
        return Content(b"", complete=True, truncated=bool(sent))
    body = sent[: head.content_length]
    return Content(body, complete=len(body) == head.content_length, truncated=len(sent) > head.content_length)


# h11 takes spaces behind a size and none before an extension; a control character in one is a line end to some.
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,20})(?:[ \t]*|;[\t\x20-\x7e\x80-\xff]*)\r\n")


def _dechunk(sent: bytes) -> Content:
    pieces: list[bytes] = []
    start, wrong = 0, False
    while (line := _CHUNK_SIZE.match(sent, start)) is not None:
        size, start = int(line[1], 16), line.end()
        if size == 0:
            trailer = _TRAILER.match(sent, start)
            if trailer is not None and not _FRAMING_IN_TRAILER.search(trailer[0]):
                return Content(b"".join(pieces), complete=True, truncated=trailer.end() < len(sent))
            break
        pieces.append(sent[start : start + size])
        start += size
        if not sent.startswith(CRLF, start):
            wrong = len(sent) >= start + len(CRLF)
            break
        start += len(CRLF)
    # Without a whole line that is none of a chunked message's, it's one that broke off: all receivers read that alike.
    wrong = wrong or b"\n" in sent[start:]
    return Content(b"".join(pieces), complete=False, truncated=False, clear=not wrong)
