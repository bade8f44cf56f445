"""
The house rules that no linter knows.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tokenize

from pathlib import Path

import pytest

import wirewitness


ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "wirewitness").rglob("*.py"))

MOST_CODE_LINES = 300
MOST_BODY_LINES = 25
MEDIAN_BODY_LINES = 5
MOST_NAMES = 25


def code_lines(path):
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    text = path.read_text()
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    return lines - docstring_lines(ast.parse(text))


def docstring_lines(tree):
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }


def bodies():
    for path in SOURCES:
        lines = code_lines(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = set(range(node.body[0].lineno, node.end_lineno + 1)) & lines
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", len(body)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_at_most_300_code_lines(path):
    assert len(code_lines(path)) <= MOST_CODE_LINES


def test_a_function_has_at_most_25_lines_and_the_median_5():
    sizes = dict(bodies())
    assert {name: size for name, size in sizes.items() if size > MOST_BODY_LINES} == {}
    assert statistics.median(sizes.values()) <= MEDIAN_BODY_LINES


def test_nobody_inside_imports_from_the_front_door():
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "wirewitness" and path.name != "__init__.py"
        for alias in node.names
        if not (path.parent / alias.name).exists() and not (ROOT / "src" / "wirewitness" / alias.name).exists()
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


def test_the_base_install_imports_no_extra():
    program = "import sys, wirewitness, wirewitness.testing; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    # rich is missing from this list: structlog loads it where it is installed.
    assert not {"click", "h11", "optimizely", "prometheus_client"} & set(loaded)
