"""
Traces: a span a dispatch, and below it a client span an exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from wirewitness._current import Dispatch
from wirewitness._version import __version__
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict
from wirewitness.telemetry.attributes import SCHEMA_URL, SCOPE, exchange_attributes, exchange_error, known_method


_NAME: Final = "wirewitness.dispatcher.name"
_FAILED: Final = frozenset({Outcome.REJECTED, Outcome.FAILED, Outcome.DROPPED})


@dataclass
class Trace:
    """
    What a dispatch's telemetry needs until it's settled.

    Attributes:
        span: The dispatch span.
        token: What detaches the span from the context; None once that's done.
        suppressed: Whether the caller had telemetry suppressed.
    """

    span: Span
    token: object | None
    suppressed: bool


def suppressed() -> bool:
    """
    Whether OpenTelemetry's instrumentation is suppressed in this context, as it is while an exporter sends.
    """
    return bool(context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) or context.get_value("suppress_instrumentation"))


class Spans:
    """
    Opens, attaches and ends the spans.

    Args:
        tracer_provider: None for the global one.
        suppress_http: Whether other HTTP instrumentation stays off during the inner call. It would double the spans,
            and put ``traceparent`` and baggage into the request.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, suppress_http: bool = True) -> None:
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider, SCHEMA_URL)
        self._suppress_http = suppress_http

    def opened(self, dispatch: Dispatch) -> Trace:
        """
        Start the dispatch's span, and make it current.
        """
        off = suppressed()
        span = (
            trace.INVALID_SPAN
            if off
            else self._tracer.start_span(
                f"dispatch {dispatch.name}", attributes={_NAME: dispatch.name}, start_time=dispatch.started_ns
            )
        )
        inner = trace.set_span_in_context(span) if span is not trace.INVALID_SPAN else context.get_current()
        if self._suppress_http:
            inner = context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, inner)  # noqa: FBT003 -- OpenTelemetry's
        return Trace(span, context.attach(inner), off)

    def closed(self, state: Trace) -> None:
        """
        The inner call is over: the caller's context is current again.
        """
        token, state.token = state.token, None
        if token is not None:
            context.detach(token)  # type: ignore[arg-type]

    def settled(self, dispatch: Dispatch, settlement: Settlement, state: Trace) -> Context:
        """
        End the spans.

        Returns:
            A context with the dispatch's span, for exemplars.
        """
        span = state.span
        within = trace.set_span_in_context(span)
        if span.is_recording():
            for exchange in dispatch.exchanges:
                self._exchange(exchange, within)
            span.set_attributes(_attributes(dispatch, settlement))
            failure = _failure(settlement)
            if failure is not None:
                span.set_status(Status(StatusCode.ERROR, failure))
            span.end(dispatch.started_ns + int(dispatch.duration * 1e9))
        return within

    def _exchange(self, exchange: Exchange, within: Context) -> None:
        span = self._tracer.start_span(
            known_method(exchange.method).replace("_OTHER", "HTTP"),
            within,
            SpanKind.CLIENT,
            exchange_attributes(exchange),
            start_time=exchange.started_ns,
        )
        if exchange_error(exchange) is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(exchange.started_ns + int(exchange.duration * 1e9))


def _failure(settlement: Settlement) -> str | None:
    if settlement.verdict is Verdict.ALTERED or settlement.outcome in _FAILED:
        return f"{settlement.outcome.value}: {settlement.reason.value}"
    return None


def _attributes(dispatch: Dispatch, settlement: Settlement) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "wirewitness.outcome": settlement.outcome.value,
        "wirewitness.verdict": settlement.verdict.value,
        "wirewitness.evidence": settlement.evidence.value,
        "wirewitness.exchange.count": len(dispatch.exchanges),
    }
    optional: dict[str, AttributeValue | None] = {
        "wirewitness.reason": settlement.reason.value or None,
        "wirewitness.difference.offset": settlement.offset,
        "error.type": settlement.error_type,
    }
    if dispatch.payload is not None:
        attributes["wirewitness.payload.digest"] = dispatch.payload.digest.hex()
        attributes["wirewitness.payload.size"] = len(dispatch.payload)
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes
