"""
Traces: a span a dispatch, and below it a client span an exchange.
"""

from __future__ import annotations

import sys

from contextvars import ContextVar
from typing import Final, NamedTuple

from opentelemetry import context, trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
)
from opentelemetry.util.types import AttributeValue

from wirewitness._version import __version__
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict
from wirewitness.dispatch import Dispatch
from wirewitness.telemetry.attributes import SCHEMA_URL, SCOPE, exchange_attributes, exchange_error, known_method
from wirewitness.telemetry.providers import global_tracer_provider


# Not an empty Context: the SDK takes that for none, and the current one in its place. Nor one that holds an invalid span:
# the SDK looks for a span at every measurement, and finds soonest that there's none.
NO_SPAN: Final = Context({"wirewitness-no-span": True})
_INSTRUMENTATION: Final = "opentelemetry.instrumentation"
"""Where nothing of this is loaded, nobody reads the key that suppresses it."""
CALLERS: Final[ContextVar[tuple[SpanContext, ...]]] = ContextVar("wirewitness_callers", default=())
"""The spans of those whose events the dispatch carries that begins in this context: it's linked to them."""
_FAILED: Final = frozenset({Outcome.REJECTED, Outcome.FAILED, Outcome.DROPPED})


class Trace(NamedTuple):
    """
    What a dispatch's telemetry needs until it's settled.

    Attributes:
        span: The dispatch span.
        outside: The caller's context, which is given back; None if that was never left.
        suppressed: Whether the caller had telemetry suppressed.
    """

    span: Span
    outside: Context | None
    suppressed: bool


class _WhileOpen:
    """
    The value that suppresses other HTTP instrumentation: true only while its dispatch is open.

    A task that is started during the inner call has a copy of its context for life, and its later requests are its own.
    """

    __slots__ = ("_before", "_dispatch")

    def __init__(self, dispatch: Dispatch, before: object) -> None:
        self._dispatch = dispatch
        # What has ended by itself is let go: else dispatches that begin in such a task would make an endless chain.
        self._before = before or None

    def __bool__(self) -> bool:
        return self._dispatch.open or bool(self._before)


class Callers(NamedTuple):
    """
    Whose payload an Outbox accepts, where it carries what several have made.

    Attributes:
        span: The span that is current.
        others: Those in which its parts were made.
    """

    span: SpanContext
    others: tuple[SpanContext, ...]


