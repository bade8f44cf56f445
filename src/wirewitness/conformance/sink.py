"""
The sink: an HTTP/1.1 endpoint on loopback that records what really arrived.

It parses with h11, independently of the tap, so that the two can be held against each other. A client asks for a fault
by the path that it sends to, as :data:`wirewitness.conformance.answer.RULES` lists them, or by naming such a path in a
header field ``X-Sink``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import socket
import ssl
import struct
import threading
import time

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from wirewitness.conformance.answer import Moment, SinkAnswer, answer_to
from wirewitness.core.payload import repr_digest
from wirewitness.wire.recorder import RECEIVED_DIGEST_FIELD


try:
    import h11
except ImportError as _missing:  # pragma: no cover -- the test environment has it
    msg = "wirewitness.conformance needs h11: pip install 'wirewitness[conformance]'"
    raise ImportError(msg) from _missing

FAULT_FIELD: Final = "x-sink"
"""The request header field that asks for the fault of another path."""

Fields = tuple[tuple[str, str], ...]

_AT_ONCE: Final = 1 << 16
_LONGEST_HEAD: Final = 1 << 20
# socket(7): with a linger time of zero, close() sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)
# Seconds and bytes for which a client that is refused may still send, so that it can read the answer (RFC 9112 section 9.6).
_LINGER: Final = 2.0
_MOST_LINGERED: Final = 64 << 20
# Seconds between two looks of the accepting thread, and after a connection that could not be had.
_LOOK: Final = 0.5
_BACK_OFF: Final = 0.05
# RFC 9110 sections 15.3.5 and 15.4.5: these have no content, and so no length of it.
_WITHOUT_CONTENT: Final = frozenset({204, 304})


@dataclass(frozen=True)
class Received:
    """
    One request as it arrived.

    Attributes:
        method: As received.
        target: The request target as received (RFC 9112 section 3.2). In no repr: its query can hold secrets.
        headers: The header fields in their order, the names in lower case. In no repr.
        body: The content without framing, as far as it was read. In no repr.
        connection: Which connection it came on: the sink counts them from 0.
        complete: Whether all of the content arrived before the sink answered or the connection ended.
        status: What it was answered; None where the connection ended in place of an answer.
        arrived: When the sink had read what it read, monotonic seconds.
    """

    method: str
    target: str = field(repr=False)
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)
    connection: int
    complete: bool = True
    status: int | None = None
    arrived: float = field(default=0.0, compare=False)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content, 32 bytes."""
        return hashlib.sha256(self.body).digest()

    def header(self, name: str) -> str | None:
        """
        A header field's first value, or None.
        """
        return next((value for known, value in self.headers if known == name.lower()), None)


class _Log:
    """
    What has arrived at a sink, and what was asked of it.
    """

    def __init__(self) -> None:
        self._grown = threading.Condition()
        self._received: list[Received] = []
        self._asked: Counter[str] = Counter()
        self._scripts: dict[str, deque[int]] = {}

    def received(self) -> list[Received]:
        with self._grown:
            return list(self._received)

    def clear(self) -> None:
        with self._grown:
            self._received.clear()
            self._asked.clear()
            self._scripts.clear()

    def wait_for(self, count: int, timeout: float) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: len(self._received) >= count, timeout)

    def script(self, path: str, statuses: Iterable[int]) -> None:
        with self._grown:
            self._scripts[path] = deque(statuses)

    def answer(self, target: str) -> SinkAnswer:
        path, _, query = _origin_form(target).partition("?")
        with self._grown:
            earlier = self._asked[path]
            self._asked[path] += 1
            if path in self._scripts:
                return SinkAnswer(self._scripts[path].popleft() if self._scripts[path] else 204)
        return answer_to(path, query, earlier)

    def record(self, received: Received) -> None:
        with self._grown:
            self._received.append(received)
            self._grown.notify_all()


def _asked_of(head: h11.Request) -> str:
    asked = dict(head.headers).get(FAULT_FIELD.encode("ascii"), head.target)
    return asked.decode("latin-1")


def _origin_form(target: str) -> str:
    # RFC 9112 section 3.2.2: a server must accept the absolute form, too.
    scheme, found, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if found and scheme.lower() in {"http", "https"} else target


