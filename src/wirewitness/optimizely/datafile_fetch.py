"""
One fetch over HTTP that ends in time: whatever the server does, and however slowly it does it.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import requests

from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from wirewitness._version import __version__
from wirewitness.core.outcome import Reason
from wirewitness.dispatch import CURRENT, Dispatch
from wirewitness.telemetry.datafile import Fault


MOST_REDIRECTS: Final = 3

_AT_ONCE: Final = 1 << 16
_OK: Final = range(200, 300)
_NOT_MODIFIED: Final = 304


class FetchFailed(Exception):  # noqa: N818 -- named for what it says
    """
    A fetch that brought nothing.

    Attributes:
        fault: Why.
        status: The answer's status code, or None.
        error_type: The class of what was raised, the status code, or the fault.
    """

    def __init__(self, fault: Fault, *, status: int | None = None, error_type: str | None = None) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.status = status
        self.error_type: str = error_type or (str(status) if fault is Fault.STATUS else fault.value)


class FetchAnswer(NamedTuple):
    """
    What a server answered.

    Attributes:
        status: 2xx, or 304 if that was asked for.
        body: The content, decoded; empty with a 304.
        etag: RFC 9110 section 8.8.3, or None.
        last_modified: RFC 9110 section 8.8.2, or None.
    """

    status: int
    body: bytes
    etag: str | None
    last_modified: str | None

    def __repr__(self) -> str:
        return f"FetchAnswer({self.status}, {len(self.body)} bytes)"


_SOCKET: Final = socket.socket
"""gevent's monkey patch may put another class in its place, while a fetch is under way."""


class FetchDeadline:
    """
    Ends the connections of a fetch when its time is over: a timeout of a socket begins anew with each byte.

    Args:
        seconds: How long the fetch may take.
    """

    def __init__(self, seconds: float) -> None:
        self.passed: bool = False
        self._sockets: list[Any] = []
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._token = _DEADLINE.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _DEADLINE.reset(self._token)
        self._sockets.clear()

    def watch(self, sock: Any) -> None:
        """
        A connection was made.
        """
        self._sockets.append(sock)
        if self.passed:
            self.end()

    def end(self) -> None:
        """
        The time is over, or the fetch isn't wanted any more.
        """
        self.passed = True
        for sock in list(self._sockets):
            # SSLSocket's own shutdown would take the TLS state away under the thread that reads.
            with contextlib.suppress(OSError):
                kind = _SOCKET if isinstance(sock, _SOCKET) else socket.socket
                kind.shutdown(sock, socket.SHUT_RDWR)


_DEADLINE: Final[ContextVar[FetchDeadline | None]] = ContextVar("wirewitness_datafile_deadline", default=None)


