from __future__ import annotations

import re
import threading

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from wirewitness.cli.demo import program, records
from wirewitness.cli.demo.scenarios import SCENARIOS


pytestmark = pytest.mark.processes


class Collector(ThreadingHTTPServer):
    """
    Takes OTLP over HTTP, and keeps the bodies.
    """

    def __init__(self, statuses):
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = statuses
        self.bodies = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.statuses.get(self.path, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    started = []

    def start(**statuses):
        server = Collector({f"/v1/{signal}": status for signal, status in statuses.items()})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_in(body):
    request = ExportTraceServiceRequest.FromString(body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def test_an_otlp_endpoint_gets_the_same_spans_as_the_file(collector, shown):
    server = collector()
    run = shown(endpoint=f"{server.url}/")
    sent = [(span.trace_id.hex(), span.span_id.hex(), span.name) for span in spans_in(server.bodies["/v1/traces"])]
    assert run.code == 0
    assert sent == [(span["traceId"], span["spanId"], span["name"]) for span in run.spans]
    assert len(sent) > len(SCENARIOS)
    assert f"{server.url} took traces and metrics" in run.output


def test_an_otlp_endpoint_gets_the_metrics(collector, shown):
    server = collector()
    shown(endpoint=server.url)
    request = ExportMetricsServiceRequest.FromString(server.bodies["/v1/metrics"])
    (resource,) = request.resource_metrics
    names = {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
    assert {"wirewitness.ledger.accepted", "wirewitness.dispatch.duration"} <= names


def test_the_links_open_the_good_and_the_bad_dispatch_the_altered_ones_and_the_rates(collector, shown):
    run = shown(endpoint=collector().url)
    traces = {span["name"]: span["traceId"] for span in run.spans}
    page = "http://127.0.0.1:16686"
    assert re.search(rf"good +{page}/trace/{traces['dispatch optimizely-all-well']}\n", run.output)
    assert re.search(rf"bad +{page}/trace/{traces['dispatch optimizely-refused']}\n", run.output)
    tags = "%7B%22wirewitness.verdict%22%3A%22altered%22%7D"
    assert re.search(rf"altered +{page}/search\?service=wirewitness-demo&\S*tags={tags}\n", run.output)
    assert re.search(rf"rates +{page}/monitor\?service=wirewitness-demo&spanKind=client\n", run.output)


def test_links_are_not_broken_on_a_narrow_terminal(collector, shown):
    run = shown(endpoint=collector().url, columns=60)
    assert re.search(r"/trace/[0-9a-f]{32}\n", run.output)


def test_an_endpoint_that_takes_no_metrics_is_told_of(collector, shown):
    run = shown(endpoint=collector(metrics=404).url)
    assert run.code == 0
    assert "took traces, and no metrics" in run.output
    assert "/trace/" in run.output


def test_an_endpoint_that_takes_no_traces_gets_no_links(collector, shown):
    run = shown(endpoint=collector(traces=400, metrics=400).url)
    assert run.code == 0
    assert "took neither traces nor metrics" in run.output
    assert "/trace/" not in run.output


def test_a_disabled_sdk_leaves_no_spans_and_no_links_to_them(collector, shown):
    run = shown(endpoint=collector().url, OTEL_SDK_DISABLED="true")
    assert run.code == 0
    assert "traces.jsonl: 0 spans" in run.output
    assert "/trace/" not in run.output


def test_where_nobody_listens_a_line_tells_how_to_get_a_jaeger(shown, deaf):
    run = shown()
    assert f"nobody listens at {deaf}" in run.output
    assert program.JAEGER in run.output
    assert "/trace/" not in run.output


def test_a_page_is_said_to_be_up_only_where_it_is(collector, shown, deaf, monkeypatch):
    server = collector()
    monkeypatch.setattr(program, "page_of", lambda _: deaf)
    assert f"isn't up at {deaf}" in shown(endpoint=server.url).output
    monkeypatch.setattr(program, "page_of", lambda _: server.url)
    assert f"is up at {server.url}" in shown(endpoint=server.url).output


def test_the_page_is_looked_for_on_the_endpoint_s_host():
    assert records.page_of("http://localhost:4318") == "http://localhost:16686"
    assert records.page_of("https://[::1]:4318/otlp") == "http://[::1]:16686"


def test_a_port_is_known_without_being_written(deaf):
    assert not records.answers("http://host.invalid")
    assert not records.answers(deaf)
