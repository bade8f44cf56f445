"""
What an Outbox leaves behind for people to see.
"""

from __future__ import annotations

import functools
import threading
import weakref

from collections.abc import Callable, Iterable, Iterator
from contextvars import Token
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TracerProvider

from wirewitness import fork
from wirewitness._guard import methods_fail_open
from wirewitness._version import __version__
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.dispatch import Dispatch
from wirewitness.telemetry.attributes import SCHEMA_URL, SCOPE
from wirewitness.telemetry.facade import CallTelemetry, metrics_of
from wirewitness.telemetry.logs import Logs, RateLimit
from wirewitness.telemetry.metrics import SECONDS, Delivery
from wirewitness.telemetry.spans import CALLERS, NO_SPAN, Callers, Spans, Trace


class OutboxGauges(NamedTuple):
    """
    What an Outbox shows of itself at one instant.

    Attributes:
        size: Payloads that it holds.
        capacity: How many it can hold.
        utilization: How full it is, of its payloads' or its bytes' bound, whichever is nearer; 1 is full.
        oldest_age: Seconds since the oldest was accepted; 0 if there's none.
        circuit_state: The worst of its circuits: 0 closed, 1 half-open, 2 open.
    """

    size: int
    capacity: int
    utilization: float
    oldest_age: float
    circuit_state: int


class Waiting(Protocol):
    """
    A message, as far as its acceptance is shown.

    Attributes:
        accepted_ns: When it was accepted, Unix nanoseconds.
        context: The caller's span, and then the acceptance's.
        traced: Whether what follows has spans.
    """

    accepted_ns: int
    context: Any
    traced: bool


class MeasuredOutbox(Protocol):
    """
    An Outbox, as its gauges see it.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def gauges(self) -> OutboxGauges:
        """What it shows."""
        ...


class _Outboxes:
    """
    The Outboxes of this process that still live.
    """

    def __init__(self) -> None:
        self._living: weakref.WeakKeyDictionary[MeasuredOutbox, MeterProvider | None] = weakref.WeakKeyDictionary()
        self.renew()

    def renew(self) -> None:
        self._lock = threading.RLock()

    def add(self, outbox: MeasuredOutbox, meter_provider: MeterProvider | None) -> None:
        with self._lock:
            self._living[outbox] = meter_provider

    def observe(
        self,
        meter_provider: MeterProvider | None,
        read: Callable[[OutboxGauges], float],
        add: Callable[[Iterable[float]], float],
    ) -> Any:
        def observations(_: CallbackOptions) -> Iterator[Observation]:
            by_name: dict[str, list[float]] = {}
            with self._lock:
                living = [outbox for outbox, shown_by in self._living.items() if shown_by is meter_provider]
            for outbox in living:
                by_name.setdefault(outbox.name, []).append(read(outbox.gauges()))
            for name, values in by_name.items():
                yield Observation(add(values), {"outbox": name})

        return observations


_OUTBOXES: Final = _Outboxes()

fork.register(fork.ForkStage.TELEMETRY, in_child=_OUTBOXES.renew)


class _Instruments:
    """
    The instruments of all Outboxes on one meter provider.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        self.wait = meter.create_histogram(
            f"{SCOPE}.outbox.wait.duration",
            "s",
            "From acceptance to the first attempt",
            explicit_bucket_boundaries_advisory=list(SECONDS),
        )
        _observe(meter, meter_provider)


def _observe(meter: Meter, meter_provider: MeterProvider | None) -> None:
    counted, gauge = meter.create_observable_up_down_counter, meter.create_observable_gauge
    seen = functools.partial(_OUTBOXES.observe, meter_provider)
    counted(f"{SCOPE}.outbox.size", [seen(lambda of: of.size, sum)], "{payload}", "Payloads held")
    counted(f"{SCOPE}.outbox.capacity", [seen(lambda of: of.capacity, sum)], "{payload}", "Payloads that can be held")
    gauge(
        f"{SCOPE}.outbox.utilization",
        [seen(lambda of: of.utilization, max)],
        # Without a unit it has one name by both metrics paths: only a collector makes _ratio of "1".
        "",
        "How full it is, by payloads or by bytes, whichever is nearer to its bound",
    )
    gauge(f"{SCOPE}.outbox.oldest.age", [seen(lambda of: of.oldest_age, max)], "s", "Age of the oldest payload held")
    gauge(
        f"{SCOPE}.outbox.circuit.state",
        [seen(lambda of: of.circuit_state, max)],
        "",
        "0 closed, 1 half-open, 2 open: the worst of the origins",
    )


@functools.cache
def _instruments(meter_provider: MeterProvider | None) -> _Instruments:
    return _Instruments(meter_provider)


