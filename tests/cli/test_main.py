from __future__ import annotations

import subprocess
import sys

import pytest

from click.testing import CliRunner

import wirewitness

from wirewitness.cli import commands
from wirewitness.cli.main import main, what_to_install


pytestmark = pytest.mark.processes


def run(*arguments, without=None):
    hidden = f"import sys; sys.modules[{without!r}] = None; sys.argv[0] = 'wirewitness'; " if without else ""
    program = f"{hidden}from wirewitness.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_it_tells_its_version():
    told = CliRunner().invoke(commands.wirewitness, ["--version"])
    assert told.output == f"wirewitness, version {wirewitness.__version__}\n"


def test_it_lists_its_commands():
    told = subprocess.run([sys.executable, "-m", "wirewitness", "-h"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("Usage: wirewitness [OPTIONS] COMMAND")
    assert "demo" in told.stdout


def test_an_unknown_command_is_an_error_of_usage():
    assert run("dmeo").returncode == 2


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("click", "cli"),
        ("rich", "cli"),
        ("h11", "demo"),
        ("optimizely", "demo"),
        ("prometheus_client", "demo"),
        ("opentelemetry.exporter.prometheus", "demo"),
        ("opentelemetry.exporter.otlp.json", "demo"),
        ("opentelemetry.exporter", "demo"),
    ],
)
def test_a_missing_extra_is_told_in_one_line_that_installs_it(module, extra, tmp_path):
    told = run("demo", "--output", str(tmp_path), without=module)
    assert (told.returncode, told.stdout) == (2, "")
    named = "opentelemetry.exporter" if module.startswith("opentelemetry") else module
    assert told.stderr == f"wirewitness: {named} is missing: pip install 'wirewitness[{extra}]'\n"
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_more_than_the_command_line_s_own_extra():
    assert run("demo", "--help", without="optimizely").returncode == 0


def test_another_missing_module_is_no_matter_of_extras(monkeypatch):
    def broken(**_):
        raise ModuleNotFoundError(name="clickhouse")

    monkeypatch.setattr(commands, "wirewitness", broken)
    with pytest.raises(ModuleNotFoundError):
        main()
    assert what_to_install(ImportError()) is None
