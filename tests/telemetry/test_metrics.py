from __future__ import annotations

import contextlib
import urllib.request

from unittest import mock

import pytest
import requests

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from wirewitness import Outbox, Outcome, Verdict, witness
from wirewitness.core.outcome import REASONS
from wirewitness.ledger import Stage
from wirewitness.telemetry.attributes import OTHER, CardinalityLimit


def post(http_verb, url, params):
    return requests.post(url, json=params, timeout=5)


def refuse(http_verb, url, params):
    requests.post("http://127.0.0.1:1/", json=params, timeout=5)


def test_every_label_set_is_there_at_zero_from_the_moment_of_wrapping(seen):
    witness(post, name="born at zero", **seen.options)

    of = {"dispatcher.name": "born at zero"}
    settled = seen.points("wirewitness.ledger.settled", **of)
    assert {(point.attributes["outcome"], point.attributes["reason"]) for point in settled} == {
        (outcome.value, reason.value or "none") for outcome in Outcome for reason in REASONS[outcome]
    }
    verdicts = seen.points("wirewitness.payload.verdicts", **of)
    assert {point.attributes["verdict"] for point in verdicts} == {verdict.value for verdict in Verdict}
    pending = seen.points("wirewitness.ledger.pending", **of)
    assert {point.attributes["stage"] for point in pending} == {stage.value for stage in Stage}
    everything = [*settled, *verdicts, *pending, *seen.points("wirewitness.exchanges", **of)]
    assert {point.value for point in everything} == {0}
    assert seen.value("wirewitness.ledger.accepted", **of) == 0


def test_the_counters_equal_the_ledger(seen, sink):
    dispatcher = witness(post, name="counted", **seen.options)
    for path in ("/v1/events", "/v1/events", "/status/503"):
        dispatcher("POST", sink.url + path, {"a": 1})

    book = dispatcher.ledger.book()
    of = {"dispatcher.name": "counted"}
    assert seen.value("wirewitness.ledger.accepted", **of) == book.accepted == 3
    assert seen.value("wirewitness.ledger.settled", outcome="delivered", reason="none", **of) == 2
    assert seen.value("wirewitness.ledger.settled", outcome="rejected", reason="status_5xx", **of) == 1
    assert seen.value("wirewitness.payload.verdicts", verdict="identical", **of) == 3
    assert seen.value("wirewitness.exchanges", **of) == book.exchanges == 3


def test_what_is_exported_closes_while_dispatches_run(seen):
    dispatcher = witness(lambda event: None, name="closing", payload="event", evidence_timeout=0.05, **seen.options)
    of = {"dispatcher.name": "closing"}
    for number in range(5):
        dispatcher({"a": number})
        points = seen.collect()
        (accepted,) = points("wirewitness.ledger.accepted", **of)
        ended = sum(point.value for point in points("wirewitness.ledger.settled", **of))
        assert accepted.value == ended + sum(point.value for point in points("wirewitness.ledger.pending", **of))


def test_durations_are_recorded_by_outcome_and_by_exchange(seen, sink):
    dispatcher = witness(post, name="timed", **seen.options)
    dispatcher("POST", f"{sink.url}/v1/events", {"a": 1})
    dispatcher("POST", f"{sink.url}/status/503", {"a": 1})

    of = {"dispatcher.name": "timed"}
    (delivered,) = seen.points("wirewitness.dispatch.duration", outcome="delivered", **of)
    (rejected,) = seen.points("wirewitness.dispatch.duration", outcome="rejected", **of)
    assert dict(rejected.attributes) == {"dispatcher.name": "timed", "outcome": "rejected", "error.type": "503"}
    assert delivered.count == rejected.count == 1
    assert delivered.explicit_bounds[-1] == 60.0
    (good, bad) = sorted(
        seen.points("wirewitness.exchange.duration", **of),
        key=lambda point: point.attributes["http.response.status_code"],
    )
    assert dict(good.attributes) == {**of, "server.address": "127.0.0.1", "http.response.status_code": 204}
    assert bad.attributes["error.type"] == "503"
    (size,) = seen.points("wirewitness.payload.size", **of)
    assert (size.count, size.sum) == (2, 16)


def test_a_duration_has_an_exemplar_that_names_the_dispatch_span(seen, sink):
    dispatcher = witness(post, name="exemplary", **seen.options)
    dispatcher("POST", f"{sink.url}/v1/events", {"a": 1})

    (point,) = seen.points("wirewitness.dispatch.duration", **{"dispatcher.name": "exemplary"})
    assert [exemplar.span_id for exemplar in point.exemplars] == [seen.span("dispatch exemplary").context.span_id]


