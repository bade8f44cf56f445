"""
A process that has wirewitness loaded, and forks one process per scenario: importing it all takes longer than most scenarios.

What holds for a process that is started holds for one that is forked: a session of its own, its own environment, standard
input at its end, output into a file, an end by ``exit``, ``os._exit`` or a signal that hurts nobody else. The target is loaded
in the forked process only, and so is whatever it patches. The server has one thread, opens no file and plays nothing.

Over one socket the server is given another one for each scenario. On that one it reads the orders, as a line of JSON, and
writes the exit code when the process is over. When it is closed, because the scenario took too long or its runner has died,
the server kills the process with all that it has started.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias


# Where frameworks have threads of their own, as on macOS, forking without exec is not safe.
POSSIBLE: Final = hasattr(os, "fork") and hasattr(os, "waitid") and sys.platform != "darwin"

SERVE: Final = "--serve"

_LOOK: Final = 0.005
"""Seconds between two looks at the processes."""
_KILLED: Final = 10.0
"""Seconds within which a process that was killed is over."""

_Key: TypeAlias = "tuple[int, str, frozenset[tuple[str, str]]]"


class Lost(Exception):  # noqa: N818 -- what has become of the server
    """
    The server is gone, and has not taken the orders.
    """


class ForkServer:
    """
    A server, seen from the runner. Any thread may call :meth:`run`; the server is ended by :meth:`close`, or with this process.

    Args:
        environment: What it is started with.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.running = 0  # guarded by _LOCK
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, and a module of this package
                (sys.executable, "-m", "wirewitness.conformance.worker", SERVE, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(
        self, orders: Mapping[str, Any], environment: Mapping[str, str], output: Path, timeout: float
    ) -> int | None:
        """
        Have a process forked, and wait until it is over.

        Returns:
            Its exit code, the negative number of the signal that ended it, or None where it took too long and was killed.

        Raises:
            Lost: If the server is gone, and nothing was begun.
        """
        asked = {"orders": orders, "environment": dict(environment), "output": str(output)}
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    socket.send_fds(self._control, [b"."], [theirs.fileno()])
                except OSError:
                    raise Lost from None
            with ours.makefile("rw", encoding="utf-8") as talk:
                try:
                    talk.write(json.dumps(asked) + "\n")
                    talk.flush()
                    if talk.readline() != "begun\n":
                        raise Lost
                except OSError:
                    raise Lost from None
                ours.settimeout(timeout)
                try:
                    said = talk.readline()
                except TimeoutError:
                    ours.shutdown(socket.SHUT_WR)
                    ours.settimeout(_KILLED)
                    # A file object is of no use any more once it has timed out.
                    with contextlib.suppress(OSError):
                        ours.recv(64)
                    return None
        # Without a word, the process has taken the server with it.
        return int(said) if said else -signal.SIGKILL

    def close(self) -> None:
        """
        End the server, and whatever runs in it.
        """
        self._control.close()
        self._process.wait()


_LOCK: Final = threading.Lock()
_SERVERS: Final[dict[_Key, ForkServer]] = {}  # guarded by _LOCK


@contextlib.contextmanager
def server(environment: Mapping[str, str]) -> Iterator[ForkServer]:
    """
    The server for this folder and environment: a process imports according to both. Others that nobody uses are ended.
    """
    key = (os.getpid(), os.getcwd(), frozenset(environment.items()))  # noqa: PTH109 -- a text
    with _LOCK:
        for other in [known for known, served in _SERVERS.items() if known != key and not served.running]:
            ended = _SERVERS.pop(other)
            if other[0] == key[0]:
                ended.close()
        found = _SERVERS.get(key) or ForkServer(environment)
        _SERVERS[key] = found
        found.running += 1
    try:
        yield found
    except Lost:
        with _LOCK:
            if _SERVERS.get(key) is found:
                del _SERVERS[key]
                found.close()
        raise
    finally:
        with _LOCK:
            found.running -= 1


def close_all() -> None:
    """
    End all servers of this process.
    """
    with _LOCK:
        for (pid, *_), served in _SERVERS.items():
            if pid == os.getpid():
                served.close()
        _SERVERS.clear()


atexit.register(close_all)


def serve(descriptor: int) -> Mapping[str, Any] | None:
    """
    Fork until the runner is gone.

    Returns:
        Once in each forked process: its orders. In the server itself None, at the end.
    """
    control = socket.socket(fileno=descriptor)
    living: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(_LOOK if living else None):
                if key.fileobj is not control:
                    # The runner waits no longer.
                    selector.unregister(key.fileobj)
                    _kill(key.data)
                    continue
                _, descriptors, *_ = socket.recv_fds(control, 1, 1)
                if not descriptors:
                    for pid in living:
                        _kill(pid)
                    return None
                talk = socket.socket(fileno=descriptors[0])
                with talk.makefile("r", encoding="utf-8", newline="\n") as reading:
                    asked = json.loads(reading.readline())
                pid = os.fork()
                if pid == 0:
                    for inherited in (control, talk, *living.values()):
                        inherited.close()
                    selector.close()
                    _settle_in(asked["environment"], asked["output"])
                    orders: Mapping[str, Any] = asked["orders"]
                    return orders
                living[pid] = talk
                with contextlib.suppress(OSError):
                    talk.sendall(b"begun\n")
                selector.register(talk, selectors.EVENT_READ, pid)
            for pid in [pid for pid in living if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]:
                # What it has started holds its sockets. Until it is waited for, its number is nobody else's.
                _kill(pid)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with living.pop(pid) as talk, contextlib.suppress(OSError):
                    with contextlib.suppress(KeyError):
                        selector.unregister(talk)
                    talk.sendall(f"{code}\n".encode("ascii"))


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _settle_in(environment: Mapping[str, str], output: str) -> None:
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = sys.argv[:1]
