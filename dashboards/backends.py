"""
Finds Jaeger, Prometheus and Alertmanager, and installs those that are missing: ``python dashboards/backends.py``.

It needs nothing but Python. What it installs goes into a cache folder, or through the system's packages.

A program is taken only if it says that it is the one, and new enough: others have the same names. Two runs at once do not
disturb each other: one installs, the other waits and finds what was installed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


try:
    import fcntl
except ImportError:  # Windows: two runs at once build twice, and the last one's programs stay
    fcntl = None  # type: ignore[assignment]


SERVERS = Path(__file__).resolve().parent / "servers"
"""A Go module a server, with every dependency's checksum."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian asks before it starts a service that it has just installed."""


class Server(NamedTuple):
    """
    Where a server comes from.

    Attributes:
        name: Its folder under ``servers``.
        commands: Go's path of each program.
        debian: Debian's package, or an empty string.
        takes: How long a first build takes on two cores.
        why: What it's for.
    """

    name: str
    commands: dict[str, str]
    debian: str
    takes: str
    why: str


ALL = (
    Server("jaeger", {"jaeger": "github.com/jaegertracing/jaeger/cmd/jaeger"}, "", "six minutes", "shows traces"),
    Server(
        "prometheus",
        {
            "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
            "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        },
        "prometheus",
        "five to ten minutes",
        "stores metrics and evaluates rules",
    ),
    Server(
        "alertmanager",
        {
            "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager",
            "amtool": "github.com/prometheus/alertmanager/cmd/amtool",
        },
        "prometheus-alertmanager",
        "one to two minutes",
        "sends alerts",
    ),
)

OLDEST = {
    "jaeger": (2, 0),
    "prometheus": (2, 42),
    "promtool": (2, 42),
    "alertmanager": (0, 25),
    "amtool": (0, 25),
}
"""The oldest version of each program that the dashboards, rules and tests were tried with."""

ALSO_CALLED = {"alertmanager": "prometheus-alertmanager"}
"""What Debian calls a program."""


class MissingError(Exception):
    """
    A server can't be had; the text says which, and how to get it.
    """


def cache() -> Path:
    """
    The folder for what is built here.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wirewitness" / "bin"


def find(name: str) -> Path | None:
    """
    A program: ``jaeger``, ``prometheus``, ``promtool``, ``alertmanager`` or ``amtool``.

    Args:
        name: The program's name.

    Returns:
        Where it is, in the cache or on the path, or None.
    """
    return look(name)[0]


def look(name: str) -> tuple[Path | None, list[str]]:
    """
    Likewise, and why the programs of this name that come first were not taken.
    """
    refused = []
    for folder in (str(cache()), *os.environ.get("PATH", os.defpath).split(os.pathsep)):
        for called in dict.fromkeys((name, ALSO_CALLED.get(name, name))):
            found = shutil.which(called, path=folder) if folder else None
            if found is None:
                continue
            there = Path(found)
            why = _stale(there, name) if there.parent == cache() else None
            status = there.stat()
            why = why or _unfit(there, name, status.st_mtime_ns, status.st_size)
            if why is None:
                return there, refused
            refused.append(f"{there} is not taken: {why}")
    return None, refused


def _stale(program: Path, name: str) -> str | None:
    stamp = _stamp(program.parent, name)
    server = next(one for one in ALL if name in one.commands)
    if stamp.exists() and stamp.read_text(encoding="ascii") != _module(server):
        return "it was built from another version of its module"
    return None


def _stamp(folder: Path, name: str) -> Path:
    return folder / f".{name}.module"


def _module(server: Server) -> str:
    folder = SERVERS / server.name
    return hashlib.sha256((folder / "go.mod").read_bytes() + (folder / "go.sum").read_bytes()).hexdigest()


@functools.lru_cache(maxsize=64)
def _unfit(program: Path, name: str, changed: int, size: int) -> str | None:  # noqa: ARG001 -- what it knows is of this file
    command = [str(program), "version" if name == "jaeger" else "--version"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)} fails ({type(error).__name__})"
    told = done.stdout + done.stderr
    shape = r'"gitVersion": ?"v?([\d.]*)' if name == "jaeger" else rf"^{name}, version ([\d.]*)"
    match = re.search(shape, told, re.MULTILINE)
    if done.returncode or match is None:
        return f"{' '.join(command)} does not say that it is {name}"
    version = match[1]
    if not version:
        # Go puts none into what is built from a module, as here.
        return None if program.parent == cache() else "it does not say which version it is"
    if tuple(int(part) for part in version.split(".")[:2] if part) < OLDEST[name]:
        return f"it is version {version}, and {'.'.join(map(str, OLDEST[name]))} is needed"
    return None


def missing(server: Server) -> list[str]:
    """
    Which of a server's programs aren't here.
    """
    return [name for name in server.commands if find(name) is None]


def install(server: Server, *, from_source: bool = False) -> None:
    """
    Install a server, by the system's packages where that's possible, and else by Go.

    Raises:
        MissingError: If neither can be done.
    """
    if server.debian and not from_source and _apt_works():
        with contextlib.suppress(MissingError):
            return _by_apt(server)
    return _by_go(server)


def _apt_works() -> bool:
    return shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


def _by_apt(server: Server) -> None:
    say(f"{server.name}: {server.why}; installing Debian's {server.debian}, about half a minute")
    with _no_service_started():
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", server.debian]):
            _run(["apt-get", "-qq", *arguments], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if missing(server):
        msg = f"Debian's {server.debian} has no {', '.join(missing(server))}"
        raise MissingError(msg)


@contextlib.contextmanager
def _no_service_started() -> Iterator[None]:
    # The servers are started by stack.py, on loopback: Debian's own start would take their ports, on every interface.
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _by_go(server: Server) -> None:
    if shutil.which("go") is None:
        raise MissingError(_how_to_get(server, "is missing, and Go to build it with is, too"))
    say(f"{server.name}: {server.why}; building it with Go, about {server.takes} the first time")
    for name, package in server.commands.items():
        _build(server, name, package)
    if absent := missing(server):
        raise MissingError(_how_to_get(server, f"was built, and {', '.join(absent)} does not work"))


def _how_to_get(server: Server, what: str) -> str:
    with_debian = f", or as root on Debian or Ubuntu: apt-get install {server.debian}" if server.debian else ""
    return (
        f"{server.name} {what}. Install Go 1.25 or newer (https://go.dev/doc/install) and run this again{with_debian}. "
        f"Or put {' and '.join(server.commands)} on the PATH, or into {cache()}, yourself."
    )


def _build(server: Server, name: str, package: str) -> None:
    # In the same folder, so that each file is replaced in one step: nobody ever finds half a program.
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=cache()) as folder:
        unfinished, stamp = Path(folder, name), Path(folder, "module")
        stamp.write_text(_module(server), encoding="ascii")
        _watched(["go", "build", "-v", "-trimpath", "-buildvcs=false", "-o", str(unfinished), package], server)
        unfinished.replace(cache() / name)
        stamp.replace(_stamp(cache(), name))


def _watched(command: list[str], server: Server) -> None:
    # Go names each package that it downloads or compiles: a line now and then shows that it's alive.
    begun, lines, told = time.monotonic(), [], 0.0
    with subprocess.Popen(command, cwd=SERVERS / server.name, stderr=subprocess.PIPE, text=True) as going:
        for line in going.stderr or ():
            lines.append(line)
            if time.monotonic() - begun - told >= PAUSE:
                told = time.monotonic() - begun
                say(f"  {told:.0f} s, {len(lines)} packages so far")
    if going.returncode:
        sys.stderr.writelines(lines[-20:])
        raise MissingError(_how_to_get(server, "could not be built; above is what Go says"))


PAUSE = 20.0
"""Seconds between two lines of progress."""


def _run(command: list[str], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        msg = f"{' '.join(command)} ended with {done.returncode}: {' '.join(last)}"
        say(f"  {msg}")
        raise MissingError(msg)


def say(text: str) -> None:
    """
    Print a line at once.
    """
    print(text, flush=True)


def provide(server: Server, *, from_source: bool = False) -> bool:
    """
    See to it that a server is here, and say where.

    Returns:
        Whether it is.
    """
    for reason in dict.fromkeys(reason for name in server.commands for reason in look(name)[1]):
        say(reason)
    try:
        if _wanting(server, from_source=from_source):
            with _alone():
                # Another run may have done it meanwhile.
                if _wanting(server, from_source=from_source):
                    install(server, from_source=from_source)
    except MissingError as error:
        say(str(error))
        return False
    for name in server.commands:
        say(f"{name:<13} {find(name)}")
    return True


def _wanting(server: Server, *, from_source: bool) -> bool:
    found = [find(name) for name in server.commands]
    return None in found or (from_source and any(one.parent != cache() for one in found if one is not None))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """
    Let no other run install anything meanwhile. The lock ends with this process, however that ends.
    """
    try:
        cache().mkdir(parents=True, exist_ok=True)
        lock = (cache() / ".lock").open("a")
    except OSError as error:
        msg = f"{cache()} can't be written: {error.strerror}; name another folder by XDG_CACHE_HOME"
        raise MissingError(msg) from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another run is installing: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    """
    Provide all servers.

    Returns:
        The exit code: 0 if all are here.
    """
    parser = argparse.ArgumentParser(description="Find or install Jaeger, Prometheus and Alertmanager.")
    parser.add_argument("--from-source", action="store_true", help="build all of them, and take no system packages")
    options = parser.parse_args(arguments)
    provided = [provide(server, from_source=options.from_source) for server in ALL]
    return 0 if all(provided) else 1


if __name__ == "__main__":
    sys.exit(main())
