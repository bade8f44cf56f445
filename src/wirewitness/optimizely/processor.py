"""
An event processor whose events are counted: what it takes, what reaches its dispatcher, and what it loses in silence.

``BatchEventProcessor`` drops an event when its queue is full, and leaves what it hasn't sent by the end of ``stop()``
(``optimizely/event/event_processor.py``). Nothing of that is an error to its caller.
"""

from __future__ import annotations

import functools
import weakref

from collections.abc import Callable, Iterator
from typing import Any, Final

import wrapt

from optimizely.event.event_processor import BatchEventProcessor, ForwardingEventProcessor
from optimizely.event.user_event import UserEvent

from wirewitness._guard import fail_open
from wirewitness.optimizely.event_ledger import EventLedger
from wirewitness.optimizely.patches import Patches
from wirewitness.outbox import Outbox
from wirewitness.telemetry.events import Ended, EventTotals, link, unlink


# Before wrapt 2 all proxies look iterable.
_Proxy: Final[Any] = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)
_NEVER: Final = object()

COUNTED: Final = (BatchEventProcessor, ForwardingEventProcessor)
"""The processors whose ways are known."""


def through(inner: Callable[..., Any], before: Callable[..., Any], after: Callable[[Any], Any]) -> Callable[..., Any]:
    """
    A callable that does and returns what ``inner`` does.

    Args:
        inner: What is called.
        before: Gets the arguments first. A fault in it is counted.
        after: Gets what ``before`` returned, or None where that failed; also where ``inner`` raises. A fault in it is counted.
    """
    guard = fail_open("optimizely")
    begin, end = guard(before), guard(after)

    @functools.wraps(inner)
    def call(*args: Any, **kwargs: Any) -> Any:
        known = begin(*args, **kwargs)
        try:
            return inner(*args, **kwargs)
        finally:
            end(known)

    return call


def dead(owner: Any, thread: str) -> Callable[[], bool | None]:
    """
    Whether an object's thread has ended, asked without keeping the object alive.

    Args:
        owner: The object.
        thread: The attribute that is its thread.
    """
    there = weakref.ref(owner)

    @fail_open("optimizely")
    def is_dead() -> bool:
        running = getattr(there(), thread, None)
        # One that isn't started yet isn't alive, either.
        return running is not None and running.ident is not None and not running.is_alive()

    return is_dead


class Queue:
    """
    Tells a ledger what a queue has taken.

    Args:
        queue: Any queue. One whose attributes can't be set can't be full, either: ``queue.SimpleQueue``.
        ledger: The ledger.
        key_of: What it knows an item by; None for what is no event.
        patches: What is put into place.
    """

    def __init__(
        self, queue: Any, ledger: EventLedger, key_of: Callable[[Any], object | None], patches: Patches
    ) -> None:
        self._ledger = ledger
        self._key_of = key_of
        self.tells: bool = hasattr(queue, "__dict__")
        if self.tells:
            self._put = queue.put_nowait
            patches.set(queue, "put_nowait", self.put_nowait)

    def put_nowait(self, item: Any) -> None:
        """
        Put it, and tell if it was taken.
        """
        self._put(item)
        self._taken(item)

    @fail_open("optimizely")
    def _taken(self, item: Any) -> None:
        key = self._key_of(item)
        if key is not None:
            self._ledger.queued(key)


class ProcessorWatch:
    """
    Counts the events of one processor.

    Args:
        processor: A ``BatchEventProcessor`` or ``ForwardingEventProcessor``, or of a class made from them.
        witnessed: Its dispatcher, witnessed.
        totals: The counts of its name.
        patches: What is put into place.
    """

    def __init__(self, processor: Any, witnessed: Any, totals: EventTotals, patches: Patches) -> None:
        self.ledger: EventLedger = EventLedger(totals, dead(processor, "executor"))
        weakref.finalize(processor, self.ledger.end).atexit = False
        patches.later(self.ledger.end)
        self._processor = processor
        self._stopped: object = _NEVER
        self._knows = True
        self._adopts = isinstance(witnessed, Outbox)
        patches.set(processor, "process", through(processor.process, self._given, self._processed))
        patches.set(processor, "event_dispatcher", self._counting(witnessed))
        if isinstance(processor, BatchEventProcessor):
            self._knows = Queue(processor.event_queue, self.ledger, _key_of, patches).tells
            patches.set(processor, "stop", through(processor.stop, _nothing, self._stopping))
            self._watch_flushes(patches)

    def _watch_flushes(self, patches: Patches) -> None:
        # No public method: where a version has none, an event that no visitor can be made of stays pending until stop().
        flush = getattr(self._processor, "_flush_batch", None)
        if flush is not None:
            patches.set(self._processor, "_flush_batch", through(flush, self._flushing, self._flushed))

    def _given(self, user_event: Any) -> object | None:
        key = _key_of(user_event)
        if key is not None:
            self.ledger.accept(key, user_event, queued=not self._knows)
        return key

    def _processed(self, key: object | None) -> None:
        if key is None:
            return
        if self.ledger.is_homeless(key):
            self.ledger.settle(key, Ended.DROPPED)
        elif self._is_over():
            self.ledger.settle(key, Ended.DROPPED, kept=True)
            self.ledger.abandon()

    def _is_over(self) -> bool:
        executor = getattr(self._processor, "executor", None)
        if executor is self._stopped:
            return True
        return executor is not None and not executor.is_alive()

    def _stopping(self, _: object) -> None:
        self._stopped = self._processor.executor
        self.ledger.abandon()

    def _flushing(self) -> list[Any]:
        return list(self._processor._current_batch)  # noqa: SLF001 -- the SDK shows it nowhere else

    def _flushed(self, batch: list[Any] | None) -> None:
        for event in batch or ():
            self.ledger.settle(event.uuid, Ended.DROPPED)

    def _counting(self, witnessed: Any) -> Any:
        dispatch_event = through(witnessed.dispatch_event, self._begins, unlink)
        name = getattr(witnessed, "__name__", None) or type(witnessed).__name__
        return type(str(name), (_Proxy,), {"dispatch_event": staticmethod(dispatch_event)})(witnessed)

    def _begins(self, event: Any) -> Any:
        callers = [self.ledger.settle(uuid, Ended.DISPATCHED) for uuid in _uuids(event)]
        return link(callers, adopt=self._adopts)


def _nothing() -> None:
    pass


def _key_of(item: Any) -> object | None:
    return item.uuid if isinstance(item, UserEvent) else None


def _uuids(event: Any) -> Iterator[str]:
    """
    The events in a payload, ``optimizely/event/payload.py``: each is a visitor of its own.
    """
    if event is None:
        return  # what SDKs before 5 make of a batch without a visitor
    for visitor in event.params["visitors"]:
        for snapshot in visitor["snapshots"]:
            for one in snapshot["events"]:
                yield one["uuid"]
