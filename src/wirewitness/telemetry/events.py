"""
User events on their way to a dispatcher, as metrics, and the requests that they come from, as links of the dispatch's span.
"""

from __future__ import annotations

import enum
import functools
import threading
import weakref

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import MeterProvider, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext

from wirewitness import fork
from wirewitness._guard import fail_open
from wirewitness._version import __version__
from wirewitness.telemetry.attributes import OTHER, SCHEMA_URL, SCOPE, CardinalityLimit
from wirewitness.telemetry.snapshots import SnapshotGroup
from wirewitness.telemetry.spans import CALLERS


MOST_LINKS: Final = 128
"""As many links a span has by default, OpenTelemetry specification, "Span Limits"."""

Caller: TypeAlias = SpanContext


class Ended(enum.StrEnum):
    """
    How an event's way through its processor ended. The values are bounded, so they can label metrics.
    """

    DISPATCHED = "dispatched"
    """A payload that holds it has reached the dispatcher, whose ledger has it from there."""
    DROPPED = "dropped"
    """The processor didn't take it, or made no payload of it."""
    ABANDONED = "abandoned"
    """It was waiting when the processor stopped, or gave up."""


class EventWatch(Protocol):
    """
    A ledger that adds to totals.
    """

    def look(self) -> None:
        """Abandon what nobody will take any more."""
        ...


class Counted(NamedTuple):
    """
    Totals at one instant.
    """

    accepted: int
    pending: int
    ended: Mapping[Ended, int]


class EventTotals:
    """
    The counts of all processors of one name, in events. Whoever touches them holds the lock.

    Attributes:
        lock: Of these counts, and of the ledgers that add to them.
        accepted: Events given to a processor.
        pending: Those that haven't ended.
        ended: Those that have, by how.
    """

    def __init__(self) -> None:
        self._ledgers: weakref.WeakSet[EventWatch] = weakref.WeakSet()
        self.clear()

    def include(self, ledger: EventWatch) -> None:
        """
        Have a ledger look before anybody is told.
        """
        with self.lock:
            self._ledgers.add(ledger)

    def counted(self) -> Counted:
        """
        All counts of this instant.
        """
        with self.lock:
            for ledger in tuple(self._ledgers):
                ledger.look()
            return Counted(self.accepted, self.pending, dict(self.ended))

    def clear(self) -> None:
        """
        Start at zero, as a child process does, where the parent's lock may be held for ever.
        """
        self.lock: threading.RLock = threading.RLock()
        self.accepted = 0
        self.pending = 0
        self.ended: dict[Ended, int] = dict.fromkeys(Ended, 0)


_TOTALS: Final[dict[tuple[str, MeterProvider | None], EventTotals]] = {}
_names: Final = CardinalityLimit()


def totals_of(name: str, meter_provider: MeterProvider | None = None) -> EventTotals:
    """
    The counts of a name, shown from zero on.

    Args:
        name: The processor's.
        meter_provider: None for the global one.
    """
    _instruments(meter_provider)
    shown = name if _names(name) != OTHER else OTHER
    return _TOTALS.setdefault((shown, meter_provider), EventTotals())


def _counted(meter_provider: MeterProvider | None) -> Books:
    shown = [(name, totals) for (name, shown_by), totals in list(_TOTALS.items()) if shown_by is meter_provider]
    return {name: totals.counted() for name, totals in shown}


class _Instruments:
    """
    The instruments of all processors on one meter provider.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        at = SnapshotGroup(lambda: _counted(meter_provider))
        meter.create_observable_counter(
            f"{SCOPE}.events.accepted",
            [at.of(_accepted)],
            "{event}",
            "User events that were given to an event processor",
        )
        meter.create_observable_counter(
            f"{SCOPE}.events.settled",
            [at.of(_settled)],
            "{event}",
            "User events whose way through the processor has ended",
        )
        meter.create_observable_up_down_counter(
            f"{SCOPE}.events.pending", [at.of(_pending)], "{event}", "User events that wait in an event processor"
        )


@functools.cache
def _instruments(meter_provider: MeterProvider | None) -> _Instruments:
    return _Instruments(meter_provider)


Books: TypeAlias = dict[str, Counted]


def _accepted(books: Books) -> Iterator[Observation]:
    for name, counted in books.items():
        yield Observation(counted.accepted, {"processor": name})


def _pending(books: Books) -> Iterator[Observation]:
    for name, counted in books.items():
        yield Observation(counted.pending, {"processor": name})


def _settled(books: Books) -> Iterator[Observation]:
    for name, counted in books.items():
        for ended, number in counted.ended.items():
            yield Observation(number, {"processor": name, "outcome": ended.value})


def _start_empty_in_child() -> None:
    for totals in _TOTALS.values():
        totals.clear()


fork.register(fork.ForkStage.TELEMETRY, in_child=_start_empty_in_child)


def caller() -> Caller | None:
    """
    The span that is current, if there's one that anybody will see.
    """
    there = trace.get_current_span().get_span_context()
    return there if there.is_valid else None


@fail_open("telemetry")
def link(callers: Iterable[Caller | None], *, adopt: bool = False) -> Callable[[], object] | None:
    """
    Link the dispatch that begins from now on to the spans of those whose events it carries.

    Args:
        callers: These spans.
        adopt: Whether to make the span current instead where it's one alone, for a dispatcher that only keeps whose child
            the dispatch will be.

    Returns:
        What :func:`unlink` takes; None where there's nobody to link to.
    """
    own = caller()
    others = {(one.trace_id, one.span_id): one for one in callers if one is not None and one != own}
    if not others:
        return None
    if adopt and own is None and len(others) == 1:
        (parent,) = others.values()
        attached = context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
        return functools.partial(context.detach, attached)
    return functools.partial(CALLERS.reset, CALLERS.set(tuple(others.values())[:MOST_LINKS]))


@fail_open("telemetry")
def unlink(undo: Callable[[], object] | None) -> None:
    """
    The dispatch is over.
    """
    if undo is not None:
        undo()