@methods_fail_open("telemetry")
class OutboxTelemetry(CallTelemetry):
    """
    What an Outbox shows: its attempts while they run, and what becomes of its payloads.

    Args:
        outbox: The Outbox.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
    """

    def __init__(
        self,
        outbox: MeasuredOutbox,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(Spans(tracer_provider), tracer_provider, meter_provider)
        self._name = outbox.name
        self._metrics = metrics_of(meter_provider)
        self._wait = _instruments(meter_provider).wait
        self._waited_in = {"outbox": outbox.name}
        self._logs = Logs()
        self._lines = RateLimit(most=30, seconds=60.0)
        _OUTBOXES.add(outbox, meter_provider)

    @staticmethod
    def caller() -> SpanContext | Callers:
        """
        The caller's span, and those of others whose events it hands over, kept with the message until its acceptance is written.
        """
        here, others = trace.get_current_span().get_span_context(), CALLERS.get()
        return Callers(here, others) if others else here

    @property
    def voice(self) -> Logs:
        """Who writes its lines: stands for it where log lines may come back."""
        return self._logs

    def recording(self) -> bool:
        """
        Whether a plain success's record is wanted for a log line.
        """
        return self._logs.wants_everything()

    def waited(self, messages: Iterable[Waiting], claimed_ns: int) -> None:
        """
        Messages that this process accepted are about to be sent for the first time: their acceptances are written, and
        kept in place of the callers as what their deliveries are children of.
        """
        record, labels = self._wait.record, self._waited_in
        spans = self._spans if self._spans.enabled else None
        for message in messages:
            at = message.accepted_ns
            accepted = None if spans is None else spans.accepted(self._name, message.context, at, at)
            message.context = accepted
            message.traced = accepted is not None and accepted.trace_flags.sampled
            within = _spanned(accepted) if message.traced else NO_SPAN
            record(max(0, claimed_ns - at) / 1e9, labels, within)

    @staticmethod
    def within(parent: SpanContext | None) -> Token[Context]:
        """
        Make the acceptance's span the current one while a sender's thread sends its message.
        """
        return context.attach(_spanned(parent))

    @staticmethod
    def without(token: Token[Context]) -> None:
        """
        Give the thread its own context back.
        """
        context.detach(token)

    def opened(self, dispatch: Dispatch) -> None:
        """
        An attempt begins: its span is current from now on, and linked to the acceptance's.
        """
        accepted = trace.get_current_span().get_span_context()
        dispatch.trace = self._spans.opened(dispatch)
        if accepted.is_valid:
            dispatch.trace.span.add_link(accepted)

    def attempted(
        self,
        dispatch: Dispatch,
        settlement: Settlement,
        parent: SpanContext | Callers | None,
        *,
        waited: float,
        retry: float | None,
    ) -> Context | None:
        """
        An attempt has ended: its spans are written, and its requests' durations recorded.

        Args:
            dispatch: The attempt.
            settlement: How it ended.
            parent: The acceptance's span, or the caller's where it was never written.
            waited: Seconds from acceptance until it began.
            retry: In how many seconds another will follow; None if none will.

        Returns:
            A context with its span, for exemplars.
        """
        state: Trace | None = dispatch.trace
        if state is None:
            caller, others = parent if isinstance(parent, Callers) else (parent, ())
            state = dispatch.trace = self._spans.record(dispatch, _spanned(caller))
            for each in (caller, *others):
                if each is not None:
                    state.span.add_link(each)
        state.span.set_attribute("wirewitness.queue.wait", waited)
        span = self._spans.settled(dispatch, settlement, state, final=retry is None)
        self._metrics.exchanges(dispatch, span)
        if retry is not None:
            self._logs.retried(dispatch, settlement, retry)
        return span

    def delivered(self, host: str, status: int, deliveries: Iterable[Delivery]) -> None:
        """
        Plain successes of which no record was kept.
        """
        self._metrics.delivered(self._name, host, status, deliveries)

    def ended(self, size: int, duration: float, settlement: Settlement, within: Context | None) -> None:
        """
        A payload's end is known: its length in bytes, and the seconds that it took.
        """
        self._metrics.sized(self._name, size)
        self._metrics.ended(self._name, duration, settlement, within)

    def notify_feedback(self) -> None:
        """
        Say, once, that log lines about the Outbox's own deliveries are dispatched, and dropped.
        """
        self._logs.cut_off(self._name)

    def notify(self, dispatch: Dispatch, settlement: Settlement) -> None:
        """
        Write the line of a payload's end; at a bounded rate, since an outage ends thousands at once.
        """
        # A drop's line has a limit of its own, which says how many it has held back.
        limited = settlement.outcome not in {Outcome.DELIVERED, Outcome.DROPPED}
        if limited and self._lines.take() is None:
            return
        state: Trace | None = dispatch.trace
        self._logs.settled(dispatch, settlement, INVALID_SPAN if state is None else state.span)


def _spanned(parent: SpanContext | None) -> Context:
    return NO_SPAN if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), NO_SPAN)
