"""
Nothing grows with the number of calls: memory, descriptors and threads after very many are what they were after a few.
"""

from __future__ import annotations

import gc
import http.client
import json
import socket
import threading
import tracemalloc

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from wirewitness import HttpSender, MemorySpool, Outbox, Outcome, SqliteSpool, ledger_of, witness


DESCRIPTORS = Path("/proc/self/fd")
MOST_BYTES = 64 << 10
"""How much more may be allocated at the end: less than one byte for each call of the long round."""
MOST_MORE = 4


class Quick:
    """An endpoint that keeps nothing of what it is sent, so that nothing of what grows is its own."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/events"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        with connection, connection.makefile("rb") as received:
            while line := received.readline():
                length = 0
                while line not in {b"\r\n", b""}:
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                    line = received.readline()
                received.read(length)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def endpoint():
    with Quick() as started:
        yield started


class Witnessed:
    """A dispatcher over one kept-alive connection."""

    def __init__(self, tmp_path):
        self._connection = None
        self._dispatch = witness(self._send, name="witnessed")

    def _send(self, http_verb, url, params):
        parts = urlsplit(url)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        self._connection.request(http_verb, parts.path, json.dumps(params))
        self._connection.getresponse().read()

    def calls(self, url, numbers):
        for number in numbers:
            self._dispatch("POST", url, {"number": number, "text": "x" * 100})

    @property
    def book(self):
        return ledger_of(self._dispatch).book()

    def close(self):
        if self._connection is not None:
            self._connection.close()


class Unseen(Witnessed):
    """A dispatcher that sends nothing, so that each call waits for late evidence and is given up."""

    def _send(self, http_verb, url, params):
        pass


class Queued:
    """An Outbox."""

    spool = staticmethod(lambda folder: MemorySpool(most=1000))

    def __init__(self, tmp_path):
        self._outbox = Outbox(HttpSender(threads=2), spool=self.spool(tmp_path / "spool"))

    def calls(self, url, numbers):
        for number in numbers:
            self._outbox("POST", url, {"number": number, "text": "x" * 100})
            # Tables grow with what is queued at once, and stay so.
            if number % 50 == 49:
                assert self._outbox.flush(60.0).empty
        assert self._outbox.flush(60.0).empty

    @property
    def book(self):
        return self._outbox.ledger.book()

    def close(self):
        self._outbox.close(10.0)


class QueuedOnDisk(Queued):
    """An Outbox with a spool on disk."""

    spool = staticmethod(SqliteSpool)


def used():
    gc.collect()
    return (
        tracemalloc.get_traced_memory()[0],
        len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0,
        threading.active_count(),
    )


def grown(kind, url, tmp_path, *, warm, calls):
    """What is more after so many calls than after the first few: bytes, descriptors and threads."""
    dispatcher = kind(tmp_path)
    try:
        dispatcher.calls(url, range(warm))
        tracemalloc.start()
        try:
            # Once more, so that what each thread and cache holds is allocated while it is traced.
            dispatcher.calls(url, range(warm))
            before = used()
            dispatcher.calls(url, range(calls))
            after = used()
        finally:
            tracemalloc.stop()
        assert dispatcher.book.accepted == 2 * warm + calls
        if kind is not Unseen:
            assert dispatcher.book.count(Outcome.DELIVERED) == dispatcher.book.accepted
    finally:
        dispatcher.close()
    return [now - then for then, now in zip(before, after, strict=True)]


def assert_nothing_grows(kind, url, tmp_path, *, warm, calls):
    size, descriptors, threads = grown(kind, url, tmp_path, warm=warm, calls=calls)
    assert size < MOST_BYTES
    # A thread or a connection more at first is none for each call.
    assert descriptors <= MOST_MORE
    assert threads <= MOST_MORE


@pytest.mark.processes
@pytest.mark.parametrize("kind", [Witnessed, Queued, QueuedOnDisk])
def test_nothing_grows_with_the_number_of_calls(endpoint, tmp_path, kind):
    assert_nothing_grows(kind, endpoint.url, tmp_path, warm=150, calls=500)


@pytest.mark.soak
@pytest.mark.slow("20,000 calls each")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", [Witnessed, Unseen, Queued, QueuedOnDisk])
def test_nothing_grows_within_twenty_thousand_calls(endpoint, tmp_path, kind):
    # What waits for late evidence is bounded: that bound is reached before anything is measured.
    assert_nothing_grows(kind, endpoint.url, tmp_path, warm=12_000 if kind is Unseen else 1000, calls=20_000)
