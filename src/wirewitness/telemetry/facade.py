"""
Spans, metrics and logs behind one door.
"""

from __future__ import annotations

import functools

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, TracerProvider

from wirewitness._guard import methods_fail_open
from wirewitness.core.settlement import Settlement
from wirewitness.dispatch import Dispatch
from wirewitness.telemetry.logs import Logs
from wirewitness.telemetry.metrics import Metrics
from wirewitness.telemetry.providers import shut_down_last
from wirewitness.telemetry.spans import Spans, Trace, suppressed


@functools.cache
def metrics_of(meter_provider: MeterProvider | None) -> Metrics:
    """
    The instruments on a provider: a second set of the same names would count everything twice.
    """
    return Metrics(meter_provider)


@methods_fail_open("telemetry")
class CallTelemetry:
    """
    Shows a call while it runs: its span, and what is current inside it.

    Args:
        spans: Makes the spans.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.

    Attributes:
        shown_by: The meter provider, or None for the global one.
    """

    def __init__(
        self, spans: Spans, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        self._providers = (tracer_provider, meter_provider)
        self.shown_by: MeterProvider | None = meter_provider
        self._spans = spans

    def expect_more(self) -> None:
        """
        Something has not ended yet: at the end of the process it is told before the providers shut down.
        """
        shut_down_last(*self._providers)

    def opened(self, dispatch: Dispatch) -> None:
        """
        A dispatch begins: its span is current from now on.
        """
        dispatch.trace = self._spans.opened(dispatch)

    def entered(self, dispatch: Dispatch) -> None:
        """
        The inner call goes on after :meth:`closed`: its span is current again.
        """
        if dispatch.trace is not None:
            dispatch.trace = self._spans.entered(dispatch, dispatch.trace)

    def closed(self, dispatch: Dispatch) -> None:
        """
        The inner call is over, or has stopped for now.
        """
        if dispatch.trace is not None:
            self._spans.closed(dispatch.trace)

    def recognised(self, dispatch: Dispatch) -> None:
        """
        A dispatch's bytes are on the wire in the current context, which isn't its own.
        """
        if dispatch.trace is not None:
            self._spans.recognised(dispatch.trace)

    @staticmethod
    def ignores(dispatch: Dispatch) -> bool:
        """
        Whether requests made right now are a telemetry exporter's own, and not the dispatch's.
        """
        state: Trace | None = dispatch.trace
        return suppressed() and not (state is not None and state.suppressed)


@methods_fail_open("telemetry")
class Telemetry(CallTelemetry):
    """
    What a dispatch leaves behind for people to see.

    Args:
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
        suppress_http: Whether other HTTP instrumentation stays off during the inner call.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        suppress_http: bool = True,
    ) -> None:
        super().__init__(Spans(tracer_provider, suppress_http=suppress_http), tracer_provider, meter_provider)
        self._metrics = metrics_of(meter_provider)
        self._logs = Logs()

    def settled(self, dispatch: Dispatch, settlement: Settlement) -> None:
        """
        A dispatch has ended: its spans end, its durations are recorded, its line is written.
        """
        state: Trace | None = dispatch.trace
        within = None if state is None else self._spans.settled(dispatch, settlement, state)
        self._metrics.settled(dispatch, settlement, within)
        self._logs.settled(dispatch, settlement, INVALID_SPAN if state is None else state.span)
