"""
What a request may look like: one policy for every sender, checked before a payload is accepted.

What passes is a request that HTTP/1.1 can carry as it is given (RFC 9110, RFC 9112), so that no sender needs an opinion of its
own. What doesn't pass can't be sent by anybody: that is no fault of the server it was meant for.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

from wirewitness.core.exchange import DEFAULT_PORTS, ascii_host, cached_if_short
from wirewitness.core.outcome import Reason
from wirewitness.errors import UnsupportedPayload


Fields = tuple[tuple[str, str], ...]
"""Header fields in their order, values as characters of Latin-1."""

MOST_URL: Final = 1 << 16
"""Characters of a URL, a GET's payload included. Servers take from 8 kB on (RFC 9110 section 4.1 asks for 8000 octets)."""

MOST_FIELDS: Final = 1 << 16
"""Bytes of all header fields of a request. Servers take from 8 kB on."""

# RFC 9110 section 5.6.2. The longest registered method has 17 characters.
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
# CONNECT asks for a tunnel and has no URL, TRACE must not have content (RFC 9110 sections 9.3.6 and 9.3.8).
_NO_METHODS: Final = frozenset({"CONNECT", "TRACE"})
_USUAL_VERBS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110 section 5.5: visible characters and obs-text, blanks and tabs between. No control character can be in a field.
_VALUE: Final = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
# RFC 3986 section 3.2.2, the host of a URL without user info.
_HOST_FIELD: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]+)(?::[0-9]*)?")

# They say how this hop is framed and kept (RFC 9110 sections 7.6.1 and 10.1.1, RFC 9112 section 6), not what is sent. The sender
# sets its own; "Expect" would have it wait for an answer that many servers never give.
_OF_THE_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-*",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_URL: Final = re.compile(
    r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://"
    r"(?:(?P<user_info>[^@/?#\\]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]@:/?#\\]+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
