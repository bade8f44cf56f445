"""
What people see of dispatches in a real Jaeger.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from click.testing import CliRunner
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from requests.adapters import HTTPAdapter
from servers import DASHBOARDS, OPENER, attributes, fetched
from urllib3.util.retry import Retry

from wirewitness import witness
from wirewitness.cli.commands import wirewitness
from wirewitness.cli.demo import program
from wirewitness.ledger import process_ledger


KINDS = {1: "internal", 2: "server", 3: "client"}
ERROR = 2


def post(http_verb, url, params):
    return requests.post(url, json=params, timeout=5)


def post_with_retries(http_verb, url, params):
    with requests.Session() as session:
        retry = Retry(total=3, status_forcelist=[503], allowed_methods=None, backoff_factor=0, raise_on_status=False)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        return session.post(url, json=params, timeout=5)


class Service:
    """
    An application whose spans go to Jaeger by OTLP, under a name of its own.
    """

    def __init__(self, name, jaeger):
        self.name = name
        self.jaeger = jaeger
        resource = Resource.create({"service.name": name})
        self.tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{jaeger.otlp}/v1/traces")
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))

    def witness(self, dispatcher, **options):
        return witness(dispatcher, tracer_provider=self.tracer_provider, **options)

    def stored(self, count, eventually):
        """
        This many spans, the earliest first.
        """
        spans = eventually(lambda: len(found := self.jaeger.spans(self.name)) >= count and found)
        assert len(spans) == count
        return sorted(spans, key=lambda span: (int(span["startTimeUnixNano"]), -int(span["endTimeUnixNano"])))


@pytest.fixture
def service(request, jaeger):
    made = Service(request.node.name, jaeger)
    yield made
    made.tracer_provider.shutdown()


def kind(span):
    return KINDS[span["kind"]]


def failed(span):
    return span.get("status", {}).get("code") == ERROR


def test_a_dispatch_is_the_parent_of_its_attempts_and_each_is_a_client_span(service, sink, eventually):
    dispatch = service.witness(post_with_retries, name="mine")
    dispatch("POST", f"{sink.url}/flaky/2/503", {"a": 1})

    parent, *attempts = service.stored(4, eventually)
    assert (parent["name"], kind(parent), parent.get("parentSpanId", "")) == ("dispatch mine", "internal", "")
    assert [(span["name"], kind(span)) for span in attempts] == [("POST", "client")] * 3
    assert {span["parentSpanId"] for span in attempts} == {parent["spanId"]}
    assert {span["traceId"] for span in attempts} == {parent["traceId"]}


def test_the_attempts_are_numbered_by_how_often_was_resent(service, sink, eventually):
    service.witness(post_with_retries)("POST", f"{sink.url}/flaky/2/503", {"a": 1})

    _, *attempts = service.stored(4, eventually)
    told = [attributes(span) for span in attempts]
    assert [one.get("http.request.resend_count") for one in told] == [None, 1, 2]
    assert [one["http.response.status_code"] for one in told] == [503, 503, 204]


def test_a_dispatch_that_succeeds_at_last_has_no_error_flag_and_its_failed_attempts_have(service, sink, eventually):
    service.witness(post_with_retries)("POST", f"{sink.url}/flaky/2/503", {"a": 1})

    assert [failed(span) for span in service.stored(4, eventually)] == [False, True, True, False]


def test_a_dispatch_that_fails_in_the_end_has_an_error_flag_as_each_attempt_has(service, sink, eventually):
    service.witness(post_with_retries)("POST", f"{sink.url}/status/503", {"a": 1})

    spans = service.stored(5, eventually)
    assert [failed(span) for span in spans] == [True] * 5
    assert attributes(spans[0])["wirewitness.outcome"] == "rejected"
    assert spans[0]["status"]["message"] == "rejected: status_5xx"


def test_a_dispatch_to_a_port_where_nobody_listens_has_an_error_flag(service, eventually, refused):
    with pytest.raises(requests.ConnectionError):
        service.witness(post)("POST", f"{refused}/v1/events", {"a": 1})

    dispatch, exchange = service.stored(2, eventually)
    assert failed(dispatch)
    assert failed(exchange)
    assert attributes(dispatch)["wirewitness.outcome"] == "failed"


def test_an_attempt_names_its_peer_so_that_jaeger_draws_an_arrow_to_it(service, sink, eventually):
    service.witness(post)("POST", f"{sink.url}/v1/events", {"a": 1})

    dispatch, exchange = service.stored(2, eventually)
    told = attributes(exchange)
    assert told["peer.service"] == told["server.address"] == sink.host
    assert told["server.port"] == sink.port
    assert "peer.service" not in attributes(dispatch)


def test_an_attempt_in_another_thread_is_a_child_of_its_dispatch(service, sink, eventually):
    with ThreadPoolExecutor(max_workers=1) as threads:
        told = threading.Event()

        def send(url, params):
            told.wait(5)
            requests.post(url, json=params, timeout=5)

        @service.witness
        def hand_over(http_verb, url, params):
            threads.submit(send, url, params)

        hand_over("POST", f"{sink.url}/v1/events", {"visitor": "in a thread of its own"})
        told.set()
        dispatch, exchange = service.stored(2, eventually)

    assert exchange["parentSpanId"] == dispatch["spanId"]
    assert exchange["traceId"] == dispatch["traceId"]
    assert attributes(dispatch)["wirewitness.outcome"] == "delivered"


def test_a_dispatch_is_linked_to_the_span_in_which_another_thread_sends_it(service, sink, eventually):
    queue = []

    def flush():
        with service.tracer_provider.get_tracer("shop").start_as_current_span("flush"):
            requests.post(f"{sink.url}/v1/events", data=queue.pop(), timeout=5)

    service.witness(queue.append, name="queue", payload="object")(
        b"what waits in a queue of its own, long enough to be recognised"
    )
    with ThreadPoolExecutor(max_workers=1) as threads:
        threads.submit(flush).result()

    spans = {span["name"]: span for span in service.stored(3, eventually)}
    assert [link["spanId"] for link in spans["dispatch queue"]["links"]] == [spans["flush"]["spanId"]]
    assert [link["traceId"] for link in spans["dispatch queue"]["links"]] == [spans["flush"]["traceId"]]
    assert spans["POST"]["parentSpanId"] == spans["dispatch queue"]["spanId"]


def test_a_dispatch_lies_below_the_span_of_its_caller(service, sink, eventually):
    with service.tracer_provider.get_tracer("shop").start_as_current_span("checkout"):
        service.witness(post, name="mine")("POST", f"{sink.url}/v1/events", {"a": 1})

    caller, dispatch, exchange = service.stored(3, eventually)
    assert [span["name"] for span in (caller, dispatch, exchange)] == ["checkout", "dispatch mine", "POST"]
    assert dispatch["parentSpanId"] == caller["spanId"]
    assert exchange["parentSpanId"] == dispatch["spanId"]


SECRETS = {
    "payload": "visitor-5d41402abc4b",
    "password": "hunter-2-in-the-url",
    "token": "eyJhbGciOi-in-the-query",
    "bearer": "sk-live-in-a-header",
    "message": "said-by-an-exception",
}


def test_no_payload_and_no_secret_is_in_what_jaeger_stores(service, sink, eventually):
    def post_with_secrets(http_verb, url, params):
        headers = {"Authorization": f"Bearer {SECRETS['bearer']}", "X-Api-Key": SECRETS["bearer"]}
        requests.post(url, json=params, headers=headers, timeout=5)
        raise ValueError(SECRETS["message"])

    where = f"http://me:{SECRETS['password']}@{sink.host}:{sink.port}/status/503?token={SECRETS['token']}"
    with pytest.raises(ValueError, match=SECRETS["message"]):
        service.witness(post_with_secrets)("POST", where, {"visitor": SECRETS["payload"]})

    dispatch, _ = service.stored(2, eventually)
    with OPENER.open(f"{service.jaeger.url}/api/v3/traces/{dispatch['traceId']}") as response:
        stored = response.read().decode()
    (arrived,) = sink.requests
    assert SECRETS["payload"] in arrived.body.decode()
    assert SECRETS["token"] in arrived.target
    assert {name for name, secret in SECRETS.items() if secret in stored} == set()


def test_the_monitor_tab_has_rates_errors_and_durations_of_the_attempts(service, sink, prometheus, eventually):
    dispatch = service.witness(post)
    configured = prometheus()

    def counted():
        return configured.query(f'sum(traces_span_metrics_calls_total{{service_name="{service.name}"}})')

    # A rate is the difference of two scrapes.
    dispatch("POST", f"{sink.url}/status/503", {"a": 1})
    dispatch("POST", f"{sink.url}/v1/events", {"a": 1})
    (_, before), *_ = eventually(counted)
    dispatch("POST", f"{sink.url}/status/503", {"a": 2})
    dispatch("POST", f"{sink.url}/v1/events", {"a": 2})
    eventually(lambda: counted()[0][1] > before)

    assert eventually(lambda: highest(service, "calls")) > 0
    assert 0 < eventually(lambda: highest(service, "errors")) < 1
    assert eventually(lambda: highest(service, "latencies", quantile=0.95)) > 0


def highest(service, what, **query):
    # What the page asks when it's opened by a link with spanKind=client.
    asked = {"service": service.name, "spanKind": "client", "lookback": 300000, "step": 1000, "ratePer": 600000}
    found = fetched(f"{service.jaeger.url}/api/metrics/{what}", **asked, **query)
    values = [
        point["gaugeValue"]["doubleValue"]
        for metric in found["metrics"]
        for point in metric["metricPoints"]
        if point["gaugeValue"]["doubleValue"] != "NaN"
    ]
    return max(values, default=0.0)


UI = json.loads((DASHBOARDS / "jaeger-ui.json").read_text())


def test_jaeger_s_page_is_configured_as_the_file_says(jaeger):
    with OPENER.open(f"{jaeger.url}/search") as response:
        page = response.read().decode()
    assert json.loads(re.search(r"JAEGER_CONFIG = (\{.*\});", page)[1]) == UI


def test_what_jaeger_s_page_shows_first_and_links_is_in_a_stored_trace(service, sink, eventually):
    service.witness(post)("POST", f"{sink.url}/v1/events", {"a": 1})

    keys = {key for span in service.stored(2, eventually) for key in attributes(span)}
    patterns = [pattern for pattern in UI["linkPatterns"] if pattern["type"] == "tags"]
    linked = {key for pattern in patterns for key in keys_of(pattern)}
    placed = {name for pattern in patterns for name in re.findall(r"#\{(.+?)\}", pattern["url"] + pattern["text"])}
    assert linked | placed <= keys
    # Jaeger makes the tag "error" of a span's status.
    prefixes = set(UI["topTagPrefixes"]) - {"error"}
    assert {prefix for prefix in prefixes if not any(key.startswith(prefix) for key in keys)} == set()


def keys_of(pattern):
    return [pattern["key"]] if isinstance(pattern["key"], str) else pattern["key"]


def test_the_links_from_a_trace_to_prometheus_are_queries_that_it_understands(prometheus):
    server = prometheus()
    asked = [
        urllib.parse.parse_qs(urllib.parse.urlsplit(re.sub(r"#\{.+?\}", "mine", pattern["url"])).query)["g0.expr"][0]
        for pattern in UI["linkPatterns"]
        if "g0.expr" in pattern["url"]
    ]
    assert asked
    for query in asked:
        assert server.query(query) == []


def test_the_link_from_a_trace_to_its_json_gives_that_trace(service, sink, eventually):
    service.witness(post)("POST", f"{sink.url}/v1/events", {"a": 1})

    (pattern,) = [pattern for pattern in UI["linkPatterns"] if pattern["type"] == "traces"]
    trace_id = service.stored(2, eventually)[0]["traceId"]
    resources = fetched(service.jaeger.url + pattern["url"].replace("#{traceID}", trace_id))["result"]["resourceSpans"]
    assert {attributes(resource["resource"])["service.name"] for resource in resources} == {service.name}
    assert {span["traceId"] for resource in resources for span in spans_in(resource)} == {trace_id}


class Demo:
    """
    A demo that was run with this Jaeger.
    """

    def __init__(self, output, folder):
        self.output = output
        self.folder = folder

    def link(self, title):
        return re.search(rf"^ +{title} +(http\S+)$", self.output, re.MULTILINE)[1]


@pytest.fixture
def demo(jaeger, tmp_path, monkeypatch):
    # The demo looks for Jaeger's page at its usual port, and this Jaeger is at another.
    monkeypatch.setattr(program, "page_of", lambda _: jaeger.url)
    process_ledger.clear()
    arguments = ["demo", "--output", str(tmp_path), "--otlp-endpoint", jaeger.otlp]
    result = CliRunner().invoke(wirewitness, arguments, env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return Demo(result.output, tmp_path)


def test_the_demo_s_file_is_accepted_by_jaeger_s_upload(demo, jaeger):
    lines = (demo.folder / "traces.jsonl").read_bytes().splitlines()
    written = [span for line in lines for resource in json.loads(line)["resourceSpans"] for span in spans_in(resource)]
    shown = [
        span["operationName"]
        for line in lines
        for trace in fetched(f"{jaeger.url}/api/transform", line)["data"]
        for span in trace["spans"]
    ]
    assert sorted(shown) == sorted(span["name"] for span in written)
    assert "dispatch optimizely-refused" in shown


def spans_in(resource):
    return [span for scope in resource["scopeSpans"] for span in scope["spans"]]


@pytest.mark.parametrize("title", ["good", "bad"])
def test_the_demo_s_links_open_traces_that_jaeger_has(title, demo, jaeger, eventually):
    page = demo.link(title)
    name, flagged = {"good": ("all-well", False), "bad": ("refused", True)}[title]
    spans = eventually(lambda: jaeger.trace(page.rpartition("/")[2]))
    (dispatch,) = [span for span in spans if span["name"] == f"dispatch optimizely-{name}"]
    assert {span["service"] for span in spans} == {"wirewitness-demo"}
    assert len(spans) == 1 + attributes(dispatch)["wirewitness.exchange.count"]
    assert failed(dispatch) is flagged
    with OPENER.open(page) as response:
        assert response.status == 200


def test_the_demo_s_link_to_altered_payloads_finds_exactly_their_traces(demo, jaeger, eventually):
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(demo.link("altered")).query))

    # What the page asks when it's opened by this link: /api/v3 can't search by attribute.
    def found():
        return {trace["traceID"] for trace in fetched(f"{jaeger.url}/api/traces", **{**asked, "limit": 1000})["data"]}

    def altered():
        spans = jaeger.spans(asked["service"], 1000)
        return {span["traceId"] for span in spans if attributes(span).get("wirewitness.verdict") == "altered"}

    eventually(lambda: jaeger.trace(demo.link("bad").rpartition("/")[2]))
    assert altered()
    assert found() == altered()


def test_the_demo_s_link_to_the_monitor_tab_selects_the_kind_of_its_exchanges(demo, jaeger, eventually):
    page = demo.link("rates")
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page).query))
    exchanges = [span for span in eventually(lambda: jaeger.spans("wirewitness-demo", 1000)) if span["name"] == "POST"]
    assert page.startswith(f"{jaeger.url}/monitor?")
    assert asked["service"] == "wirewitness-demo"
    assert {kind(span) for span in exchanges} == {asked["spanKind"]}
