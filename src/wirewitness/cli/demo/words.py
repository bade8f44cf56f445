"""
What was measured, in words.
"""

from __future__ import annotations

import itertools

from collections.abc import Iterator

from wirewitness.cli.demo.stage import Run
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Reason
from wirewitness.core.verdict import Verdict


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NOTABLE = 0.1
"""Seconds from which on an answer is called slow."""


def duration(seconds: float) -> str:
    """
    Seconds with two digits or three, in ms below a second.
    """
    if seconds >= 0.9995:  # noqa: PLR2004 -- rounds to 1000 ms
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:.1f} ms"  # noqa: PLR2004 -- 10.0


def counted(number: int, noun: str) -> str:
    """
    A number and its noun.
    """
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {noun}{'' if number == 1 else 's'}"


def seen_by_the_caller(run: Run) -> str:
    """
    What the call returned or raised.
    """
    return repr(run.returned) if run.raised is None else run.raised


def came_back(exchange: Exchange) -> str:
    """
    How an exchange ended.
    """
    if exchange.status is not None:
        return str(exchange.status)
    return "no answer" if exchange.failure is None else exchange.failure.value


def seen_on_the_wire(run: Run) -> str:
    """
    The exchanges of a dispatch in a line, and what was particular about them.
    """
    groups = itertools.groupby(run.exchanges, key=lambda exchange: (exchange.method, came_back(exchange)))
    steps = [_step(list(exchanges)) for _, exchanges in groups]
    return ", ".join([" → ".join(steps) or "nothing", *_particulars(run)])


def _step(same: list[Exchange]) -> str:
    first = same[0]
    if first.failure is Reason.REFUSED:
        return f"{len(same)} connect{'' if len(same) == 1 else 's'} refused"
    times = "" if len(same) == 1 else f" {len(same)} times"
    return f"{first.method} {came_back(first)}{times}"


def _particulars(run: Run) -> Iterator[str]:
    dispatch, exchanges = run.dispatch, run.exchanges
    if dispatch is None or not exchanges:
        return
    last = exchanges[-1]
    if len(exchanges) == 1 and last.status is not None and last.status >= 500:  # noqa: PLR2004 -- RFC 9110 section 15.6
        yield "no retry"
    if last.status is not None and last.duration >= NOTABLE:
        yield f"after {duration(last.duration)}"
    if dispatch.reason is Reason.BODY_LOST:
        yield "body lost"
    if dispatch.offset is not None:
        yield f"first change at byte {dispatch.offset}"
    if dispatch.verdict is Verdict.EQUIVALENT:
        yield f"{last.size} bytes for {len(dispatch.body)}"
    if run.late > 0:
        yield f"{duration(run.late)} later"
