"""
The closed book: every payload that was accepted is pending or settled, at every instant.
"""

from __future__ import annotations

import enum
import threading
import weakref

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wirewitness import fork
from wirewitness.core.outcome import REASONS, Outcome, Reason
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict
from wirewitness.dispatch import Dispatch


class Stage(enum.StrEnum):
    """
    Where a pending payload is.
    """

    QUEUED = "queued"
    """An Outbox holds it, to be sent now or later."""
    IN_FLIGHT = "in_flight"
    """The inner call runs, or a sender of an Outbox has it."""
    AWAITING_EVIDENCE = "awaiting_evidence"
    """The inner call has returned, and its bytes have not been seen yet."""


@dataclass(frozen=True)
class LedgerSnapshot:
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


Ending = tuple[Outcome, Reason, Verdict]
"""How a payload ended: what the settled are counted by."""


class _Counts:
    """
    The counts of one ledger, or of all those of a name that are gone. Whoever touches them holds the lock.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.accepted: int = 0
        self.cells: dict[Ending, list[int]] = {}
        self.exchanges: int = 0
        self.open: dict[Dispatch, Stage] = {}
        self.stock: dict[str, int] = {Stage.QUEUED.value: 0, Stage.IN_FLIGHT.value: 0}

    def cell(self, ending: Ending) -> list[int]:
        # A cell, so that adding to it is one step: a signal handler that dispatches can come between any two.
        return self.cells.get(ending) or self.cells.setdefault(ending, [0])

    def end(self, ending: Ending, number: int = 1) -> None:
        self.cell(ending)[0] += number

    def endings(self) -> Iterator[tuple[Ending, int]]:
        return ((ending, cell[0]) for ending, cell in self.cells.items())

    def add(self, other: _Counts) -> None:
        self.accepted += other.accepted
        self.exchanges += other.exchanges
        for ending, number in other.endings():
            self.end(ending, number)
        for stage, number in other.stock.items():
            self.stock[stage] += number


def _book(all_counts: Iterable[_Counts]) -> LedgerSnapshot:
    settled = {(outcome, reason): 0 for outcome in Outcome for reason in REASONS[outcome]}
    verdicts = dict.fromkeys(Verdict, 0)
    pending = dict.fromkeys(Stage, 0)
    accepted = exchanges = 0
    for counts in all_counts:
        accepted += counts.accepted
        exchanges += counts.exchanges
        for where in counts.open.values():
            pending[where] += 1
        for stage, number in counts.stock.items():
            pending[Stage(stage)] += number
        for (outcome, reason, verdict), number in counts.endings():
            settled[outcome, reason] = settled.get((outcome, reason), 0) + number
            verdicts[verdict] += number
    return LedgerSnapshot(
        accepted, MappingProxyType(settled), MappingProxyType(pending), MappingProxyType(verdicts), exchanges
    )


class Ledger:
    """
    One dispatcher's book. It counts every payload once and settles it once.

    Args:
        name: The dispatcher's name; ledgers of one name add up in the process-wide book.
        process: The process-wide book.
        shown_by: The meter provider that shows it; None for the global one.
    """

    def __init__(self, name: str, process: ProcessLedger | None = None, *, shown_by: object = None) -> None:
        self.name = name
        self.shown_by = shown_by
        self._counts = _Counts()
        (process or process_ledger).include(self, self._counts)

    def accept(self, dispatch: Dispatch) -> None:
        """
        A call was taken: its payload is in flight.
        """
        with _lock:
            self._counts.accepted += 1
            self._counts.open[dispatch] = Stage.IN_FLIGHT

    def withdraw_dispatch(self, dispatch: Dispatch) -> None:
        """
        A call was not taken after all: it was interrupted while it was being accepted.
        """
        with _lock:
            if dispatch in self._counts.open:
                self._counts.accepted -= 1
                del self._counts.open[dispatch]

    def await_evidence(self, dispatch: Dispatch) -> None:
        """
        The inner call has returned without telling. Does nothing if it's settled by now.
        """
        with _lock:
            if dispatch in self._counts.open:
                self._counts.open[dispatch] = Stage.AWAITING_EVIDENCE

    def settle(self, dispatch: Dispatch, settlement: Settlement, exchanges: int) -> bool:
        """
        Move a payload from pending to its outcome.

        Args:
            dispatch: The payload's dispatch.
            settlement: How it ended.
            exchanges: HTTP requests made for it.

        Returns:
            Whether it was this call that did so; False if it's settled by now, or was another process's before a fork.
        """
        ending = (settlement.outcome, settlement.reason, settlement.verdict)
        counts = self._counts
        with _lock:
            # Not by a method: near the end of the stack there may be no room for another call.
            cell = counts.cells.get(ending) or counts.cells.setdefault(ending, [0])
            if dispatch not in counts.open:
                return False
            # No call from here on, and so neither a signal handler nor an end of the stack in between.
            del counts.open[dispatch]
            cell[0] += 1
            counts.exchanges += exchanges
        return True

    def queue(self, number: int = 1, counted: list[int] | None = None) -> None:
        """
        An Outbox took this many payloads: they are counted by number, and not by their dispatches.

        Args:
            number: How many.
            counted: Gets the number appended as soon as it is counted, for whoever may be interrupted in the middle of this:
                an exception can come out of here although the payloads are in the book.
        """
        with _lock:
            # Between these lines there is no call, and so no place for a signal handler.
            self._counts.accepted += number
            self._counts.stock["queued"] += number
            if counted is not None:
                counted.append(number)

    def withdraw(self) -> None:
        """
        A payload that was counted is not taken: its put was interrupted, and the caller knows.
        """
        with _lock:
            self._counts.accepted -= 1
            self._counts.stock["queued"] -= 1

    def claim(self, number: int) -> None:
        """
        Senders have this many of the queued.
        """
        with _lock:
            self._counts.stock["queued"] -= number
            self._counts.stock["in_flight"] += number

    def requeue(self, number: int, exchanges: int = 0) -> None:
        """
        So many are queued again, after so many HTTP requests.
        """
        self.claim(-number)
        with _lock:
            self._counts.exchanges += exchanges

    def exchanged(self, number: int) -> None:
        """
        So many HTTP requests were made for payloads of an Outbox.
        """
        with _lock:
            self._counts.exchanges += number

    def end(
        self,
        ending: Ending,
        number: int = 1,
        *,
        stage: Stage = Stage.IN_FLIGHT,
        exchanges: int = 0,
        counted: list[int] | None = None,
    ) -> None:
        """
        Move payloads of an Outbox to their outcome.

        Args:
            ending: The outcome, the reason and the verdict.
            number: How many.
            stage: Where they were: queued or in flight.
            exchanges: HTTP requests made for them in the last attempt.
            counted: What :meth:`queue` was given; it is empty again as soon as the end is counted.
        """
        where = stage.value
        with _lock:
            cell = self._counts.cell(ending)
            self._counts.stock[where] -= number
            cell[0] += number
            self._counts.exchanges += exchanges
            if counted is not None:
                counted.clear()

    def book(self) -> LedgerSnapshot:
        """
        The counts at this instant.
        """
        fork.check()
        with _lock:
            return _book([self._counts])

    def is_open(self, dispatch: Dispatch) -> bool:
        """
        Whether a payload is pending.
        """
        return dispatch in self._counts.open

    def __repr__(self) -> str:
        return f"<Ledger {self.name}: {self.book()}>"


_Key = tuple[str, object]
"""A dispatcher's name, and the meter provider that shows it."""


