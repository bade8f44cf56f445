"""
The tap on ``http.client``, in which urllib, urllib3 and requests all end, and on urllib3's connect step.

What counts as sent is what ``HTTPConnection.send`` was given, after it has returned: below all rewriting that Python does,
above TLS. urllib3 connects TLS before it begins a request, so a failed handshake is seen only at its ``connect``.
"""

from __future__ import annotations

import functools
import http.client
import importlib
import threading

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from wirewitness._current import CURRENT, Dispatch, current
from wirewitness._guard import fail_open
from wirewitness.evidence import EVIDENCE
from wirewitness.wire.recorder import RECEIVED_DIGEST_FIELD, Recorder


Method = Callable[..., Any]

KEY: Final = "_wirewitness"
"""Where a connection keeps the recorder of the request that it is busy with."""

UNKNOWN_METHOD: Final = "_OTHER"
"""OpenTelemetry's ``http.request.method`` where the method isn't known."""

_FINAL: Final = 200

_in_flight: Final = EVIDENCE.by_body


def _putrequest(original: Method) -> Method:
    @functools.wraps(original)
    def putrequest(
        self: Any,
        method: str,
        url: str,
        skip_host: bool = False,  # noqa: FBT001, FBT002 -- http.client's
        skip_accept_encoding: bool = False,  # noqa: FBT001, FBT002 -- http.client's
    ) -> Any:
        if CURRENT.get() is None and not _in_flight:
            _forget(self)
            return original(self, method, url, skip_host, skip_accept_encoding)
        recorder = _begin(self, method, url)
        try:
            return original(self, method, url, skip_host, skip_accept_encoding)
        except BaseException as error:
            _failed(self, recorder, error, last=True)
            raise

    return putrequest