_NEVER_IN_A_URL: Final = re.compile(r"[\x00-\x20\x7f]")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_REGISTERED_NAME: Final = re.compile(r"(?=.{1,254}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_LAST_PORT: Final = 0xFFFF
# Every visible character of ASCII stands as the caller wrote it: what is percent-encoded was encoded by the caller.
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_VISIBLE_IN_QUERY: Final = _VISIBLE.replace("#", "")


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Where a URL leads. Its repr shows the origin only.

    Attributes:
        scheme: ``http`` or ``https``.
        host: ASCII, lower-case; an IPv6 address without brackets.
        port: The TCP port.
        path: As it stands in a request line, with what isn't ASCII percent-encoded.
        query: The same, without the question mark; None where the URL has none.
        authorization: The ``Authorization`` field that the URL's user info asks for; None where it has none.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    query: str | None = field(repr=False)
    authorization: str | None = field(repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host, and the port where it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"{self.scheme}://{host}"
            if self.port == DEFAULT_PORTS[self.scheme]
            else f"{self.scheme}://{host}:{self.port}"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request that can be sent. Its repr shows the method and the origin only.

    Attributes:
        method: A token, upper-case.
        destination: Where it goes.
        target: The request target in origin form (RFC 9112 section 3.2.1): ASCII, exactly as it goes out.
        fields: The header fields that the caller asked for, and the ``Authorization`` of the URL's user info.
    """

    method: str
    destination: Destination
    target: str = field(repr=False)
    fields: Fields = field(repr=False)

    @property
    def url(self) -> str:
        """The absolute URL, without user info and fragment."""
        return self.destination.origin + self.target


def request_of(method: str, url: str, headers: Fields, query: bytes | None = None) -> Request:
    """
    The request that any sender makes of a message.

    Args:
        method: The method.
        url: The absolute URL asked for.
        headers: The header fields asked for.
        query: What stands in the place of the URL's own query, for a GET; empty for none, None for the URL's own.

    Raises:
        UnsupportedPayload: With reason ``unsendable``, if no request can be made of it.
    """
    checked, destination = method_of(method), destination_of(url)
    fields, _ = fields_of(headers)
    if destination.authorization is not None:
        # As requests has it: what the URL says goes before what a field says.
        fields = tuple(pair for pair in fields if pair[0].lower() != "authorization")
        fields = (*fields, ("Authorization", destination.authorization))
    asked = destination.query
    if query is not None:
        # A ready-made query may hold what can't stand in a request line; whoever judges sees that it was quoted.
        asked = quote(query, safe=_VISIBLE_IN_QUERY) or None
    target = destination.path if asked is None else f"{destination.path}?{asked}"
    return Request(checked, destination, target, fields)


def verb_of(given: object) -> str:
    """
    A method as an event names it, upper-case: text, bytes, or an enumeration of these; empty where it's nothing of that kind.
    """
    if type(given) is str and given in _USUAL_VERBS:
        return given
    text = _text_of(given.value if isinstance(given, enum.Enum) else given)
    if text is None:
        return ""
    # Beyond ASCII, upper() makes letters out of what is none: "ß" would become a token.
    return text.upper() if text.isascii() else text


def method_of(verb: str) -> str:
    """
    A method that can be sent.

    Raises:
        UnsupportedPayload: With reason ``unsendable``, if it's no token, or CONNECT or TRACE.
    """
    if _METHOD.fullmatch(verb) is None or verb in _NO_METHODS:
        msg = "the method is no token (RFC 9110 section 5.6.2), or CONNECT or TRACE"
        raise _unsendable(msg)
    return verb


@cached_if_short
def destination_of(url: str) -> Destination:
    """
    Where an absolute URL of http or https leads.

    Raises:
        UnsupportedPayload: With reason ``unsendable``, if it's no such URL.
    """
    if len(url) > MOST_URL:
        msg = f"the URL has more than {MOST_URL} characters"
        raise _unsendable(msg)
    if _NEVER_IN_A_URL.search(url):
        msg = "the URL holds a blank or a control character"
        raise _unsendable(msg)
    parts = _URL.fullmatch(url)
    port = parts and int(parts["port"] or DEFAULT_PORTS[parts["scheme"].lower()])
    if not parts or not port or port > _LAST_PORT:
        msg = "an absolute URL of http or https is needed: scheme, host and a port from 1 to 65535"
        raise _unsendable(msg)
    try:
        path, query = (part and quote(part, safe=_VISIBLE) for part in (parts["path"], parts["query"]))
    except UnicodeEncodeError as error:
        msg = "the URL holds a lone surrogate"
        raise _unsendable(msg) from error
    return Destination(
        parts["scheme"].lower(),
        _host_of(parts["host"]),
        port,
        path or "/",
        query,
        _authorization_of(parts["user_info"] or ""),
    )


def _host_of(given: str) -> str:
    host = ascii_host(given.lower())
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            msg = "the URL's host is no IPv6 address"
            raise _unsendable(msg) from error
        return host[1:-1]
    if _REGISTERED_NAME.fullmatch(host) is None:
        msg = "the URL's host is no host name"
        raise _unsendable(msg)
    return host


def _authorization_of(user_info: str) -> str | None:
    name, _, password = user_info.partition(":")
    if not name and not password:
        return None
    try:
        credentials = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    except UnicodeEncodeError as error:
        msg = "the URL holds a lone surrogate"
        raise _unsendable(msg) from error
    if _CONTROL.search(credentials):
        msg = "the URL's user info holds a control character, which RFC 7617 section 2 forbids"
        raise _unsendable(msg)
    return f"Basic {b64encode(credentials).decode('ascii')}"


def fields_of(headers: Any) -> tuple[Fields, tuple[str, ...]]:
    """
    The header fields of a request, as SDKs give them.

    Args:
        headers: A mapping or pairs. Names and values are text or bytes; a value may also be a number or a UUID, and a field
            whose value is None is left out.

    Returns:
        The fields that are sent, and the lower-case names of those that are left out because they are the sender's to set.

    Raises:
        UnsupportedPayload: With reason ``unsendable``, if a field can't be sent.
    """
    if type(headers) is dict:
        pairs = tuple(headers.items())
    else:
        items = headers.items() if hasattr(headers, "items") else headers
        try:
            pairs = tuple((name, value) for name, value in items)
        except (TypeError, ValueError) as error:
            msg = f"header fields are a mapping or pairs of name and value, not {type(headers).__name__}"
            raise _unsendable(msg) from error
    for name, value in pairs:
        # Exactly text: of 1, 1.0 and True, one would be found in the cache for another.
        if type(name) is not str or type(value) is not str:
            return _checked(tuple(_texts_of(pairs)))
    return _checked(pairs)


def _texts_of(pairs: Iterable[tuple[Any, Any]]) -> Iterable[tuple[str, str]]:
    for name, value in pairs:
        if value is None:
            continue
        text, name_text = _text_of(value), _text_of(name)
        if text is None and isinstance(value, (int, float, Decimal, UUID)):
            text = str(value)
        if text is None or name_text is None:
            msg = (
                f"a header field of {type(name).__name__} and {type(value).__name__}: text, bytes or a number is needed"
            )
            raise _unsendable(msg)
        yield name_text, text


def _text_of(given: object) -> str | None:
    if isinstance(given, (bytes, bytearray)):
        return given.decode("latin-1")
    # An enumeration that is text, too: its str() may be its name.
    return str.__str__(given) if isinstance(given, str) else None


@functools.lru_cache(maxsize=64)
def _checked(pairs: tuple[tuple[str, str], ...]) -> tuple[Fields, tuple[str, ...]]:
    kept: list[tuple[str, str]] = []
    left_out: list[str] = []
    hosts = size = 0
    for name, given in pairs:
        # Blanks and tabs around a value are no part of it (RFC 9110 section 5.5).
        value = given.strip("\t ")
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            msg = "a header field's name is no token, or its value holds a control character or what isn't Latin-1"
            raise _unsendable(msg)
        # Servers that hand fields on as CGI variables don't tell the two apart.
        known = name.lower().replace("_", "-")
        known = "proxy-*" if known.startswith("proxy-") else known
        if known in _OF_THE_HOP:
            if known == "transfer-encoding" and value.lower() not in {"", "chunked", "identity"}:
                # Without it nobody would know how the content is coded.
                msg = "a transfer coding of the content can't be sent; use Content-Encoding"
                raise _unsendable(msg)
            left_out.append(known)
            continue
        if known == "host":
            hosts += 1
            if hosts > 1 or _HOST_FIELD.fullmatch(value) is None:
                msg = "the Host field is no host, or stands there more than once (RFC 9112 section 3.2)"
                raise _unsendable(msg)
        size += len(name) + len(value)
        if size > MOST_FIELDS:
            msg = f"the header fields have more than {MOST_FIELDS} bytes"
            raise _unsendable(msg)
        kept.append((name, value))
    return tuple(kept), tuple(left_out)


def _unsendable(message: str) -> UnsupportedPayload:
    return UnsupportedPayload(message, reason=Reason.UNSENDABLE)
