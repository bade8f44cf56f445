"""
One HTTP request as it left this process, and what came back.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, quote_plus, unquote_plus, urljoin, urlsplit


if TYPE_CHECKING:
    from wirewitness.core.outcome import Reason


REDACTED = "REDACTED"
DEFAULT_PORTS = {"http": 80, "https": 443}
T = TypeVar("T")

MOST_CACHED: Final = 2048
"""Characters of a URL that is kept in a cache: longer ones would hold memory that no bound counts."""

# Percent-encoded ones, too: a whole URL may stand in another one's path.
_AT = re.compile(r"@|%40", re.IGNORECASE)
_SLASH = re.compile(r"(/|%2f)", re.IGNORECASE)
_PLAIN_PATH = re.compile(r"/[^?#;@%]*+")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_PATH_PARAMETER = re.compile(r"(?<=;)([^;/?#=]*)=[^;/?#]*")


@dataclass(frozen=True, repr=False)
class Exchange:
    """
    One request and its response, or the attempt at one. Its repr shows where it went, and nothing that was sent.

    Attributes:
        method: The request's method, as sent.
        scheme: ``http`` or ``https``.
        host: The server asked, not a proxy between; without user info, whatever a library took for the host.
        port: Its TCP port.
        path: The request target without its query. It can hold secrets: telemetry shows :attr:`url`.
        query: The query as sent. It can hold secrets, too.
        body: The content as a receiver would read it: framing removed, nothing decoded. None if it couldn't be seen.
            In no telemetry.
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
    query: str = ""
    body: bytes | None = b""
    content_encoding: str = ""
    complete: bool = True
    clear: bool = True
    truncated: bool = False
    status: int | None = None
    location: Address | None = None
    retry_after: str | None = None
    received_digest: bytes | None = None
    error_type: str | None = None
    failure: Reason | None = None
    started_ns: int = 0
    duration: float = 0.0
    resend_count: int = 0
    embeds: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        # urllib takes "user:password@host" for the host. Cut here, it is in no address, no label, no URL and no repr.
        if "@" in self.host or "%" in self.host:
            object.__setattr__(self, "host", without_user_info(self.host))

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
        """The URL as OpenTelemetry's ``url.full``: every value of its query and everything like a credential redacted."""
        query = f"?{redact_query(self.query)}" if self.query else ""
        return f"{self._server}{redact_target(self.path)}{query}"

    @property
    def _server(self) -> str:
        port = "" if self.port == DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}"

    @property
    def address(self) -> Address:
        """Where the request went, in normal form. The path is empty where connecting failed before any was asked for."""
        return normal_address(self.scheme, self.host, self.port, self.path)

    @property
    def origin(self) -> Origin:
        """Scheme, host and port of the address."""
        return self.address[:3]

    def __repr__(self) -> str:
        ended = self.status if self.status is not None else self.error_type or "no answer"
        return f"<Exchange {self.method} {self._server} {'? bytes' if self.size is None else f'{self.size} bytes'}, {ended}>"


Origin = tuple[str, str, int]
"""Scheme, host and port of an address (RFC 6454 section 4)."""

Address = tuple[str, str, int, str]
"""
Scheme, host, port and path of a request, in the normal form in which two of them can be compared: see
:func:`normal_address`.
"""


def normal_address(scheme: str, host: str, port: int, path: str) -> Address:
    """
    An address in normal form (RFC 3986 section 6.2.2 and 6.2.3), so that spellings of one place compare equal.

    Scheme and host are lower-case, the host without its final dot and in ASCII, an IPv6 address in its short form. The
    path has neither fragment, dot segments nor needless percent-encoding, and what needs encoding has it in upper case.
    """
    function = _known_address if len(path) <= MOST_CACHED else _normal_address
    return function(scheme, host, port, path)


def _normal_address(scheme: str, host: str, port: int, path: str) -> Address:
    return (scheme.lower(), _normal_host(host), port, _normal_path(path.partition("#")[0]))


_known_address: Final = functools.lru_cache(maxsize=1024)(_normal_address)


def _normal_host(host: str) -> str:
    host = host.lower().removeprefix("[").removesuffix("]")
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError:
            return host
    host = host.removesuffix(".")
    return ascii_host(host)


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

    Whatever stands before an ``@`` is taken for user info, in a path, too: the target of a request to a proxy, of a CONNECT
    (RFC 9112 section 3.2), and of a service that is asked for another URL all have their host there.
    """
    if _PLAIN_PATH.fullmatch(url):
        return url
    rest, hash_sign, _ = url.partition("#")
    path, question_mark, query = rest.partition("?")
    if _ABSOLUTE.match(path) and address_of(path) is None:
        # Such as "http://user:pass?word@host": where the password ends, nobody can tell.
        return REDACTED
    if _AT.search(path):
        path = "".join(_redact_segment(segment) for segment in _SLASH.split(path))
    path = _PATH_PARAMETER.sub(rf"\1={REDACTED}", path)
    query = f"?{redact_query(query)}" if query else question_mark
    return f"{path}{query}{hash_sign and '#' + REDACTED}"


def _redact_segment(segment: str) -> str:
    *before, after = _AT.split(segment)
    return f"{REDACTED}@{after}" if any(before) else segment


def without_user_info(host: str) -> str:
    """
    A host, where a library may have taken the whole authority of a URL for it.
    """
    return _AT.split(host)[-1]


def ascii_host(host: str) -> str:
    """
    A host name as it is asked for: with the labels of IDNA 2008 where it isn't ASCII, as requests has it.

    One that has none stays as it is.
    """
    if host.isascii():
        return host
    import idna  # noqa: PLC0415 -- comes with requests; 0.1 s that nearly nobody needs

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return host


def cached_if_short(function: Callable[[str], T]) -> Callable[[str], T]:
    """
    Keep what a function says of the last 256 URLs, of no more than :data:`MOST_CACHED` characters each.
    """
    cached = functools.lru_cache(maxsize=256)(function)

    @functools.wraps(function)
    def call(url: str) -> T:
        return cached(url) if len(url) <= MOST_CACHED else function(url)

    return call


@cached_if_short
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
