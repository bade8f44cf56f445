"""
One HTTP request as it left this process, and what came back.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote_plus, urljoin, urlsplit


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
        clear: Whether every receiver reads the same content out of it (RFC 9112 section 6.3). If not, it's not complete.
        truncated: Whether more bytes were handed over than ``Content-Length`` promised, which a receiver won't read.
        status: The response's status code, or None if no status line came back.
        location: Where a redirect pointed, or None.
        retry_after: The response's ``Retry-After`` field as received (RFC 9110 section 10.2.3), or None.
        received_digest: SHA-256 that the receiver says it got, or None.
        error_type: The class of the exception that ended the exchange, or None.
        failure: The same, as one of the ``FAILED`` reasons.
        started_ns: When the request began, Unix nanoseconds.
        duration: Seconds from there to the status line, or to the failure.
        embeds: Payloads that are known to stand inside the body as values or lines of it. In no repr, too.
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
    clear: bool = True
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
    embeds: frozenset[bytes] = field(default=frozenset(), repr=False)

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
    def answered(self) -> bool:
        """Whether there was a final answer. 1xx is none but 101, which ends HTTP on its connection (RFC 9110 section 15.2)."""
        return self.status is not None and (self.status >= 200 or self.status == 101)  # noqa: PLR2004

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
        """Where the request went, in normal form. The path is empty where connecting failed before any was asked for."""
        return normal_address(self.scheme, self.host, self.port, self.path)

    @property
    def origin(self) -> Origin:
        """Scheme, host and port of the address."""
        return self.address[:3]


Origin = tuple[str, str, int]
"""Scheme, host and port of an address (RFC 6454 section 4)."""

Address = tuple[str, str, int, str]
"""
Scheme, host, port and path of a request, in the normal form in which two of them can be compared: see
:func:`normal_address`.
"""


@functools.lru_cache(maxsize=1024)
def normal_address(scheme: str, host: str, port: int, path: str) -> Address:
    """
    An address in normal form (RFC 3986 section 6.2.2 and 6.2.3), so that spellings of one place compare equal.

    Scheme and host are lower-case, the host without its final dot and in ASCII, an IPv6 address in its short form. The
    path has neither fragment, dot segments nor needless percent-encoding, and what needs encoding has it in upper case.
    """
    return (scheme.lower(), _normal_host(host), port, _normal_path(path.partition("#")[0]))


def _normal_host(host: str) -> str:
    host = host.lower().removeprefix("[").removesuffix("]")
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError:
            return host
    host = host.removesuffix(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


_ENCODED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _normal_path(path: str) -> str:
    if not path or path == "*":
        return path
    sent = _ENCODED.sub(_normal_triplet, path.encode("utf-8", "surrogatepass"))
    # What stands there in the clear and may not is encoded, as HTTP libraries do. A lone % stays.
    kept: list[str] = []
    for segment in quote(sent, safe="%/:@!$&'()*+,;=~").split("/"):
        if segment == "..":
            kept[1:] = kept[1:-1]
        elif segment != ".":
            kept.append(segment)
    ended = path.rpartition("/")[2] in {".", ".."}
    return "/".join([*kept, ""] if ended and kept[-1:] != [""] else kept) or "/"


def _normal_triplet(found: re.Match[bytes]) -> bytes:
    byte = int(found[1], 16)
    return bytes([byte]) if byte in _UNRESERVED else found[0].upper()


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
    The address that an absolute URL names, in normal form, or None if ``url`` isn't one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    return normal_address(parts.scheme, parts.hostname, port, parts.path or "/")


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
