"""
Figure 1: added CPU time of a dispatch whose inner call returns at once.

Dispatches that wait for late evidence are settled inside the timed part.
"""

from __future__ import annotations

import logging
import statistics

from collections.abc import Iterator

from handwritten import handwritten

from figures.events import SIZES, Event, events
from figures.late import check, settle_waiting
from figures.rounds import Turn, interleaved
from figures.row import Row, Scale, Tick, added, ratios
from figures.sdk import Void, configure_structlog, sdk
from wirewitness import Outcome, ledger_of, witness


TITLE = "1  inner returns at once"
TARGET, AIM = 0.65, 0.5

CALLS = {"0.7 kB": 400, "10 kB": 100, "1 MB": 4}
BLOCKS = {"0.7 kB": 8, "10 kB": 4, "1 MB": 2}


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(SIZES)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for all sizes. The log line, which both have at level DEBUG, is filtered.
    """
    void = configure_structlog(logging.INFO)
    for size in SIZES:
        yield case(size, scale, tick)
    check_lines(void, 0)


def check_lines(void: Void, lines: int) -> None:
    """
    Raise unless so many lines were logged.
    """
    if void.lines != lines:
        msg = f"{void.lines} lines were logged in place of {lines}"
        raise RuntimeError(msg)


class Sender:
    """An inner dispatcher in the shape of Optimizely's, that does nothing."""

    @staticmethod
    def dispatch_event(event: Event) -> None:
        """Return at once."""


def case(size: str, scale: Scale, tick: Tick, title: str = TITLE) -> Row:
    """
    Measure it for one size.
    """
    telemetry = sdk()
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    batch = events(scale.calls(CALLS[size]), SIZES[size])
    bare = Sender.dispatch_event
    control = handwritten(bare, name="Sender", level=logging.DEBUG, **providers)
    ours = witness(Sender, **providers)

    def witnessed() -> None:
        for event in batch:
            ours.dispatch_event(event)
        settle_waiting()

    turns = [
        Turn("bare", lambda: _all(bare, batch)),
        Turn("control", lambda: _all(control, batch)),
        Turn("witness", witnessed),
    ]
    spent = interleaved(turns, calls=len(batch), rounds=scale.rounds, blocks=BLOCKS[size], tick=tick)
    check(ledger_of(ours).book(), Outcome.UNCONFIRMED)
    return row(title, size, spent, TARGET, AIM)


def _all(dispatch: object, batch: list[Event]) -> None:
    for event in batch:
        dispatch(event)  # type: ignore[operator]


def row(title: str, case: str, spent: dict[str, list[float]], target: float, aim: float) -> Row:
    """
    The ratio of what the witness adds to what the control adds.
    """
    ours, control = added(spent["witness"], spent["bare"]), added(spent["control"], spent["bare"])
    parts = {
        "inner": statistics.median(spent["bare"]),
        "control": statistics.median(control),
        "witness": statistics.median(ours),
    }
    return Row(title, case, "x", ratios(ours, control), target, aim, parts)
