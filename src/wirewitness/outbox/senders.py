"""
The sender that needs nothing but requests.

requests and urllib3 do what they do well: proxies, certificates, kept-alive connections. Four things they do otherwise than an
Outbox promises, and each is put right at the one place where it happens:

- They rewrite a request target. The connection's ``putrequest`` writes the one that was accepted.
- They keep cookies. The session's jar takes none and gives none.
- Their time limits start anew with every byte. Each read waits for what is left of the attempt, each address of a host for
  what is left, and each piece that goes through TLS.
- http.client takes any status but 100 for the final answer. The response here skips interim ones (RFC 9110 section 15.2).
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import os
import socket
import ssl
import threading

from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, NamedTuple, cast

import requests
import urllib3

from requests.adapters import HTTPAdapter
from requests.hooks import default_hooks
from requests.utils import get_environ_proxies
from urllib3._collections import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection

from wirewitness._version import __version__
from wirewitness.core.limits import positive, seconds
from wirewitness.core.payload import QUERY_METHODS
from wirewitness.core.request import Request
from wirewitness.errors import UnsupportedPayload
from wirewitness.outbox.clock import monotonic
from wirewitness.outbox.message import Message
from wirewitness.outbox.sender import Answer, Unsendable


class HttpSender:
    """
    Sends over kept-alive connections of requests, one a thread.

    A request has the header fields that the caller asked for, and those without which requests sends none. No redirect is
    followed, no cookie kept, and nothing is read from a ``.netrc``. Proxies and ``REQUESTS_CA_BUNDLE`` are taken from the
    environment.

    Args:
        threads: How many threads, and so connections, one server gets.
        timeout: Seconds to wait for a connection, and then for each part of the answer.
        total_timeout: Seconds that an attempt may take in all: connection, TLS, sending, waiting and reading. Only the
            system's look-up of a name can't be cut short. None for three times ``timeout``.
        verify: Whether to check certificates, or a file of those to be trusted.

    Raises:
        ConfigurationError: If ``threads``, ``timeout`` or ``total_timeout`` can't work.

    Attributes:
        spare: One more thread, which is kept for another server where one has taken all others.
    """

    spare = 1

    def __init__(
        self,
        *,
        threads: int = 8,
        timeout: float = 10.0,
        total_timeout: float | None = None,
        verify: bool | str | None = None,
    ) -> None:
        self.threads: int = positive("threads", threads)
        self._timeout = seconds("timeout", timeout)
        self._total = 3 * self._timeout if total_timeout is None else seconds("total_timeout", total_timeout)
        self._verify = _trusted() if verify is None else verify
        self._local = threading.local()

    def send(self, message: Message) -> Answer:
        """
        Make one request, and read its answer's head.

        Raises:
            requests.RequestException: If there is no answer.
            Unsendable: If no request can be made of the message; an Outbox accepts no such one.
        """
        try:
            request, local = message.request, self._local
        except UnsupportedPayload as unsupported:
            raise Unsendable from unsupported
        # Each thread has connections of its own, and a forked child none of its parent's.
        if getattr(local, "pid", None) != os.getpid():
            local.pid, local.attempt, local.proxies = os.getpid(), Attempted(self._timeout), {}
            local.session = _Session(local.attempt)
        attempt: Attempted = local.attempt
        origin = message.origin
        if origin not in local.proxies:
            local.proxies[origin] = get_environ_proxies(request.url)
        attempt.begin(request, self._total)
        response = local.session.send(
            _prepared(request, message.content),
            # requests takes one of urllib3's, which its stubs do not say.
            timeout=cast("Any", urllib3.Timeout(connect=self._timeout, read=self._timeout, total=self._total)),
            allow_redirects=False,
            proxies=local.proxies[origin],
            verify=self._verify,
            stream=True,
        )
        with response:
            # The answer is known. Where the rest of it comes at once, the connection can be used again; what it says nobody
            # asks for, and whoever drips it gets no thread of ours to hold.
            attempt.end_soon()
            with contextlib.suppress(
                OSError, requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException
            ):
                response.raw.read(_MOST_READ)
        return Answer(response.status_code, response.headers.get("Retry-After"))


_MOST_READ: Final = 1 << 16
# Seconds for an answer's content.
_PATIENCE: Final = 1.0
# A server that sends more interim answers than that sends no final one.
_MOST_INTERIM: Final = 100
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
# What one TLS record holds (RFC 8446 section 5.1).
_RECORD: Final = 1 << 14

_OWN_FIELDS: Final = (
    ("user-agent", "User-Agent", f"wirewitness/{__version__}"),
    ("accept-encoding", "Accept-Encoding", "gzip, deflate"),
    ("accept", "Accept", "*/*"),
    ("connection", "Connection", "keep-alive"),
)


def _trusted() -> bool | str:
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _prepared(request: Request, content: bytes) -> requests.PreparedRequest:
    """
    What requests would make of a request, but for what it would rewrite: the URL, and fields of the same name.
    """
    asked = {name.lower() for name, _ in request.fields}
    fields = HTTPHeaderDict([(name, value) for key, name, value in _OWN_FIELDS if key not in asked])
    for name, value in request.fields:
        fields.add(name, value)
    if content or request.method not in QUERY_METHODS:
        fields.add("Content-Length", str(len(content)))
    prepared = requests.PreparedRequest()
    prepared.method, prepared.url, prepared.body = request.method, request.url, content or None
    prepared.headers = cast("Any", fields)
    prepared.hooks = default_hooks()
    return prepared


class Attempted:
    """
    What a thread's connections know of the attempt that is under way. Only that thread touches it.

    Args:
        timeout: Seconds to wait for each part.
    """

    target: str
    url: str

    __slots__ = ("_timeout", "_until", "target", "url")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._until = 0.0
        self.target = self.url = ""

    def begin(self, request: Request, total: float) -> None:
        """
        An attempt begins, which may take ``total`` seconds.
        """
        self._until = monotonic() + total
        self.target, self.url = request.target, request.url

    def end_soon(self) -> None:
        """
        Its answer is there.
        """
        self._until = min(self._until, monotonic() + _PATIENCE)

    def left(self) -> float:
        """
        Seconds to wait for the next part.

        Raises:
            TimeoutError: If the attempt's time is over.
        """
        left = self._until - monotonic()
        if left <= 0:
            msg = "the attempt's total_timeout is over"
            raise TimeoutError(msg)
        return min(left, self._timeout)


class _Session(requests.Session):
    """
    A thread's session: it remembers connections, and nothing else.
    """

    def __init__(self, attempt: Attempted) -> None:
        super().__init__()
        # The environment's proxies are read by the sender, without the .netrc that would add a credential to a payload.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(attempt)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 -- requests's
        """
        None: to prepare for a redirect, though it won't follow it, requests would read the whole content of the answer.
        """
        return None


class _Adapter(HTTPAdapter):
    """
    Makes pools whose connections know of the attempt.

    ``send`` is requests's own: tools that stand in for HTTP in tests replace it there.
    """

    def __init__(self, attempt: Attempted) -> None:
        self._attempt = attempt
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._know(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._know(super().proxy_manager_for(*args, **kwargs))

    def _know(self, manager: Any) -> Any:
        classes = manager.pool_classes_by_scheme
        if not any(isinstance(pool, functools.partial) for pool in classes.values()):
            manager.pool_classes_by_scheme = {
                scheme: functools.partial(_pool_class(pool), attempt=self._attempt) for scheme, pool in classes.items()
            }
        return manager


@functools.lru_cache(maxsize=16)
def _pool_class(pool: type) -> Callable[..., Any]:
    return type(pool.__name__, (_Pool, pool), {})


class _Pool:
    """
    Mixed into urllib3's pools, a SOCKS proxy's too.
    """

    def __init__(self, *args: Any, attempt: Attempted, **kwargs: Any) -> None:
        self._attempt = attempt
        super().__init__(*args, **kwargs)

    @property
    def ConnectionCls(self) -> Any:  # noqa: N802 -- urllib3's
        """
        Looked up each time: a recorder of HTTP may have put its own there, and gets its way.
        """
        above: Any = super()
        found = above.ConnectionCls
        return _CONNECTIONS.get(found, found)

    def _new_conn(self) -> Any:
        above: Any = super()
        connection: Any = above._new_conn()  # noqa: SLF001 -- urllib3's own, and made to be overridden
        if isinstance(connection, http.client.HTTPConnection):
            # On the connection, not on its class: it may be of a class that this module doesn't know.
            connection.response_class = cast("Any", functools.partial(_Response, self._attempt))
        if isinstance(connection, _Connection):
            connection.attempt = self._attempt
        return connection


class _Connection:
    """
    Mixed into urllib3's connections.
    """

    attempt: Attempted

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """
        Write the target as it was accepted, in place of what requests and urllib3 have made of it.
        """
        above: Any = super()
        return above.putrequest(
            method, self.attempt.target if url.startswith("/") else self.attempt.url, *args, **kwargs
        )

    def send(self, data: Any) -> Any:
        """
        Send, within what is left of the attempt.
        """
        above: Any = super()
        sock: Any = getattr(self, "sock", None)
        if sock is None:
            # It connects first, and leaves what is left to the sending.
            return above.send(data)
        if not isinstance(sock, ssl.SSLSocket) or len(data) <= _RECORD:
            sock.settimeout(self.attempt.left())
            return above.send(data)
        # sendall() of TLS waits anew for each record.
        for begin in range(0, len(data), _RECORD):
            sock.settimeout(self.attempt.left())
            above.send(data[begin : begin + _RECORD])
        return None

    def _new_conn(self) -> Any:
        """
        Connect to the first of a host's addresses that takes it, where urllib3 would wait as long for each of them.
        """
        this: Any = self
        above: Any = super()
        # Not "host", which loses a final dot.
        host, last = this._dns_host, None  # noqa: SLF001
        try:
            found = socket.getaddrinfo(host.strip("[]"), this.port, 0, socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise _unresolved(host, this, error) from error
        try:
            for *_, address in found:
                this.host, this.timeout = address[0], self.attempt.left()
                try:
                    sock = above._new_conn()  # noqa: SLF001 -- urllib3's own, and made to be overridden
                except urllib3.exceptions.HTTPError as error:
                    last = error
                else:
                    sock.settimeout(self.attempt.left())
                    return sock
        finally:
            this.host = host
        raise last or _unresolved(host, this, OSError("it has no address"))


def _unresolved(host: str, connection: Any, error: Exception) -> Exception:
    # urllib3 1.26 has no class of its own for it.
    own = getattr(urllib3.exceptions, "NameResolutionError", None)
    if own is None:
        return urllib3.exceptions.NewConnectionError(connection, f"Failed to resolve: {error}")
    unresolved: Exception = own(host, connection, error)
    return unresolved


class _HttpConnection(_Connection, HTTPConnection):
    pass


class _HttpsConnection(_Connection, HTTPSConnection):
    pass


_CONNECTIONS: Final = {HTTPConnection: _HttpConnection, HTTPSConnection: _HttpsConnection}


class _Response(http.client.HTTPResponse):
    """
    Reads a response within what is left of the attempt, a proxy's answer to a CONNECT too.
    """

    def __init__(self, attempt: Attempted, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast("Any", _Paced(attempt, sock)), *args, **kwargs)

    def _read_status(self) -> tuple[str, int, str]:
        above: Any = super()
        for _ in range(_MOST_INTERIM):
            version, status, reason = above._read_status()  # noqa: SLF001 -- http.client's own
            if status >= _FIRST_FINAL or status == _SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        msg = "no final answer among interim ones"
        raise http.client.BadStatusLine(msg)


class _Paced(NamedTuple):
    """
    What http.client needs of a socket to read a response.
    """

    attempt: Attempted
    sock: Any

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self.attempt, self.sock))


class _Reader(io.RawIOBase):
    """
    A socket to be read from, for no longer than is left of the attempt.
    """

    def __init__(self, attempt: Attempted, sock: Any) -> None:
        self._attempt = attempt
        self._sock = sock
        # It keeps the socket open until this is closed, as http.client expects it.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._attempt.left())
        read: int | None = self._file.readinto(buffer)
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