def _watched(pool: Any) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> Any:
            return _watch(super()._new_conn())

        def connect(self) -> None:
            super().connect()
            _watch(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _watch(sock: Any) -> Any:
    deadline = _DEADLINE.get()
    if deadline is not None:
        deadline.watch(sock)
    return sock


_POOLS: Final = {"http": _watched(HTTPConnectionPool), "https": _watched(HTTPSConnectionPool)}
_PLAIN: Final = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


class _FetchAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        if manager.pool_classes_by_scheme == _PLAIN:  # not so for SOCKS, which has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager


class _FetchSession(requests.Session):
    """
    A session for one fetch.

    Args:
        token: The access token of a secure environment, or None.
    """

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self.max_redirects = MOST_REDIRECTS
        self.headers.update({"User-Agent": f"wirewitness/{__version__}", "Accept": "application/json"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _FetchAdapter())
        if token is not None:
            self.auth = _Bearer(token)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and not may_follow(resp.url, urljoin(resp.url, target)):
            resp.close()
            raise FetchFailed(Fault.REDIRECTS, status=resp.status_code)
        return target


def may_follow(url: str, target: str) -> bool:
    """
    Whether a redirect may be followed. From https it leads to https; from plain http, whose answers anybody on the way can
    write, it leads to the same host and port, or to https on the same host.

    Args:
        url: What was asked for.
        target: Where the answer points to, absolute.
    """
    # Libraries read these differently: one would check a host, and another would ask another one.
    if "\\" in target or not target.isprintable():
        return False
    try:
        here, there = urlsplit(url), urlsplit(target)
        ports = (here.port or 80, there.port or 80)
    except ValueError:
        return False
    if there.scheme not in {"http", "https"} or not there.hostname or "@" in there.netloc:
        return False
    if here.scheme == "https":
        return there.scheme == "https"
    return there.hostname == here.hostname and (there.scheme == "https" or ports[0] == ports[1])


class _Bearer(AuthBase):
    # As `auth` and no header of the session: else a netrc entry for the host would go before it.
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Nobody:
    """
    The owner of a dispatch that is none: what a fetch asks for is no payload of anybody's.
    """

    def reconsider(self, dispatch: Dispatch) -> None: ...

    def recognised(self, dispatch: Dispatch) -> None: ...

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None: ...

    def ignores_requests(self, dispatch: Dispatch) -> bool:  # noqa: ARG002 -- the owner's contract
        return True


def fetch(  # noqa: PLR0913 -- all there is to a GET
    url: str, headers: Mapping[str, str], deadline: FetchDeadline, *, timeout: float, most_bytes: int, token: str | None
) -> FetchAnswer:
    """
    GET a datafile. Proxies and certificates are those of the environment, as for ``requests``.

    Args:
        url: Where it is.
        headers: What to send, such as ``If-None-Match``.
        deadline: Ends it, and has begun.
        timeout: Seconds for each step of it.
        most_bytes: The longest body that is taken.
        token: The access token of a secure environment, or None. It goes to the URL's own host only.

    Raises:
        FetchFailed: If there's no whole answer of 2xx or 304.
    """
    unseen = CURRENT.set(Dispatch("datafile", _Nobody()))
    try:
        with (
            _FetchSession(token) as session,
            session.get(url, headers=headers, timeout=timeout, stream=True) as response,
        ):
            return _read(response, deadline, most_bytes)
    except (OSError, HTTPError, ValueError) as error:
        fault = _fault_of(error, deadline)
        kind = None if fault is Fault.TIMEOUT else type(error).__qualname__
        raise FetchFailed(fault, error_type=kind) from None
    finally:
        CURRENT.reset(unseen)


def _read(response: requests.Response, deadline: FetchDeadline, most_bytes: int) -> FetchAnswer:
    status = response.status_code
    if status not in _OK and not (status == _NOT_MODIFIED and _was_conditional(response)):
        raise FetchFailed(Fault.STATUS, status=status)
    body = bytearray()
    for piece in response.iter_content(_AT_ONCE):
        body += piece
        if len(body) > most_bytes:
            raise FetchFailed(Fault.TOO_LARGE, status=status)
    if deadline.passed:  # a body of no announced length looks whole when its connection is ended
        raise FetchFailed(Fault.TIMEOUT, status=status)
    if _is_cut_off(response):
        raise FetchFailed(Fault.TRUNCATED, status=status)
    return FetchAnswer(status, bytes(body), response.headers.get("ETag"), response.headers.get("Last-Modified"))


def _is_cut_off(response: requests.Response) -> bool:
    # urllib3 finds it out itself from 2 on. A 304 may tell the length of what it doesn't send (RFC 9110 section 8.6).
    announced = response.headers.get("Content-Length", "")
    whole = response.status_code == _NOT_MODIFIED or not announced.isdecimal()
    return not whole and response.raw.tell() < int(announced)


def _was_conditional(response: requests.Response) -> bool:
    return any(name in response.request.headers for name in ("If-None-Match", "If-Modified-Since"))


_FAULTS: Final[tuple[tuple[type[Exception], Fault], ...]] = (
    (requests.Timeout, Fault.TIMEOUT),
    (requests.TooManyRedirects, Fault.REDIRECTS),
    (requests.exceptions.InvalidSchema, Fault.REDIRECTS),
    (requests.exceptions.InvalidURL, Fault.REDIRECTS),
    (requests.exceptions.ChunkedEncodingError, Fault.TRUNCATED),
    (requests.exceptions.ContentDecodingError, Fault.TRUNCATED),
)


def _fault_of(error: Exception, deadline: FetchDeadline) -> Fault:
    if deadline.passed:
        return Fault.TIMEOUT
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault.CONNECTION)
