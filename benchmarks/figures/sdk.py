"""
Telemetry as an application has it, less what leaves the process, which is the same work for all contenders.
"""

from __future__ import annotations

import os

from typing import Any, NamedTuple

import structlog

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider


class Sdk(NamedTuple):
    """
    OpenTelemetry's own SDK.

    Attributes:
        tracer_provider: Samples every span. Its processor is the SDK's base class, which does nothing: spans are made,
            filled and ended, and then not queued for export.
        meter_provider: Aggregates every measurement, exemplars included.
        reader: Gives the metrics.
    """

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    reader: InMemoryMetricReader


def sdk() -> Sdk:
    """
    A tracer provider and a meter provider, by their defaults.
    """
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    reader = InMemoryMetricReader()
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SpanProcessor())
    return Sdk(tracer_provider, MeterProvider([reader], shutdown_on_exit=False), reader)


class Void:
    """
    A file that keeps nothing.

    Attributes:
        lines: How many lines were written to it.
    """

    def __init__(self) -> None:
        self.lines = 0

    def write(self, line: str) -> None:  # noqa: ARG002 -- a file's signature
        """Forget it."""
        self.lines += 1

    def flush(self) -> None:
        """Do nothing."""


def configure_structlog(level: int) -> Void:
    """
    Lines from ``level`` on as JSON with trace ids, into the void. Once a process, for loggers are cached.
    """
    void: Any = Void()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _trace_ids,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=void),
        cache_logger_on_first_use=True,
    )
    return void  # type: ignore[no-any-return]


def _trace_ids(_logger: Any, _method: str, line: Any) -> Any:
    # As structlog's documentation does it, for lines that have none of their own.
    if "trace_id" not in line:
        where = trace.get_current_span().get_span_context()
        line["trace_id"] = f"{where.trace_id:032x}"
        line["span_id"] = f"{where.span_id:016x}"
    return line


def count_of(reader: InMemoryMetricReader, histogram: str) -> int:
    """
    How many values a histogram was given.
    """
    collected = reader.get_metrics_data()
    found = [
        point.count
        for resource in (collected.resource_metrics if collected else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == histogram
        for point in metric.data.data_points
    ]
    return sum(found)
