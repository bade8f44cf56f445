"""
A living client under observation: its dispatchers, its decisions, and the events that it loses before a dispatcher sees them.
"""

from __future__ import annotations

import threading

from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from optimizely.optimizely import Optimizely

from wirewitness import fork
from wirewitness._guard import fail_open
from wirewitness._witness import witness
from wirewitness.errors import ConfigurationError, shown
from wirewitness.optimizely.decisions import DecisionListener
from wirewitness.optimizely.event_ledger import EventBook
from wirewitness.optimizely.odp import OdpWatch
from wirewitness.optimizely.patches import Patches, Shared
from wirewitness.optimizely.processor import COUNTED, ProcessorWatch
from wirewitness.outbox import Outbox
from wirewitness.telemetry.decisions import decisions_on
from wirewitness.telemetry.events import totals_of


if TYPE_CHECKING:
    from wirewitness._witness import WitnessOptions

C = TypeVar("C")

_PLACE: Final = "_wirewitness"
_ODP: Final = "odp"
# Clients share processors and notification centres. It's held while clients are made, and never while events are.
_lock = threading.RLock()


def _renew_in_child() -> None:
    global _lock  # noqa: PLW0603 -- the parent's lock may be held by a thread that the child doesn't have
    _lock = threading.RLock()


fork.register(fork.ForkStage.CLIENTS, in_child=_renew_in_child)


def instrument(client: C, **options: Unpack[WitnessOptions]) -> C:
    """
    Observe a client: its event dispatchers are witnessed, its decisions and its user events counted.

    What the client does is the same. Instrumenting it once more changes nothing.

    Args:
        client: An Optimizely client.
        **options: Those of :func:`wirewitness.witness`, for each dispatcher that isn't witnessed already.

    Returns:
        The same client.

    Raises:
        ConfigurationError: If it's no client, or an option can't work.
    """
    _check(client)
    with _lock:
        if _PLACE not in vars(client):
            _Instrumented(client, options)
    return client


def uninstrument(client: C) -> C:
    """
    Give a client back as it was before :func:`instrument`. What its event processor has yet is counted as abandoned, for
    nobody sees what comes of it.

    Args:
        client: An Optimizely client, instrumented or not.

    Raises:
        ConfigurationError: If it's no client.
    """
    _check(client)
    with _lock:
        instrumented: _Instrumented | None = vars(client).pop(_PLACE, None)
        if instrumented is not None:
            instrumented.undo()
    return client


def book_of(client: object) -> EventBook:
    """
    The book of an instrumented client's event processor: what it accepted, and what came of it.

    Raises:
        ConfigurationError: If the client isn't instrumented, or its event processor is of a kind that isn't counted.
    """
    return _book(client, "events", "event processor that is counted")


def odp_book_of(client: object) -> EventBook:
    """
    The book of an instrumented client's ODP events.

    Raises:
        ConfigurationError: If the client isn't instrumented, or has ODP disabled.
    """
    return _book(client, "odp", "ODP events")


def _book(client: object, which: str, named: str) -> EventBook:
    _check(client)
    instrumented = vars(client).get(_PLACE)
    watch = getattr(instrumented, which, None)
    if watch is None:
        missing = "is not instrumented: instrument() it first" if instrumented is None else f"has no {named}"
        msg = f"{shown(client)} {missing}"
        raise ConfigurationError(msg)
    book: EventBook = watch.ledger.book()
    return book


def _check(client: object) -> None:
    if not isinstance(client, Optimizely):
        msg = f"{shown(client)} is no Optimizely client"
        raise ConfigurationError(msg)


class _Instrumented(Patches):
    """
    What instruments one client.
    """

    events: ProcessorWatch | None = None
    odp: OdpWatch | None = None

    def __init__(self, client: Any, options: Any) -> None:
        super().__init__()
        self._options = options
        self._provider = options.get("meter_provider")
        self._witnessed: dict[int, Any] = {}
        processor = getattr(client, "event_processor", None)
        # Witnessed before anything is put into place: these raise where an option can't work.
        own, processors = (self._witness(one) for one in _dispatchers(client, processor))
        if own is not client.event_dispatcher:
            self.set(client, "event_dispatcher", own)
        self._watch_processor(processor, processors)
        self._watch_odp(client)
        self._watch_decisions(client)
        vars(client)[_PLACE] = self

    def _witness(self, dispatcher: Any) -> Any:
        if dispatcher is None or isinstance(dispatcher, Outbox) or hasattr(dispatcher, "__wirewitness__"):
            return dispatcher
        if id(dispatcher) not in self._witnessed:
            self._witnessed[id(dispatcher)] = witness(dispatcher, **self._options)
        return self._witnessed[id(dispatcher)]

    @fail_open("optimizely")
    def _watch_processor(self, processor: Any, witnessed: Any) -> None:
        if isinstance(processor, COUNTED):
            self.events = Shared.on(processor, lambda one, patches: self._counted(one, witnessed, patches), self)
        elif witnessed is not None and witnessed is not processor.event_dispatcher:
            self.set(processor, "event_dispatcher", witnessed)

    def _counted(self, processor: Any, witnessed: Any, patches: Shared) -> ProcessorWatch:
        totals = totals_of(type(processor).__name__, self._provider)
        return ProcessorWatch(processor, witnessed, totals, patches)

    @fail_open("optimizely")
    def _watch_odp(self, client: Any) -> None:
        # A client that refused its options has no ODP.
        events = getattr(getattr(client, "odp_manager", None), "event_manager", None)
        if events is not None:
            totals = totals_of(_ODP, self._provider)
            self.odp = Shared.on(events, lambda one, patches: OdpWatch(one, totals, patches), self)

    @fail_open("optimizely")
    def _watch_decisions(self, client: Any) -> None:
        counted = decisions_on(self._provider)
        Shared.on(client.notification_center, lambda _, patches: DecisionListener(client, counted, patches), self)


def _dispatchers(client: Any, processor: Any) -> tuple[Any, Any]:
    return client.event_dispatcher, getattr(processor, "event_dispatcher", None)
