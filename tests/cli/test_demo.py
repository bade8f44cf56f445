from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

from dataclasses import replace

import pytest

from opentelemetry import metrics, trace
from optimizely.event.event_factory import EventFactory
from prometheus_client.parser import text_string_to_metric_families

from wirewitness.cli.demo import scenarios, stage
from wirewitness.cli.demo.datafile import EVENT, FLAG
from wirewitness.cli.demo.scenarios import SCENARIOS, Act, DemoScenario, Ending
from wirewitness.core.outcome import Outcome
from wirewitness.core.verdict import Evidence, Verdict


pytestmark = pytest.mark.processes


INTERNAL, CLIENT = 1, 3
ERROR = {"code": 2}

# A machine under load may make any answer a slow one.
SLOW = r"(, after [\d.]+ m?s)?"

ROWS = {
    "all well": ("None", f"POST 204{SLOW}", "DELIVERED", "IDENTICAL", "response"),
    "503": ("None", f"POST 503, no retry{SLOW}", "REJECTED", "IDENTICAL", "response"),
    "nobody listens": ("None", "4 connects refused", "FAILED", "UNOBSERVED", "call"),
    "a slow answer": ("None", r"POST 204, after [\d.]+ m?s", "DELIVERED", "IDENTICAL", "response"),
    "302": ("None", f"POST 302 → GET 200{SLOW}, body lost", "REJECTED", "ALTERED", "response"),
    "a sender re-serialises": ("204", rf"POST 204{SLOW}, \d+ bytes for \d+", "DELIVERED", "EQUIVALENT", "response"),
    # On a busy machine the milliseconds take so much room that the place of the change stands on a line of its own.
    "a sender tampers": ("204", rf"POST 204{SLOW}, first change( at byte \d+)?", "DELIVERED", "ALTERED", "response"),
    "a sender with a thread": ("None", rf"POST 204{SLOW}, [\d.]+ m?s later", "DELIVERED", "IDENTICAL", "response"),
}

# By dispatcher: its exchanges, and those of them that carry a flag.
EXCHANGES = {
    "optimizely-all-well": (["POST"], 0),
    "optimizely-503": (["POST"], 1),
    "optimizely-refused": (["POST"] * 4, 4),
    "optimizely-slow": (["POST"], 0),
    "optimizely-302": (["POST", "GET"], 0),
    "reserialising-sender": (["POST"], 0),
    "tampering-sender": (["POST"], 0),
    "threaded-sender": (["POST"], 0),
}
FLAGGED = {"optimizely-503", "optimizely-refused", "optimizely-302", "tampering-sender"}

BOOK = re.compile(r"accepted (\d+) = delivered (\d+) \+ rejected (\d+) \+ failed (\d+) .*pending (\d+) +closes")


def test_it_ends_well(once):
    assert once.code == 0
    assert "not as it must be" not in once.output


def test_every_scenario_has_a_row_here():
    assert [scenario.title for scenario in SCENARIOS] == list(ROWS)
    assert [scenario.name for scenario in SCENARIOS] == list(EXCHANGES)


@pytest.mark.parametrize("title", ROWS)
def test_a_row_tells_what_the_caller_and_the_wire_saw(once, title):
    returned, wire, outcome, verdict, evidence = ROWS[title]
    row = rf" {title} +{returned} +[\d.]+ m?s +{wire} +{outcome} +{verdict} +{evidence}"
    assert re.fullmatch(row, once.line(title))


def test_the_waterfall_has_a_good_dispatch_and_the_four_refused_connects(once):
    assert re.search(r"dispatch optimizely-all-well +DELIVERED +━+", once.output)
    assert re.search(r"dispatch optimizely-refused +FAILED +━+", once.output)
    assert len(re.findall(r"─ POST 127\.0\.0\.1:\d+ +refused +━", once.output)) == 4


def test_the_book_closes_on_the_screen(once):
    numbers = [int(number) for number in BOOK.search(once.output).groups()]
    assert numbers == [8, 5, 2, 1, 0]


def test_every_finding_is_there_when_all_of_it_happened(once):
    said = re.findall(r"^  · (\w+ \w+)", once.output, re.MULTILINE)
    assert "A slow" in said
    assert [words for words in said if words != "A slow"] == [
        *("On a", "Where nobody", "On a", "One sender", "One sender", "One sender", "The endpoint"),
    ]
    assert "One sender changed one byte, at " in once.output


