"""
Figure 4: what the tap costs every other http.client request of a process in which nothing is being dispatched.

Measured twice: in real kept-alive requests, and, for the difference is small, directly, on a connection with a socket that
does nothing, as a share of the real request's CPU time. Requests with and without the tap alternate in short stretches
on one connection, whose class has the wrapped or the original methods; the medians of a round's requests are compared.
"""

from __future__ import annotations

import gc
import http.client
import io
import json
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

CALLS = {"real": 2500, "direct": 4000}
STRETCH, WARM = 25, 5

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
    with server() as port:
        real = _spent(port, None, scale.calls(CALLS["real"]), scale, tick)
    direct = _spent(1, _Socket(), scale.calls(CALLS["direct"]), scale, tick)
    request = statistics.median(real["off"])
    yield _row("in real requests", added(real["on"], real["off"]), real["off"], request)
    yield _row("directly", added(direct["on"], direct["off"]), [request] * scale.rounds, request)


def _row(case: str, more: list[float], of: list[float], request: float) -> Row:
    shares = [100 * ratio for ratio in ratios(more, of)]
    return Row(TITLE, case, "%", shares, TARGET, None, {"request": request, "witness": statistics.median(more)})


def _spent(port: int, socket: Any, calls: int, scale: Scale, tick: Tick) -> Spent:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = socket
    _alternate(connection, calls)
    spent: Spent = {name: [] for name in CLASSES}
    for _ in range(scale.rounds):
        for name, nanoseconds in _alternate(connection, calls).items():
            spent[name].append(statistics.median(nanoseconds) / 1000)
        tick()
    connection.close()
    return spent


def _alternate(connection: http.client.HTTPConnection, calls: int) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {name: [] for name in CLASSES}
    gc.collect()
    for stretch in range(calls // STRETCH):
        # on, off, off, on, ...: neither has always the same neighbour.
        for name in CLASSES if stretch % 2 else reversed(CLASSES):
            connection.__class__ = CLASSES[name]
            taken[name] += [_request(connection) for _ in range(WARM + STRETCH)][WARM:]
    return taken


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

    def close(self) -> None:
        """Do nothing."""
