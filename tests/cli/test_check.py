"""
``wirewitness check``, from the command line.
"""

from __future__ import annotations

import json

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from click.testing import CliRunner

from wirewitness.cli.commands import wirewitness
from wirewitness.conformance.observation import Mark, Observation, Report, described
from wirewitness.conformance.suite import SCENARIOS


pytestmark = pytest.mark.processes


SDK = "optimizely.event_dispatcher:EventDispatcher"


def run(*arguments, columns=160):
    return CliRunner().invoke(wirewitness, ["check", *arguments], env={"COLUMNS": str(columns), "NO_COLOR": "1"})


def only(*names):
    return [argument for name in names for argument in ("--only", name)]


def test_the_table_tells_the_wire_the_caller_the_verdict_and_why():
    result = run(SDK, *only("payload/plain", "status/503"))
    assert result.exit_code == 1
    lines = {line.split()[0]: line for line in result.output.splitlines() if "/" in line}
    assert " pass " in lines["payload/plain"]
    assert " fail " in lines["status/503"]
    assert "POST 503" in lines["status/503"]
    assert "returned None in" in lines["status/503"]
    assert "answered 503, sent once, nobody told" in lines["status/503"]
    assert "2 scenarios: 1 pass, 1 fail, 0 warn, 0 n/a" in result.output
    assert "wirewitness check --explain status/503" in result.output


def test_without_a_failure_it_exits_0():
    result = run(SDK, *only("payload/plain"))
    assert result.exit_code == 0
    assert "1 scenario: 1 pass" in result.output
    assert "--explain" not in result.output


def test_json_is_all_that_stands_on_standard_output():
    result = run(SDK, "--json", *only("status/503", "status/204"))
    told = json.loads(result.stdout)
    assert told["target"] == SDK
    assert [(each["name"], each["group"], each["verdict"]) for each in told["scenarios"]] == [
        ("status/204", "status", "pass"),
        ("status/503", "status", "fail"),
    ]
    failing = told["scenarios"][1]
    assert failing["reason"].startswith("answered 503")
    assert failing["wire"]["requests"][0]["status"] == 503
    assert failing["caller"]["calls"][0]["returned"] == "None"
    assert failing["agrees"] is True
    assert result.exit_code == 1


def test_junit_tells_failures_and_what_was_skipped(tmp_path):
    result = run(SDK, "--junit", str(tmp_path / "out.xml"), *only("status/503", "payload/bytes", "payload/plain"))
    suite = ET.parse(tmp_path / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failing = suite.find("testcase[@name='status/503']/failure")
    assert failing.get("message").startswith("answered 503")
    assert result.exit_code == 1


def test_a_junit_file_that_can_not_be_written_is_told(tmp_path):
    result = run(SDK, "--junit", str(tmp_path / "no" / "out.xml"), *only("payload/plain"))
    assert result.exit_code == 2
    assert "can't write" in result.output


def test_list_names_every_scenario():
    listed = run("--list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == [scenario.name for scenario in SCENARIOS]


def test_explain_says_what_a_scenario_is_about():
    told = run("--explain", "status/302")
    assert told.exit_code == 0
    assert "RFC 9110" in told.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere:x"], "nowhere can't be imported"),
        ([], "no target"),
        ([SDK, "--only", "statsu"], "no scenario and no group is named 'statsu'"),
        (["--explain", "statsu"], "did you mean status"),
        (["--explain", "lone_surogate"], "did you mean payload/lone_surrogate"),
        (["--explain", "zzzz"], "--list names them all"),
        ([SDK, "--kwargs", "{"], "no JSON"),
        ([SDK, "--kwargs", "[]"], "no JSON object"),
        ([SDK, "--shape", "round"], "'round' is not one of"),
    ],
)
def test_bad_input_is_told_in_a_line_and_exits_2(arguments, words):
    result = run(*arguments)
    assert (result.exit_code, words in result.output) == (2, True), result.output
    assert "Traceback" not in result.output


def test_a_disagreement_of_witness_and_sink_exits_3(monkeypatch):
    from wirewitness.conformance import runner
    from wirewitness.conformance.agreement import Agreement

    monkeypatch.setattr(runner, "agreement", lambda _: Agreement(agrees=False, why="one said more"))
    result = run(SDK, *only("payload/plain"))
    assert result.exit_code == 3
    assert "payload/plain: the witness and the sink disagree: one said more" in result.output


CANARIES = '''
"""Dispatchers whose values, errors, defaults and header fields hold secrets."""
import urllib.request, json


class Refused(Exception):
    pass

def post(event, **headers):
    request = urllib.request.Request(event.url + "?key=CANARY", json.dumps(event.params).encode(), {**event.headers, **headers})
    urllib.request.urlopen(request, timeout=10).read()

class Returns:
    def dispatch_event(self, event):
        post(event)
        return {"key": "CANARY", "payload": event.params}
    def flush(self):
        return "flushed with CANARY"
    def close(self):
        return b"CANARY"

class Raises:
    def dispatch_event(self, event):
        post(event, **{"Content-Type": "CANARY", "X-Own": "CANARY"})
        raise Refused("CANARY")
    def flush(self):
        raise Refused("CANARY")

class Needs:
    def __init__(self, key):
        raise ValueError(f"{key} is no key")

def no_shape(one, two, three, four, key="CANARY"):
    pass
'''


@pytest.fixture
def canaries(tmp_path, monkeypatch):
    (tmp_path / "canaries.py").write_text(CANARIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize("name", ["Returns", "Raises"])
@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_that_a_dispatcher_returns_or_raises_is_shown(name, as_json, canaries, tmp_path):
    chosen = only("payload/plain", "status/503", "headers", "shape")
    result = run(f"canaries:{name}", *chosen, "--junit", str(tmp_path / "out.xml"), *["--json"] * as_json)
    assert result.exit_code in {0, 1}, result.output
    assert "CANARY" not in result.output + (tmp_path / "out.xml").read_text()
    assert ("a dict of 2" if name == "Returns" else "raised Refused") in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["canaries:Needs", "--kwargs", '{"key": "CANARY"}'], "ValueError at "),
        (["canaries:no_shape"], "has no known shape: no_shape(one, two, three, four, key) takes neither"),
        (["canaries:Returns", "--kwargs", '["CANARY"]'], "a list of 1 is no JSON object"),
        (["canaries:Returns", "--kwargs", '"CANARY"'], "a str of 6 characters is no JSON object"),
    ],
)
def test_an_error_shows_no_argument(arguments, words, canaries):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "CANARY" not in result.output
    assert words in result.output


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (False, "False"),
        (503, "503"),
        (4111111111111111, "int"),
        (0.25, "float"),
        ("Queued", "Queued"),
        ("CANARY", "a str of 6 characters"),
        (Mark.FAIL, "Mark.FAIL"),
        (["CANARY"], "a list of 1"),
        (ValueError("CANARY"), "a ValueError"),
    ],
)
def test_a_returned_value_is_shown_by_what_it_is(value, text):
    assert described(value).returned == text


def test_values_that_are_shown_alike_are_told_apart():
    assert described("CANARY").digest != described("Canary").digest
    seen = Observation((), report=Report(calls=({**described("Canary")._asdict(), "raised": None},)))
    assert replace(seen, success=seen.report).telling is None
    other = Report(calls=({**described("CANARY")._asdict(), "raised": None},))
    assert replace(seen, success=other).telling == "returned a str of 6 characters"