def test_the_metrics_add_up_to_the_printed_book(shown):
    run = shown()
    accepted, delivered, rejected, failed, pending = map(int, BOOK.search(run.output).groups())
    samples = [sample for family in text_string_to_metric_families(run.metrics) for sample in family.samples]

    def total(name, **labels):
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    settled = "wirewitness_ledger_settled_total"
    assert total("wirewitness_ledger_accepted_total") == accepted == 8
    assert total(settled, outcome="delivered") == delivered == 5
    assert total(settled, outcome="rejected") == rejected == 2
    assert total(settled, outcome="failed") == failed == 1
    assert total(settled) + total("wirewitness_ledger_pending") == accepted + pending
    assert total("wirewitness_exchanges_total") == sum(len(methods) for methods, _ in EXCHANGES.values())
    assert total("wirewitness_payload_verdicts_total", verdict="altered") == 2
    assert total("wirewitness_internal_errors_total") == 0


def test_the_metrics_have_no_series_of_a_value_that_is_not_bounded(once):
    assert "127.0.0.1:" not in once.metrics
    assert "trace_id" not in once.metrics


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_dispatch_is_a_span_and_its_exchanges_are_its_children(once, name):
    (dispatch,) = [span for span in once.spans if span["name"] == f"dispatch {name}"]
    children = [span for span in once.spans if span.get("parentSpanId") == dispatch["spanId"]]
    methods, flags = EXCHANGES[name]
    assert not dispatch.get("parentSpanId")
    assert dispatch["kind"] == INTERNAL
    assert (dispatch["status"].get("code") == ERROR["code"]) == (name in FLAGGED)
    assert [child["name"] for child in children] == methods
    assert {child["kind"] for child in children} == {CLIENT}
    assert {child["traceId"] for child in children} == {dispatch["traceId"]}
    assert sum(child["status"] == ERROR for child in children) == flags


def test_the_spans_name_their_service_and_host(once):
    assert '"stringValue":"wirewitness-demo"' in once.traces
    assert '"key":"host.name"' in once.traces


@pytest.mark.parametrize("secret", [stage.VISITOR, "revenue", "867530942", "gold", EVENT, FLAG, "9300000000001"])
def test_no_file_and_no_screen_holds_anything_of_a_payload(once, secret):
    assert secret not in once.traces
    assert secret not in once.metrics
    assert secret not in once.output


def test_a_second_run_starts_its_files_anew(shown):
    shown()
    assert len([span for span in shown().spans if span["kind"] == INTERNAL]) == len(SCENARIOS)


def test_piped_output_has_no_control_codes_and_no_blanks_at_line_ends(once):
    assert "\x1b" not in once.output
    assert [line for line in once.output.splitlines() if line != line.rstrip()] == []


def test_colours_carry_the_outcome_and_no_color_takes_them_away(shown):
    coloured = shown(FORCE_COLOR="1").output
    plain = shown(FORCE_COLOR="1", NO_COLOR="1").output
    assert "\x1b[32mDELIVERED" in coloured
    assert "\x1b[31mREJECTED" in coloured
    assert re.findall(r"\x1b\[[0-9;]*3[0-7]m", plain) == []
    assert "DELIVERED" in plain
    assert "REJECTED" in plain


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_it_fits_the_terminal(shown, columns):
    run = shown(columns=columns)
    screen, _, _ = run.output.partition("\n look\n")
    assert run.code == 0
    assert max(len(line) for line in screen.splitlines()) <= columns
    assert all(word in screen for word in ("DELIVERED", "UNOBSERVED", "EQUIVALENT", "response", "closes"))