def _send(original: Method) -> Method:
    @functools.wraps(original)
    def send(self: Any, data: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        # A send within a send is http.client asking a proxy for a tunnel.
        if recorder is None or recorder.inside:
            return original(self, data)
        recorder.inside = True
        try:
            sent = original(self, data)
        except BaseException as error:
            _failed(self, recorder, error, last=False)
            raise
        finally:
            recorder.inside = False
        _sent(recorder, data)
        return sent

    return send


def _getresponse(original: Method) -> Method:
    @functools.wraps(original)
    def getresponse(self: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        if recorder is None:
            return original(self)
        _claim(recorder)
        try:
            response = original(self)
        except BaseException as error:
            _failed(self, recorder, error, last=True)
            raise
        _answered(self, recorder, response)
        return response

    return getresponse


def _connect(original: Method) -> Method:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        dispatch = current()
        # A connect within a send fails that send, and is reported there.
        if dispatch is None or (recorder is not None and recorder.inside):
            return original(self, *args, **kwargs)
        server = _server(self)  # now: urllib3 forgets a tunnel's server when its proxy refuses
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            _connect_failed(server, dispatch, error)
            raise

    return connect


@fail_open("tap")
def _begin(connection: Any, method: str, url: str) -> Recorder | None:
    _abandon(connection)
    dispatch = current()
    if dispatch is not None and dispatch.owner.ignores_requests(dispatch):
        return None
    recorder = _recorder(_server_of(connection), dispatch, method, url or "/")
    if recorder.idle:
        return None
    setattr(connection, KEY, recorder)
    return recorder


def _abandon(connection: Any) -> None:
    recorder = _forget(connection)
    if recorder is not None:
        recorder.abandoned()


def _forget(connection: Any) -> Recorder | None:
    recorder: Recorder | None = getattr(connection, KEY, None)
    if recorder is not None:
        delattr(connection, KEY)
    return recorder


class Server(NamedTuple):
    """
    The server that a connection leads to, behind any proxy.
    """

    scheme: str
    host: str
    port: int


def _server_of(connection: Any) -> Server:
    tunnelled = getattr(connection, "_tunnel_host", None)
    return Server(
        scheme="https" if connection.default_port == http.client.HTTPS_PORT else "http",
        host=tunnelled or connection.host,
        port=(connection._tunnel_port if tunnelled else connection.port) or connection.default_port,  # noqa: SLF001
    )


_server = fail_open("tap")(_server_of)


def _recorder(server: Server, dispatch: Dispatch | None, method: str, url: str) -> Recorder:
    return Recorder(dispatch, scheme=server.scheme, host=server.host, port=server.port, method=method, target=url)


@fail_open("tap")
def _sent(recorder: Recorder, data: Any) -> None:
    recorder.sent(data)


@fail_open("tap")
def _claim(recorder: Recorder) -> None:
    recorder.claim()


@fail_open("tap")
def _failed(connection: Any, recorder: Recorder | None, error: BaseException, *, last: bool) -> None:
    if recorder is None:
        return
    recorder.failed(error)
    if last:
        _abandon(connection)


@fail_open("tap")
def _answered(connection: Any, recorder: Recorder, response: Any) -> None:
    # A client that reads on behind an interim answer gets another one here.
    if response.status >= _FINAL:
        _forget(connection)
    headers = response.headers
    recorder.answered(
        response.status, headers.get(RECEIVED_DIGEST_FIELD), headers.get("Location"), headers.get("Retry-After")
    )


@fail_open("tap")
def _connect_failed(server: Server | None, dispatch: Dispatch, error: BaseException) -> None:
    if server is None or dispatch.owner.ignores_requests(dispatch):
        return
    recorder = _recorder(server, dispatch, dispatch.method or UNKNOWN_METHOD, "")
    recorder.failed(error)
    recorder.abandoned()


class PatchPoint(NamedTuple):
    """
    A method to be wrapped.

    Attributes:
        module: Where its class is.
        cls: The class's name.
        name: The method's name.
        wrap: Makes the wrapper from the original.
    """

    module: str
    cls: str
    name: str
    wrap: Callable[[Method], Method]


PATCH_POINTS: Final = (
    PatchPoint("http.client", "HTTPConnection", "putrequest", _putrequest),
    PatchPoint("http.client", "HTTPConnection", "send", _send),
    PatchPoint("http.client", "HTTPConnection", "getresponse", _getresponse),
    PatchPoint("urllib3.connection", "HTTPConnection", "connect", _connect),
    PatchPoint("urllib3.connection", "HTTPSConnection", "connect", _connect),
)


class Tap:
    """
    The installed wrappers. Installing is counted: the last uninstall takes them off.

    Args:
        points: What to wrap. One that isn't there any more is counted as an internal error, and the others still work.
    """

    def __init__(self, points: tuple[PatchPoint, ...] = PATCH_POINTS) -> None:
        self._points = points
        self._lock = threading.RLock()  # a garbage collection in here may run what wraps a dispatcher
        self._users = 0
        self._installed: list[tuple[type, str, Method, Method]] = []

    def install(self) -> None:
        """
        Wrap the methods, unless they're wrapped.
        """
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            # On the class, so that asking a connection that has none costs no failed look-up.
            setattr(http.client.HTTPConnection, KEY, None)
            for point in self._points:
                self._wrap(point)

    @fail_open("tap")
    def _wrap(self, point: PatchPoint) -> None:
        cls = getattr(importlib.import_module(point.module), point.cls)
        original = getattr(cls, point.name)
        wrapper = point.wrap(original)
        setattr(cls, point.name, wrapper)
        self._installed.append((cls, point.name, wrapper, original))

    def uninstall(self) -> None:
        """
        Put the originals back where the wrapper is still ours; one that somebody has wrapped again stays, and is idle.
        """
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            for cls, name, wrapper, original in self._installed:
                if cls.__dict__.get(name) is wrapper:
                    setattr(cls, name, original)
            self._installed.clear()


_TAP: Final = Tap()
install: Final = _TAP.install
uninstall: Final = _TAP.uninstall
