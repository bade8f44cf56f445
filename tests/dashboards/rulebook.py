"""
The shipped rules, their cases and their runbooks, as tests read them.
"""

from __future__ import annotations

import re
import subprocess

import yaml

from servers import DASHBOARDS, backends, require


RULES = sorted((DASHBOARDS / "rules").glob("*.yml"))
CASES = sorted((DASHBOARDS / "rules" / "tests").glob("*.yml"))
RUNBOOKS = sorted((DASHBOARDS / "runbooks").glob("*.md"))
ALERTMANAGER = DASHBOARDS / "alertmanager.yml"

METRIC = re.compile(r"\bwirewitness_[a-z_]+\b(?!:)")
RECORDING = re.compile(r"\b[a-z_]+:[a-z_]+:[a-z0-9_]+\b")

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Where a duration stands: in a range selector, behind offset, or as the value of for: and of Alertmanager's settings.
DURATION = re.compile(
    r"(?P<before>\[|\boffset |^ *(?:for|group_wait|group_interval|repeat_interval): )(?P<number>\d+)(?P<unit>[smhd])\b",
    re.MULTILINE,
)


def parsed(file):
    return yaml.safe_load(file.read_text())


def rules(kind):
    """
    All rules that are of a kind, ``alert`` or ``record``.
    """
    return [rule for file in RULES for group in parsed(file)["groups"] for rule in group["rules"] if kind in rule]


def names(kind):
    return {rule[kind] for rule in rules(kind)}


def cases():
    return [case for file in CASES for case in parsed(file)["tests"]]


def queries(page):
    """
    The PromQL in a runbook.
    """
    return re.findall(r"^```promql\n(.*?)\n```$", page.read_text(), re.DOTALL | re.MULTILINE)


def expressions():
    """
    All PromQL in rules and runbooks, with where it stands.
    """
    for rule in (*rules("record"), *rules("alert")):
        yield rule.get("alert") or rule["record"], str(rule["expr"])
    for page in RUNBOOKS:
        for query in queries(page):
            yield page.name, query


def run(program, *arguments):
    """
    Run promtool or amtool.

    Returns:
        What it said, if all was well.
    """
    require(program)
    done = subprocess.run(
        [backends.find(program), *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shortened(text, factor):
    """
    Rules, or Alertmanager's configuration, with each duration divided by a factor, and nothing else changed.
    """

    def short(match):
        milliseconds = int(match["number"]) * SECONDS[match["unit"]] * 1000 // factor
        return f"{match['before']}{milliseconds}ms"

    return DURATION.sub(short, text)
