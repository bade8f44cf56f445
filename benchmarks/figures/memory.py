"""
Figure 5: a million dispatches leave no growth.

Nine in ten are without an SDK, the rest with one, a few of them round real exchanges. Warm-up fills every bounded table
before the first look, and both looks come after all that waits has been settled.
"""

from __future__ import annotations

import gc
import http.client
import json
import logging
import os
import sys

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from figures.at_once import Sender
from figures.events import SIZES, Event, events
from figures.late import settle_waiting
from figures.loopback import server
from figures.row import Row, Scale, Tick
from figures.sdk import configure_structlog, sdk
from wirewitness import witness
from wirewitness.ledger import process_ledger


TITLE = "5  memory"
MOST_MB = 2.0

DISPATCHES = {"no SDK": 890_000, "SDK": 100_000, "exchanges": 10_000}
WARM_UP = {"no SDK": 25_000, "SDK": 12_000, "exchanges": 500}
STEPS = 40
PER_MB = 1 << 20


class Look(NamedTuple):
    """
    The memory in use.

    Attributes:
        resident: Bytes of this process in memory; 0 where there's no ``/proc``.
        blocks: Memory blocks that the interpreter has handed out (``sys.getallocatedblocks``).
        objects: Objects that the garbage collector tracks.
    """

    resident: int
    blocks: int
    objects: int

    @classmethod
    def now(cls) -> Look:
        """
        Settle what waits, collect, and look.
        """
        settle_waiting()
        gc.collect()
        statm = Path("/proc/self/statm")
        pages = int(statm.read_text().split()[1]) if statm.exists() else 0
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), sys.getallocatedblocks(), len(gc.get_objects()))


def steps(scale: Scale) -> int:  # noqa: ARG001 -- as all figures
    """
    How many ticks the figure makes.
    """
    return STEPS * len(DISPATCHES)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Look, dispatch, and look again.
    """
    configure_structlog(logging.INFO)
    with server() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        dispatchers = _dispatchers(connection)
        batch = events(1000, SIZES["0.7 kB"], f"http://127.0.0.1:{port}/v1/events")
        # The second pass starts where the first has ended, as the count itself will: all is allocated by then.
        for _ in range(2):
            _dispatch_all(dispatchers, WARM_UP, batch, lambda: None)
            before = Look.now()
        counts = {name: count // 20 if scale.quick else count for name, count in DISPATCHES.items()}
        _dispatch_all(dispatchers, counts, batch, tick)
        after = Look.now()
        connection.close()
    yield _row(sum(counts.values()), before, after)


def _dispatchers(connection: http.client.HTTPConnection) -> dict[str, Callable[[Event], Any]]:
    def exchange(event: Event) -> None:
        connection.request(event.http_verb, "/v1/events", json.dumps(event.params), event.headers)
        connection.getresponse().read()

    telemetry = sdk()
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    return {
        "no SDK": witness(Sender, name="no SDK").dispatch_event,
        "SDK": witness(Sender, name="SDK", **providers).dispatch_event,
        "exchanges": witness(exchange, name="exchanges", **providers),
    }


def _dispatch_all(
    dispatchers: dict[str, Callable[[Event], Any]], counts: dict[str, int], batch: list[Event], tick: Tick
) -> None:
    for name, dispatch in dispatchers.items():
        every = max(1, counts[name] // STEPS)
        for number in range(counts[name]):
            dispatch(batch[number % len(batch)])
            if number % every == every - 1:
                tick()


def _row(dispatches: int, before: Look, after: Look) -> Row:
    parts = {
        "MB before": before.resident / PER_MB,
        "MB after": after.resident / PER_MB,
        "blocks before": before.blocks,
        "blocks after": after.blocks,
        "objects before": before.objects,
        "objects after": after.objects,
    }
    grown = (after.resident - before.resident) / PER_MB
    book = process_ledger.book()
    return Row(
        TITLE, f"{dispatches:,} dispatches", "MB", [grown], MOST_MB, None, parts, f"{book}, closes: {book.closes}"
    )
