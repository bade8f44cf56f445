"""
The house rules that no linter knows.
"""

from __future__ import annotations

import ast
import subprocess
import sys

from pathlib import Path

import pytest

import wirewitness


ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "wirewitness").rglob("*.py"))

MOST_NAMES = 25


def test_nobody_inside_imports_from_the_front_door():
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "wirewitness" and path.name != "__init__.py"
        for alias in node.names
        if not any((ROOT / "src" / "wirewitness" / name).exists() for name in (alias.name, f"{alias.name}.py"))
    ]
    assert offenders == []


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_only_the_set_up_and_the_command_line_know_the_opentelemetry_sdk():
    knowing = {
        path.relative_to(ROOT / "src" / "wirewitness").as_posix()
        for path in SOURCES
        if any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in imported_by(path))
    }
    assert {name for name in knowing if not name.startswith("cli/")} == {"telemetry/setup.py"}


def test_the_front_door_has_at_most_25_names_in_order():
    assert len(wirewitness.__all__) <= MOST_NAMES
    assert wirewitness.__all__ == sorted(wirewitness.__all__)
    assert all(hasattr(wirewitness, name) for name in wirewitness.__all__)


def loaded_by(program):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}, set(done.stdout.split())


@pytest.mark.processes
def test_the_base_install_imports_no_extra():
    packages, _ = loaded_by(
        "import wirewitness, wirewitness.testing; [getattr(wirewitness, name) for name in wirewitness.__all__]"
    )
    # rich is missing from this list: structlog loads it where it is installed.
    assert not {"click", "h11", "optimizely", "prometheus_client", "pycurl"} & packages


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_importing_wirewitness_loads_nothing_that_an_application_may_not_use():
    packages, _ = loaded_by("import wirewitness")
    assert (
        not {"requests", "urllib3", "structlog", "rich", "opentelemetry", "sqlite3", "ssl", "asyncio", "logging"}
        & packages
    )


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_a_witness_and_an_outbox_load_no_set_up_and_no_sender():
    packages, modules = loaded_by("from wirewitness import Outbox, witness")
    assert not {"requests", "urllib3", "structlog", "rich", "sqlite3", "asyncio"} & packages
    assert not any(name.startswith("opentelemetry.sdk") for name in modules)
