from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.telemetry.exporters import SECONDS_BETWEEN_LINES, SeldomLines, log_failures_seldom


PROGRAM = """
import json, os, sys
import structlog
from wirewitness import ConfigurationError, configure_telemetry, witness

@witness(name="mine")
def dispatch(http_verb, url, params):
    raise ConnectionRefusedError

try:
    shutdown = configure_telemetry(**json.loads(sys.argv[1]))
except ConfigurationError as error:
    sys.exit(f"ConfigurationError: {error}")
try:
    dispatch("POST", "http://127.0.0.1:1/", {"a": 1})
except ConnectionRefusedError:
    pass
if "again" in sys.argv:
    configure_telemetry()
shutdown()
"""


def run(*args, options=None, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(options or {}), *args],
        env={**environment, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
def test_the_console_exporters_are_found_by_the_standard_variables():
    done = run(options={"service_name": "shop"}, OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="console")

    assert done.returncode == 0, done.stderr
    assert '"name": "dispatch mine"' in done.stdout
    assert '"service.name": "shop"' in done.stdout
    assert "wirewitness.ledger.accepted" in done.stdout


@pytest.mark.processes
def test_the_service_is_named_by_the_variable_first():
    done = run(options={"service_name": "shop"}, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="till")

    assert '"service.name": "till"' in done.stdout


@pytest.mark.processes
def test_files_take_the_place_of_all_exporters(tmp_path):
    done = run(options={"files": str(tmp_path / "out")}, OTEL_TRACES_EXPORTER="no such")

    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "out" / "traces.jsonl").read_text().splitlines()
    (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["name"] == "dispatch mine"
    assert "wirewitness.ledger.accepted" in (tmp_path / "out" / "metrics.jsonl").read_text()


@pytest.mark.processes
def test_structlog_writes_json_with_trace_ids_to_standard_error():
    done = run(options={"logs": "json"}, OTEL_TRACES_EXPORTER="console")

    (line,) = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert (line["event"], line["level"]) == ("dispatch.failed", "warning")
    assert f'"trace_id": "0x{line["trace_id"]}"' in done.stdout


@pytest.mark.processes
def test_structlog_writes_for_a_console_when_asked():
    done = run(options={"logs": "console"})

    assert "dispatch.failed" in done.stderr
    assert not done.stderr.startswith("{")


@pytest.mark.processes
def test_the_log_level_comes_from_the_standard_variable():
    assert run(options={"logs": "json"}, OTEL_LOG_LEVEL="error").stderr == ""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("options", "variables", "complaint"),
    [
        (
            {},
            {"OTEL_TRACES_EXPORTER": "nosuch"},
            "OTEL_TRACES_EXPORTER names a str of 6 characters: no such exporter is installed; there are",
        ),
        ({}, {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "must be one of http/protobuf"),
        (
            {},
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "pip install 'opentelemetry-exporter-otlp-proto-grpc'",
        ),
        ({"logs": "xml"}, {}, "logs=a str of 3 characters: must be one of auto, console, json, or None"),
        ({"files": "/dev/null/out"}, {}, "files=: can't write to this folder: "),
        ({"logs": "json"}, {"OTEL_LOG_LEVEL": "loud"}, "OTEL_LOG_LEVEL=a str of 4 characters: must be one of"),
    ],
)
def test_a_setting_that_cannot_work_is_named(options, variables, complaint):
    done = run(options=options, **variables)

    assert done.returncode == 1
    assert "ConfigurationError: " in done.stderr
    assert complaint in done.stderr


@pytest.mark.processes
def test_a_second_set_up_is_refused():
    done = run("again")

    assert done.returncode == 1
    assert "a global tracer provider is set up already" in done.stderr


@pytest.mark.processes
def test_an_exporter_that_is_down_breaks_no_dispatch():
    done = run(
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )

    assert done.returncode == 0, done.stderr


@pytest.fixture
def loud_again():
    yield
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.filters[:] = [one for one in logger.filters if not isinstance(one, SeldomLines)]


@pytest.mark.usefixtures("loud_again")
def test_a_failing_exporter_is_counted_each_time_and_logged_now_and_then(monkeypatch, caplog):
    clock = [100.0]
    monkeypatch.setattr("wirewitness.telemetry.logs.monotonic", lambda: clock[0])
    before = INTERNAL_ERRORS.counts().get("exporter", 0)
    logger = logging.getLogger("opentelemetry.exporter.of.this.test")
    log_failures_seldom()

    def fail():
        logger.error("Failed to export")

    for _ in range(5):
        fail()
    assert len(caplog.records) == 1
    clock[0] += SECONDS_BETWEEN_LINES
    fail()

    assert [record.getMessage() for record in caplog.records] == ["Failed to export"] * 2
    assert INTERNAL_ERRORS.counts()["exporter"] - before == 6


@pytest.mark.processes
def test_with_no_sdk_configured_everything_still_verifies_and_counts(sink):
    program = """
import sys, requests
from wirewitness import witness
from wirewitness.testing import capture

@witness
def dispatch(http_verb, url, params):
    requests.post(url, json=params)

with capture() as dispatches:
    dispatch("POST", sys.argv[1] + "/v1/events", {"a": 1})
    dispatch("POST", sys.argv[1] + "/status/503", {"a": 1})
print(dispatches)
print(dispatch.ledger.book(), dispatch.ledger.book().closes)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, sink.url], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.splitlines() == [
        (
            "[<Dispatch dispatch DELIVERED IDENTICAL response>,"
            " <Dispatch dispatch REJECTED IDENTICAL response status_5xx>]"
        ),
        "accepted 2 = delivered 1 + rejected 1 + failed 0 + dropped 0 + unconfirmed 0 + pending 0 True",
    ]
