"""
The taps on httpcore 1.x and httpcore2, in which httpx and httpx2 end.

Theory of operation
===================

A client hands each request to a pool, also each retry and each redirect. The pool gives it a connection, and HTTP/1.1 is the
connection's alone until the answer has been read. So a request is watched at these steps:

==========================================  ==========================================================================
the pool's ``handle_request``               what fails in here before a request began failed to connect: pool, DNS, TCP,
                                            TLS, or proxy
the connection's ``_send_request_headers``  the request begins. Not before: ``handle_request`` refuses a request whose
                                            connection is another one's by now, and the pool asks the next one
its ``_network_stream``                     what is written there has been sent: the socket's own ``send`` has returned, or
                                            anyio or trio has handed all to the kernel. While a request is sent, something
                                            that tells the recorder stands in its place
its ``_receive_response_headers``           all has been sent
its ``handle_request``                      the answer, or the failure
==========================================  ==========================================================================

The synchronous and the asynchronous classes have the same shape. The wrappers are plain functions in both cases: what
they return is the library's own coroutine where nobody waits for anything.

HTTP/2 shares a connection between requests, and one request's task writes another's frames, nearly always. So what is
written is told apart by streams, and each stream's recorder gets the same request in HTTP/1.1's words: a head once the
HEADERS frame was written, a chunk for each DATA frame, the last chunk once END_STREAM was written. A task that is cancelled
while it writes can lose another's frames; that one's content is not whole then.
"""

from __future__ import annotations

import sys

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple

from wirewitness._guard import fail_open
from wirewitness.core.http2 import StreamPart, stream_parts
from wirewitness.dispatch import current
from wirewitness.wire import canary
from wirewitness.wire.patching import Method, PatchPoint, Tap
from wirewitness.wire.recorder import RECEIVED_DIGEST_FIELD, Recorder, Server, begin, connect_failed, nobody_waits


KEY: Final = "_wirewitness"
"""Where a connection keeps the exchanges that are under way on it, by their requests."""


class _Exchange:
    """
    A request on a connection. It is one thread's or task's at a time; only one at a time writes to a connection.

    Attributes:
        recorder: Records it.
        stream: In HTTP/1.1, what stands in the place of the connection's stream while the request is sent.
        head: In HTTP/2, its head without framing, until that was written.
        left: In HTTP/2, the bytes of content that it still promises; None where it promises none.
    """

    __slots__ = ("head", "left", "recorder", "stream")

    def __init__(self, recorder: Recorder, stream: _Stream | None, head: bytes = b"", left: int | None = None) -> None:
        self.recorder = recorder
        self.stream = stream
        self.head = head
        self.left = left

    def sent(self, part: StreamPart) -> None:
        """
        A frame of its stream was written.
        """
        if part.head and self.head:
            chunked = b"\r\n" if part.last and not self.left else b"Transfer-Encoding: chunked\r\n\r\n"
            self.recorder.sent(self.head + chunked)
            self.head = b""
            if part.last:
                return
        if part.content:
            self.recorder.sent(b"%x\r\n%b\r\n" % (len(part.content), part.content))
            if self.left is not None:
                self.left -= len(part.content)
        if part.last and not self.left:
            # RFC 9113 section 8.1.1: with another length than it promised, it is malformed.
            self.recorder.sent(b"0\r\n\r\n")


