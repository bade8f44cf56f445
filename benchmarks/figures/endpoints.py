"""
Servers for many connections, in processes of their own: a fast one, and one that takes its time.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from figures.loopback import ANSWER, END_OF_HEAD, server


class Endpoint(NamedTuple):
    """
    Where a turn sends to.

    Attributes:
        name: What serves it.
        port: Its port on 127.0.0.1.
        served: Counts the requests it has had by now, or None where it can't tell.
    """

    name: str
    port: int
    served: Callable[[], int] | None = None

    @property
    def url(self) -> str:
        """Where events go."""
        return f"http://127.0.0.1:{self.port}/v1/events"


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ return 204; }}
    location = /served {{ stub_status; }}
  }}
}}
"""


@contextlib.contextmanager
def fast() -> Iterator[Endpoint]:
    """
    nginx, or where there's none the small server of the other figures, which is the slowest of all in its company.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        with server() as port:
            yield Endpoint("a thread a connection, in Python: nginx isn't installed", port)
        return
    with tempfile.TemporaryDirectory() as folder, _nginx(nginx, Path(folder)) as port:
        yield Endpoint("nginx, one worker", port, lambda: _served(port))


@contextlib.contextmanager
def _nginx(nginx: str, folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    # Its worker is root's no longer, where it was started as such.
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port), encoding="utf-8")
    with subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]) as process:
        try:
            _await(port)
            yield port
        finally:
            process.terminate()


def _await(port: int) -> None:
    deadline = time.monotonic() + 5
    while not _listens(port):
        if time.monotonic() > deadline:
            msg = "nginx doesn't listen"
            raise RuntimeError(msg)
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _served(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/served") as answer:
        # "server accepts handled requests", and the numbers below; this request is one of them.
        return int(answer.read().split()[9])


@contextlib.contextmanager
def slow(seconds: float) -> Iterator[Endpoint]:
    """
    Takes so long for each request, for any number at once.
    """
    command = [sys.executable, "-m", "figures.endpoints", str(seconds)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Endpoint(f"{seconds * 1000:g} ms a request", int(process.stdout.readline()))  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]


class Slow:
    """
    One thread, all connections.

    Args:
        listener: Where they come from.
        seconds: How long each request takes.
    """

    def __init__(self, listener: socket.socket, seconds: float) -> None:
        self._seconds = seconds
        self._selector = selectors.DefaultSelector()
        self._received: dict[socket.socket, bytes] = {}
        self._due: list[tuple[float, int, socket.socket]] = []
        self._numbers = itertools.count()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)

    def run(self) -> None:
        """
        Until standard input ends.
        """
        while True:
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    return
                key.data(key.fileobj)
            self._answer()

    def _patience(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self, connection: socket.socket) -> None:
        piece = connection.recv(1 << 16)
        if not piece:
            self._selector.unregister(connection)
            connection.close()
            return
        received = self._received[connection] + piece
        head, separator, rest = received.partition(END_OF_HEAD)
        if separator and len(rest) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            heapq.heappush(self._due, (time.monotonic() + self._seconds, next(self._numbers), connection))
            received = b""
        self._received[connection] = received

    def _answer(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            with contextlib.suppress(OSError):
                heapq.heappop(self._due)[2].sendall(ANSWER)


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        print(listening.getsockname()[1], flush=True)
        Slow(listening, float(sys.argv[1])).run()
