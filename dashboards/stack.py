"""
Starts Jaeger, Prometheus and Alertmanager on loopback, as they are configured here: ``python dashboards/stack.py``.

It needs nothing but Python. It runs until Ctrl-C or SIGTERM, and then stops what it started.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import backends


HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"

START = 60.0
"""Seconds that a server may take until it answers."""

OTLP_RECEIVER = "web.enable-otlp-receiver"
"""The flag that makes a Prometheus take OTLP at ``/api/v1/otlp``, if it's new enough."""

STOP = 15.0
"""Seconds that a server may take to end by itself."""


class Ports(NamedTuple):
    """
    Where the servers listen; by default where everybody looks for them.

    Attributes:
        jaeger: Jaeger's page and its API.
        jaeger_grpc: Jaeger's API over gRPC.
        otlp_grpc: Jaeger takes OTLP over gRPC.
        otlp_http: Jaeger takes OTLP over HTTP.
        collector: Jaeger offers the metrics that it took to Prometheus.
        prometheus: Prometheus's page and its API.
        alertmanager: Alertmanager's page and its API.
    """

    jaeger: int = 16686
    jaeger_grpc: int = 16685
    otlp_grpc: int = 4317
    otlp_http: int = 4318
    collector: int = 8889
    prometheus: int = 9090
    alertmanager: int = 9093


class Unready(Exception):  # noqa: N818 -- it's what the stack is then
    """
    The stack can't be started; the text says why.
    """


class Server(NamedTuple):
    """
    A server that can be started.

    Attributes:
        name: The program's name.
        arguments: What it's started with.
        environment: What its configuration reads, beside this process's environment.
        listens: The ports that it takes.
        ready: URLs that answer as soon as it's ready.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str]
    listens: Sequence[int]
    ready: Sequence[str]


def address(port: int) -> str:
    """
    ``host:port`` on loopback.
    """
    return f"{HOST}:{port}"


def url(port: int) -> str:
    """
    ``http://host:port`` on loopback.
    """
    return f"http://{address(port)}"


def jaeger(ports: Ports) -> Server:
    """
    Jaeger, which is the collector as well.
    """
    environment = {
        "JAEGER_LISTEN_HOST": HOST,
        "JAEGER_PORT": str(ports.jaeger),
        "JAEGER_GRPC_PORT": str(ports.jaeger_grpc),
        "JAEGER_UI_CONFIG": str(HERE / "jaeger-ui.json"),
        "OTLP_GRPC_PORT": str(ports.otlp_grpc),
        "OTLP_HTTP_PORT": str(ports.otlp_http),
        "COLLECTOR_PORT": str(ports.collector),
        "PROMETHEUS_URL": url(ports.prometheus),
    }
    listens = (ports.jaeger, ports.jaeger_grpc, ports.otlp_grpc, ports.otlp_http, ports.collector)
    ready = (f"{url(ports.jaeger)}/api/v3/services", f"{url(ports.collector)}/metrics", url(ports.otlp_http))
    return Server("jaeger", (f"--config={HERE / 'jaeger.yaml'}",), environment, listens, ready)


def prometheus(ports: Ports, configuration: Path, store: Path) -> Server:
    """
    Prometheus.

    Args:
        ports: Where it listens.
        configuration: Its configuration file.
        store: An empty folder for its samples.
    """
    otlp = (f"--{OTLP_RECEIVER}",) if has_otlp_receiver() else ()
    arguments = (
        f"--config.file={configuration}",
        f"--storage.tsdb.path={store}",
        f"--web.listen-address={address(ports.prometheus)}",
        f"--web.external-url={url(ports.prometheus)}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
        *otlp,
    )
    return Server("prometheus", arguments, {}, (ports.prometheus,), (f"{url(ports.prometheus)}/-/ready",))


def has_otlp_receiver() -> bool:
    """
    Whether Prometheus takes OTLP itself, as it does from version 3 on.
    """
    # One that was built from its module doesn't tell its version.
    program = backends.find("prometheus")
    if program is None:
        return False
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return OTLP_RECEIVER in told.stdout + told.stderr


def alertmanager(ports: Ports, configuration: Path, store: Path) -> Server:
    """
    Alertmanager.

    Args:
        ports: Where it listens.
        configuration: Its configuration file.
        store: An empty folder for its silences.
    """
    arguments = (
        f"--config.file={configuration}",
        f"--storage.path={store}",
        f"--web.listen-address={address(ports.alertmanager)}",
        f"--web.external-url={url(ports.alertmanager)}",
        "--cluster.listen-address=",  # by default it listens on every interface
        "--log.level=warn",
    )
    return Server("alertmanager", arguments, {}, (ports.alertmanager,), (f"{url(ports.alertmanager)}/-/ready",))


def prometheus_configuration(ports: Ports) -> str:
    """
    ``prometheus.yml`` for these ports, and with its files' whole paths, so that it can stand in any folder.
    """
    text = (HERE / "prometheus.yml").read_text()
    usual = Ports()
    for old, new in (
        (address(usual.collector), address(ports.collector)),
        (address(usual.alertmanager), address(ports.alertmanager)),
        ("rules/*.yml", str(HERE / "rules" / "*.yml")),
        ("applications.yml", str(HERE / "applications.yml")),
    ):
        text = text.replace(old, new)
    return text


def everything(ports: Ports, folder: Path) -> list[Server]:
    """
    All three servers, with the configuration that is shipped.

    Args:
        ports: Where they listen.
        folder: A folder for what they store.
    """
    configuration = folder / "prometheus.yml"
    configuration.write_text(prometheus_configuration(ports))
    return [
        jaeger(ports),
        prometheus(ports, configuration, folder / "samples"),
        alertmanager(ports, HERE / "alertmanager.yml", folder / "silences"),
    ]


def is_free(port: int) -> bool:
    """
    Whether nobody listens on a port of loopback, or of every interface.
    """
    with socket.socket() as probe:
        # As Go's servers do it: what is only waiting to be forgotten by the kernel is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports() -> Ports:
    """
    Ports that are free now, below those that the kernel gives to anybody who asks for any.
    """
    candidates = random.SystemRandom().sample(range(15000, 32000), 500)
    return Ports(*itertools.islice((port for port in candidates if is_free(port)), len(Ports._fields)))


def require_free(servers: Sequence[Server]) -> None:
    """
    See that every port can be had.

    Raises:
        Unready: If one is taken; it names all that are.
    """
    taken = [f"port {port} ({server.name})" for server in servers for port in server.listens if not is_free(port)]
    if taken:
        msg = f"taken already: {', '.join(taken)}. Stop what listens there, or choose others: --ports-from 20000"
        raise Unready(msg)


@functools.cache
def leash() -> tuple[str, ...]:
    """
    What a command line begins with so that the server ends when this process does, however that happens: prctl(2),
    PR_SET_PDEATHSIG. Nothing where util-linux isn't to be had; signals that can be caught stop the servers everywhere.
    """
    program = shutil.which("setpriv")
    if program is None:
        return ()
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return (program, "--pdeathsig", "TERM", "--") if "--pdeathsig" in told.stdout else ()


class Running:
    """
    A server that was started.

    Its output goes to a file, not to the terminal. It has a process group of its own, so that Ctrl-C reaches this process only.

    Args:
        server: What is started.
        folder: Where its output is kept.

    Raises:
        Unready: If the program isn't here.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        program = backends.find(server.name)
        if program is None:
            msg = f"{server.name} is missing: make backends"
            raise Unready(msg)
        self.server = server
        self.output = folder / f"{server.name}.log"
        environment = {**os.environ, **server.environment}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*leash(), program, *server.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        """
        Return when it answers.

        Raises:
            Unready: If it ended, or doesn't answer in time; with its last words.
        """
        until = time.monotonic() + START
        for page in self.server.ready:
            while not answers(page):
                if not self.alive or time.monotonic() > until:
                    raise Unready(self.last_words())
                _pause(0.05)

    def last_words(self) -> str:
        """
        What to say of a server that doesn't run as it should.
        """
        code = self.process.poll()
        how = "does not answer" if code is None else f"ended with exit code {code}"
        lines = self.output.read_text(errors="replace").splitlines()[-10:]
        return "\n".join([f"{self.server.name} {how}; it said at last:", *lines])

    def stop(self) -> None:
        """
        End it, and wait for that.
        """
        self.process.terminate()
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def answers(page: str) -> bool:
    """
    Whether an HTTP server answers; with 503, as Prometheus before it's ready, it doesn't yet.
    """
    # Loopback isn't a proxy's business, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(page, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500  # noqa: PLR2004 -- RFC 9110 section 15.6
    except OSError:
        return False
    return True


