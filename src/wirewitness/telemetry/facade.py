"""
Spans, metrics and logs behind one door.
"""

from __future__ import annotations

import functools

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, TracerProvider

from wirewitness._guard import fail_open
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


class Telemetry:
    """
    What a dispatch leaves behind for people to see. Nothing in here raises.

    Args:
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
        suppress_http: Whether other HTTP instrumentation stays off during the inner call.

    Attributes:
        shown_by: The meter provider, or None for the global one.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        suppress_http: bool = True,
    ) -> None:
        self._providers = (tracer_provider, meter_provider)
        self.shown_by = meter_provider
        self._spans = Spans(tracer_provider, suppress_http=suppress_http)
        self._metrics = metrics_of(meter_provider)
        self._logs = Logs()

    @fail_open("telemetry")
    def expect_more(self) -> None:
        """
        Something has not ended yet: at the end of the process it is told before the providers shut down.
        """
        shut_down_last(*self._providers)

    @fail_open("telemetry")
    def opened(self, dispatch: Dispatch) -> None:
        """
        A dispatch begins: its span is current from now on.
        """
        dispatch.trace = self._spans.opened(dispatch)

    @fail_open("telemetry")
    def entered(self, dispatch: Dispatch) -> None:
        """
        The inner call goes on after :meth:`closed`: its span is current again.
        """
        if dispatch.trace is not None:
            dispatch.trace = self._spans.entered(dispatch, dispatch.trace)

    @fail_open("telemetry")
    def closed(self, dispatch: Dispatch) -> None:
        """
        The inner call is over, or has stopped for now.
        """
        if dispatch.trace is not None:
            self._spans.closed(dispatch.trace)

    @fail_open("telemetry")
    def recognised(self, dispatch: Dispatch) -> None:
        """
        A dispatch's bytes are on the wire in the current context, which isn't its own.
        """
        if dispatch.trace is not None:
            self._spans.recognised(dispatch.trace)

    @fail_open("telemetry")
    def settled(self, dispatch: Dispatch, settlement: Settlement) -> None:
        """
        A dispatch has ended: its spans end, its durations are recorded, its line is written.
        """
        state: Trace | None = dispatch.trace
        within = None if state is None else self._spans.settled(dispatch, settlement, state)
        self._metrics.settled(dispatch, settlement, within)
        self._logs.settled(dispatch, settlement, INVALID_SPAN if state is None else state.span)

    @staticmethod
    def ignores(dispatch: Dispatch) -> bool:
        """
        Whether requests made right now are a telemetry exporter's own, and not the dispatch's.
        """
        state: Trace | None = dispatch.trace
        return suppressed() and not (state is not None and state.suppressed)
