"""
300,000 payloads accepted while the endpoint is down: the memory that they take, and whether any is missing.
"""

from __future__ import annotations

import logging
import tempfile

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures.events import SIZES, events
from figures.loopback import nobody
from figures.memory import PER_MB, Look
from figures.row import Row, Scale, Tick
from figures.sdk import configure_structlog, sdk
from wirewitness.outbox import FlushResult, HttpSender, MemorySpool, Outbox, RetryPolicy, Spill, SqliteSpool


TITLE = "Outbox 5  300,000 held"
MANY = 300_000
STEPS = 40
BOUND_MB = 64
MOST_BEYOND_MB = 64.0


def steps(scale: Scale) -> int:  # noqa: ARG001 -- as all figures
    """
    How many ticks the figure makes.
    """
    return STEPS * 2


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    With a bounded memory that drops the newest, and with one that spills.
    """
    configure_structlog(logging.ERROR)
    many = MANY // 5 if scale.quick else MANY
    for name in ("drops the newest", "spills to SQLite"):
        with tempfile.TemporaryDirectory() as folder, nobody() as port:
            yield _row(name, Path(folder), port, many, tick)


def _row(name: str, folder: Path, port: int, many: int, tick: Tick) -> Row:
    batch = events(1000, SIZES["0.7 kB"], f"http://127.0.0.1:{port}/v1/events")
    before = Look.now()
    outbox = _outbox(name, folder)
    for number in range(many):
        outbox.dispatch_event(batch[number % len(batch)])
        if number % (many // STEPS) == 0:
            tick()
    after = Look.now()
    grown = (after.resident - before.resident) / PER_MB - BOUND_MB
    remains: FlushResult = outbox.flush(0.1)
    book = outbox.ledger.book()
    note = f"{remains}; {book}, closes: {book.closes}"
    outbox.close(0.1)
    return Row(TITLE, f"{many:,}, {name}: MB beyond the bound", "MB", [grown], MOST_BEYOND_MB, note=note)


def _outbox(name: str, folder: Path) -> Outbox:
    telemetry = sdk()
    options: dict[str, Any] = {}
    memory = BOUND_MB << 20
    if name.startswith("spills"):
        # Half of the bound is the first spool's, half the window of the second.
        memory //= 2
        second = SqliteSpool(
            folder / "spool", durability="group", most=10 * MANY, most_bytes=1 << 40, memory_bytes=memory
        )
        options["overflow"] = Spill(second)
    return Outbox(
        HttpSender(threads=2),
        spool=MemorySpool(most=MANY, most_bytes=memory),
        retry=RetryPolicy(attempts=None),
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        **options,
    )
