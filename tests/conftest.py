"""
What tests of several rooms use, and the tiers: which tests a run leaves out. CONTRIBUTING.md says what belongs where.
"""

from __future__ import annotations

import os
import socket
import ssl

from collections import Counter
from pathlib import Path

import pytest
import trustme

from hypothesis import HealthCheck, settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wirewitness.conformance import Sink
from wirewitness.evidence import EVIDENCE


LEFT_OUT = {
    "check": ("slow", "targets", "processes"),
    "test": ("slow", "targets"),
    "all": (),
}
"""By tier, the markers of the tests that it leaves out."""

MEANING = {
    "slow": "slow",
    "targets": "with other vendors' SDKs",
    "processes": "with processes of their own",
}

SERVERS = Path(__file__).parent / "dashboards"
"""Tests with real Jaeger, Prometheus and Alertmanager, and packages that no other test needs."""

left_out = pytest.StashKey[Counter]()


def pytest_addoption(parser):
    parser.addoption("--tier", choices=list(LEFT_OUT), default="test", help="how much to run; see CONTRIBUTING.md")


def pytest_configure(config):
    config.stash[left_out] = Counter()
    if config.getoption("tier") == "check":
        settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    # More than there are cores: half the time, a test waits for a server, a process or a thread.
    return 2 * (os.cpu_count() or 1)


def pytest_ignore_collect(collection_path, config):
    return True if collection_path == SERVERS and config.getoption("tier") != "all" else None


def pytest_collection_modifyitems(config, items):
    markers = LEFT_OUT[config.getoption("tier")]
    kept, dropped = [], []
    for item in items:
        marker = next((marker for marker in markers if item.get_closest_marker(marker)), None)
        config.stash[left_out][marker] += 1
        (kept if marker is None else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    excused = item.get_closest_marker("may_skip_in_ci")
    if os.environ.get("CI") and report.skipped and not excused and not hasattr(report, "wasxfail"):
        # A check that isn't made must never read as one that passed.
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr[2]}"
    return report


def pytest_sessionfinish(session):
    # With pytest-xdist, only the workers collect.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[left_out])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    counts = getattr(node, "workeroutput", {}).get("left_out", {})
    node.config.stash[left_out] = Counter({marker: number for marker, number in counts.items() if marker})


def pytest_terminal_summary(terminalreporter, config):
    counts = {marker: number for marker, number in config.stash[left_out].items() if marker}
    if config.getoption("tier") != "all":
        listed = [f"{number} {MEANING[marker]}" for marker, number in sorted(counts.items())]
        listed.append("those with real Jaeger, Prometheus and Alertmanager")
        commands = "make test or make test-all" if "processes" in counts else "make test-all"
        terminalreporter.write_line(f"Left out: {', '.join(listed)}. To run them: {commands}")


@pytest.fixture(autouse=True)
def _nothing_waits_from_another_test():
    yield
    EVIDENCE.forget_all()


@pytest.fixture
def sink():
    with Sink() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def authority():
    """
    Issues certificates that nothing trusts unless it is told to.
    """
    return trustme.CA()


@pytest.fixture
def authority_file(authority, tmp_path):
    """
    The authority's certificate in PEM, for what takes a path.
    """
    path = tmp_path / "authority" / "authority.pem"
    path.parent.mkdir()
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def trusting(authority):
    """
    A client's context that trusts the authority, too.
    """
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def tls(authority):
    """
    A server's context, for both names of this machine on loopback.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def secure_sink(tls):
    with Sink(tls=tls) as endpoint:
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


# Nothing here is timed: on a busy machine Hypothesis would take slow for wrong.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("untimed"), max_examples=25)
settings.load_profile("untimed")


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
