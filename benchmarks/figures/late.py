"""
Settling what waits for late evidence, so that none of its cost falls outside of what's timed.
"""

from __future__ import annotations

from wirewitness import Outcome
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import LedgerSnapshot
from wirewitness.typing import Reason


def settle_waiting() -> None:
    """
    Do at once what the sweeper does when the evidence timeout ends.
    """
    for dispatch in EVIDENCE.waiting():
        EVIDENCE.give_up(dispatch, Reason.NO_EVIDENCE)


def check(book: LedgerSnapshot, outcome: Outcome) -> None:
    """
    Raise unless everything accepted ended as it should: a figure of something else would be worthless.
    """
    if not book.accepted or book.count(outcome) != book.accepted:
        msg = f"all dispatches should have been {outcome.value}: {book}"
        raise RuntimeError(msg)
