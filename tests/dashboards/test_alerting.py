"""
End to end: a real dispatcher fails, and somebody is woken; it works again, and they are told so.

The shipped rules run with their windows a hundredth of what they are, which test_rules holds to be the only difference.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import uuid

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rulebook import ALERTMANAGER, RULES, RUNBOOKS, shortened
from servers import eventually, stack


FACTOR = 100
RUNBOOK_BASE = "https://runbooks.test/wirewitness"
FAST = "WirewitnessDispatchBurnRateFast"
ALTERED = "WirewitnessPayloadAltered"

SHOP = """
import sys, requests
from wirewitness import configure_telemetry, witness

shutdown = configure_telemetry(sys.argv[2])

@witness(name="events")
def dispatch(http_verb, url, params):
    requests.post(url, json={**params, **tampering}, timeout=10)

tampering = {}
print("ready", flush=True)
for line in sys.stdin:
    path, *tampered = line.split()
    tampering = {"revenue": 1251} if tampered else {}
    dispatch("POST", sys.argv[1] + path, {"visitor": "a", "revenue": 1250})
    print("done", flush=True)
shutdown()
"""

PROMETHEUS = """
global:
  scrape_interval: 500ms
  evaluation_interval: 500ms
  external_labels: {{runbook_base: "{base}", dashboard_base: "https://grafana.test"}}
rule_files: {rules}
alerting:
  alert_relabel_configs:
    - {{action: labeldrop, regex: runbook_base|dashboard_base}}
  alertmanagers:
    - static_configs: [{{targets: ["{alertmanager}"]}}]
scrape_configs:
  - job_name: {job}
    honor_labels: true
    static_configs: [{{targets: ["{target}"]}}]
"""


class Receiver(ThreadingHTTPServer):
    """
    Takes Alertmanager's notifications, and keeps their alerts with the path that they came to.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.alerts = []

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def find(self, alertname, status):
        return [
            (path, alert)
            for path, alert in list(self.alerts)
            if (alert["labels"]["alertname"], alert["status"]) == (alertname, status)
        ]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.alerts += [(self.path, alert) for alert in notification["alerts"]]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Shop:
    """
    A process of its own with a dispatcher, set up as an application would.
    """

    def __init__(self, sink, variables):
        # Of its own for each test, as the session's collector remembers those that are gone.
        self.job = f"shop-{uuid.uuid4().hex[:8]}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHOP, sink.url, self.job],
            env={**environment, "OTEL_TRACES_EXPORTER": "none", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def dispatch(self, how):
        """
        Have it dispatch to a path of the sink's; ``tampered`` behind it changes the payload on its way.
        """
        self.process.stdin.write(f"{how}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(params=["scraped", "over OTLP"])
def path(request):
    """
    How metrics get to Prometheus.
    """
    return request.param


@pytest.fixture
def shop(path, sink, request):
    if path == "scraped":
        port = stack.free_ports().prometheus
        target = f"127.0.0.1:{port}"
        variables = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    else:
        jaeger = request.getfixturevalue("jaeger")
        target = jaeger.collector
        variables = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp,
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
    started = Shop(sink, variables)
    started.target = target
    yield started
    started.close()


@pytest.fixture
def watch(shop, receiver, prometheus, alertmanager, tmp_path):
    """
    Starts Prometheus and Alertmanager, with the rules as they are or shortened.
    """

    def start(factor=None):
        files = []
        for rules in RULES:
            files.append(str(tmp_path / rules.name))
            (tmp_path / rules.name).write_text(shortened(rules.read_text(), factor) if factor else rules.read_text())
        routing = shortened(ALERTMANAGER.read_text(), FACTOR).replace("127.0.0.1:9095", receiver.address)
        alerting = alertmanager(routing)
        return prometheus(
            PROMETHEUS.format(
                base=RUNBOOK_BASE, rules=files, alertmanager=alerting.address, target=shop.target, job=shop.job
            )
        )

    return start


def known(prometheus, shop):
    return prometheus.query(f'wirewitness_ledger_accepted_total{{job="{shop.job}", dispatcher_name="events"}}')


def told(receiver, shop, alertname, status, meanwhile=lambda: None):
    """
    The path and the alert of the first such notification about the shop.
    """

    def arrived():
        meanwhile()
        return [
            (path, alert) for path, alert in receiver.find(alertname, status) if alert["labels"].get("job") == shop.job
        ]

    return eventually(arrived, 100)[0]


@pytest.mark.timeout(300)
def test_somebody_is_paged_when_dispatches_fail_and_told_when_they_no_longer_do(shop, watch, receiver):
    prometheus = watch(FACTOR)
    eventually(lambda: known(prometheus, shop))

    path, alert = told(receiver, shop, FAST, "firing", lambda: shop.dispatch("/status/503"))
    assert path == "/pager"
    assert alert["labels"] == {"alertname": FAST, "job": shop.job, "dispatcher_name": "events", "severity": "critical"}
    annotations = alert["annotations"]
    assert f"Dispatcher events of {shop.job} loses payloads" in annotations["description"]
    assert annotations["runbook_url"] == f"{RUNBOOK_BASE}/{FAST}.md"
    assert annotations["runbook_url"].rpartition("/")[2] in {page.name for page in RUNBOOKS}
    assert annotations["dashboard_url"].startswith("https://grafana.test/d/")

    path, alert = told(receiver, shop, FAST, "resolved", lambda: shop.dispatch("/v1/events"))
    assert path == "/pager"
    assert receiver.find(ALTERED, "firing") == []


@pytest.mark.timeout(300)
def test_somebody_is_paged_for_the_very_first_altered_payload(shop, watch, receiver):
    prometheus = watch(FACTOR)
    shop.dispatch("/v1/events")
    eventually(lambda: known(prometheus, shop))

    shop.dispatch("/v1/events tampered")

    path, alert = told(receiver, shop, ALTERED, "firing")
    assert path == "/pager"
    assert alert["labels"] == {
        "alertname": ALTERED,
        "job": shop.job,
        "dispatcher_name": "events",
        "severity": "critical",
    }
    assert re.search(r"Payloads altered within 15 minutes: about [12]\.$", alert["annotations"]["description"])
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK_BASE}/{ALTERED}.md"
    told(receiver, shop, ALTERED, "resolved")
    assert receiver.find(FAST, "firing") == []


@pytest.mark.timeout(300)
def test_it_is_so_with_the_rules_as_shipped_and_a_payload_altered_before_the_first_scrape(shop, watch, receiver):
    shop.dispatch("/v1/events tampered")

    watch()

    path, alert = told(receiver, shop, ALTERED, "firing")
    assert path == "/pager"
    assert re.search(r"Payloads altered within 15 minutes: about [12]\.$", alert["annotations"]["description"])
