"""
``make stack``: comes up, answers, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

from pathlib import Path

import pytest
import yaml

from servers import DASHBOARDS, OPENER, backends, eventually, require, stack


PROGRAM = DASHBOARDS / "stack.py"

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks at processes in /proc")


class Stack:
    """
    ``stack.py``, running in a process of its own.
    """

    def __init__(self, *arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines = []

    def read_until(self, word):
        for line in self.process.stdout:
            self.lines.append(line)
            if word in line:
                return
        pytest.fail(f"it ended before it said {word!r}: {self.lines} {self.process.stderr.read()}")

    def where(self, title):
        (found,) = [line for line in self.lines if line.startswith(f"{title} ")]
        return re.search(r"http://\S+", found)[0]

    @property
    def children(self):
        """
        The name of each process that it started, by its id.
        """
        return {pid: name for pid, name, parent in processes() if parent == self.process.pid}

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.finish()

    def finish(self):
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.lines) + output, errors


def processes():
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, name, rest = re.fullmatch(r"(\d+) \((.*)\) (.*)", stat.read_text().strip(), re.DOTALL).groups()
        except OSError:  # it has ended meanwhile
            continue
        yield int(pid), name, int(rest.split()[1])


def running(pids):
    return set(pids) & {pid for pid, _, _ in processes()}


@pytest.fixture
def run():
    started = []

    def start(*arguments, **environment):
        started.append(Stack(*arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()


@pytest.fixture
def up(run, tmp_path):
    require("jaeger", "prometheus", "alertmanager")
    one = run("--ports-from", "0", TMPDIR=str(tmp_path))
    one.read_until("Ctrl-C")
    return one


def test_the_stack_prints_addresses_that_answer(up):
    for title, path in (("Jaeger", "/api/v3/services"), ("Prometheus", "/-/ready"), ("Alertmanager", "/-/ready")):
        with OPENER.open(up.where(title) + path) as response:
            assert response.status == 200


def test_the_stack_s_prometheus_scrapes_its_jaeger_knows_its_alertmanager_and_has_the_rules(up):
    def asked(path):
        with OPENER.open(f"{up.where('Prometheus')}/api/v1/{path}") as response:
            return json.load(response)["data"]

    def scraped():
        return {target["labels"]["job"] for target in asked("targets")["activeTargets"]}

    eventually(lambda: scraped() == {"collector", "applications"})
    eventually(lambda: asked("query?query=up%7Bjob%3D%22collector%22%7D%20%3D%3D%201")["result"])
    managers = eventually(lambda: asked("alertmanagers")["activeAlertmanagers"])
    assert [one["url"] for one in managers] == [f"{up.where('Alertmanager')}/api/v2/alerts"]
    assert asked("rules")["groups"]


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_stack_and_all_that_it_started(number, up):
    children = up.children
    folder = Path(re.search(r"(\S+)/\*\.log", "".join(up.lines))[1])
    assert len(children) == 3
    assert folder.is_dir()

    code, output, errors = up.end(number)

    assert (code, errors) == (0, "")
    assert output.endswith("Stopped\n")
    assert running(children) == set()
    assert not folder.exists()


@needs_proc
def test_a_signal_during_the_start_stops_what_was_started_so_far(run):
    require("jaeger", "prometheus", "alertmanager")
    one = run("--ports-from", "0")
    one.read_until("Starting")
    children = eventually(lambda: one.children)
    code, _, errors = one.end()
    assert (code, errors) == (0, "")
    assert running(children) == set()


@needs_proc
@pytest.mark.skipif(not stack.leash(), reason="util-linux's setpriv ties a server's life to its parent's")
def test_a_stack_that_is_killed_takes_its_servers_along(up):
    children = up.children
    up.process.kill()
    up.finish()
    eventually(lambda: not running(children))


@needs_proc
def test_where_a_server_ends_by_itself_the_stack_says_which_and_stops_the_others(up):
    children = up.children
    (pid,) = [pid for pid, name in children.items() if name.startswith("jaeger")]
    os.kill(pid, signal.SIGKILL)

    code, _, errors = up.finish()

    assert code == 1
    assert errors.startswith("jaeger ended with exit code -9; it said at last:\n")
    assert running(children) == set()


def test_a_taken_port_is_named_with_its_server_and_nothing_is_started(run):
    ports = consecutive()
    with socket.create_server((stack.HOST, ports.prometheus)):
        code, output, errors = run("--ports-from", str(ports.jaeger)).finish()
    assert code == 1
    assert f"taken already: port {ports.prometheus} (prometheus)." in errors
    assert "--ports-from" in errors
    assert "Jaeger  " not in output
    assert all(stack.is_free(port) for port in ports)


def test_all_taken_ports_are_named_at_once(run):
    ports = consecutive()
    with (
        socket.create_server((stack.HOST, ports.otlp_http)),
        socket.create_server((stack.HOST, ports.alertmanager)),
    ):
        _, _, errors = run("--ports-from", str(ports.jaeger)).finish()
    assert f"port {ports.otlp_http} (jaeger), port {ports.alertmanager} (alertmanager)." in errors


def test_a_port_that_is_taken_on_every_interface_is_taken(run):
    ports = consecutive()
    with socket.create_server(("0.0.0.0", ports.jaeger)):
        _, _, errors = run("--ports-from", str(ports.jaeger)).finish()
    assert f"port {ports.jaeger} (jaeger)" in errors


def consecutive():
    for first in stack.free_ports():
        ports = stack.Ports(*range(first, first + len(stack.Ports._fields)))
        if all(stack.is_free(port) for port in ports):
            return ports
    return pytest.fail("no ports are free in a row")


@needs_proc
def test_without_a_server_the_stack_says_how_to_get_it(run, tmp_path):
    one = run("--ports-from", "0", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert one.finish()[::2] == (1, "jaeger is missing: make backends\n")


def test_a_server_that_refuses_its_configuration_is_quoted(tmp_path):
    require("alertmanager")
    broken = tmp_path / "alertmanager.yml"
    broken.write_text("route: nonsense")
    server = stack.alertmanager(stack.free_ports(), broken, tmp_path / "silences")
    with (
        pytest.raises(stack.Unready, match=r"(?s)alertmanager ended with exit code 1; .*nonsense"),
        stack.started([server], tmp_path),
    ):
        pass


def test_the_usual_ports_are_those_that_everybody_knows():
    assert stack.Ports() == (16686, 16685, 4317, 4318, 8889, 9090, 9093)


def test_prometheus_accepts_the_shipped_configuration_as_it_stands():
    require("promtool")
    checked = subprocess.run(
        [backends.find("promtool"), "check", "config", DASHBOARDS / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# compose.yaml is not run anywhere here, as no container engine is to be had: only what can be read of it is held.
COMPOSE = yaml.safe_load((DASHBOARDS / "compose.yaml").read_text())
CONTAINERS = COMPOSE["services"]


def test_the_containers_read_the_files_that_make_stack_reads():
    mounted = {
        source
        for container in CONTAINERS.values()
        for source, target, mode in (volume.split(":") for volume in container["volumes"])
        if mode == "ro" and target.endswith(source.removeprefix("."))
    }
    assert mounted == {"./jaeger.yaml", "./jaeger-ui.json", "./prometheus.yml", "./rules", "./alertmanager.yml"}
    assert all((DASHBOARDS / name).exists() for name in mounted)


def test_the_containers_share_one_network_so_that_loopback_means_the_same():
    assert {name: one.get("network_mode") for name, one in CONTAINERS.items()} == {
        "jaeger": None,
        "prometheus": "service:jaeger",
        "alertmanager": "service:jaeger",
    }


def test_the_containers_ports_are_the_usual_ones_and_on_loopback_only():
    usual = stack.Ports()
    shown = (usual.jaeger, usual.otlp_grpc, usual.otlp_http, usual.prometheus, usual.alertmanager)
    assert CONTAINERS["jaeger"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in shown]


def test_the_containers_are_the_versions_that_are_built_from_source():
    for name, container in CONTAINERS.items():
        module = (DASHBOARDS / "servers" / name / "go.mod").read_text()
        (version,) = re.findall(rf"^\s*github\.com/\w+/{name} v(\S+)", module, re.MULTILINE)
        assert container["image"].rpartition(":v" if name != "jaeger" else ":")[2] == AS_TAGGED[name](version)


AS_TAGGED = {
    # The module is at 1.76.0 where the release is 2.13.0, and at 0.316.0 where that is 3.16.0.
    "jaeger": lambda version: f"2.{int(version.split('.')[1]) - 63}.0",
    "prometheus": lambda version: "3.{}.{}".format(int(version.split(".")[1]) - 300, version.split(".")[2]),
    "alertmanager": lambda version: version,
}


def test_the_containers_know_each_variable_that_jaeger_s_configuration_needs():
    known = set(re.findall(r"\$\{env:(\w+):-", (DASHBOARDS / "jaeger.yaml").read_text()))
    assert set(CONTAINERS["jaeger"]["environment"]) <= known
    assert set(stack.jaeger(stack.Ports()).environment) == known
