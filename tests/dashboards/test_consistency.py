"""
Rules, runbooks, dashboards and what is really emitted, held against each other, both ways.
"""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest
import requests
import yaml

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from rulebook import METRIC, RECORDING, RUNBOOKS, cases, expressions, names, queries, rules, run
from servers import DASHBOARDS, OPENER, ROOT

from wirewitness import HttpSender, Outbox, Outcome, Verdict, witness
from wirewitness.conformance import Sink
from wirewitness.core.outcome import Reason
from wirewitness.ledger import Stage
from wirewitness.optimizely import CachedConfigManager, DatafileSource, Fault, experiment, instrument, visitor
from wirewitness.telemetry.events import Ended
from wirewitness.telemetry.experiments import ExperimentFault


# Labels that Prometheus adds, or that recording rules keep.
OTHER_LABELS = {"job", "instance"}
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


class Emitted:
    """
    What one real dispatcher with a good, a bad and a hopeless dispatch shows to Prometheus and to Jaeger.
    """

    def __init__(self):
        registry, exporter = CollectorRegistry(), InMemorySpanExporter()
        meter_provider = MeterProvider([PrometheusMetricReader(registry=registry)])
        tracer_provider = TracerProvider()
        tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        server, thread = start_http_server(0, "127.0.0.1", registry)
        try:
            self._dispatch(meter_provider, tracer_provider)
            manager = self._optimizely(meter_provider, tracer_provider)
            outbox = self._outbox(meter_provider, tracer_provider)
            with OPENER.open(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as page:
                families = list(text_string_to_metric_families(page.read().decode()))
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            manager.stop()
            outbox.close(1.0)
            meter_provider.shutdown()
            tracer_provider.shutdown()
        ours = [family for family in families if family.name.startswith("wirewitness")]
        self.samples = [sample for family in ours for sample in family.samples]
        self.names = {sample.name for sample in self.samples}
        self.families = {family.name + ("_total" if family.type == "counter" else "") for family in ours}
        self.labels = {label for sample in self.samples for label in sample.labels}
        self.attributes = {name for span in exporter.get_finished_spans() for name in span.attributes}

    @staticmethod
    def _dispatch(meter_provider, tracer_provider):
        @witness(name="consistency", meter_provider=meter_provider, tracer_provider=tracer_provider)
        def dispatch(http_verb, url, params):
            requests.post(url, json=params, timeout=5)

        with Sink() as sink:
            dispatch("POST", f"{sink.url}/v1/events", {"a": 1})
            dispatch("POST", f"{sink.url}/status/503", {"a": 1})
        with pytest.raises(requests.ConnectionError):
            dispatch("POST", sink.url, {"a": 1})

    @staticmethod
    def _outbox(meter_provider, tracer_provider):
        outbox = Outbox(HttpSender(threads=1), meter_provider=meter_provider, tracer_provider=tracer_provider)
        with Sink() as sink:
            outbox("POST", f"{sink.url}/v1/events", {"a": 1})
            assert outbox.flush(5.0).empty
        return outbox

    @staticmethod
    def _optimizely(meter_provider, tracer_provider):
        providers = {"meter_provider": meter_provider, "tracer_provider": tracer_provider}
        datafile = (ROOT / "examples" / "datafile.json").read_text()
        with Sink() as sink:
            manager = CachedConfigManager(url=f"{sink.url}/status/503", fallback=datafile, **providers)
            client = instrument(manager.client(), **providers)
            checkout = experiment(client, "checkout_in_one_page", by="get_variation", meter_provider=meter_provider)
            checkout.variation("three_pages", lambda: None, primary=True)
            tracer = tracer_provider.get_tracer("application")
            with visitor("ada"), tracer.start_as_current_span("request"):
                checkout()
        return manager


@pytest.fixture(scope="module")
def emitted():
    return Emitted()


def test_every_alert_has_a_page_and_every_page_an_alert():
    assert {page.stem for page in RUNBOOKS} == names("alert")


def test_every_alert_has_a_case_that_fires_and_one_that_stays_silent():
    told = [(case["name"], one) for case in cases() for one in case["alert_rule_test"]]
    fires = {(one["alertname"], alert["exp_labels"]["severity"]) for _, one in told for alert in one["exp_alerts"]}
    silent = {one["alertname"] for _, one in told if not one["exp_alerts"]}

    assert fires == {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}
    assert silent == names("alert")
    assert [name for name, one in told if not name.startswith(says(one))] == []


def says(one):
    return f"{one['alertname']} {'fires' if one['exp_alerts'] else 'stays silent'}"


def test_a_counter_that_is_born_above_zero_has_a_case():
    rising = {rule["alert"] for rule in rules("alert") if "max_over_time" in rule["expr"]}
    born = {case["name"].partition(" ")[0] for case in cases() if "born above zero" in case["name"]}
    assert rising <= born
    assert "WirewitnessPayloadAltered" in rising


def test_every_metric_in_a_rule_or_a_runbook_is_emitted(emitted):
    unknown = {
        (where, metric)
        for where, expression in expressions()
        for metric in METRIC.findall(RECORDING.sub("", expression))
        if metric not in emitted.names
    }
    assert unknown == set()


def test_every_recording_is_used_and_everything_used_is_recorded():
    used = {name for where, expression in expressions() for name in RECORDING.findall(expression) if name != where}
    assert used | panel_recordings() == names("record")


def panels():
    """
    Every query of every Grafana dashboard.
    """
    found = []

    def collect(node):
        if isinstance(node, dict):
            found.extend(value for key, value in node.items() if key in {"expr", "query"} and isinstance(value, str))
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            collect(child)

    for file in sorted((DASHBOARDS / "grafana").glob("*.json")):
        collect(json.loads(file.read_text()))
    return found


def panel_recordings():
    return {name for query in panels() for name in RECORDING.findall(query)}


def test_every_metric_in_a_panel_is_emitted(emitted):
    asked = {metric for query in panels() for metric in METRIC.findall(RECORDING.sub("", query))}
    assert asked - emitted.names == set()


def test_an_alert_s_dashboard_is_there_and_has_the_variables_that_the_link_sets():
    dashboards = [json.loads(file.read_text()) for file in sorted((DASHBOARDS / "grafana").glob("*.json"))]
    variables = {one["uid"]: {variable["name"] for variable in one["templating"]["list"]} for one in dashboards}
    for rule in rules("alert"):
        uid, _, query = rule["annotations"]["dashboard_url"].partition("/d/")[2].partition("?")
        assert set(re.findall(r"var-(\w+)=", query)) <= variables[uid], rule["alert"]


def test_a_panel_s_runbook_is_there():
    named = {
        name
        for file in (DASHBOARDS / "grafana").glob("*.json")
        for name in re.findall(r"(Wirewitness\w+)\.md", file.read_text())
    }
    assert named <= {page.stem for page in RUNBOOKS}


def test_every_emitted_metric_stands_in_a_rule_or_in_a_panel(emitted):
    shown = " ".join([*(str(rule["expr"]) for rule in (*rules("record"), *rules("alert"))), *panels()])
    assert {family for family in emitted.families if family not in shown} == set()


def test_every_label_in_a_rule_or_a_runbook_is_emitted(emitted):
    unknown = {
        (where, label)
        for where, expression in expressions()
        for label in labels_in(expression)
        if label not in emitted.labels | OTHER_LABELS
    }
    assert unknown == set()


def labels_in(expression):
    for kept in re.findall(r"\bby \(([^)]*)\)", expression):
        yield from re.split(r",\s*", kept)
    yield from (label for label, _, _ in matchers_in(expression))


def matchers_in(expression):
    for selector in re.findall(r"\{([^}]*)\}", expression):
        yield from re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', selector)


def test_every_value_that_a_rule_or_a_runbook_asks_for_can_be_there():
    known = {
        "outcome": {outcome.value for kind in (Outcome, Ended) for outcome in kind},
        "verdict": {verdict.value for verdict in Verdict},
        "stage": {stage.value for stage in Stage},
        "source": {source.value for source in DatafileSource},
        "reason": {one.value or "none" for kind in (Reason, Fault, ExperimentFault) for one in kind},
    }
    for where, expression in expressions():
        for label, _, pattern in matchers_in(expression):
            assert set(pattern.split("|")) <= known.get(label, {pattern}), (where, label, pattern)


def test_a_rule_s_bucket_is_emitted_and_written_alike_by_all_exporters(emitted):
    asked = {value for _, expression in expressions() for label, _, value in matchers_in(expression) if label == "le"}
    buckets = {
        sample.labels["le"]
        for sample in emitted.samples
        if sample.name.startswith("wirewitness_dispatch") and "le" in sample.labels
    }
    assert asked
    assert asked <= buckets
    assert {value for value in asked if float(value).is_integer()} == set()


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_has_its_title_and_four_sections(page):
    assert re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) == [page.stem, *SECTIONS]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_s_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path
        assert target.is_file(), link
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}, link


