"""
Figure 4: what the tap costs every other http.client request of a process in which nothing is being dispatched.

Measured twice: in real kept-alive requests, where the difference is near the noise, and directly, on a connection with a
socket that does nothing, as a share of the real request's CPU time.
"""

from __future__ import annotations

import http.client
import io
import json
import statistics

from collections.abc import Callable, Iterator

from figures.events import SIZES, events
from figures.loopback import ANSWER, server
from figures.row import Row, Scale, Tick, added, ratios
from figures.rounds import Turn, interleaved
from wirewitness import wire


TITLE = "4  idle tap"
TARGET = 2.0

CALLS = {"real": 600, "direct": 1200}
BLOCKS = 8
WARM = 60

HEADERS = {"Content-Type": "application/json"}


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return 2 * scale.rounds


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it both ways.
    """
    with server() as port:
        real = _spent(http.client.HTTPConnection("127.0.0.1", port), scale.calls(CALLS["real"]), scale, tick)
    direct = _spent(_Deaf("127.0.0.1"), scale.calls(CALLS["direct"]), scale, tick)
    request = statistics.median(real["off"])
    yield _row("in real requests", added(real["on"], real["off"]), real["off"], request)
    yield _row("directly", added(direct["on"], direct["off"]), [request] * scale.rounds, request)


def _row(case: str, more: list[float], of: list[float], request: float) -> Row:
    shares = [100 * ratio for ratio in ratios(more, of)]
    return Row(TITLE, case, "%", shares, TARGET, None, {"request": request, "witness": statistics.median(more)})


def _spent(
    connection: http.client.HTTPConnection, calls: int, scale: Scale, tick: Tick
) -> dict[str, list[float]]:
    run, warm = _requests(connection, calls), _requests(connection, WARM)
    turns = [Turn("off", run, warm=warm), Turn("on", run, wire.install, wire.uninstall, warm)]
    try:
        return interleaved(turns, calls=calls, rounds=scale.rounds, blocks=BLOCKS, tick=tick)
    finally:
        connection.close()


def _requests(connection: http.client.HTTPConnection, calls: int) -> Callable[[], None]:
    body = json.dumps(events(1, SIZES["0.7 kB"])[0].params).encode()

    def run() -> None:
        for _ in range(calls):
            connection.request("POST", "/v1/events", body, HEADERS)
            connection.getresponse().read()

    return run


class _Socket:
    """Takes everything, and answers at once."""

    def sendall(self, data: bytes) -> None:
        """Take it."""

    def makefile(self, mode: str) -> io.BytesIO:  # noqa: ARG002 -- a socket's signature
        """The answer."""
        return io.BytesIO(ANSWER)

    def close(self) -> None:
        """Do nothing."""


class _Deaf(http.client.HTTPConnection):
    """A connection with such a socket."""

    def connect(self) -> None:
        """Have it."""
        self.sock = _Socket()  # type: ignore[assignment]
