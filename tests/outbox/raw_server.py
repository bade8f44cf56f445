"""
A server that answers with bytes that no sink would, piece by piece if need be.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading


class RawServer:
    """
    Calls ``answer(connection, number)`` for every request, in a thread of its connection, and keeps what it was sent.

    Attributes:
        heads: The heads of requests, in the order in which they came.
        over: Set when the test is over, or a client has gone away: whoever drips stops.
    """

    def __init__(self, answer, *, tls=None, handshake=None):
        self.heads = []
        self.over = threading.Event()
        self.connections = 0
        self._answer = answer
        self._tls = tls
        self._handshake = handshake
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls or handshake else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def _accept(self):
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        connection.settimeout(20.0)
        with contextlib.suppress(OSError, ValueError), connection:
            if self._handshake is not None:
                self._handshake(connection)
            elif self._tls is None:
                self._read(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                    self._read(wrapped)

    def _read(self, connection):
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                piece = connection.recv(1 << 16)
                if not piece:
                    return
                received += piece
            head, _, received = received.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            length = int(found[1]) if found else 0
            while len(received) < length:
                received += connection.recv(1 << 16)
            received = received[length:]
            self.heads.append(head)
            self._answer(connection, len(self.heads))

    def drip(self, connection, data, pause=0.05):
        """
        Send byte by byte, until the client has gone or the test is over.
        """
        for byte in data:
            if self.over.wait(pause):
                return
            connection.sendall(bytes([byte]))

    def drip_for_ever(self, connection, pause=0.02):
        while not self.over.wait(pause):
            connection.sendall(b"x")

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self._threads[0].join(20.0)
        self._listener.close()


def always(data):
    return lambda connection, number: connection.sendall(data)
