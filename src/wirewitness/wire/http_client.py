"""
The tap on ``http.client``, in which urllib, urllib3 and requests all end, and on urllib3's connect step.

What counts as sent is what ``HTTPConnection.send`` was given, after it has returned: below all rewriting that Python does,
above TLS. urllib3 connects TLS before it begins a request, so a failed handshake is seen only at its ``connect``.
"""

from __future__ import annotations

import http.client

from typing import Any, Final

from wirewitness._guard import fail_open
from wirewitness.dispatch import current
from wirewitness.wire import canary
from wirewitness.wire.patching import Method, PatchPoint, Tap
from wirewitness.wire.recorder import RECEIVED_DIGEST_FIELD, Recorder, Server, begin, connect_failed, nobody_waits


KEY: Final = "_wirewitness"
"""Where a connection keeps the recorder of the request that it is busy with."""

CONNECTING: Final = "_wirewitness_connecting"

_FINAL: Final = 200


def _putrequest(original: Method) -> Method:
    def putrequest(
        self: Any,
        method: str,
        url: str,
        skip_host: bool = False,  # noqa: FBT001, FBT002 -- http.client's
        skip_accept_encoding: bool = False,  # noqa: FBT001, FBT002 -- http.client's
    ) -> Any:
        if nobody_waits():
            _forget(self)
            return original(self, method, url, skip_host, skip_accept_encoding)
        recorder: Recorder | None = getattr(self, KEY, None)
        # Within our own wrapper: another tool's stands between the two.
        if recorder is not None and recorder.inside:
            return original(self, method, url, skip_host, skip_accept_encoding)
        _abandon(self)
        recorder = _begin(self, method, url)
        if recorder is None:
            return original(self, method, url, skip_host, skip_accept_encoding)
        recorder.inside = True
        try:
            return original(self, method, url, skip_host, skip_accept_encoding)
        except BaseException as error:
            recorder.failed(error)
            _abandon(self)
            raise
        finally:
            recorder.inside = False

    return putrequest


def _send(original: Method) -> Method:
    def send(self: Any, data: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        # A send within a send is http.client asking a proxy for a tunnel, or our own wrapper below another tool's.
        if recorder is None or recorder.inside:
            return original(self, data)
        recorder.inside = True
        try:
            sent = original(self, data)
        except BaseException as error:
            recorder.failed(error)
            raise
        finally:
            recorder.inside = False
        recorder.sent(data)
        return sent

    return send


def _getresponse(original: Method) -> Method:
    def getresponse(self: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        if recorder is None or recorder.inside:
            return original(self)
        recorder.claim()
        recorder.inside = True
        try:
            response = original(self)
        except BaseException as error:
            recorder.failed(error)
            _abandon(self)
            raise
        finally:
            recorder.inside = False
        _answered(self, recorder, response)
        return response

    return getresponse


def _connect(original: Method) -> Method:
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder: Recorder | None = getattr(self, KEY, None)
        # A connect within a send fails that send, and is reported there; so is one within our own wrapper.
        if current() is None or (recorder is not None and recorder.inside) or getattr(self, CONNECTING, False):
            return original(self, *args, **kwargs)
        server = _server(self)  # now: urllib3 forgets a tunnel's server when its proxy refuses
        setattr(self, CONNECTING, True)
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            if server is not None:
                connect_failed(server, error)
            raise
        finally:
            setattr(self, CONNECTING, False)

    return connect


@fail_open("tap")
def _begin(connection: Any, method: str, url: str) -> Recorder | None:
    recorder = begin(_server_of(connection), method, url or "/")
    if recorder is not None:
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


def _server_of(connection: Any) -> Server:
    tunnelled = getattr(connection, "_tunnel_host", None)
    return Server(
        scheme="https" if connection.default_port == http.client.HTTPS_PORT else "http",
        host=tunnelled or connection.host,
        port=(connection._tunnel_port if tunnelled else connection.port) or connection.default_port,  # noqa: SLF001
    )


_server = fail_open("tap")(_server_of)


@fail_open("tap")
def _answered(connection: Any, recorder: Recorder, response: Any) -> None:
    # A client that reads on behind an interim answer gets another one here.
    if response.status >= _FINAL:
        _forget(connection)
    headers = response.headers
    recorder.answered(
        response.status, headers.get(RECEIVED_DIGEST_FIELD), headers.get("Location"), headers.get("Retry-After")
    )


def _canary() -> None:
    connection = http.client.HTTPConnection(canary.HOST)
    connection.sock = canary.Nowhere()
    connection.request("POST", canary.PATH, canary.BODY)
    connection.getresponse().close()
    connection.close()


PATCH_POINTS: Final = (
    PatchPoint("http.client", "HTTPConnection", "putrequest", _putrequest),
    PatchPoint("http.client", "HTTPConnection", "send", _send),
    PatchPoint("http.client", "HTTPConnection", "getresponse", _getresponse),
    PatchPoint("urllib3.connection", "HTTPConnection", "connect", _connect, vital=False),
    PatchPoint("urllib3.connection", "HTTPSConnection", "connect", _connect, vital=False),
)

TAP: Final = Tap("http.client", PATCH_POINTS, {KEY: None}, canaries=(_canary,))
