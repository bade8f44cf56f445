"""
The control: what a competent team writes by hand round its dispatcher to get what wirewitness tells at the call.

A digest before and after the inner call, one span with the attributes that wirewitness's has, one duration histogram, one
counter, one log line. It makes no needless call: names are made once, attributes are set in one go, no exception event is
recorded, and trace ids are left to a structlog processor, which runs only for lines that are written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time

from collections.abc import Callable
from typing import Any

import structlog

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Status, StatusCode, TracerProvider


# wirewitness's own boundaries, so that both histograms cost the same.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def handwritten(
    inner: Callable[[Any], Any],
    *,
    name: str,
    level: int,
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
) -> Callable[[Any], Any]:
    """
    Wrap a ``dispatch_event``.

    Args:
        inner: What sends an event with ``params``.
        name: The dispatcher's name in spans, metrics and logs.
        level: The log level of the line for a call that has returned.
        tracer_provider: Where spans go.
        meter_provider: Where metrics go.
    """
    tracer = tracer_provider.get_tracer("handwritten")
    meter = meter_provider.get_meter("handwritten")
    duration = meter.create_histogram("dispatch.duration", "s", explicit_bucket_boundaries_advisory=SECONDS)
    dispatches = meter.create_counter("dispatches", "{dispatch}")
    log = structlog.get_logger("handwritten")
    span_name = f"dispatch {name}"
    at_start = {"dispatch.dispatcher.name": name}

    @functools.wraps(inner)
    def dispatch_event(event: Any) -> Any:
        body = json.dumps(event.params).encode()
        digest = hashlib.sha256(body).hexdigest()
        said, outcome, reason, error_type = "dispatch.returned", "returned", "no_evidence", None
        started = time.perf_counter()
        with tracer.start_as_current_span(
            span_name, attributes=at_start, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                return inner(event)
            except BaseException as error:
                said, outcome, reason, error_type = "dispatch.failed", "failed", "error", type(error).__qualname__
                span.set_status(Status(StatusCode.ERROR, outcome))
                raise
            finally:
                seconds = time.perf_counter() - started
                after = hashlib.sha256(json.dumps(event.params).encode()).hexdigest()
                verdict = "unaltered" if after == digest else "altered"
                attributes = {
                    "dispatch.outcome": outcome,
                    "dispatch.verdict": verdict,
                    "dispatch.evidence": "call",
                    "dispatch.exchange.count": 0,
                    "dispatch.payload.digest": digest,
                    "dispatch.payload.size": len(body),
                    "dispatch.reason": reason,
                }
                labels = {"dispatcher.name": name, "outcome": outcome}
                if error_type is not None:
                    attributes["error.type"] = labels["error.type"] = error_type
                span.set_attributes(attributes)
                duration.record(seconds, labels)
                dispatches.add(1, labels)
                log.log(
                    level,
                    said,
                    dispatcher=name,
                    outcome=outcome,
                    verdict=verdict,
                    evidence="call",
                    reason=reason,
                    digest=digest,
                    duration=seconds,
                )

    return dispatch_event
