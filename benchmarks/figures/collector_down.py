"""
Figure 6: the slowest hundredth of dispatches while the OTLP collector is down, in multiples of those while it's up.

Wall time of a dispatch with a real exchange, traces and metrics exported by ``configure_telemetry``: at a steady pace, and one
after the other. Each turn is a process of its own, for what one exporter could not send must not weigh on the other's turn.
A turn makes three times as many spans as the SDK's queue takes, so that it is full for most of the time with the collector down.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import time

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import urllib3

from figures.events import SIZES, events
from figures.late import check
from figures.loopback import server
from figures.row import Row, Scale, Tick, ratios
from wirewitness import Outcome, configure_telemetry, ledger_of, witness


TITLE = "6  the collector is down"
TARGET = 1.2

SIZE = "0.7 kB"
CALLS = 1500
WARM = 150

PACES = {"p99, 500 per second": 500, "p99, one after the other": 0}
"""Dispatches per second; 0 for as many as there can be."""


class Where(NamedTuple):
    """
    What is spoken to.

    Attributes:
        url: What is dispatched to.
        up: The port of a collector that answers.
        down: A port where nobody listens.
    """

    url: str
    up: int
    down: int


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(PACES)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for both paces.
    """
    with server() as endpoint, server() as collector:
        where = Where(f"http://127.0.0.1:{endpoint}/v1/events", collector, _deaf())
        for case in PACES:
            yield _case(case, where, scale, tick)


def _case(case: str, where: Where, scale: Scale, tick: Tick) -> Row:
    slowest: dict[str, list[float]] = {"up": [], "down": []}
    for number in range(scale.rounds):
        for name in ("up", "down") if number % 2 else ("down", "up"):
            slowest[name].append(_turn(where.url, getattr(where, name), scale.calls(CALLS), PACES[case]))
        tick()
    parts = {"control": statistics.median(slowest["up"]), "witness": statistics.median(slowest["down"])}
    note = "Microseconds of wall time, 99th percentile of a round: control with the collector up, witness with it down."
    return Row(TITLE, case, "x", ratios(slowest["down"], slowest["up"]), TARGET, None, parts, note)


def _deaf() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _turn(url: str, collector: int, calls: int, pace: int) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    # Exports begin early enough to fall into the turn; one that fails is tried again for as long as that.
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BSP_MAX_QUEUE_SIZE": str(calls // 3),
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(calls // 6),
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    command = [sys.executable, "-m", "figures.collector_down", url, str(calls), str(pace)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def _p99(url: str, calls: int, pace: int) -> float:
    # An application's log is a file: what OpenTelemetry writes into it is a cost of the collector's being down.
    logging.basicConfig(filename=os.devnull, level=logging.WARNING)
    configure_telemetry("benchmark")
    with urllib3.PoolManager() as pool:

        @witness(name="Sender", payload="body", url="url")
        def send(url: str, body: bytes) -> None:
            pool.request("POST", url, body=body, retries=False)

        bodies = [json.dumps(event.params).encode() for event in events(calls + WARM, SIZES[SIZE], url)]
        taken = []
        begun = time.perf_counter()
        for number, body in enumerate(bodies):
            if pace:
                time.sleep(max(0.0, begun + number / pace - time.perf_counter()))
            started = time.perf_counter_ns()
            send(url, body)
            taken.append((time.perf_counter_ns() - started) / 1000)
        check(ledger_of(send).book(), Outcome.DELIVERED)
    return statistics.quantiles(taken[WARM:], n=100)[-1]


def _main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("url")
    arguments.add_argument("calls", type=int)
    arguments.add_argument("pace", type=int)
    given = arguments.parse_args()
    print(_p99(given.url, given.calls, given.pace), flush=True)
    # Shutting down would try to export what is left, for as long as the exporters' timeouts: that is not what's measured.
    os._exit(0)


if __name__ == "__main__":
    _main()