class _Stream:
    """
    A network stream that tells a recorder what was written.
    """

    __slots__ = ("below", "recorder")

    def __init__(self, below: Any, recorder: Recorder) -> None:
        self.below = below
        self.recorder = recorder

    def write(self, buffer: bytes, timeout: float | None = None) -> Any:
        try:
            self.below.write(buffer, timeout=timeout)
        except BaseException as error:
            # The server may have answered before it closed: the library goes on and reads.
            self.recorder.failed(error)
            raise
        self.recorder.sent(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


class _AsyncStream(_Stream):
    __slots__ = ()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's
        try:
            await self.below.write(buffer, timeout=timeout)
        except BaseException as error:
            self.recorder.failed(error)
            raise
        self.recorder.sent(buffer)


class _Frames:
    """
    The stream of an HTTP/2 connection. It stays in its place, and while nobody waits for anything it looks at nothing.
    """

    def __init__(self, below: Any) -> None:
        self.below = below
        self.by_stream: dict[int, _Exchange] = {}

    def write(self, buffer: bytes, timeout: float | None = None) -> Any:
        self.below.write(buffer, timeout=timeout)
        self.written(buffer)

    @fail_open("tap")
    def written(self, buffer: bytes) -> None:
        if not self.by_stream:
            return
        try:
            parts = stream_parts(buffer)
        except ValueError:
            for each in tuple(self.by_stream.values()):
                each.recorder.unseen()
            return
        for part in parts:
            exchange = self.by_stream.get(part.stream)
            if exchange is not None:
                exchange.sent(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


class _AsyncFrames(_Frames):
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's
        await self.below.write(buffer, timeout=timeout)
        self.written(buffer)


class _Scope:
    """
    A request in the pool's hands.

    Attributes:
        request: The request.
        began: Whether it has begun on a connection.
    """

    __slots__ = ("began", "request")

    def __init__(self, request: Any) -> None:
        self.request = request
        self.began = False


_SCOPE: Final[ContextVar[_Scope | None]] = ContextVar("wirewitness_httpcore", default=None)


# The wrappers.


def _pool(original: Method) -> Method:
    def handle_request(self: Any, request: Any) -> Any:
        scope = _enter(request)
        if scope is None:
            return original(self, request)
        outside = _SCOPE.get()
        _SCOPE.set(scope)
        try:
            return original(self, request)
        except BaseException as error:
            _never_began(scope, error)
            raise
        finally:
            _SCOPE.set(outside)

    return handle_request


def _async_pool(original: Method) -> Method:
    async def watched(scope: _Scope, pool: Any) -> Any:
        outside = _SCOPE.get()
        _SCOPE.set(scope)
        try:
            return await original(pool, scope.request)
        except BaseException as error:
            _never_began(scope, error)
            raise
        finally:
            _SCOPE.set(outside)

    def handle_async_request(self: Any, request: Any) -> Any:
        scope = _enter(request)
        return original(self, request) if scope is None else watched(scope, self)

    return handle_async_request


def _connection(original: Method) -> Method:
    def handle_request(self: Any, request: Any) -> Any:
        try:
            response = original(self, request)
        except BaseException as error:
            _failed(self, request, error)
            raise
        _answered(self, request, response)
        return response

    return handle_request


def _async_connection(original: Method) -> Method:
    async def watched(connection: Any, request: Any, handled: Any) -> Any:
        try:
            response = await handled
        except BaseException as error:
            _failed(connection, request, error)
            raise
        _answered(connection, request, response)
        return response

    def handle_async_request(self: Any, request: Any) -> Any:
        handled = original(self, request)
        return handled if nobody_waits() else watched(self, request, handled)

    return handle_async_request


def _headers(stream: type[_Stream]) -> Callable[[Method], Method]:
    def wrap(original: Method) -> Method:
        def send_request_headers(self: Any, request: Any) -> Any:
            if not nobody_waits():
                _begin(self, request, stream)
            return original(self, request)

        return send_request_headers

    return wrap


def _stream_headers(frames: type[_Frames]) -> Callable[[Method], Method]:
    def wrap(original: Method) -> Method:
        def send_request_headers(self: Any, request: Any, stream_id: int) -> Any:
            if not nobody_waits():
                _begin_stream(self, request, stream_id, frames)
            return original(self, request, stream_id)

        return send_request_headers

    return wrap


def _response(original: Method) -> Method:
    def receive_response(self: Any, request: Any, **stream_id: int) -> Any:
        _all_sent(self, request)
        return original(self, request, **stream_id)

    return receive_response


# What they do.


@fail_open("tap")
def _enter(request: Any) -> _Scope | None:
    if current() is None:
        return None
    outer = _SCOPE.get()
    # Within our own wrapper: another tool's stands between the two.
    return None if outer is not None and outer.request is request else _Scope(request)


@fail_open("tap")
def _never_began(scope: _Scope, error: BaseException) -> None:
    if not scope.began:
        connect_failed(_server(scope.request.url.origin), error)


def _server(origin: Any) -> Server:
    scheme = "https" if origin.scheme in {b"https", b"wss"} else "http"
    return Server(scheme, origin.host.decode("latin-1"), origin.port)


def _recorder(connection: Any, request: Any) -> Recorder | None:
    # A CONNECT asks a proxy for a tunnel: it's a part of connecting, for the request that will go through.
    if request in connection.__dict__.setdefault(KEY, {}) or request.method == b"CONNECT":
        return None
    scope = _SCOPE.get()
    if scope is not None:
        scope.began = True
    target = request.url.target.decode("latin-1")
    return begin(_server(connection._origin), request.method.decode("latin-1"), target)  # noqa: SLF001


@fail_open("tap")
def _begin(connection: Any, request: Any, stream: type[_Stream]) -> None:
    recorder = _recorder(connection, request)
    if recorder is not None:
        exchange = _Exchange(recorder, stream(connection._network_stream, recorder))  # noqa: SLF001
        connection.__dict__[KEY][request] = exchange
        connection._network_stream = exchange.stream  # noqa: SLF001


@fail_open("tap")
def _begin_stream(connection: Any, request: Any, stream_id: int, frames: type[_Frames]) -> None:
    recorder = _recorder(connection, request)
    if recorder is None:
        return
    fields = {name.lower(): value for name, value in reversed(request.headers)}
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, request.url.target, fields.get(b"host", b""))
    if b"content-encoding" in fields:
        head += b"Content-Encoding: %b\r\n" % fields[b"content-encoding"]
    length = fields.get(b"content-length", b"")
    exchange = _Exchange(recorder, None, head, int(length) if length.isdigit() else None)
    connection.__dict__[KEY][request] = exchange
    if not isinstance(connection._network_stream, _Frames):  # noqa: SLF001
        connection._network_stream = frames(connection._network_stream)  # noqa: SLF001
    connection._network_stream.by_stream[stream_id] = exchange  # noqa: SLF001


@fail_open("tap")
def _all_sent(connection: Any, request: Any) -> None:
    exchange: _Exchange | None = connection.__dict__.get(KEY, {}).get(request)
    if exchange is not None and (exchange.stream is None or _put_back(connection, exchange)):
        exchange.recorder.claim()


def _put_back(connection: Any, exchange: _Exchange) -> bool:
    stream = exchange.stream
    if stream is None or connection._network_stream is not stream:  # noqa: SLF001
        return False
    connection._network_stream = stream.below  # noqa: SLF001
    exchange.stream = None
    return True


def _take(connection: Any, request: Any) -> _Exchange | None:
    exchange: _Exchange | None = connection.__dict__.get(KEY, {}).pop(request, None)
    if exchange is None:
        return None
    if isinstance(connection._network_stream, _Frames):  # noqa: SLF001
        by_stream = connection._network_stream.by_stream  # noqa: SLF001
        for stream_id in [each for each, other in tuple(by_stream.items()) if other is exchange]:
            del by_stream[stream_id]
    else:
        _put_back(connection, exchange)
    return exchange


@fail_open("tap")
def _failed(connection: Any, request: Any, error: BaseException) -> None:
    exchange = _take(connection, request)
    if exchange is not None:
        exchange.recorder.failed(error)
        exchange.recorder.abandoned()


@fail_open("tap")
def _answered(connection: Any, request: Any, response: Any) -> None:
    exchange = _take(connection, request)
    if exchange is not None:
        if exchange.head:
            # An answer to what was never seen to be sent: it was written in a way that isn't known.
            exchange.recorder.unseen()
        fields = {name.lower(): value.decode("latin-1") for name, value in reversed(response.headers)}
        exchange.recorder.answered(
            response.status,
            fields.get(_RECEIVED_DIGEST),
            fields.get(b"location"),
            fields.get(b"retry-after"),
        )


_RECEIVED_DIGEST: Final = RECEIVED_DIGEST_FIELD.lower().encode("ascii")

# The canaries.


class _Nowhere:
    """
    A network stream that keeps nothing, and answers the canary.
    """

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 -- httpcore's
        return canary.ANSWER

    def close(self) -> None:
        pass


class _AsyncNowhere:
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's
        pass

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 -- httpcore's
        return canary.ANSWER

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> None:
        """As a lock that nobody else wants: the library's own needs an event loop."""

    async def __aexit__(self, *_: object) -> None:
        pass


def _canaries(package: str) -> tuple[Method, Method]:
    def request(library: Any) -> Any:
        headers = [("Host", canary.HOST), ("Content-Length", str(len(canary.BODY)))]
        return library.Request("POST", canary.URL, headers=headers, content=canary.BODY)

    def synchronous() -> None:
        library: Any = sys.modules[package]
        connection = library.HTTP11Connection(library.Origin(b"http", canary.HOST.encode(), 80), _Nowhere())
        connection.handle_request(request(library))

    def asynchronous() -> None:
        library: Any = sys.modules[package]
        connection = library.AsyncHTTP11Connection(library.Origin(b"http", canary.HOST.encode(), 80), _AsyncNowhere())
        connection._state_lock = _AsyncNowhere()  # noqa: SLF001
        steps = connection.handle_async_request(request(library))
        try:
            steps.send(None)  # nothing in it waits
        except StopIteration:
            return
        steps.close()

    return synchronous, asynchronous


class _Kind(NamedTuple):
    """
    One of the library's two halves: where its classes are, how they are called, and what wraps them.
    """

    folder: str
    prefix: str
    handle: str
    pool: Callable[[Method], Method]
    connection: Callable[[Method], Method]
    stream: type[_Stream]
    frames: type[_Frames]


_KINDS: Final = (
    _Kind("_sync", "", "handle_request", _pool, _connection, _Stream, _Frames),
    _Kind("_async", "Async", "handle_async_request", _async_pool, _async_connection, _AsyncStream, _AsyncFrames),
)


def tap(package: str) -> Tap:
    """
    The tap on one package of httpcore's layout.

    Args:
        package: ``httpcore`` or ``httpcore2``.
    """
    points: list[PatchPoint] = []
    for kind in _KINDS:
        where = f"{package}.{kind.folder}"
        one = partial(PatchPoint, f"{where}.http11", f"{kind.prefix}HTTP11Connection")
        # Only where h2 is installed.
        two = partial(PatchPoint, f"{where}.http2", f"{kind.prefix}HTTP2Connection", vital=False, optional=True)
        pool = partial(PatchPoint, f"{where}.connection_pool", f"{kind.prefix}ConnectionPool", vital=False)
        points += [
            one(kind.handle, kind.connection),
            one("_send_request_headers", _headers(kind.stream)),
            one("_receive_response_headers", _response),
            two(kind.handle, kind.connection),
            two("_send_request_headers", _stream_headers(kind.frames)),
            two("_receive_response", _response),
            pool(kind.handle, kind.pool),
        ]
    return Tap(package, tuple(points), module=package, canaries=_canaries(package))


TAPS: Final = (tap("httpcore"), tap("httpcore2"))
