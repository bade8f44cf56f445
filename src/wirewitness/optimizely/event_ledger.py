"""
The book of the events that are on their way to a dispatcher: each is pending, or has ended once, at every instant.
"""

from __future__ import annotations

import atexit
import functools
import weakref

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from wirewitness import fork
from wirewitness._guard import fail_open
from wirewitness.telemetry.events import Caller, Ended, EventTotals, caller


@dataclass(frozen=True)
class EventBook:
    """
    An event processor's counts at one instant, in user events.

    Attributes:
        accepted: Given to the processor.
        dispatched: Reached the dispatcher in a payload.
        dropped: Not taken, or left out of the payload.
        abandoned: Waiting when the processor stopped or gave up.
        pending: Waiting.
        late: How many of those dropped or abandoned reached the dispatcher after all.
    """

    accepted: int = 0
    dispatched: int = 0
    dropped: int = 0
    abandoned: int = 0
    pending: int = 0
    late: int = 0

    @property
    def closes(self) -> bool:
        """Whether ``accepted = dispatched + dropped + abandoned + pending``."""
        return self.accepted == self.dispatched + self.dropped + self.abandoned + self.pending

    def __str__(self) -> str:
        ends = " + ".join(f"{name} {getattr(self, name)}" for name in ("dispatched", "dropped", "abandoned", "pending"))
        return f"accepted {self.accepted} = {ends}"


class _Waiting:
    """
    An event that is pending.
    """

    __slots__ = ("caller", "event", "queued")

    def __init__(self, event: Any, *, queued: bool) -> None:
        self.event = event
        self.queued = queued
        self.caller = caller()


class EventLedger:
    """
    One processor's book.

    Args:
        totals: The counts of all processors of its name.
        is_dead: Whether the thread that takes events has ended. It must not raise, nor keep the processor alive.
    """

    def __init__(self, totals: EventTotals, is_dead: Callable[[], bool | None] = lambda: False) -> None:
        self._totals = totals
        self._is_dead = is_dead
        self.clear()
        totals.include(self)
        _LEDGERS.add(self)
        _end_at_exit()

    def clear(self) -> None:
        """
        Start empty, as a child process does: what is pending is its parent's.
        """
        self._accepted = 0
        self._late = 0
        self._ended = dict.fromkeys(Ended, 0)
        self._pending: dict[object, _Waiting] = {}
        self._given_up: dict[object, Any] = {}

    def accept(self, key: object, event: Any, *, queued: bool = False) -> None:
        """
        An event is given to the processor.

        Args:
            key: What it's known by.
            event: The event, which lives as long as it's pending.
            queued: Whether the processor is known to keep it.
        """
        waiting = _Waiting(event, queued=queued)
        with self._totals.lock:
            if key not in self._pending:
                self._pending[key] = waiting
                self._accepted += 1
                self._totals.accepted += 1
                self._totals.pending += 1

    def queued(self, key: object) -> None:
        """
        The processor keeps it.
        """
        waiting = self._pending.get(key)
        if waiting is not None:
            waiting.queued = True

    def is_homeless(self, key: object) -> bool:
        """
        Whether it's pending, and nobody keeps it.
        """
        waiting = self._pending.get(key)
        return waiting is not None and not waiting.queued

    def settle(self, key: object, ended: Ended, *, kept: bool = False) -> Caller | None:
        """
        An event has ended; it's counted if it was pending.

        Args:
            key: What it's known by.
            ended: How.
            kept: Whether the processor has it yet, so that it can come late. What it has forgotten is forgotten here, too.

        Returns:
            The span that was current when it was accepted.
        """
        with self._totals.lock:
            waiting = self._pending.pop(key, None)
            if waiting is None:
                self._arrives_late(key, ended)
                return None
            self._ended[ended] += 1
            self._totals.ended[ended] += 1
            self._totals.pending -= 1
            if kept:
                self._given_up[key] = waiting.event
            return waiting.caller

    def _arrives_late(self, key: object, ended: Ended) -> None:
        if ended is Ended.DISPATCHED and key in self._given_up:
            del self._given_up[key]
            self._late += 1

    def abandon(self) -> None:
        """
        Nobody will take what is kept.
        """
        with self._totals.lock:
            for key in [key for key, waiting in list(self._pending.items()) if waiting.queued]:
                self.settle(key, Ended.ABANDONED, kept=True)

    def look(self) -> None:
        """
        Abandon what is kept if the thread that would take it has ended.
        """
        if self._is_dead():
            self.abandon()

    def end(self) -> None:
        """
        The processor is gone, and what it kept with it; or nobody watches it any more.
        """
        with self._totals.lock:
            for key in list(self._pending):
                self.settle(key, Ended.ABANDONED)
            self._given_up.clear()

    def book(self) -> EventBook:
        """
        The counts right now.
        """
        self.look()
        with self._totals.lock:
            ends = {ended.value: number for ended, number in self._ended.items()}
            return EventBook(self._accepted, pending=len(self._pending), late=self._late, **ends)


_LEDGERS: Final[weakref.WeakSet[EventLedger]] = weakref.WeakSet()


@functools.cache
def _end_at_exit() -> None:
    # When the first ledger is made, and not when this is imported: then a meter provider that exists has its last export
    # after this, and a client that the application closes at exit is closed before.
    atexit.register(_end)


@fail_open("optimizely")
def _end() -> None:
    for ledger in tuple(_LEDGERS):
        ledger.abandon()


def _start_empty_in_child() -> None:
    for ledger in tuple(_LEDGERS):
        ledger.clear()


fork.register(fork.ForkStage.CLIENTS, in_child=_start_empty_in_child)
