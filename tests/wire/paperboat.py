"""
An invented client library: one request per connection, and a method for each step, as the real ones have.
"""

from __future__ import annotations

import contextlib
import socket


class Boat:
    """
    A connection.
    """

    def __init__(self, host, port, sock=None):
        self.host, self.port, self._sock = host, port, sock

    def post(self, path, body):
        """POST, and return the status of the answer."""
        if self._sock is None:
            self._sock = socket.create_connection((self.host, self.port), timeout=10)
        with contextlib.closing(self._sock):
            head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            self.write(head.encode("ascii"))
            self.write(body)
            return self.status()

    def write(self, data):
        self._sock.sendall(data)

    def status(self):
        with self._sock.makefile("rb") as answer:
            return int(answer.readline().split()[1])
