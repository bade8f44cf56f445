"""
Figure 3: no OpenTelemetry SDK and no structlog configured, inner call returns at once.

In multiples of ``json.dumps`` of the same event, which any dispatcher does anyway. Late settlement is inside the timed part.
"""

from __future__ import annotations

import json
import statistics

from collections.abc import Iterator

from figures.at_once import BLOCKS, CALLS, Sender
from figures.events import SIZES, events
from figures.late import check, settle_waiting
from figures.rounds import Turn, interleaved
from figures.row import Row, Scale, Tick, added, ratios
from wirewitness import Outcome, ledger_of, witness


TITLE = "3  no SDK configured"
TARGET = 3.5


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(SIZES)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for all sizes.
    """
    for size in SIZES:
        yield _case(size, scale, tick)


def _case(size: str, scale: Scale, tick: Tick) -> Row:
    batch = events(scale.calls(CALLS[size]), SIZES[size])
    bare, ours = Sender, witness(Sender)

    def encode() -> None:
        for event in batch:
            json.dumps(event.params)

    def inner() -> None:
        for event in batch:
            bare.dispatch_event(event)

    def witnessed() -> None:
        for event in batch:
            ours.dispatch_event(event)
        settle_waiting()

    turns = [Turn("json.dumps", encode), Turn("bare", inner), Turn("witness", witnessed)]
    spent = interleaved(turns, calls=len(batch), rounds=scale.rounds, blocks=BLOCKS[size], tick=tick)
    check(ledger_of(ours).book(), Outcome.UNCONFIRMED)
    more = added(spent["witness"], spent["bare"])
    parts = {
        "inner": statistics.median(spent["bare"]),
        "json.dumps": statistics.median(spent["json.dumps"]),
        "witness": statistics.median(more),
    }
    return Row(TITLE, size, "x", ratios(more, spent["json.dumps"]), TARGET, None, parts)