class Sink:
    """
    A loopback endpoint in threads of its own. A context manager: it listens from the block's begin to its end.

    Args:
        host: The IPv4 address to listen on.
        port: The port; 0 for any that is free.
        tls: A server's context, for ``https``; None for ``http``.

    Attributes:
        host: The address it listens on.
        port: The port, once it listens.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port: int = port
        self._tls = tls
        self._log = _Log()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._open: dict[threading.Thread, socket.socket] = {}

    @property
    def url(self) -> str:
        """The sink's origin, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def requests(self) -> list[Received]:
        """What has arrived since the last :meth:`clear`, in the order of arrival."""
        return self._log.received()

    def clear(self) -> None:
        """
        Forget what has arrived, and all scripts.
        """
        self._log.clear()

    def wait_for(self, count: int, timeout: float = 5.0) -> bool:
        """
        Wait until this many requests have arrived.

        Args:
            count: How many.
            timeout: Seconds to wait at most.

        Returns:
            Whether they have.
        """
        return self._log.wait_for(count, timeout)

    def script(self, path: str, statuses: Iterable[int]) -> None:
        """
        Have the next requests for a path answered with these status codes, one each, and all later ones with 204.

        Args:
            path: Any path, without a query.
            statuses: From 200 to 599.
        """
        self._log.script(path, statuses)

    def start(self) -> Self:
        """
        Listen.
        """
        self._stopping.clear()
        self._listener = socket.create_server((self.host, self.port))
        self._listener.settimeout(_LOOK)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="sink", daemon=True)
        self._acceptor.start()
        return self

    def close(self) -> None:
        """
        End all connections, and wait until their threads are over.
        """
        listener, self._listener = self._listener, None
        if listener is None or self._acceptor is None:
            return
        self._stopping.set()
        with contextlib.suppress(
            OSError
        ):  # it wakes accept() at once; without a descriptor for it that looks by itself
            socket.create_connection((self.host, self.port), timeout=1.0).close()
        self._acceptor.join()
        listener.close()
        for thread, connection in tuple(self._open.items()):
            with contextlib.suppress(OSError):  # an answer that is under way still goes out
                socket.socket.shutdown(connection, socket.SHUT_RD)
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sink {self.url}: {len(self.requests)} requests>"

    def _accept(self, listener: socket.socket) -> None:
        numbers = itertools.count()
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                # No descriptor left, or the client has gone already: those that wait stay in the backlog.
                self._stopping.wait(_BACK_OFF)
                continue
            if self._stopping.is_set():
                connection.close()
                return
            number = next(numbers)
            thread = threading.Thread(target=self._serve, args=(connection, number), name=f"sink-{number}", daemon=True)
            self._open[thread] = connection
            try:
                thread.start()
            except RuntimeError:  # no thread left
                del self._open[thread]
                connection.close()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                # The plain socket is detached by that: what close() ends is the TLS one.
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                self._open[threading.current_thread()] = connection
            with connection:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _Conversation(connection, number, self._log, self._stopping).run()
        self._open.pop(threading.current_thread(), None)


class _Conversation:
    """
    The requests and responses on one connection.
    """

    def __init__(self, connection: socket.socket, number: int, log: _Log, stopping: threading.Event) -> None:
        self._socket = connection
        self._number = number
        self._log = log
        self._stopping = stopping
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._answered = False

    def run(self) -> None:
        try:
            while self._turn():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 -- a fault of the sink's is an answer, too
            self._refuse(500)

    def _refuse(self, status: int) -> None:
        # By hand: h11 sends nothing more once it has found a fault.
        if self._answered or self._stopping.is_set():
            return
        self._socket.sendall(f"HTTP/1.1 {status} \r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("ascii"))
        # Closed at once, with something unread, the connection would be reset, and the client lose the answer.
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(_LINGER)
        deadline, left = time.monotonic() + _LINGER, _MOST_LINGERED
        while left > 0 and time.monotonic() < deadline and (piece := self._socket.recv(_AT_ONCE)):
            left -= len(piece)

    def _turn(self) -> bool:
        self._answered = False
        head = self._event()
        if not isinstance(head, h11.Request):
            return False
        answer = self._log.answer(_asked_of(head))
        pieces: list[bytes] = []
        try:
            self._read(answer, pieces)
        finally:
            received = self._received(head, b"".join(pieces), answer.status)
            self._log.record(received)
        self._stopping.wait(answer.delay)
        return self._act(answer, received)

    def _read(self, answer: SinkAnswer, pieces: list[bytes]) -> None:
        if answer.moment is Moment.AT_HEAD:
            return
        if self._http.they_are_waiting_for_100_continue:
            self._socket.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        while isinstance(event := self._event(), h11.Data):
            pieces.append(bytes(event.data))
            if answer.moment is Moment.IN_CONTENT:
                return
            self._stopping.wait(answer.pace)

    def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._socket.recv(_AT_ONCE))
        return event

    def _received(self, head: h11.Request, body: bytes, status: int | None) -> Received:
        return Received(
            method=head.method.decode("latin-1"),
            target=head.target.decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers),
            body=body,
            connection=self._number,
            complete=self._http.their_state not in {h11.SEND_BODY, h11.ERROR},
            status=status,
            arrived=time.monotonic(),
        )

    def _act(self, answer: SinkAnswer, received: Received) -> bool:
        if answer.status is None:
            if not answer.orderly:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return False
        digest = ((RECEIVED_DIGEST_FIELD, repr_digest(received.digest)),) if answer.tells_digest else ()
        self._respond(answer.status, (*answer.fields, *digest), close=answer.close)
        return not answer.hangs_up and self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    def _respond(self, status: int, fields: Fields, *, close: bool) -> None:
        length = () if status in _WITHOUT_CONTENT else (("Content-Length", "0"),)
        closing = (("Connection", "close"),) if close else ()
        encoded = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in (*fields, *length, *closing)
        ]
        head = self._http.send(h11.Response(status_code=status, headers=encoded)) or b""
        # After a 2xx to CONNECT what comes next is no HTTP (RFC 9110 section 9.3.6).
        switched = self._http.our_state is h11.SWITCHED_PROTOCOL
        end = b"" if switched else self._http.send(h11.EndOfMessage()) or b""
        self._answered = True
        self._socket.sendall(head + end)