def test_an_encoding_without_the_characters_is_no_error(tmp_path, deaf):
    arguments = ["demo", "--output", str(tmp_path), "--otlp-endpoint", deaf]
    run = subprocess.run(
        [sys.executable, "-m", "wirewitness", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "110"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0
    assert b"POST 302 ? GET 200" in run.stdout


def test_as_a_process_it_prints_to_standard_output_only(tmp_path, deaf):
    arguments = ["demo", "--output", str(tmp_path), "--otlp-endpoint", deaf]
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "wirewitness", *arguments],
        env={**os.environ, "COLUMNS": "110", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert BOOK.search(run.stdout).groups() == ("8", "5", "2", "1", "0")


def test_a_proxy_in_the_environment_is_no_matter(shown, deaf, monkeypatch):
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert shown(http_proxy=deaf, HTTP_PROXY=deaf).code == 0
    assert os.environ["no_proxy"] == "example.org"
    assert "NO_PROXY" not in os.environ


def test_what_is_global_stays_as_it_was(shown, caplog):
    def everything():
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
        endpoints = {name: repr(value) for name, value in vars(EventFactory).items() if "ENDPOINT" in name}
        assert endpoints
        return (*providers, endpoints, logging.root.handlers[:], logging.root.level)

    before = everything()
    assert shown().code == 0
    assert everything() == before
    assert caplog.records == []


def test_a_scenario_that_ends_otherwise_is_named_and_gives_exit_code_1(shown, monkeypatch):
    expected = Ending(Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE)
    monkeypatch.setattr(scenarios, "SCENARIOS", (replace(SCENARIOS[0], expected=expected),))
    run = shown()
    assert run.code == 1
    assert "not as it must be" in run.output
    assert "all well: expected REJECTED IDENTICAL response; got DELIVERED IDENTICAL response" in run.output


def test_a_reason_alone_that_differs_gives_exit_code_1(shown, monkeypatch):
    expected = SCENARIOS[1].expected._replace(reason=scenarios.Reason.STATUS_4XX)
    monkeypatch.setattr(scenarios, "SCENARIOS", (replace(SCENARIOS[1], expected=expected),))
    run = shown()
    assert run.code == 1
    assert "got REJECTED IDENTICAL response status_5xx" in run.output


class Forgetful:
    def dispatch_event(self, event):
        return "sent"


class Raising:
    def dispatch_event(self, event):
        message = "it broke"
        raise RuntimeError(message)


def scenario_of(sender):
    well = SCENARIOS[0].expected
    return DemoScenario("a sender of the test's", "test-sender", sender, "/v1/events", Act.TRACK, well)


def test_a_sender_that_sends_nothing_is_shown_as_unconfirmed(shown, monkeypatch):
    monkeypatch.setattr(stage, "EVIDENCE_TIMEOUT", 0.05)
    monkeypatch.setattr(scenarios, "SCENARIOS", (scenario_of(Forgetful),))
    run = shown()
    assert run.code == 1
    row = r" a sender of the test's +'sent' +[\d.]+ ms +nothing +UNCONFIRMED +UNOBSERVED +call"
    assert re.fullmatch(row, run.line("a sender of the test's"))


def test_a_sender_that_raises_is_shown_with_the_exception(shown, monkeypatch):
    monkeypatch.setattr(scenarios, "SCENARIOS", (scenario_of(Raising),))
    run = shown()
    assert run.code == 1
    assert re.search(r"RuntimeError +[\d.]+ ms +nothing +FAILED +UNOBSERVED +call", run.output)


def test_a_dispatch_that_is_never_settled_is_shown_as_pending(shown, monkeypatch):
    monkeypatch.setattr(stage, "_next", lambda settled: None)
    monkeypatch.setattr(scenarios, "SCENARIOS", SCENARIOS[:1])
    run = shown()
    assert run.code == 1
    assert "PENDING" in run.output
    assert "all well: expected DELIVERED IDENTICAL response; got no settlement" in run.output


@pytest.mark.parametrize("occupied", ["traces.jsonl", "metrics.prom"])
def test_a_file_that_cannot_be_written_is_told_before_anything_runs(shown, tmp_path, occupied):
    (tmp_path / occupied).mkdir()
    run = shown()
    assert run.code == 2
    assert run.output == f"Error: can't write {tmp_path / occupied}: Is a directory\n"


def test_a_folder_that_cannot_be_made_is_told(shown, tmp_path):
    (tmp_path / "file").touch()
    run = shown(tmp_path / "file" / "folder")
    assert run.code == 2
    assert run.output.startswith(f"Error: can't write {tmp_path / 'file' / 'folder'}: ")


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://localhost", "http://", "http://localhost:port"])
def test_an_otlp_endpoint_that_is_no_http_url_is_an_error_of_usage(shown, url):
    run = shown(endpoint=url)
    assert run.code == 2
    assert f"{url!r} is no http:// or https:// URL" in run.output
