"""
A real run over loopback with every outcome and every verdict in it: what the tests of the dashboards look at.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import json
import queue
import socket
import threading

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import requests

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from optimizely.event.event_processor import BatchEventProcessor
from optimizely.optimizely import Optimizely
from prometheus_client import CollectorRegistry, start_http_server
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from wirewitness import HttpSender, MemorySpool, Outbox, RetryPolicy, witness
from wirewitness.conformance import Sink
from wirewitness.optimizely import CachedConfigManager, experiment, instrument, visitor


SECONDS: Final = 5.0
"""How long a request may take."""

DATAFILE: Final = Path(__file__).resolve().parent.parent / "examples" / "datafile.json"
"""A project with one flag, and one experiment for it."""

EVIDENCE_TIMEOUT: Final = 0.25
"""Seconds until a payload of which nothing was seen is unconfirmed."""


def _as_is(_: str, url: str, params: Any) -> None:
    requests.post(url, json=params, timeout=SECONDS)


def _compact(_: str, url: str, params: Any) -> None:
    requests.post(url, data=json.dumps(params, separators=(",", ":")), timeout=SECONDS)


def _in_a_batch(_: str, url: str, params: Any) -> None:
    requests.post(url, data=f"[{json.dumps(params)}]", timeout=SECONDS)


def _tampered(_: str, url: str, params: Any) -> None:
    requests.post(url, json={**params, "sent_at": 1}, timeout=SECONDS)


def _swallowed(_: str, url: str, params: Any) -> None:
    with contextlib.suppress(requests.RequestException):
        requests.post(url, json=params, timeout=SECONDS)


def _forgotten(_: str, url: str, params: Any) -> None:
    del url, params


def _retried(_: str, url: str, params: Any) -> None:
    with requests.Session() as session:
        retry = Retry(total=3, status_forcelist=[503], allowed_methods=None, backoff_factor=0.05)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.post(url, json=params, timeout=SECONDS)


class Act(NamedTuple):
    """
    A way to dispatch.

    Attributes:
        dispatcher: What sends.
        path: Where to, at the sink; an empty string for a port where nobody listens.
        ends: The outcome, and the verdict.
    """

    dispatcher: Callable[[str, str, Any], None]
    path: str
    ends: tuple[str, str]


ACTS: Final[Mapping[str, Act]] = {
    "well": Act(_as_is, "/v1/events", ("delivered", "identical")),
    "slow": Act(_as_is, "/slow/120", ("delivered", "identical")),
    "compact": Act(_compact, "/v1/events", ("delivered", "equivalent")),
    "batched": Act(_in_a_batch, "/v1/events", ("delivered", "embedded")),
    "tampered": Act(_tampered, "/v1/events", ("delivered", "altered")),
    "retried": Act(_retried, "/retried", ("delivered", "identical")),
    "unavailable": Act(_as_is, "/status/503", ("rejected", "identical")),
    "forbidden": Act(_as_is, "/status/403", ("rejected", "identical")),
    "refused": Act(_swallowed, "", ("failed", "unobserved")),
    "unserializable": Act(_as_is, "/v1/events", ("dropped", "unobserved")),
    "forgotten": Act(_forgotten, "/v1/events", ("unconfirmed", "unobserved")),
}


class Shop:
    """
    An application that dispatches in every way of :data:`ACTS`, under one dispatcher's name.

    Args:
        name: The dispatcher's name.
        sink: What answers.
        refusing: A URL where nobody listens.
        **providers: Where its telemetry goes, as :func:`wirewitness.witness` takes it.
    """

    def __init__(self, name: str, sink: Sink, refusing: str, **providers: Any) -> None:
        self.name = name
        self._sink = sink
        self._refusing = refusing
        self._numbers = itertools.count()
        self._dispatchers = {
            kind: witness(act.dispatcher, name=name, evidence_timeout=EVIDENCE_TIMEOUT, **providers)
            for kind, act in ACTS.items()
        }

    def dispatch(self, kind: str, size: int = 1) -> None:
        """
        Dispatch one payload.

        Args:
            kind: Which of :data:`ACTS`.
            size: Events in the payload, of some 60 bytes each.
        """
        path = ACTS[kind].path
        if kind == "retried":
            # A script a dispatch, for several may run at a time.
            path = f"{path}/{next(self._numbers)}"
            self._sink.script(path, (503, 503))
        params: dict[str, object] = {
            "events": [{"visitor": f"v{number}", "event": "checkout"} for number in range(size)]
        }
        if kind == "unserializable":
            params["events"] = object()
        with contextlib.suppress(TypeError):
            self._dispatchers[kind]("POST", f"{self._sink.url}{path}" if path else self._refusing, params)

    def one_of_each(self) -> None:
        """
        Dispatch one payload in every way.
        """
        for kind in ACTS:
            self.dispatch(kind)


@contextlib.contextmanager
def shop(name: str, **providers: Any) -> Iterator[Shop]:
    """
    A shop, with an endpoint that answers it.

    Args:
        name: The dispatcher's name.
        **providers: Where its telemetry goes.
    """
    with Sink() as sink, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        yield Shop(name, sink, f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/events", **providers)


class Queues:
    """
    An Outbox that delivers, one whose endpoint is down, and one that is full.

    Args:
        name: What their names begin with.
        url: An endpoint that answers.
        refusing: A URL where nobody listens.
        **providers: Where their telemetry goes.
    """

    def __init__(self, name: str, url: str, refusing: str, **providers: Any) -> None:
        patient = RetryPolicy(attempts=None)
        self._outboxes = {
            Outbox(HttpSender(threads=2), name=f"{name}-healthy", spool=MemorySpool(most=1000), **providers): url,
            Outbox(
                HttpSender(threads=2), name=f"{name}-down", retry=patient, spool=MemorySpool(most=1000), **providers
            ): refusing,
            Outbox(
                HttpSender(threads=2), name=f"{name}-full", retry=patient, spool=MemorySpool(most=5), **providers
            ): refusing,
        }

    def dispatch(self) -> None:
        """
        Give each some payloads, more than the full one has room for.
        """
        for outbox, url in self._outboxes.items():
            for number in range(10):
                outbox("POST", url, {"event": number})

    def close(self) -> None:
        """
        Close them, whatever they still hold.
        """
        for outbox in self._outboxes:
            outbox.close(0.1)


@contextlib.contextmanager
def queues(name: str, **providers: Any) -> Iterator[Queues]:
    """
    Outboxes, with an endpoint for those that have one.

    Args:
        name: What their names begin with.
        **providers: Where their telemetry goes.
    """
    with Sink() as sink, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        refusing = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/events"
        with contextlib.closing(Queues(name, f"{sink.url}/v1/events", refusing, **providers)) as made:
            yield made


class Site:
    """
    A site with an instrumented Optimizely client whose datafile comes from a CDN. Another client's event processor has room
    for one event and was never started, and another datafile's CDN fails.

    Args:
        name: The datafile's name; with ``-down`` behind it that of the one whose CDN fails.
        cdn: Where the datafile is.
        failing: A URL that answers 503.
        events: Where payloads are sent.
        **providers: Where its telemetry goes.
    """

    def __init__(self, name: str, cdn: str, failing: str, events: str, **providers: Any) -> None:
        self._events = events
        self._datafile = CachedConfigManager(url=cdn, name=name, **providers)
        self._stale = CachedConfigManager(url=failing, name=f"{name}-down", fallback=DATAFILE, **providers)
        started = BatchEventProcessor(self, batch_size=5, start_on_init=True)
        full = BatchEventProcessor(self, event_queue=queue.Queue(maxsize=1))
        self._client, self._full = (
            instrument(Optimizely(config_manager=self._datafile, event_processor=processor), **providers)
            for processor in (started, full)
        )
        meter_provider = providers.get("meter_provider")
        self._search = experiment(self._client, "checkout_in_one_page", meter_provider=meter_provider)
        # Nothing for one_page, which the SDK chooses for some.
        self._search.variation("three_pages", str, primary=True)
        self._numbers = itertools.count()

    def dispatch_event(self, event: Any) -> None:
        """
        Send a payload, as the SDK asks.
        """
        requests.post(self._events, json=event.params, timeout=SECONDS)

    def visit(self, visitors: int = 10) -> None:
        """
        Decide for some, and have both datafiles renewed.
        """
        for number in itertools.islice(self._numbers, visitors):
            self._client.create_user_context(f"v{number}").decide("new_checkout")
            with visitor(f"v{number}"):
                self._search()
            self._full.track("order_placed", f"v{number}")
        self._stale.refresh()
        self._datafile.refresh()

    def close(self) -> None:
        """
        End the threads of both.
        """
        self._client.close()
        self._stale.stop()


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """
        Nobody is to read of requests.
        """


@contextlib.contextmanager
def site(name: str, **providers: Any) -> Iterator[Site]:
    """
    A site, with its CDN and its endpoint.

    Args:
        name: The datafile's name.
        **providers: Where its telemetry goes.
    """
    handler = functools.partial(_Files, directory=DATAFILE.parent)
    with Sink() as sink, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as cdn:
        thread = threading.Thread(target=cdn.serve_forever)
        thread.start()
        urls = (
            f"http://127.0.0.1:{cdn.server_port}/{DATAFILE.name}",
            f"{sink.url}/status/503",
            f"{sink.url}/v1/events",
        )
        try:
            with contextlib.closing(Site(name, *urls, **providers)) as made:
                yield made
        finally:
            cdn.shutdown()
            thread.join()


class Telemetry(NamedTuple):
    """
    Where an application's telemetry goes.

    Attributes:
        providers: For :class:`Shop`.
        target: The ``host:port`` that Prometheus is to scrape.
    """

    providers: dict[str, Any]
    target: str


@contextlib.contextmanager
def by_scrape(service: str, otlp: str) -> Iterator[Telemetry]:
    """
    Metrics on a page of the application's own, for Prometheus to scrape; spans by OTLP.

    Args:
        service: The application's ``service.name``.
        otlp: The URL of Jaeger's OTLP receiver over HTTP.
    """
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with _providers(service, otlp, reader) as providers:
            yield Telemetry(providers, f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def by_otlp(service: str, otlp: str, collector: str, seconds: float = 2.0) -> Iterator[Telemetry]:
    """
    Metrics and spans by OTLP, to a collector that Prometheus scrapes.

    Args:
        service: The application's ``service.name``, which is its job then.
        otlp: The URL of Jaeger's OTLP receiver over HTTP.
        collector: The ``host:port`` where Jaeger shows the metrics that it took.
        seconds: Between two exports. An export's exemplars are gone with the next one: each is to be scraped at least once.
    """
    exporter = OTLPMetricExporter(endpoint=f"{otlp}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=seconds * 1000)
    with _providers(service, otlp, reader) as providers:
        yield Telemetry(providers, collector)


@contextlib.contextmanager
def _providers(service: str, otlp: str, reader: MetricReader) -> Iterator[dict[str, Any]]:
    resource = Resource.create({"service.name": service})
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{otlp}/v1/traces")
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    try:
        yield {"tracer_provider": tracer_provider, "meter_provider": meter_provider}
    finally:
        tracer_provider.shutdown()
        meter_provider.shutdown()


def prometheus_configuration(job: str, target: str, rules: str, seconds: int = 1) -> str:
    """
    A Prometheus that scrapes one target often.

    Args:
        job: The job, unless the target names it itself.
        target: Its ``host:port``.
        rules: The rule files.
        seconds: Between two scrapes, and two evaluations.
    """
    return json.dumps(  # which is YAML
        {
            "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}],
        }
    )
