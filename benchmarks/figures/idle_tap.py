"""
Figure 4: what the tap costs every other http.client request of a process in which nothing is being dispatched.

Measured twice: in real kept-alive requests, and, for the difference is small, directly, on a connection with a socket that
does nothing, as a share of the real request's CPU time. Stretches of requests with and without the tap alternate, on
connections whose class has the wrapped or the original methods; the medians of a round's requests are compared.
"""

from __future__ import annotations

import gc
import http.client
import io
import json
import socket
import statistics
import time

from collections.abc import Iterator
from typing import Any

from figures.events import SIZES, events
from figures.loopback import ANSWER, server
from figures.row import Row, Scale, Tick, added, ratios
from wirewitness import wire


TITLE = "4  idle tap"
TARGET = 2.0

STRETCHES, STRETCH, WARM = 20, 150, 60

HEADERS = {"Content-Type": "application/json"}
BODY = json.dumps(events(1, SIZES["0.7 kB"])[0].params).encode()

Spent = dict[str, list[float]]


class Untapped(http.client.HTTPConnection):
    """A connection whose methods are the originals: this module is imported before any tap is installed."""

    putrequest = http.client.HTTPConnection.putrequest
    send = http.client.HTTPConnection.send
    getresponse = http.client.HTTPConnection.getresponse


class Tapped(http.client.HTTPConnection):
    """A connection whose methods are whatever http.client's are by now: a subclass too, so that only they differ."""


CLASSES: dict[str, type[http.client.HTTPConnection]] = {"off": Untapped, "on": Tapped}


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return 2 * scale.rounds


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it both ways.
    """
    wire.install()
    with server() as port, socket.create_connection(("127.0.0.1", port)) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        real = _spent(connected, scale, tick)
    direct = _spent(_Socket(), scale, tick)
    request = statistics.median(real["off"])
    yield _row("in real requests", added(real["on"], real["off"]), real["off"], request)
    yield _row("directly", added(direct["on"], direct["off"]), [request] * scale.rounds, request)


def _row(case: str, more: list[float], of: list[float], request: float) -> Row:
    shares = [100 * ratio for ratio in ratios(more, of)]
    return Row(TITLE, case, "%", shares, TARGET, None, {"request": request, "witness": statistics.median(more)})


def _spent(connected: Any, scale: Scale, tick: Tick) -> Spent:
    spent: Spent = {name: [] for name in CLASSES}
    for number in range(scale.rounds):
        for name, nanoseconds in _round(connected, scale.calls(STRETCHES), number).items():
            spent[name].append(statistics.median(nanoseconds) / 1000)
        tick()
    return spent


def _round(connected: Any, stretches: int, number: int) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {name: [] for name in CLASSES}
    gc.collect()
    for stretch in range(stretches):
        for name in CLASSES if (number + stretch) % 2 else reversed(CLASSES):
            taken[name] += _stretch(CLASSES[name]("127.0.0.1"), connected)
    return taken


def _stretch(connection: http.client.HTTPConnection, connected: Any) -> list[int]:
    # An object of its own, for the tap may change how the interpreter lays it out, over the socket that all share, for what
    # a socket costs depends on which core its peer runs on. Warmed, for the interpreter adapts to the class.
    connection.sock = connected
    taken = [_request(connection) for _ in range(WARM + STRETCH)]
    connection.sock = None
    return taken[WARM:]


def _request(connection: http.client.HTTPConnection) -> int:
    started = time.process_time_ns()
    connection.request("POST", "/v1/events", BODY, HEADERS)
    connection.getresponse().read()
    return time.process_time_ns() - started


class _Socket:
    """Takes everything, and answers at once."""

    def sendall(self, data: bytes) -> None:
        """Take it."""

    def makefile(self, mode: str) -> io.BytesIO:  # noqa: ARG002 -- a socket's signature
        """The answer."""
        return io.BytesIO(ANSWER)
