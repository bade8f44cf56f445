"""
ODP's event queue, whose events are counted: it drops them when it's full or down, and when its retries are used up.
"""

from __future__ import annotations

import functools
import weakref

from typing import Any

from wirewitness.optimizely.event_ledger import EventLedger
from wirewitness.optimizely.patches import Patches
from wirewitness.optimizely.processor import Queue, dead, through
from wirewitness.telemetry.events import Ended, EventTotals


class OdpWatch:
    """
    Counts the events of one ``OdpEventManager``. Dispatched is what ``send_odp_events`` wants not sent again; what it wants
    sent again when the retries are used up is abandoned.

    Args:
        events: The ``OdpEventManager``.
        totals: The counts of its name.
        patches: What is put into place.
    """

    def __init__(self, events: Any, totals: EventTotals, patches: Patches) -> None:
        self.ledger: EventLedger = EventLedger(totals, dead(events, "thread"))
        weakref.finalize(events, self.ledger.end).atexit = False
        patches.later(self.ledger.end)
        self._events = events
        self._again: bool | None = None
        self._knows = Queue(events.event_queue, self.ledger, _key_of, patches).tells
        patches.set(events, "dispatch", through(events.dispatch, self._given, self._dispatched))
        patches.set(events, "stop", through(events.stop, _nothing, self._stopped))
        patches.set(events, "_flush_batch", through(events._flush_batch, self._flushing, self._flushed))  # noqa: SLF001 -- the SDK shows it nowhere else
        patches.set(events.api_manager, "send_odp_events", self._noting(events.api_manager.send_odp_events))

    def _noting(self, send: Any) -> Any:
        @functools.wraps(send)
        def send_odp_events(*args: Any, **kwargs: Any) -> Any:
            self._again = None
            again = send(*args, **kwargs)
            self._again = bool(again)
            return again

        return send_odp_events

    def _given(self, event: Any) -> object:
        self.ledger.accept(id(event), event, queued=not self._knows)
        return id(event)

    def _dispatched(self, key: object) -> None:
        if self.ledger.is_homeless(key):
            self.ledger.settle(key, Ended.DROPPED)
        if not self._events.is_running:
            self.ledger.abandon()

    def _flushing(self) -> list[Any]:
        self._again = None
        return list(self._events._current_batch)  # noqa: SLF001 -- the SDK shows it nowhere else

    def _flushed(self, batch: list[Any] | None) -> None:
        ended = {None: Ended.DROPPED, True: Ended.ABANDONED, False: Ended.DISPATCHED}[self._again]
        for event in batch or ():
            self.ledger.settle(id(event), ended)

    def _stopped(self, _: object) -> None:
        # A full queue takes no signal to stop: then it goes on.
        if not self._events.is_running:
            self.ledger.abandon()


def _nothing() -> None:
    pass


def _key_of(item: Any) -> object | None:
    # By shape: what else is in the queue are signals, and SDKs before 5 have no ODP to import from.
    return id(item) if hasattr(item, "identifiers") else None
