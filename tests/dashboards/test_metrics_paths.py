"""
Metrics reach Prometheus by several paths: the same series arrive, so that the same rules and dashboards serve them all.
"""

from __future__ import annotations

import contextlib

import prometheus_client
import pytest
import requests

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from servers import DASHBOARDS, fetched, stack

from wirewitness import witness


@pytest.fixture
def applications(tmp_path):
    """
    Where the applications' own pages are: the shipped file names a port that somebody else may have.
    """
    return tmp_path / "applications.yml"


@pytest.fixture
def server(prometheus, jaeger, ports, applications):
    shipped = stack.prometheus_configuration(ports).replace(str(DASHBOARDS / "applications.yml"), str(applications))
    return prometheus(shipped.replace("interval: 5s", "interval: 500ms"), ports)


@pytest.fixture
def run(sink, request):
    """
    Has an application with this reader dispatch well and badly, and returns its name, which no other test has.
    """
    with contextlib.ExitStack() as running:

        def start(reader, path):
            name = f"{path}-{request.node.name}"
            resource = Resource.create({"service.name": name})
            meter_provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
            running.callback(meter_provider.shutdown)

            @witness(name=name, meter_provider=meter_provider, tracer_provider=TracerProvider(shutdown_on_exit=False))
            def dispatch(http_verb, url, params):
                requests.post(url, json=params, timeout=5)

            dispatch("POST", f"{sink.url}/v1/events", {"a": 1})
            dispatch("POST", f"{sink.url}/status/503", {"a": 2})
            meter_provider.force_flush()
            return name

        yield start


@pytest.fixture
def by_page(run, server, applications):
    """
    An application with a page of its own, which Prometheus scrapes.
    """
    registry = prometheus_client.CollectorRegistry()
    page, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry=registry)
    applications.write_text(f'- targets: ["127.0.0.1:{page.server_port}"]\n')
    yield run(PrometheusMetricReader(registry=registry), "page")
    page.shutdown()
    page.server_close()
    thread.join()


def exporting(endpoint):
    # Once a minute, which is the default: an exemplar is in one export only, and must be there when Prometheus comes.
    return PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint))


@pytest.fixture
def by_collector(run, server, jaeger):
    """
    An application that exports over OTLP to Jaeger, which Prometheus scrapes.
    """
    return run(exporting(f"{jaeger.otlp}/v1/metrics"), "collector")


@pytest.fixture
def by_receiver(run, server):
    """
    An application that exports over OTLP to Prometheus itself.
    """
    if not stack.has_otlp_receiver():
        pytest.skip("this Prometheus takes no OTLP; version 3 does: python dashboards/backends.py --from-source")
    return run(exporting(f"{server.url}/api/v1/otlp/v1/metrics"), "receiver")


def series(server, name, job=None):
    """
    Each series of a dispatcher, without what tells the paths apart, and its value.
    """
    found = server.query(f'{{dispatcher_name="{name}", job="{job or name}", __name__=~"wirewitness_.+"}}')
    return {
        frozenset(
            (label, stem(label, value, name))
            for label, value in labels.items()
            if label not in {"job", "instance"} and not label.startswith("otel_scope_")
        ): value
        for labels, value in found
    }


def stem(label, value, name):
    # Prometheus 3 writes le="1.0" where 2 writes le="1"; and the sink is at the same address for all.
    if label == "le":
        return float(value)
    return "a dispatcher" if value == name else value


COUNTED = ("_total", "_count", "_pending")


def counts(found):
    return {labels: value for labels, value in found.items() if dict(labels)["__name__"].endswith(COUNTED)}


def settled(server, name, job=None):
    found = series(server, name, job)
    accepted = frozenset({("__name__", "wirewitness_ledger_accepted_total"), ("dispatcher_name", "a dispatcher")})
    durations = [
        value for labels, value in found.items() if dict(labels)["__name__"].endswith("duration_seconds_count")
    ]
    return found.get(accepted) == 2 and sum(durations) == 4 and found


def test_the_collector_s_series_are_those_of_an_application_s_own_page(server, by_page, by_collector, eventually):
    page = eventually(lambda: settled(server, by_page, "applications"))
    collected = eventually(lambda: settled(server, by_collector))
    assert set(collected) == set(page)
    assert counts(collected) == counts(page)


@pytest.mark.may_skip_in_ci("Debian's Prometheus is 2.42; version 3 takes minutes to build")
def test_prometheus_s_own_otlp_receiver_gives_the_same_series(server, by_page, by_receiver, eventually):
    page = eventually(lambda: settled(server, by_page, "applications"))
    received = eventually(lambda: settled(server, by_receiver))
    assert set(received) == set(page)
    assert counts(received) == counts(page)


def test_a_service_s_own_name_stays_its_job_and_not_the_collector_s(server, by_collector, eventually):
    eventually(lambda: settled(server, by_collector))
    assert {
        labels["job"] for labels, _ in server.query(f'wirewitness_exchanges_total{{dispatcher_name="{by_collector}"}}')
    } >= {by_collector}
    assert server.query('wirewitness_exchanges_total{job="collector"}') == []


def test_a_duration_has_an_exemplar_that_leads_to_its_trace(server, by_collector, eventually):
    def exemplars():
        asked = {"query": f'wirewitness_dispatch_duration_seconds_bucket{{dispatcher_name="{by_collector}"}}'}
        found = fetched(f"{server.url}/api/v1/query_exemplars", **asked, start=0, end=4102444800)["data"]
        return [one["labels"] for series in found for one in series["exemplars"]]

    assert all(set(labels) == {"trace_id", "span_id"} for labels in eventually(exemplars))