@contextlib.contextmanager
def started(servers: Sequence[Server], folder: Path) -> Iterator[list[Running]]:
    """
    Run servers inside the block.

    Raises:
        Unready: If one can't be started; then none is left running.
    """
    require_free(servers)
    running: list[Running] = []
    try:
        for server in servers:
            running.append(Running(server, folder))  # noqa: PERF401 -- what was started before a fault is stopped, too
        for one in running:
            one.wait_until_ready()
        yield running
    finally:
        for one in reversed(running):
            one.stop()


def _tell(ports: Ports, folder: Path) -> None:
    for title, where in (
        ("Jaeger", url(ports.jaeger)),
        ("Prometheus", url(ports.prometheus)),
        ("Alertmanager", url(ports.alertmanager)),
        ("OTLP", f"{url(ports.otlp_http)} over HTTP, {address(ports.otlp_grpc)} over gRPC"),
        ("output", f"{folder}{os.sep}*.log"),
    ):
        backends.say(f"{title:<13} {where}")
    backends.say("Ctrl-C stops it all; traces and metrics are gone then.")


def _wait(running: Sequence[Running]) -> None:
    while True:
        for one in running:
            if not one.alive:
                raise Unready(one.last_words())
        _pause(0.2)


_signals: list[int] = []
"""Signals that came. They're looked at between two steps, so that none can fall between a server's start and its stop."""


def _pause(seconds: float) -> None:
    time.sleep(seconds)
    if _signals:
        raise KeyboardInterrupt


def run(ports: Ports) -> int:
    """
    Run the stack until SIGINT, SIGTERM or SIGHUP comes.

    Returns:
        The exit code: 0 if it was stopped, 1 if it could not be started or a server ended by itself.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has fewer
            signal.signal(getattr(signal, name), lambda number, _: _signals.append(number))
    try:
        with tempfile.TemporaryDirectory(prefix="wirewitness-") as name:
            folder = Path(name)
            backends.say("Starting Jaeger, Prometheus and Alertmanager")
            with started(everything(ports, folder), folder) as running:
                _tell(ports, folder)
                _wait(running)
    except Unready as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        backends.say("Stopped")
    return 0


def _ports(first: int | None) -> Ports:
    if first is None:
        return Ports()
    return Ports(*range(first, first + len(Ports._fields))) if first else free_ports()


def main(arguments: list[str] | None = None) -> int:
    """
    The command line.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description="Run Jaeger, Prometheus and Alertmanager on loopback.")
    parser.add_argument("--ports-from", type=int, metavar="N", help="take the ports from N on; 0: any that are free")
    return run(_ports(parser.parse_args(arguments).ports_from))


if __name__ == "__main__":
    sys.exit(main())