def suppressed(within: Context | None = None) -> bool:
    """
    Whether OpenTelemetry's instrumentation is suppressed in this context, as it is while an exporter sends.
    """
    current = context.get_current() if within is None else within
    return bool(current.get(_SUPPRESS_INSTRUMENTATION_KEY) or current.get("suppress_instrumentation"))


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
        self._provider = tracer_provider
        self._suppress_http = suppress_http

    def opened(self, dispatch: Dispatch) -> Trace:
        """
        Start the dispatch's span, and make it current.
        """
        outer = inner = context.get_current()
        off = suppressed(outer)
        span: Span = INVALID_SPAN
        if not off and self._has_sdk():
            span = self._tracer.start_span(
                f"dispatch {dispatch.name}", inner, links=_links(), start_time=dispatch.started_ns
            )
            inner = trace.set_span_in_context(span, inner)
        return Trace(span, self._attached(dispatch, inner, outer), off)

    def entered(self, dispatch: Dispatch, state: Trace) -> Trace:
        """
        Make the dispatch's span current once more.
        """
        outer = context.get_current()
        inner = outer if state.span is INVALID_SPAN else trace.set_span_in_context(state.span, outer)
        return state._replace(outside=self._attached(dispatch, inner, outer))

    def _attached(self, dispatch: Dispatch, inner: Context, outer: Context) -> Context | None:
        if self._suppress_http and _INSTRUMENTATION in sys.modules:
            before = inner.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)
            inner = context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, _WhileOpen(dispatch, before), inner)
        if inner is outer:
            return None
        context.attach(inner)
        return outer

    def _has_sdk(self) -> bool:
        return self._provider is not None or global_tracer_provider() is not None

    def closed(self, state: Trace) -> None:
        """
        The inner call is over: the caller's context is current again.
        """
        # Not by the token: outside of the context that it was made in, detach() writes an error to the log.
        if state.outside is not None:
            context.attach(state.outside)

    @staticmethod
    def recognised(state: Trace) -> None:
        """
        Link the dispatch's span to the one that is current where its bytes are sent.
        """
        there = trace.get_current_span().get_span_context()
        if there.is_valid and there != state.span.get_span_context():
            state.span.add_link(there)

    def settled(self, dispatch: Dispatch, settlement: Settlement, state: Trace, *, final: bool = True) -> Context:
        """
        End the spans.

        Args:
            dispatch: What ended.
            settlement: How.
            state: What was kept of it.
            final: Whether no further attempt will follow: else a failure is no error of the dispatch yet.

        Returns:
            A context with the dispatch's span, for exemplars.
        """
        span = state.span
        if not span.is_recording():
            return NO_SPAN
        within = trace.set_span_in_context(span, NO_SPAN)
        if dispatch.attempted:
            for exchange in dispatch.exchanges:
                self._exchange(exchange, within)
        span.set_attributes(_attributes(dispatch, settlement))
        failure = _failure(settlement)
        if failure is not None and (final or settlement.verdict is Verdict.ALTERED):
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(dispatch.started_ns + int(dispatch.duration * 1e9))
        return within

    def record(self, dispatch: Dispatch, within: Context) -> Trace:
        """
        Start the span of a dispatch that is over, as a child of what ``within`` holds.
        """
        span = self._tracer.start_span(f"dispatch {dispatch.name}", within, start_time=dispatch.started_ns)
        return Trace(span, None, suppressed=False)

    def accepted(self, name: str, caller: SpanContext | Callers, began_ns: int, ended_ns: int) -> SpanContext:
        """
        Write the span of a payload's acceptance, as a child of the caller's span, and linked to the others'.

        Returns:
            What its delivery is a child of, and linked to.
        """
        parent, others = caller if isinstance(caller, Callers) else (caller, ())
        within = trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent.is_valid else NO_SPAN
        links = [Link(one) for one in others] if others else None
        span = self._tracer.start_span(f"accept {name}", within, SpanKind.PRODUCER, links=links, start_time=began_ns)
        if span.is_recording():
            span.set_attributes({"wirewitness.dispatcher.name": name})
            span.end(ended_ns)
        return span.get_span_context()

    @property
    def enabled(self) -> bool:
        """Whether anybody collects spans."""
        return self._has_sdk()

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


def _links() -> list[Link] | None:
    return [Link(there) for there in CALLERS.get()] or None


def _failure(settlement: Settlement) -> str | None:
    if settlement.verdict is Verdict.ALTERED or settlement.outcome in _FAILED:
        return f"{settlement.outcome.value}: {settlement.reason.value}"
    return None


def _attributes(dispatch: Dispatch, settlement: Settlement) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "wirewitness.dispatcher.name": dispatch.name,
        "wirewitness.outcome": settlement.outcome.value,
        "wirewitness.verdict": settlement.verdict.value,
        "wirewitness.evidence": settlement.evidence.value,
        "wirewitness.exchange.count": len(dispatch.exchanges),
    }
    if dispatch.payload is not None:
        attributes["wirewitness.payload.digest"] = dispatch.payload.digest.hex()
        attributes["wirewitness.payload.size"] = len(dispatch.payload.body)
    if settlement.reason:
        attributes["wirewitness.reason"] = settlement.reason.value
    if settlement.offset is not None:
        attributes["wirewitness.difference.offset"] = settlement.offset
    if settlement.error_type is not None:
        attributes["error.type"] = settlement.error_type
    return attributes
