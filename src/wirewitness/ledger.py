"""
The closed book: every payload that was accepted is pending or settled, at every instant.
"""

from __future__ import annotations

import enum
import os
import threading
import weakref

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wirewitness._current import Dispatch
from wirewitness.core.outcome import REASONS, Outcome, Reason
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict


class Stage(str, enum.Enum):
    """
    Where a pending payload is.
    """

    IN_FLIGHT = "in_flight"
    """The inner call runs."""
    AWAITING_EVIDENCE = "awaiting_evidence"
    """The inner call has returned, and its bytes have not been seen yet."""


@dataclass(frozen=True)
class Book:
    """
    A ledger's counts at one instant, in payloads.

    Attributes:
        accepted: Calls taken.
        settled: By outcome and reason.
        pending: By stage.
        verdicts: By verdict, of what is settled.
        exchanges: HTTP requests made for what is settled.
    """

    accepted: int = 0
    settled: Mapping[tuple[Outcome, Reason], int] = field(default_factory=dict)
    pending: Mapping[Stage, int] = field(default_factory=dict)
    verdicts: Mapping[Verdict, int] = field(default_factory=dict)
    exchanges: int = 0

    def count(self, outcome: Outcome) -> int:
        """
        How many payloads ended so.
        """
        return sum(number for (ended, _), number in self.settled.items() if ended is outcome)

    @property
    def open(self) -> int:
        """How many are pending, in whatever stage."""
        return sum(self.pending.values())

    @property
    def closes(self) -> bool:
        """Whether ``accepted = delivered + rejected + failed + dropped + unconfirmed + pending``."""
        return self.accepted == sum(self.settled.values()) + self.open

    def __str__(self) -> str:
        ends = " + ".join(f"{outcome.value} {self.count(outcome)}" for outcome in Outcome)
        return f"accepted {self.accepted} = {ends} + pending {self.open}"


class _Page:
    """
    The counts themselves. Whoever touches them holds the lock.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.accepted = 0
        self.settled = {(outcome, reason): 0 for outcome in Outcome for reason in REASONS[outcome]}
        self.pending = dict.fromkeys(Stage, 0)
        self.verdicts = dict.fromkeys(Verdict, 0)
        self.exchanges = 0

    def book(self) -> Book:
        return Book(
            self.accepted,
            MappingProxyType(self.settled.copy()),
            MappingProxyType(self.pending.copy()),
            MappingProxyType(self.verdicts.copy()),
            self.exchanges,
        )


class Ledger:
    """
    One dispatcher's book. It counts every payload once and settles it once; the process-wide book moves with it.

    Args:
        name: The dispatcher's name; ledgers of one name add up in the process-wide book.
        process: The process-wide book.
    """

    def __init__(self, name: str, process: ProcessLedger | None = None) -> None:
        self.name = name
        process = process or PROCESS
        self._open: dict[Dispatch, Stage] = {}
        self._own = _Page()
        self._pages = (self._own, process.page(name))
        process.watch(self)

    def accept(self, dispatch: Dispatch) -> None:
        """
        A call was taken: its payload is in flight.
        """
        with _lock:
            self._open[dispatch] = Stage.IN_FLIGHT
            for page in self._pages:
                page.accepted += 1
                page.pending[Stage.IN_FLIGHT] += 1

    def await_evidence(self, dispatch: Dispatch) -> None:
        """
        The inner call has returned without telling. Does nothing if it's settled by now.
        """
        with _lock:
            if dispatch not in self._open:
                return
            self._open[dispatch] = Stage.AWAITING_EVIDENCE
            for page in self._pages:
                page.pending[Stage.IN_FLIGHT] -= 1
                page.pending[Stage.AWAITING_EVIDENCE] += 1

    def settle(self, dispatch: Dispatch, settlement: Settlement, exchanges: int) -> bool:
        """
        Move a payload from pending to its outcome.

        Returns:
            Whether it was this call that did so; False if it's settled by now, or was another process's before a fork.
        """
        with _lock:
            stage = self._open.pop(dispatch, None)
            if stage is None:
                return False
            ending = (settlement.outcome, settlement.reason)
            for page in self._pages:
                page.pending[stage] -= 1
                page.settled[ending] = page.settled.get(ending, 0) + 1
                page.verdicts[settlement.verdict] += 1
                page.exchanges += exchanges
            return True

    def book(self) -> Book:
        """
        The counts at this instant.
        """
        with _lock:
            return self._own.book()

    def is_open(self, dispatch: Dispatch) -> bool:
        """
        Whether a payload is pending.
        """
        return dispatch in self._open

    def clear(self) -> None:
        """
        Start an empty book, in a child process: what was accepted before the fork is the parent's.
        """
        self._open.clear()
        self._own.clear()

    def __repr__(self) -> str:
        return f"<Ledger {self.name}: {self.book()}>"


class ProcessLedger:
    """
    The book of a whole process, a page for each dispatcher's name.
    """

    def __init__(self) -> None:
        self._named: dict[str, _Page] = {}
        self._ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()

    def page(self, name: str) -> _Page:
        """
        The page on which all ledgers of a name add up.
        """
        with _lock:
            return self._named.setdefault(name, _Page())

    def watch(self, ledger: Ledger) -> None:
        """
        Have a ledger cleared with this one.
        """
        self._ledgers.add(ledger)

    def books(self) -> dict[str, Book]:
        """
        The counts of this instant by dispatcher name.
        """
        with _lock:
            return {name: page.book() for name, page in self._named.items()}

    def book(self) -> Book:
        """
        The counts of this instant of all dispatchers together.
        """
        books = self.books().values()
        return Book(
            sum(book.accepted for book in books),
            {ending: sum(book.settled.get(ending, 0) for book in books) for book in books for ending in book.settled},
            {stage: sum(book.pending[stage] for book in books) for stage in Stage},
            {verdict: sum(book.verdicts[verdict] for book in books) for verdict in Verdict},
            sum(book.exchanges for book in books),
        )

    def clear(self) -> None:
        """
        Start an empty book, and empty books of all dispatchers.
        """
        for page in self._named.values():
            page.clear()
        for ledger in self._ledgers:
            ledger.clear()

    def __repr__(self) -> str:
        return f"<ProcessLedger: {self.book()}>"


# One lock for all books, so that the process-wide one closes at every instant too. It can be entered again by the thread
# that holds it: a dispatch may run inside a garbage collection or a signal handler.
_lock = threading.RLock()

PROCESS: Final = ProcessLedger()


def _start_empty_in_child() -> None:
    global _lock  # noqa: PLW0603 -- the parent's lock may be held by a thread that the child doesn't have
    _lock = threading.RLock()
    PROCESS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_empty_in_child)
