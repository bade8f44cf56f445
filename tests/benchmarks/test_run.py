from __future__ import annotations

import json
import subprocess
import sys

from pathlib import Path

import pytest


pytestmark = pytest.mark.processes

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"


def run(*arguments):
    return subprocess.run([sys.executable, RUN, *arguments], capture_output=True, text=True, timeout=100, check=False)


def test_lines_are_whole_when_piped():
    done = run("decide", "--quick", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    heading = next(line for line in done.stdout.splitlines() if "least..most" in line)
    row = next(line for line in done.stdout.splitlines() if "in a recording span" in line)
    assert len(heading) > 100
    assert row.index(" x") < heading.index("least..most")


def test_json_alone_stands_on_the_standard_output():
    done = run("decide", "--quick", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["case"] for row in document["rows"]] == ["no span", "in a recording span"]
    assert document["broken"] == []
    assert "in a recording span" in done.stderr


def test_json_into_a_file_leaves_the_lines_where_they_were(tmp_path):
    done = run("decide", "--quick", "--rounds", "1", "--json", str(tmp_path / "figures.json"))
    assert "in a recording span" in done.stdout
    assert len(json.loads((tmp_path / "figures.json").read_text())["rows"]) == 2


def test_a_figure_after_json_is_no_file():
    done = run("--json", "7")
    assert done.returncode == 2
    assert "name the figures before --json" in done.stderr
