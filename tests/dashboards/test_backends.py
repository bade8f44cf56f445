"""
``make backends``: finds servers, installs what is missing, and says what it can't.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys

import pytest

from servers import DASHBOARDS, backends


JAEGER, PROMETHEUS, ALERTMANAGER = backends.ALL


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """
    A machine with nothing on it: its path and its cache are empty folders.
    """

    class Machine:
        path = tmp_path / "bin"
        cache = tmp_path / "cache" / "wirewitness" / "bin"
        policy = tmp_path / "policy-rc.d"

        def program(self, name, script="exit 0", folder=None):
            file = (folder or self.path) / name
            # The path is empty: the script says where its commands are.
            file.write_text(f"#!/bin/sh\nPATH={SYSTEM}\n{script}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
            return file

    made = Machine()
    made.path.mkdir()
    made.cache.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(made.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backends, "POLICY", made.policy)
    return made


SYSTEM = os.environ["PATH"]


def test_a_program_is_found_in_the_cache_before_the_path(machine):
    on_path = machine.program("jaeger")
    assert backends.find("jaeger") == on_path
    cached = machine.program("jaeger", folder=machine.cache)
    assert backends.find("jaeger") == cached


def test_debian_s_name_of_a_program_is_known(machine):
    program = machine.program("prometheus-alertmanager")
    assert backends.find("alertmanager") == program


def test_a_program_that_is_nowhere_is_none(machine):
    assert [backends.find(name) for server in backends.ALL for name in server.commands] == [None] * 5


def test_without_a_variable_the_cache_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backends.cache() == tmp_path / ".cache" / "wirewitness" / "bin"


def test_what_is_here_is_not_installed_again(machine, capsys):
    found = [machine.program(name) for server in backends.ALL for name in server.commands]
    assert backends.main([]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[one.name, str(one)] for one in found]


def test_without_go_each_missing_server_is_named_with_how_to_get_it(machine, capsys):
    assert backends.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["jaeger", "prometheus", "alertmanager"]
    assert all("https://go.dev/doc/install" in line and str(machine.cache) in line for line in lines)
    assert "apt-get install prometheus-alertmanager" in lines[2]
    assert "apt-get" not in lines[0]


def test_go_builds_into_the_cache_from_the_committed_module(machine, capsys):
    machine.program("go", 'pwd > "$6.where"; echo "$@" > "$6"; chmod +x "$6"')
    assert backends.provide(JAEGER)
    built = machine.cache / "jaeger"
    assert backends.find("jaeger") == built
    assert built.read_text().split()[-1] == "github.com/jaegertracing/jaeger/cmd/jaeger"
    (where,) = machine.cache.glob(".jaeger.*.where")
    assert where.read_text().strip() == str(DASHBOARDS / "servers" / "jaeger")
    assert "about six minutes" in capsys.readouterr().out


def test_a_build_that_fails_is_told_with_what_go_said_and_leaves_nothing(machine, capsys):
    machine.program("go", 'echo "cannot find anything" >&2; echo half > "$6"; exit 1')
    assert not backends.provide(JAEGER)
    captured = capsys.readouterr()
    assert "cannot find anything" in captured.err
    assert "could not be built" in captured.out
    assert list(machine.cache.iterdir()) == []


as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root installs the system's packages"
)


@as_root
def test_debian_s_packages_come_without_a_service_that_is_started(machine, capsys):
    installed = f'{{ echo "#!/bin/sh" | tee {machine.path}/prometheus {machine.path}/promtool; }}'
    asked = f"sh {machine.policy} prometheus start; echo $? > {machine.path}/policy"
    machine.program(
        "apt-get", f'echo "$@" >> {machine.path}/asked; {asked}; {installed}; chmod +x {machine.path}/prom*'
    )
    assert backends.provide(PROMETHEUS)
    assert (machine.path / "asked").read_text().splitlines() == [
        "-qq update",
        "-qq install --yes --no-install-recommends prometheus",
    ]
    # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt: 101 is "action forbidden by policy".
    assert (machine.path / "policy").read_text() == "101\n"
    assert not machine.policy.exists()
    assert str(machine.path / "promtool") in capsys.readouterr().out


@as_root
def test_a_policy_of_the_machine_s_own_is_left_alone(machine):
    machine.policy.write_text("mine")
    machine.program("apt-get", "exit 1")
    backends.provide(PROMETHEUS)
    assert machine.policy.read_text() == "mine"


@as_root
def test_where_debian_s_package_cannot_be_had_go_builds_it(machine, capsys):
    machine.program("apt-get", 'echo "no network" >&2; exit 100')
    machine.program("go", 'echo > "$6"; chmod +x "$6"')
    assert backends.provide(ALERTMANAGER)
    assert {one.name for one in machine.cache.iterdir()} == {"alertmanager", "amtool"}
    assert "ended with 100: no network" in capsys.readouterr().out


@as_root
def test_from_source_takes_no_system_package(machine):
    machine.program("apt-get", f"touch {machine.path}/asked")
    machine.program("go", 'echo > "$6"; chmod +x "$6"')
    machine.program("prometheus")
    machine.program("promtool")
    assert backends.main(["--from-source"]) == 0
    assert not (machine.path / "asked").exists()
    assert backends.find("prometheus") == machine.cache / "prometheus"


@pytest.mark.parametrize("server", backends.ALL, ids=lambda server: server.name)
def test_every_program_is_a_tool_of_its_committed_module(server):
    folder = DASHBOARDS / "servers" / server.name
    module = (folder / "go.mod").read_text()
    assert module.startswith(f"module wirewitness/dashboards/servers/{server.name}\n")
    assert set(server.commands.values()) == set(re.findall(r"^(?:tool |\t)(\S+/cmd/\w+)$", module, re.MULTILINE))
    assert "replace" not in module
    assert (folder / "go.sum").stat().st_size > 0


def test_it_runs_as_a_script_without_any_package():
    shown = subprocess.run(
        [sys.executable, "-I", str(DASHBOARDS / "backends.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "--from-source" in shown.stdout