class ProcessLedger:
    """
    The book of a whole process: all ledgers, and what those counted that are gone.
    """

    def __init__(self) -> None:
        self._named: dict[_Key, list[_Counts]] = {}
        self._gone: deque[tuple[_Key, _Counts]] = deque()

    def include(self, ledger: Ledger, counts: _Counts) -> None:
        """
        Count with a ledger from now on.
        """
        key = (ledger.name, ledger.shown_by)
        with _lock:
            self._take_over()
            self._named.setdefault(key, [_Counts()]).append(counts)
        # A finalizer runs in any thread at any place, even where that thread is counting: it only leaves a note.
        weakref.finalize(ledger, self._gone.append, (key, counts)).atexit = False

    def _take_over(self) -> None:
        # The first of a name counts on for those that are gone, so that wrapping again and again leaks nothing.
        while self._gone:
            key, counts = self._gone.popleft()
            named = self._named[key]
            named.remove(counts)
            named[0].add(counts)

    def books(self) -> dict[str, LedgerSnapshot]:
        """
        The counts of this instant by dispatcher name.
        """
        return self._books(list(self._named))

    def books_shown_by(self, meter_provider: object) -> dict[str, LedgerSnapshot]:
        """
        The counts of this instant, by name, of those dispatchers that were given to a meter provider; None for the global one.
        """
        return self._books([key for key in list(self._named) if key[1] is meter_provider])

    def _books(self, keys: list[_Key]) -> dict[str, LedgerSnapshot]:
        fork.check()
        by_name: dict[str, list[_Counts]] = {}
        with _lock:
            for key in keys:
                by_name.setdefault(key[0], []).extend(self._named[key])
            return {name: _book(named) for name, named in by_name.items()}

    def book(self) -> LedgerSnapshot:
        """
        The counts of this instant of all dispatchers together.
        """
        fork.check()
        with _lock:
            return _book(counts for named in self._named.values() for counts in named)

    def clear(self) -> None:
        """
        Start an empty book, and empty books of all dispatchers.
        """
        for named in self._named.values():
            for counts in named:
                counts.clear()

    def __repr__(self) -> str:
        return f"<ProcessLedger: {self.book()}>"


# One lock for all books, so that the process-wide one closes at every instant too. It can be entered again by the thread
# that holds it: a dispatch may run inside a garbage collection or a signal handler.
_lock = threading.RLock()

process_ledger: Final = ProcessLedger()


def _start_empty_in_child() -> None:
    global _lock  # noqa: PLW0603 -- the parent's lock may be held by a thread that the child doesn't have
    _lock = threading.RLock()
    process_ledger.clear()


fork.register(fork.ForkStage.BOOKS, in_child=_start_empty_in_child)