def test_a_value_of_endless_variety_is_bounded():
    bounded = CardinalityLimit(most=2)
    assert [bounded(value) for value in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


@pytest.fixture
def scrape():
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    provider = MeterProvider([reader])
    server, thread = start_http_server(0, "127.0.0.1", registry)

    def read():
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            families = text_string_to_metric_families(page.read().decode())
            return {family.name: family for family in families}

    yield provider, read
    server.shutdown()
    server.server_close()
    thread.join()
    provider.shutdown()


def test_prometheus_scrapes_these_names(scrape, sink):
    provider, read = scrape
    dispatcher = witness(post, name="scraped", meter_provider=provider)
    dispatcher("POST", f"{sink.url}/v1/events", {"a": 1})

    families = {name: family for name, family in read().items() if name.startswith("wirewitness")}
    assert {(name, family.type) for name, family in families.items()} == {
        ("wirewitness_dispatch_duration_seconds", "histogram"),
        ("wirewitness_exchange_duration_seconds", "histogram"),
        ("wirewitness_payload_size_bytes", "histogram"),
        ("wirewitness_ledger_accepted", "counter"),
        ("wirewitness_ledger_settled", "counter"),
        ("wirewitness_ledger_pending", "gauge"),
        ("wirewitness_payload_verdicts", "counter"),
        ("wirewitness_exchanges", "counter"),
        ("wirewitness_internal_errors", "counter"),
        ("wirewitness_tap_state", "gauge"),
        ("wirewitness_tap_restored", "counter"),
    }
    states = {sample.labels["tap"]: sample.value for sample in families["wirewitness_tap_state"].samples}
    assert states["http.client"] == 1
    (sample,) = [
        sample
        for sample in families["wirewitness_ledger_settled"].samples
        if sample.labels["dispatcher_name"] == "scraped"
        and sample.labels["outcome"] == "delivered"
        and sample.labels["reason"] == "none"
    ]
    assert (sample.name, sample.value) == ("wirewitness_ledger_settled_total", 1)
    assert {sample.labels["component"] for sample in families["wirewitness_internal_errors"].samples} >= {
        "adapter",
        "hook",
        "tap",
        "telemetry",
        "witness",
    }


def test_a_tap_that_cannot_see_says_so_until_it_sees_again(scrape):
    provider, read = scrape
    dispatcher = witness(post, name="blind", meter_provider=provider)

    def state():
        states = {sample.labels["tap"]: sample.value for sample in read()["wirewitness_tap_state"].samples}
        return states["http.client"]

    with mock.patch("http.client.HTTPConnection"), contextlib.suppress(requests.RequestException):
        dispatcher("POST", "http://127.0.0.1:9/", {"a": 1})
        assert state() == 0
    with contextlib.suppress(requests.RequestException):
        dispatcher("POST", "http://127.0.0.1:9/", {"a": 1})
    assert state() == 1


def _readings(reader, name):
    found = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    found.update(
                        {next(iter(point.attributes.values())): point.value for point in metric.data.data_points}
                    )
    return found


def test_each_meter_provider_sees_only_the_dispatchers_that_were_given_to_it():
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    providers = [MeterProvider([reader]) for reader in readers]
    first, second = (
        witness(lambda event: None, name=name, meter_provider=provider)
        for name, provider in zip(("of the first", "shared"), providers, strict=True)
    )
    also_first = witness(lambda event: None, name="shared", meter_provider=providers[0])
    boxes = [
        Outbox(lambda event: None, name=name, meter_provider=provider)
        for name, provider in zip(("box of the first", "box of the second"), providers, strict=True)
    ]
    try:
        for dispatcher in (first, first, second, also_first):
            dispatcher({"a": 1})
        accepted = [_readings(reader, "wirewitness.ledger.accepted") for reader in readers]
        assert accepted[0] == {"of the first": 2, "shared": 1, "box of the first": 0}
        assert accepted[1] == {"shared": 1, "box of the second": 0}
        sizes = [_readings(reader, "wirewitness.outbox.size") for reader in readers]
        assert [list(size) for size in sizes] == [["box of the first"], ["box of the second"]]
    finally:
        for box in boxes:
            box.close(0)
        for provider in providers:
            provider.shutdown()
