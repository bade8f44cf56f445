"""
Figure 1: added CPU time of a dispatch whose inner call returns at once.

Dispatches that wait for late evidence are settled inside the timed part.
"""

from __future__ import annotations

import logging
import statistics

from collections.abc import Iterator

from figures.events import SIZES, Event, events
from figures.late import check, settle_waiting
from figures.row import Row, Scale, Tick, added, ratios
from figures.rounds import Turn, interleaved
from figures.sdk import configure_structlog, sdk
from handwritten import handwritten
from wirewitness import Outcome, ledger_of, witness


TITLE = "1  inner returns at once"
TARGET, AIM = 0.65, 0.5

CALLS = {"0.7 kB": 400, "10 kB": 100, "1 MB": 4}
BLOCKS = {"0.7 kB": 8, "10 kB": 4, "1 MB": 2}

# wirewitness says UNCONFIRMED at level INFO, and the control has its line at the same level.
LINES = {"line filtered": logging.WARNING, "line written": logging.INFO}


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(list(_cases()))


def _cases() -> Iterator[tuple[str, str]]:
    for size in SIZES:
        yield size, "line filtered"
    yield "0.7 kB", "line written"


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for all sizes.
    """
    for size, line in _cases():
        yield _case(size, line, scale, tick)


class Sender:
    """An inner dispatcher in the shape of Optimizely's, that does nothing."""

    @staticmethod
    def dispatch_event(event: Event) -> None:
        """Return at once."""


def _case(size: str, line: str, scale: Scale, tick: Tick) -> Row:
    configure_structlog(LINES[line])
    telemetry = sdk()
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    batch = events(scale.calls(CALLS[size]), SIZES[size])
    bare = Sender.dispatch_event
    control = handwritten(bare, name="Sender", level=logging.INFO, **providers)
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
    return row(TITLE, f"{size}, {line}", spent, TARGET, AIM)


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
