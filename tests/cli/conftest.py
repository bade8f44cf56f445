from __future__ import annotations

import json
import socket

from dataclasses import dataclass
from pathlib import Path

import pytest

from click.testing import CliRunner, Result

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.cli.commands import wirewitness
from wirewitness.ledger import process_ledger


@pytest.fixture(scope="session")
def deaf():
    """
    The URL of a port where nobody listens.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@dataclass
class Shown:
    """
    A demo that was run, and its folder.
    """

    result: Result
    folder: Path

    @property
    def code(self):
        return self.result.exit_code

    @property
    def output(self):
        return self.result.output

    def line(self, title):
        (found,) = [line for line in self.output.splitlines() if line.startswith(f" {title}  ")]
        return found

    @property
    def traces(self):
        return (self.folder / "traces.jsonl").read_text()

    @property
    def spans(self):
        batches = [json.loads(line) for line in self.traces.splitlines()]
        resources = [resource for batch in batches for resource in batch["resourceSpans"]]
        return [span for resource in resources for scope in resource["scopeSpans"] for span in scope["spans"]]

    @property
    def metrics(self):
        return (self.folder / "metrics.prom").read_text()


def show(folder, endpoint, *, columns=110, **environment):
    # One process, one book: here it's that of this run alone.
    process_ledger.clear()
    INTERNAL_ERRORS.clear()
    arguments = ["demo", "--output", str(folder), "--otlp-endpoint", endpoint]
    plain = {"NO_COLOR": None, "FORCE_COLOR": None, "TTY_COMPATIBLE": None, "TERM": "xterm"}
    result = CliRunner().invoke(wirewitness, arguments, env={**plain, "COLUMNS": str(columns), **environment})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Shown(result, folder)


@pytest.fixture
def shown(tmp_path, deaf):
    def run(folder=tmp_path, endpoint=deaf, **options):
        return show(folder, endpoint, **options)

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory, deaf):
    """
    A demo that ran by itself, for tests that only look.
    """
    return show(tmp_path_factory.mktemp("demo") / "made" / "by it", deaf)
