"""
What a message becomes as a request of libcurl's. Nothing here needs libcurl.
"""

from __future__ import annotations

import re

from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from wirewitness._version import __version__
from wirewitness.outbox.message import Fields, Form, Message, origin_of_url


USER_AGENT: Final = f"wirewitness/{__version__}"

_SCHEMES: Final = frozenset({"http", "https"})
# Framing is the sender's. And libcurl would wait for a "100 Continue" that many servers never send.
_OURS: Final = frozenset({"content-length", "transfer-encoding", "expect"})
# RFC 9110 section 5.6.2, a token.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110 section 5.5: these end a field, or can't be in one.
_ENDS: Final = re.compile(r"[\r\n\0]")
# Every printable character of ASCII: what is quoted is quoted by the caller.
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_PRINTABLE_IN_QUERY: Final = _PRINTABLE.replace("#", "")


class Unsendable(ValueError):  # noqa: N818 -- named for what it says of the message
    """
    No request can be made of a message.
    """


def url_of(message: Message) -> bytes:
    """
    The URL to ask for, with what can't stand in a request line percent-encoded.

    Raises:
        Unsendable: If it isn't one of HTTP.
    """
    origin = origin_of_url(message.url)
    if origin is None or origin.scheme not in _SCHEMES:
        msg = "no URL of HTTP"
        raise Unsendable(msg)
    if message.form is Form.QUERY:
        # message.target has the query's bytes as Latin-1.
        return quote(message.target.encode("latin-1", "replace"), safe=_PRINTABLE_IN_QUERY).encode("ascii")
    return quote(message.target, safe=_PRINTABLE, errors="replace").encode("ascii")


def fields_of(headers: Fields) -> list[bytes]:
    """
    Header fields as libcurl takes them: a name alone, behind which a colon stands, takes one of its own out.

    Raises:
        Unsendable: If one can't be in a request.
    """
    names = {name.lower() for name, _ in headers}
    fields = [_field(name, value) for name, value in headers if name.lower() not in _OURS]
    return [*fields, *(field for name, field in _own() if name not in names)]


def _own() -> Iterator[tuple[str, bytes]]:
    yield "", b"Expect:"
    yield "", b"Transfer-Encoding:"
    # For a POST, libcurl has an idea of its own.
    yield "content-type", b"Content-Type:"
    yield "user-agent", f"User-Agent: {USER_AGENT}".encode()


def _field(name: str, value: str) -> bytes:
    if not _NAME.fullmatch(name) or _ENDS.search(value):
        msg = "a header field that can't be sent"
        raise Unsendable(msg)
    try:
        # Without a value, libcurl wants a semicolon in the colon's place.
        return f"{name}: {value}".encode("latin-1") if value.strip() else f"{name};".encode("ascii")
    except UnicodeEncodeError as error:
        msg = "a header field that isn't Latin-1"
        raise Unsendable(msg) from error


def content_encoding_of(headers: Fields) -> str:
    """
    The content codings that the caller applied, lower-case.
    """
    return ", ".join(value.lower() for name, value in headers if name.lower() == "content-encoding")