def test_prometheus_parses_every_query_of_the_runbooks(tmp_path):
    asked = [query for page in RUNBOOKS for query in queries(page)]
    recorded = [{"record": f"runbook:query:number{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": recorded}]}))

    assert f"{len(asked)} rules found" in run("promtool", "check", "rules", str(file))
    assert all(queries(page) for page in RUNBOOKS)


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_s_search_in_jaeger_asks_for_what_spans_have(page, emitted):
    searches = re.findall(r"`(/search\?[^`]+)`", page.read_text())
    for search in searches:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(search).query, strict_parsing=True))
        assert asked.keys() <= {"service", "lookback", "limit", "minDuration", "tags"}
        assert set(json.loads(asked.get("tags", "{}"))) <= emitted.attributes
    assert searches


def test_the_readme_lists_every_alert_with_its_severity():
    rows = re.findall(
        r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| ([\w, ]+) \|", (DASHBOARDS / "README.md").read_text(), re.MULTILINE
    )
    listed = {
        (name, severity) for name, page, severities in rows for severity in severities.split(", ") if name == page
    }
    assert listed == {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}


def test_the_runbook_of_internal_errors_tells_of_every_component(emitted):
    page = next(page for page in RUNBOOKS if page.stem == "WirewitnessInternalErrors").read_text()
    emitted_by = {one.labels["component"] for one in emitted.samples if one.name == "wirewitness_internal_errors_total"}
    assert emitted_by <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
