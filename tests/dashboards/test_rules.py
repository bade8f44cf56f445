"""
The rules and Alertmanager's configuration, by the tools that come with the servers.
"""

from __future__ import annotations

import re

import pytest
import yaml

from rulebook import ALERTMANAGER, CASES, DURATION, RULES, parsed, rules, run, shortened


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_prometheus_takes_the_rules(file):
    assert "SUCCESS" in run("promtool", "check", "rules", str(file))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name)
def test_alerts_fire_and_stay_silent_as_their_cases_say(file):
    assert "SUCCESS" in run("promtool", "test", "rules", str(file))


def test_a_case_that_is_not_so_is_found_out(tmp_path):
    case = next(file for file in CASES if file.name == "outbox.yml").read_text()
    (tmp_path / "wrong.yml").write_text(
        re.sub(r"\.\./(\w+\.yml)", rf"{RULES[0].parent}/\1", case).replace("severity: warning", "severity: page")
    )

    with pytest.raises(AssertionError, match="WirewitnessOutboxNearlyFull fires"):
        run("promtool", "test", "rules", str(tmp_path / "wrong.yml"))


def test_recording_rules_are_named_by_level_metric_and_operations():
    misnamed = [
        rule["record"] for rule in rules("record") if not re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"])
    ]
    assert misnamed == []


def test_a_recording_rule_s_level_names_the_labels_that_it_leaves():
    by = {
        "job_dispatcher": "job, dispatcher_name",
        "job_flag_variation": "job, flag, variation",
        "job_processor": "job, processor",
    }
    for rule in rules("record"):
        level = rule["record"].partition(":")[0]
        kept = set(re.findall(r"\bby \(([^)]*)\)", str(rule["expr"])))
        assert kept <= {by.get(level)}, rule["record"]


def test_an_alert_says_how_bad_it_is_and_where_to_look():
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
        assert "{{" not in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].endswith(f"}}}}/{rule['alert']}.md")


def test_alertmanager_takes_its_configuration():
    assert "SUCCESS" in run("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_critical_alerts_page_and_warnings_open_a_ticket(rule):
    severity = rule["labels"]["severity"]
    labels = (f"alertname={rule['alert']}", f"severity={severity}")
    receiver = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels).strip()
    assert receiver == {"critical": "pager", "warning": "tickets"}[severity]


def test_somebody_else_s_alert_does_not_page():
    labels = ("alertname=DiskFull", "severity=critical")
    assert run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels).strip() == "default"


def test_nothing_inhibits_an_altered_payload():
    for rule in parsed(ALERTMANAGER)["inhibit_rules"]:
        assert not all(matches(matcher, "WirewitnessPayloadAltered", "critical") for matcher in rule["target_matchers"])


def test_an_inhibition_is_about_alerts_that_are_there():
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}
    for rule in parsed(ALERTMANAGER)["inhibit_rules"]:
        for matchers in (rule["source_matchers"], rule["target_matchers"]):
            assert any(all(matches(matcher, *alert) for matcher in matchers) for alert in alerts), matchers


def matches(matcher, alertname, severity):
    label, operator, value = re.fullmatch(r'(\w+)(=|!=|=~|!~)"(.*)"', matcher).groups()
    actual = {"alertname": alertname, "severity": severity}[label]
    equal = re.fullmatch(value, actual) is not None if "~" in operator else value == actual
    return equal is not operator.startswith("!")


@pytest.mark.parametrize("file", [*RULES, ALERTMANAGER], ids=lambda file: file.name)
def test_shortening_divides_durations_and_changes_nothing_else(file):
    text, short = file.read_text(), shortened(file.read_text(), 100)

    placeholders = [
        re.sub(r"\b\d+(ms|[smhd])\b(?=[\])]|$| *$)", "DURATION", one, flags=re.MULTILINE) for one in (text, short)
    ]
    assert placeholders[0] == placeholders[1]
    assert len(DURATION.findall(text)) == short.count("ms") - text.count("ms")
    assert yaml.safe_load(short).keys() == yaml.safe_load(text).keys()


def test_shortening_reaches_every_place_where_a_duration_stands():
    text = "for: 2m\nexpr: increase(x:rate1h[15m]) unless x[1h] offset 15m\ngroup_wait: 30s\nsummary: within 15m\n"
    assert shortened(text, 100) == (
        "for: 1200ms\nexpr: increase(x:rate1h[9000ms]) unless x[36000ms] offset 9000ms\n"
        "group_wait: 300ms\nsummary: within 15m\n"
    )
