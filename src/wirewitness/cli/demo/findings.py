"""
What follows from what was measured, in plain words. Each finding is made only where its facts are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from wirewitness.cli.demo.stage import Run
from wirewitness.cli.demo.words import NOTABLE, came_back, counted, duration, seen_by_the_caller
from wirewitness.conformance import Received
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.verdict import Verdict
from wirewitness.ledger import LedgerSnapshot


def findings(runs: Sequence[Run]) -> list[str]:
    """
    What there is to say of the runs.
    """
    said = (say(run) for run in runs for say in _FINDINGS)
    return [text for text in said if text is not None]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rejected(run: Run) -> str | None:
    ending = run.ending
    if ending is None or run.raised or ending.outcome is not Outcome.REJECTED or ending.verdict is Verdict.ALTERED:
        return None
    attempts = counted(len(run.exchanges), "attempt")
    logged = f" and {counted(run.lines, 'log line')}" if run.lines else ""
    return (
        f"On a {came_back(run.exchanges[-1])} {run.scenario.who} returned {seen_by_the_caller(run)}, after {attempts}"
        f"{logged}: the event is gone, and its caller can't know."
    )


def _refused(run: Run) -> str | None:
    ending = run.ending
    if ending is None or run.raised or ending.reason is not Reason.REFUSED:
        return None
    return (
        f"Where nobody listens {run.scenario.who} held its caller for {duration(run.seconds)} over "
        f"{counted(len(run.exchanges), 'connect')} and returned {seen_by_the_caller(run)}."
    )


def _slow(run: Run) -> str | None:
    ending = run.ending
    if (
        ending is None
        or ending.outcome is not Outcome.DELIVERED
        or run.late > 0
        or run.exchanges[-1].duration < NOTABLE
    ):
        return None
    return (
        f"A slow answer, {duration(run.exchanges[-1].duration)}, held the caller for {duration(run.seconds)}: "
        f"{run.scenario.who} works in the caller's thread."
    )


def _redirected(run: Run) -> str | None:
    ending, last = run.ending, run.exchanges[-1] if run.exchanges else None
    if ending is None or last is None or ending.reason is not Reason.BODY_LOST or not last.succeeded:
        return None
    unaware = run.raised is None and not run.lines
    told = f"{run.scenario.who} took that for success" if unaware else "the event is lost"
    return f"On a {came_back(run.exchanges[0])} the follow-up {last.method} had no body and got {last.status}: {told}."


def _reserialised(run: Run) -> str | None:
    if run.dispatch is None or run.dispatch.verdict is not Verdict.EQUIVALENT:
        return None
    return (
        f"{_capital(run.scenario.who)} wrote {run.exchanges[-1].size} bytes where {len(run.dispatch.body)} were meant: "
        "the same value, and another digest."
    )


def _tampered(run: Run) -> str | None:
    if run.dispatch is None or run.dispatch.reason is not Reason.BYTES_DIFFER:
        return None
    last = run.exchanges[-1]
    changed = sum(meant != sent for meant, sent in zip(run.dispatch.body, last.body or b"", strict=False))
    return (
        f"{_capital(run.scenario.who)} changed {counted(changed, 'byte')}, at {run.dispatch.offset}; "
        f"the endpoint answered {came_back(last)} all the same."
    )


def _late(run: Run) -> str | None:
    if run.late <= 0 or run.ending is None or run.ending.outcome is not Outcome.DELIVERED:
        return None
    return (
        f"{_capital(run.scenario.who)} returned after {duration(run.seconds)}; its bytes left {duration(run.late)} "
        "later in another thread, and were recognised."
    )


_FINDINGS: Final[tuple[Callable[[Run], str | None], ...]] = (
    _rejected,
    _refused,
    _slow,
    _redirected,
    _reserialised,
    _tampered,
    _late,
)


def agreement(runs: Sequence[Run], received: Sequence[Received]) -> list[str]:
    """
    What the endpoint says to it, where it says the same.
    """
    if not received or not _agree(runs, received):
        return []
    requests = counted(len(received), "request")
    return [f"The endpoint, asked afterwards, received {requests}: byte for byte what the witness saw leave."]


def differences(runs: Sequence[Run], received: Sequence[Received], book: LedgerSnapshot) -> list[str]:
    """
    What isn't as it must be: endings, what the endpoint says that it got, the book.
    """
    differing = [
        f"{run.scenario.title}: expected {run.scenario.expected}; got {run.ending or 'no settlement'}"
        for run in runs
        if run.ending != run.scenario.expected
    ]
    if not _agree(runs, received):
        differing.append("the endpoint received other requests than the witness saw leave")
    if not book.closes:
        differing.append("the book does not close")
    return differing


def _agree(runs: Sequence[Run], received: Sequence[Received]) -> bool:
    answered = (exchange for run in runs for exchange in run.exchanges if exchange.status is not None)
    seen = Counter((exchange.method, exchange.path, exchange.body) for exchange in answered)
    return seen == Counter((request.method, request.target, request.body) for request in received)
