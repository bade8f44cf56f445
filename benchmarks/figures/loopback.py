"""
A small HTTP/1.1 server in a process of its own, so that its CPU time isn't the client's: answers every request with 204.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading

from collections.abc import Iterator
from pathlib import Path


ANSWER = b"HTTP/1.1 204 No Content\r\nServer: loopback\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"


@contextlib.contextmanager
def server() -> Iterator[int]:
    """
    Run the server.

    Yields:
        Its port on 127.0.0.1.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "figures.loopback"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    # It ends when its standard input does: with this process, however that ends.
    with process:
        yield int(process.stdout.readline())  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer_all, args=(connection,), daemon=True).start()


def _answer_all(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(ConnectionError):
        received = b""
        while True:
            while END_OF_HEAD not in received:
                piece = connection.recv(1 << 16)
                if not piece:
                    return
                received += piece
            head, _, rest = received.partition(END_OF_HEAD)
            received = _skip(connection, _length(head), rest)
            connection.sendall(ANSWER)


def _length(head: bytes) -> int:
    _, found, value = head.lower().partition(b"content-length:")
    return int(value.partition(b"\r\n")[0]) if found else 0


def _skip(connection: socket.socket, length: int, rest: bytes) -> bytes:
    missing = length - len(rest)
    while missing > 0:
        missing -= len(connection.recv(min(missing, 1 << 20)))
    return rest[length:]


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        threading.Thread(target=_serve, args=(listening,), daemon=True).start()
        sys.stdin.read()


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """
    A port that nobody listens on, and nobody else is given.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
