"""
The demo's own OpenTelemetry set-up: spans and metrics are kept until the end, and then written and sent.
"""

from __future__ import annotations

import contextlib
import socket

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlencode, urlsplit

from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import CollectorRegistry, generate_latest

from wirewitness._version import __version__


SERVICE = "wirewitness-demo"
PAGE_PORT = 16686
"""Where Jaeger's page is."""

_PROBE = 0.25
_SEND = 2.0


@dataclass
class Files:
    """
    The files, open.

    Attributes:
        traces: OTLP JSON, a line a batch.
        metrics: Prometheus's text format.
    """

    traces: IO[str]
    metrics: IO[str]
    _open: contextlib.ExitStack = field(repr=False)

    @classmethod
    def create(cls, folder: Path) -> Files:
        """
        Open empty files, and make the folder where there's none.

        Raises:
            OSError: If that can't be done.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            traces, metrics = (
                stack.enter_context((folder / name).open("w", encoding="utf-8", newline="\n"))
                for name in ("traces.jsonl", "metrics.prom")
            )
            return cls(traces, metrics, stack.pop_all())

    def close(self) -> None:
        """
        Close the files.
        """
        self._open.close()


class Written(NamedTuple):
    """
    What the files hold.

    Attributes:
        spans: How many spans.
        series: How many series of metrics.
    """

    spans: int
    series: int


class Sent(NamedTuple):
    """
    What an OTLP endpoint took.

    Attributes:
        traces: Whether it took the traces.
        metrics: Whether it took the metrics; Jaeger alone doesn't.
    """

    traces: bool
    metrics: bool


class Records:
    """
    Keeps what the witness tells OpenTelemetry. Nothing leaves the process while a dispatch is watched.
    """

    def __init__(self) -> None:
        resource = Resource.create(
            {"service.name": SERVICE, "service.version": __version__, "host.name": socket.gethostname()},
        )
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self._registry = CollectorRegistry()
        scraped = PrometheusMetricReader(registry=self._registry)
        self.tracer_provider: TracerProvider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False
        )
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider: MeterProvider = MeterProvider(
            [self._metrics, scraped], resource=resource, shutdown_on_exit=False
        )

    def write(self, traces: IO[str], metrics: IO[str]) -> Written:
        """
        Write the traces as OTLP JSON, and the metrics as Prometheus would scrape them.
        """
        spans = self._spans.get_finished_spans()
        exporter = FileSpanExporter(stream=traces)
        exporter.export(spans)
        exporter.shutdown()
        text = generate_latest(self._registry).decode("utf-8")
        metrics.write(text)
        return Written(len(spans), sum(not line.startswith("#") for line in text.splitlines()))

    def send(self, endpoint: str) -> Sent:
        """
        Send traces and metrics to an OTLP endpoint.

        Args:
            endpoint: Its URL, without the signals' paths.
        """
        traces = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_SEND)
        metrics = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_SEND)
        collected = self._metrics.get_metrics_data()
        try:
            return Sent(
                traces.export(self._spans.get_finished_spans()) is SpanExportResult.SUCCESS,
                collected is not None and metrics.export(collected) is MetricExportResult.SUCCESS,
            )
        finally:
            traces.shutdown()  # type: ignore[no-untyped-call]
            metrics.shutdown()

    def trace_id(self, name: str) -> str | None:
        """
        The trace of the dispatch by a dispatcher, 32 hexadecimal digits; None where there is none.
        """
        for span in self._spans.get_finished_spans():
            if span.name == f"dispatch {name}" and span.context is not None:
                return f"{span.context.trace_id:032x}"
        return None

    def close(self) -> None:
        """
        Shut both providers down.
        """
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def answers(url: str) -> bool:
    """
    Whether somebody listens at a URL's host and port.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_PROBE).close()
    except OSError:
        return False
    return True


def page_of(endpoint: str) -> str:
    """
    Where Jaeger's page is if it's a Jaeger that takes the traces.
    """
    host = urlsplit(endpoint).hostname or "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{PAGE_PORT}"


def search_for_altered(page: str) -> str:
    """
    The address of Jaeger's list of the demo's traces with an altered payload.

    Not of those with ``error=true``: Jaeger 2's storage in memory finds none by that, as its page sends a string.
    """
    tags = '{"wirewitness.verdict":"altered"}'
    return f"{page}/search?{urlencode({'service': SERVICE, 'lookback': '1h', 'limit': 20, 'tags': tags})}"


def monitor(page: str) -> str:
    """
    The address of rates, errors and durations of the demo's exchanges on Jaeger's page.
    """
    return f"{page}/monitor?{urlencode({'service': SERVICE, 'spanKind': 'client'})}"
