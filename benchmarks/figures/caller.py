"""
What an Outbox costs its caller: ``dispatch_event``, paced, beside ``json.dumps`` and ``deque.append`` of the same event.

Wall-clock time of single calls, for a caller waits in wall-clock time: a sender's thread that holds the interpreter counts.
Both contenders take turns call by call. The caller's span isn't sampled; metrics are aggregated for a reader in memory.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import tempfile
import time

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from figures.events import SIZES, Event, events
from figures.loopback import nobody, server
from figures.row import Row, Scale, Tick, ratios
from figures.sdk import configure_structlog, sdk
from wirewitness.outbox import HttpSender, MemorySpool, Outbox, SqliteSpool


TITLE = "Outbox 1  what the caller waits"
RATE = 5_000
CALLS = 4_000
MOST_P50, MOST_P99, MOST_DOWN = 2.5, 10.0, 1.5
SPOOLS = ("memory", "group")


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(SPOOLS) * 2


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Each spool, with the endpoint up and down.
    """
    configure_structlog(logging.ERROR)
    context.attach(
        trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(0))))
    )
    with server() as port, nobody() as unused:
        for spool in SPOOLS:
            up: list[tuple[Times, Times]] = []
            down: list[tuple[Times, Times]] = []
            for _ in range(scale.rounds):
                for turns, at in ((up, port), (down, unused)):
                    turns.append(_turn(spool, at, scale.calls(CALLS)))
                    tick()
            yield from _rows(spool, up, down)


Times = list[float]
"""Microseconds of each call, sorted."""


def _turn(spool: str, port: int, calls: int) -> tuple[Times, Times]:
    kept: deque[str] = deque(maxlen=1000)
    batch = events(1000, SIZES["0.7 kB"], f"http://127.0.0.1:{port}/v1/events")
    with tempfile.TemporaryDirectory() as folder, _outbox(spool, Path(folder)) as outbox:
        _paced(batch, calls // 10, outbox.dispatch_event, lambda event: kept.append(json.dumps(event.params)))
        return _paced(batch, calls, outbox.dispatch_event, lambda event: kept.append(json.dumps(event.params)))


@contextlib.contextmanager
def _outbox(spool: str, folder: Path) -> Iterator[Outbox]:
    telemetry = sdk()
    held: Any = MemorySpool(most=100_000) if spool == "memory" else SqliteSpool(folder / "spool", durability="group")
    outbox = Outbox(
        HttpSender(threads=2),
        spool=held,
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
    )
    try:
        yield outbox
    finally:
        outbox.close(0.01)


def _paced(batch: list[Event], calls: int, *contenders: Callable[[Event], Any]) -> tuple[Times, Times]:
    gc.collect()
    times: tuple[Times, Times] = ([], [])
    due = time.perf_counter()
    for number in range(calls * len(contenders)):
        due += 1 / RATE
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        which = number % len(contenders)
        event = batch[number % len(batch)]
        began = time.perf_counter_ns()
        contenders[which](event)
        times[which].append((time.perf_counter_ns() - began) / 1e3)
    for one in times:
        one.sort()
    return times


def _at(times: Times, share: float) -> float:
    return times[int(len(times) * share)]


def _rows(spool: str, up: list[tuple[Times, Times]], down: list[tuple[Times, Times]]) -> Iterator[Row]:
    p50 = [_at(outbox, 0.5) for outbox, _ in up]
    bare = [_at(control, 0.5) for _, control in up]
    p99 = [_at(outbox, 0.99) for outbox, _ in up]
    parts = {"control": _middle(bare), "witness": _middle(p50)}
    yield Row(TITLE, f"{spool}: p50, times the control's", "x", ratios(p50, bare), MOST_P50, parts=parts)
    yield Row(TITLE, f"{spool}: p99, times its p50", "x", ratios(p99, p50), MOST_P99, parts={"witness": _middle(p99)})
    # The same two ratios again: where nothing is sent a processor rests between two calls, and is slower for all.
    worse = {
        "p50": ratios([_at(one, 0.5) / _at(other, 0.5) for one, other in down], ratios(p50, bare)),
        "p99": ratios([_at(one, 0.99) / _at(one, 0.5) for one, _ in down], ratios(p99, p50)),
    }
    for (name, values), up_times, share in zip(worse.items(), (p50, p99), (0.5, 0.99), strict=True):
        parts = {"control": _middle(up_times), "witness": _middle([_at(outbox, share) for outbox, _ in down])}
        yield Row(TITLE, f"{spool}: {name}, down against up", "x", values, MOST_DOWN, parts=parts)


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
