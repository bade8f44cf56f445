"""
What the README shows is run here.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys

from pathlib import Path

import pytest
import structlog

from opentelemetry import metrics, trace
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import wirewitness

from wirewitness._witness import WitnessOptions
from wirewitness.cli.demo.datafile import DATAFILE
from wirewitness.core.outcome import Outcome
from wirewitness.core.verdict import Evidence, Verdict


pytestmark = pytest.mark.processes


README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_python_in_the_readme_does_what_it_shows(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.setattr(metrics, "set_meter_provider", lambda _: None)
    document = Sybil([PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)]).parse(README)
    document.namespace["datafile"] = DATAFILE
    examples = list(document.examples())
    assert len(examples) >= 10
    for example in examples:
        example.evaluate()
    document.namespace["client"].close()
    document.namespace["shutdown"]()
    structlog.reset_defaults()


def shape_of(printed):
    """
    The words of a demo's output, without what differs from run to run: times, ports, counts of series, bars and breaks.
    """
    words = re.sub(r"\d+(\.\d+)? (ms|s)\b", "<time>", printed)
    words = re.sub(r"127\.0\.0\.1:\d+", "<address>", words)
    words = re.sub(r"\d+ (spans|series)", r"<n> \1", words)
    words = re.sub(r"sdk \d+\.\d+\.\d+", "sdk <version>", words)
    return words.replace("━", "").split()


def test_the_demo_prints_what_the_readme_shows(tmp_path):
    shown = re.search(r"<!-- demo: begin -->\s*```console\n\$ make demo\n(.*?)```", TEXT, re.DOTALL).group(1)
    done = subprocess.run(
        [sys.executable, "-m", "wirewitness", "demo", "--otlp-endpoint", "http://127.0.0.1:1"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "110", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shape_of(done.stdout.replace("http://127.0.0.1:1", "http://localhost:4318")) == shape_of(shown)


@pytest.mark.parametrize("name", [name for kind in (Outcome, Verdict) for name in kind.__members__])
def test_the_vocabulary_is_explained(name):
    assert f"| `{name}` |" in TEXT


@pytest.mark.parametrize("evidence", Evidence)
def test_every_evidence_says_what_it_does_not_prove(evidence):
    assert f"| `{evidence.value}` |" in TEXT


@pytest.mark.parametrize("option", WitnessOptions.__annotations__)
def test_every_option_is_explained(option):
    table = TEXT[TEXT.index("## Configuration") : TEXT.index("## What it costs")]
    assert f"`{option}`" in table


def test_the_changelog_has_this_version_or_its_beginnings():
    changelog = (README.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "[Unreleased]" in changelog or f"[{wirewitness.__version__}]" in changelog
