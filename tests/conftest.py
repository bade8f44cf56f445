"""
What tests of several rooms use.
"""

from __future__ import annotations

import socket

import pytest

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wirewitness.conformance import Sink


@pytest.fixture
def sink():
    with Sink() as endpoint:
        yield endpoint


@pytest.fixture
def unused_port():
    """
    A port that nobody listens on, and nobody else is given.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def unmeasured(monkeypatch):
    """
    For processes that fork while their threads run, or dispatch inside a dispatch: coverage's lock isn't made for either,
    and they would wait for it for ever.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


class Seen:
    """
    Providers of a test's own, and what was exported through them.
    """

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    @property
    def options(self):
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    @property
    def spans(self):
        return list(self._exporter.get_finished_spans())

    def span(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def collect(self):
        """
        One collection: a function of a metric's name and labels to its points.
        """
        batch = self._reader.get_metrics_data()

        def points(metric, **labels):
            return [
                point
                for resource in (batch.resource_metrics if batch else ())
                for scope in resource.scope_metrics
                for one in scope.metrics
                if one.name == metric
                for point in one.data.data_points
                if labels.items() <= dict(point.attributes).items()
            ]

        return points

    def everything(self):
        """
        One collection as text, with all that an exporter gets.
        """
        return self._reader.get_metrics_data().to_json()

    def points(self, metric, **labels):
        return self.collect()(metric, **labels)

    def value(self, metric, **labels):
        (point,) = self.points(metric, **labels)
        return point.value

    def close(self):
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@pytest.fixture
def seen():
    telemetry = Seen()
    yield telemetry
    telemetry.close()
