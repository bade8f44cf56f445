"""
One HTTP request as it left this process, and what came back.
"""

from __future__ import annotations

import functools
import hashlib
import re

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote_plus, unquote_plus, urljoin, urlsplit


if TYPE_CHECKING:
    from wirewitness.core.outcome import Reason


REDACTED = "REDACTED"
DEFAULT_PORTS = {"http": 80, "https": 443}
_USER_INFO = re.compile(r"(?<=//)[^/?#\s]*@")
_PATH_PARAMETER = re.compile(r"(?<=;)([^;/?#=]*)=[^;/?#]*")


@dataclass(frozen=True)
class Exchange:
    """
    One request and its response, or the attempt at one.

    Attributes:
        method: The request's method, as sent.
        scheme: ``http`` or ``https``.
        host: The server asked, not a proxy between.
        port: Its TCP port.
        path: The request target without its query.
        query: The query as sent. It can hold secrets: it's in no repr and no telemetry.
        body: The content as a receiver would read it: framing removed, nothing decoded. None if it couldn't be seen.
            In no repr and no telemetry.
        content_encoding: The request's ``Content-Encoding``, lower-case, empty if there was none.
        complete: Whether every byte that the framing promised was handed to the socket.
        truncated: Whether more bytes were handed over than ``Content-Length`` promised, which a receiver won't read.
        status: The response's status code, or None if no status line came back.
        location: Where a redirect pointed, or None.
        retry_after: The response's ``Retry-After`` field as received (RFC 9110 section 10.2.3), or None.
        received_digest: SHA-256 that the receiver says it got, or None.
        error_type: The class of the exception that ended the exchange, or None.
        failure: The same, as one of the ``FAILED`` reasons.
        started_ns: When the request began, Unix nanoseconds.
        duration: Seconds from there to the status line, or to the failure.
        resend_count: How many exchanges of the same dispatch came before, for any reason: OpenTelemetry's
            ``http.request.resend_count``.
    """

    method: str
    scheme: str = "http"
    host: str = ""
    port: int = 80
    path: str = "/"
    query: str = field(default="", repr=False)
    body: bytes | None = field(default=b"", repr=False)
    content_encoding: str = ""
    complete: bool = True
    truncated: bool = False
    status: int | None = None
    location: Address | None = None
    retry_after: str | None = None
    received_digest: bytes | None = field(default=None, repr=False)
    error_type: str | None = None
    failure: Reason | None = None
    started_ns: int = 0
    duration: float = 0.0
    resend_count: int = 0

    @property
    def size(self) -> int | None:
        """The content's length in bytes, or None if it couldn't be seen."""
        return None if self.body is None else len(self.body)

    @property
    def digest(self) -> bytes | None:
        """SHA-256 of the content, 32 bytes, or None if it couldn't be seen."""
        return None if self.body is None else hashlib.sha256(self.body).digest()

    @property
    def succeeded(self) -> bool:
        """Whether the answer was 2xx."""
        return self.status is not None and 200 <= self.status <= 299  # noqa: PLR2004 -- RFC 9110 section 15.3

    @property
    def redirected(self) -> bool:
        """Whether the answer was 3xx."""
        return self.status is not None and 300 <= self.status <= 399  # noqa: PLR2004 -- RFC 9110 section 15.4

    @property
    def url(self) -> str:
        """The URL with every value of its query redacted, as OpenTelemetry's ``url.full``."""
        port = "" if self.port == DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{redact_query(self.query)}" if self.query else ""
        return f"{self.scheme}://{host}{port}{self.path}{query}"

    @property
    def address(self) -> Address:
        """Where the request went."""
        return (self.scheme, self.host, self.port, self.path)


Address = tuple[str, str, int, str]
"""Scheme, host, port and path of a request."""


def redact_query(query: str) -> str:
    """
    A query with its names kept and its values replaced. What stands there without a name can be a secret itself.
    """
    return "&".join(_redact(part) for part in query.split("&") if part) or REDACTED


def _redact(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{quote_plus(unquote_plus(name), errors='replace')}={REDACTED}" if equals else REDACTED


def redact_target(url: str) -> str:
    """
    A request target or a URL without user info, and with the names, not the values, of its query, fragment and path
    parameters.
    """
    rest, hash_sign, _ = url.partition("#")
    path, question_mark, query = rest.partition("?")
    path = _USER_INFO.sub(f"{REDACTED}@", path)
    # The authority form of CONNECT has no slashes in front (RFC 9112 section 3.2.3).
    if "/" not in path and "@" in path:
        path = f"{REDACTED}@{path.rpartition('@')[2]}"
    path = _PATH_PARAMETER.sub(rf"\1={REDACTED}", path)
    query = f"?{redact_query(query)}" if query else question_mark
    return f"{path}{query}{hash_sign and '#' + REDACTED}"


@functools.lru_cache(maxsize=256)
def address_of(url: str) -> Address | None:
    """
    Scheme, host, port and path of an absolute URL, or None if ``url`` isn't one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return _address(parts, port)


def _address(parts: SplitResult, port: int | None) -> Address | None:
    if not parts.hostname or port is None:
        return None
    return (parts.scheme, parts.hostname, port, parts.path or "/")


def resolve(base: Address, location: str) -> Address | None:
    """
    Where a ``Location`` field points (RFC 9110 section 10.2.2), or None if it can't be read.
    """
    scheme, host, port, path = base
    bracketed = f"[{host}]" if ":" in host else host
    try:
        return address_of(urljoin(f"{scheme}://{bracketed}:{port}{path}", location))
    except ValueError:
        return None
