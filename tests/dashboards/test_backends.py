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

        def server(self, name, version="", folder=None, called=None):
            """A program that says that it is a server's."""
            told = backends.OLDEST[name] if version == "" else version
            return self.program(called or name, telling(name, told), folder)

        def program(self, name, script="exit 0", folder=None):
            file = (folder or self.path) / name
            # The path is empty: the script says where its commands are.
            file.write_text(f"#!/bin/sh\nPATH={SYSTEM}\n{script}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
            return file

    made = Machine()
    made.path.mkdir()
    # What Go builds says which program it is, by the name that it was given, and no version.
    built = made.program("built", """echo "${0##*/}, version  (branch: )"; echo '{"gitVersion":""}'""")
    made.builds = f'cp {built} "$6"'
    made.cache.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(made.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backends, "POLICY", made.policy)
    return made


SYSTEM = os.environ["PATH"]


def telling(name, version):
    text = ".".join(map(str, version)) if isinstance(version, tuple) else version
    return (
        f"""echo '{{"gitVersion":"v{text}"}}'""" if name == "jaeger" else f"echo '{name}, version {text} (branch: x)'"
    )


def told(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_program_is_found_in_the_cache_before_the_path(machine):
    on_path = machine.server("jaeger")
    assert backends.find("jaeger") == on_path
    cached = machine.server("jaeger", folder=machine.cache)
    assert backends.find("jaeger") == cached


def test_debian_s_name_of_a_program_is_known(machine):
    program = machine.server("alertmanager", called="prometheus-alertmanager")
    assert backends.find("alertmanager") == program


def test_a_program_that_is_nowhere_is_none(machine):
    assert [backends.find(name) for server in backends.ALL for name in server.commands] == [None] * 5


def test_without_a_variable_the_cache_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backends.cache() == tmp_path / ".cache" / "wirewitness" / "bin"


def test_what_is_here_is_not_installed_again(machine, capsys):
    found = [machine.server(name) for server in backends.ALL for name in server.commands]
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
    machine.program("go", f'pwd > {machine.path}/where; echo "$@" > {machine.path}/asked; {machine.builds}')
    assert backends.provide(JAEGER)
    assert backends.find("jaeger") == machine.cache / "jaeger"
    assert (machine.path / "asked").read_text().split()[-1] == "github.com/jaegertracing/jaeger/cmd/jaeger"
    assert (machine.path / "where").read_text().strip() == str(DASHBOARDS / "servers" / "jaeger")
    assert "about six minutes" in capsys.readouterr().out


def test_a_build_that_fails_is_told_with_what_go_said_and_leaves_nothing(machine, capsys):
    machine.program("go", 'echo "cannot find anything" >&2; echo half > "$6"; exit 1')
    assert not backends.provide(JAEGER)
    captured = capsys.readouterr()
    assert "cannot find anything" in captured.err
    assert "could not be built" in captured.out
    assert [one.name for one in machine.cache.iterdir()] == [".lock"]


as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root installs the system's packages"
)


@as_root
def test_debian_s_packages_come_without_a_service_that_is_started(machine, capsys):
    (machine.path / "debian").mkdir()
    for name in ("prometheus", "promtool"):
        machine.server(name, folder=machine.path / "debian")
    installed = f"cp {machine.path}/debian/prom* {machine.path}"
    asked = f"sh {machine.policy} prometheus start; echo $? > {machine.path}/policy"
    machine.program("apt-get", f'echo "$@" >> {machine.path}/asked; {asked}; {installed}')
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
    machine.program("go", machine.builds)
    assert backends.provide(ALERTMANAGER)
    assert {one.name for one in machine.cache.glob("[!.]*")} == {"alertmanager", "amtool"}
    assert "ended with 100: no network" in capsys.readouterr().out


@as_root
def test_from_source_takes_no_system_package(machine):
    machine.program("apt-get", f"touch {machine.path}/asked")
    machine.program("go", machine.builds)
    machine.server("prometheus")
    machine.server("promtool")
    assert backends.main(["--from-source"]) == 0
    assert not (machine.path / "asked").exists()
    assert backends.find("prometheus") == machine.cache / "prometheus"


UNFIT = {
    "too old": ("prometheus", "echo 'prometheus, version 2.41.9 (branch: HEAD)'", "2.41.9, and 2.42 is needed"),
    "another program": ("prometheus", "echo 'Prometheus, the game, version 9.0'", "does not say that it is prometheus"),
    "its sibling": ("promtool", "echo 'prometheus, version 3.1.0'", "does not say that it is promtool"),
    "one that fails": ("amtool", "echo 'amtool, version 0.31.0'; exit 1", "does not say that it is amtool"),
    "one that says nothing": ("alertmanager", "exit 0", "does not say that it is alertmanager"),
    "one without a version": ("alertmanager", "echo 'alertmanager, version  (branch: )'", "does not say which version"),
    "the first Jaeger": ("jaeger", """echo '{"gitCommit":"","gitVersion":"v1.76.0"}'""", "1.76.0, and 2.0 is needed"),
    "a fish": ("jaeger", "echo Jaeger: a bird, really", "does not say that it is jaeger"),
}


@pytest.mark.parametrize("which", UNFIT)
def test_a_program_that_is_too_old_or_another_is_not_taken_and_named(which, machine, capsys):
    name, script, why = UNFIT[which]
    there = machine.program(name, script)
    assert backends.find(name) is None
    assert backends.main([]) == 1
    (line,) = [line for line in told(capsys) if line.startswith(f"{there} is not taken: ")]
    assert why in line


def test_what_is_no_program_at_all_is_not_taken(machine):
    (machine.path / "jaeger").write_bytes(b"\x7fELF, and then nothing")
    (machine.path / "jaeger").chmod(0o755)
    assert backends.find("jaeger") is None


def test_behind_one_that_is_too_old_a_good_one_is_found(machine, monkeypatch, tmp_path):
    machine.server("prometheus", (2, 0))
    (tmp_path / "later").mkdir()
    good = machine.server("prometheus", (3, 10, 2), folder=tmp_path / "later")
    monkeypatch.setenv("PATH", f"{machine.path}{os.pathsep}{tmp_path / 'later'}")
    assert backends.find("prometheus") == good


def test_a_program_is_looked_at_again_when_it_has_changed(machine):
    machine.server("prometheus", (2, 0))
    assert backends.find("prometheus") is None
    new = machine.server("prometheus", (2, 100))
    assert backends.find("prometheus") == new


def test_what_was_built_from_another_module_is_built_again(machine, capsys):
    machine.program("go", f"echo built >> {machine.path}/builds; {machine.builds}")
    for _ in range(2):
        assert backends.provide(JAEGER)
    (machine.cache / ".jaeger.module").write_text("0" * 64)
    assert backends.provide(JAEGER)
    assert (machine.path / "builds").read_text().split() == ["built"] * 2
    assert "built from another version of its module" in "\n".join(told(capsys))


@pytest.mark.processes
def test_of_two_runs_at_once_one_installs_and_the_other_waits(machine, tmp_path):
    machine.program("go", f"echo built >> {machine.path}/builds; sleep 1; {machine.builds}")
    for name in ("prometheus", "promtool", "alertmanager", "amtool"):
        machine.server(name)
    command = [sys.executable, "-I", str(DASHBOARDS / "backends.py")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert (machine.path / "builds").read_text() == "built\n"
    assert sum("Another run is installing" in answer for answer in answers) >= 1
    assert all(f"jaeger        {machine.cache / 'jaeger'}" in answer for answer in answers)
    assert sorted(one.name for one in machine.cache.iterdir()) == [".jaeger.module", ".lock", "jaeger"]


@pytest.mark.processes
def test_the_lock_of_a_run_that_was_killed_is_free(machine):
    machine.program("go", "sleep 20")
    command = [sys.executable, "-I", str(DASHBOARDS / "backends.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert "building it with Go" in run.stdout.readline()
        run.kill()
    machine.program("go", machine.builds)
    assert backends.provide(JAEGER)


def test_a_cache_that_can_not_be_written_is_told(machine, capsys, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert not backends.provide(JAEGER)
    assert "can't be written" in told(capsys)[-1]


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
