"""
Dispatchers over the four libraries, a proxy, and what a dispatch must agree with the sink in.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.request

from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from wirewitness import Outcome, Verdict, witness
from wirewitness.testing import capture


PATIENCE = 10.0
PAYLOAD = {"visitors": [{"id": "v1", "name": "Zoë"}], "revision": 3}
BODY = json.dumps(PAYLOAD).encode("ascii")

ONLY_REDIRECTS = urllib3.Retry(None, connect=0, read=0, status=0, other=0, redirect=3)


def encoded(params):
    return json.dumps(params) if isinstance(params, (dict, list)) else params


def by_requests(http_verb, url, params):
    if http_verb in {"GET", "HEAD"}:
        return requests.request(http_verb, url, params=params, timeout=PATIENCE)
    return requests.request(http_verb, url, data=encoded(params), timeout=PATIENCE)


def by_urllib3(http_verb, url, params):
    with urllib3.PoolManager(timeout=PATIENCE, retries=ONLY_REDIRECTS) as pool:
        if http_verb in {"GET", "HEAD"}:
            return pool.request(http_verb, url, fields=params)
        return pool.request(http_verb, url, body=encoded(params))


def by_urllib(http_verb, url, params):
    body = encoded(params)
    if http_verb in {"GET", "HEAD"}:
        url, body = f"{url}?{urlencode(params)}", None
    elif isinstance(body, str):
        body = body.encode()
    request = urllib.request.Request(url, body, method=http_verb)
    try:
        with urllib.request.build_opener().open(request, timeout=PATIENCE) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.status


def by_http_client(http_verb, url, params):
    parts = urlsplit(url)
    query, body = f"?{parts.query}" if parts.query else "", encoded(params)
    if http_verb in {"GET", "HEAD"}:
        query, body = f"?{urlencode(params)}", None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(http_verb, f"{parts.path}{query}", body)
        return connection.getresponse().status


CLIENTS = {
    "requests": by_requests,
    "urllib3": by_urllib3,
    "urllib": by_urllib,
    "http.client": by_http_client,
}


def settled(inner, url, params=PAYLOAD, verb="POST", **options):
    """The dispatches that one call of a dispatcher leaves behind, whatever it raises."""
    with capture() as dispatches, contextlib.suppress(Exception):
        witness(inner, **options)(verb, url, params)
    return dispatches


def one(inner, url, params=PAYLOAD, verb="POST", **options):
    """The only dispatch. The sink's own word counts."""
    if url is not None and "/echo-digest" in url:
        options.setdefault("receiver_origins", [url.partition("/echo-digest")[0]])
    (dispatch,) = settled(inner, url, params, verb, **options)
    return dispatch


def ending(dispatch):
    """How it ended, in one tuple."""
    return (dispatch.outcome, dispatch.verdict, dispatch.evidence, dispatch.reason)


def assert_agreement(sink, *dispatches):
    """Every request that the sink received is an exchange with the same method, target, content and digest."""
    exchanges = [exchange for dispatch in dispatches for exchange in dispatch.exchanges]
    seen = [(each.method, each.path, each.query, each.body, each.digest) for each in exchanges]
    received = [(each.method, *path_and_query(each.target), each.body, each.digest) for each in sink.requests]
    assert seen == received
    assert {exchange.port for exchange in exchanges} == {sink.port}
    for dispatch in dispatches:
        assert [exchange.resend_count for exchange in dispatch.exchanges] == list(range(len(dispatch.exchanges)))


def path_and_query(target):
    parts = urlsplit(target)
    return parts.path, parts.query


def assert_delivered(sink, dispatch, verdict=Verdict.IDENTICAL):
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.DELIVERED, verdict)
    assert_agreement(sink, dispatch)


class Proxy:
    """
    A forward proxy: CONNECT makes a tunnel; any other request is sent on in origin form.

    Attributes:
        asked: The request lines that it got.
        refuse_with: A status line's code and phrase with which every request is refused; empty to serve them.
        change: Applied to what is sent on.
    """

    def __init__(self):
        self.asked = []
        self.refuse_with = ""
        self.change = bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)

    def close(self):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._start(self._serve, client)

    def _serve(self, client):
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = client.recv(65536)
                if not piece:
                    return
                head += piece
            head, _, rest = head.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            self.asked.append(line.decode("ascii"))
            if self.refuse_with:
                client.sendall(f"HTTP/1.1 {self.refuse_with}\r\nContent-Length: 0\r\n\r\n".encode("ascii"))
                client.shutdown(socket.SHUT_WR)
                return
            method, target, version = line.split(b" ")
            if method == b"CONNECT":
                server = self._connect(f"//{target.decode('ascii')}")
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server = self._connect(target.decode("ascii"))
                parts = urlsplit(target.decode("ascii"))
                origin = parts.path + (f"?{parts.query}" if parts.query else "")
                server.sendall(b" ".join((method, origin.encode("ascii"), version)) + b"\r\n" + fields + b"\r\n\r\n")
            server.sendall(self.change(rest))
            self._start(self._copy, server, client, bytes)
            self._copy(client, server, self.change)

    def _connect(self, url):
        parts = urlsplit(url)
        server = socket.create_connection((parts.hostname, parts.port))
        self._sockets.append(server)
        return server

    def _copy(self, source, to, change):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                to.sendall(change(piece))
            to.shutdown(socket.SHUT_WR)
