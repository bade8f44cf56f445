"""
What a fork means to wirewitness. This module alone tells Python what to call at a fork, and notices forks that Python is
not told of.

A forked child has one thread, copies of all locks (also of those that a thread held which it does not have), and copies of
all that the parent waits for. What waits is the parent's. So the child makes new locks, starts empty, and touches none of
the parent's files.

Who needs that registers for a :class:`ForkStage`, once per module. The stages are the table of what happens, in order:

============  =========================================  ==========================================
stage         before the fork (last stage first)         in the child (first stage first)
============  =========================================  ==========================================
FAULTS                                                   counts of internal errors: zero; taps: new locks
BOOKS                                                    ledgers: zero, new lock
EVIDENCE                                                 nothing waits for evidence; no dispatch runs
TELEMETRY                                                counters: zero; new locks
SPOOLS        nobody is inside SQLite, until the parent   files are let go, untouched
              goes on
OUTBOXES                                                 empty, without threads
CLIENTS                                                  datafiles, event ledgers and clients
============  =========================================  ==========================================

uWSGI, native daemonizers and whatever else calls ``fork()`` in C run none of Python's hooks. So each entry of wirewitness
calls :func:`check`, which compares the process id, and runs the same handlers once.

Where it is safe, :func:`check` tells Python itself first. Until then the interpreter's lock has waiters that do not exist, the
``threading`` module believes in dead threads, and locks of ``logging`` may be held forever.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import threading
import time

from collections.abc import Callable
from typing import Final


Handler = Callable[[], object]


class ForkStage(enum.IntEnum):
    """
    When a module is told: each may use what the stages before its own have made fit for use again.
    """

    FAULTS = 0
    BOOKS = 1
    EVIDENCE = 2
    TELEMETRY = 3
    SPOOLS = 4
    OUTBOXES = 5
    CLIENTS = 6


# Written at import and in tests only.
_before: Final[dict[ForkStage, list[Handler]]] = {stage: [] for stage in ForkStage}
_in_parent: Final[dict[ForkStage, list[Handler]]] = {stage: [] for stage in ForkStage}
_in_child: Final[dict[ForkStage, list[Handler]]] = {stage: [] for stage in ForkStage}

_pid = os.getpid()
_announced = False
# Which thread of a process runs the handlers: `setdefault` lets one win, and takes no lock that the parent could have held.
_runs: Final[dict[int, tuple[int]]] = {}
_LONGEST_WAIT: Final = 1000
_NAP: Final = 0.005


def register(
    stage: ForkStage,
    *,
    before: Handler | None = None,
    in_parent: Handler | None = None,
    in_child: Handler | None = None,
) -> None:
    """
    Have functions called at every fork from now on. They must not raise.

    Args:
        stage: When, compared with others.
        before: In the parent, before a fork that Python is told of.
        in_parent: In the parent, after such a fork.
        in_child: In the child, after any fork: at once, or at its next entry into wirewitness.
    """
    for table, handler in ((_before, before), (_in_parent, in_parent), (_in_child, in_child)):
        if handler is not None:
            table[stage].append(handler)


def was_announced() -> bool:
    """
    Whether the handlers for before the fork have run. For those in the child: where not, the forking process may have had
    threads anywhere, also inside SQLite.
    """
    return _announced


def check() -> None:
    """
    Notice a fork that Python was not told of. Costs one comparison; never raises.
    """
    if os.getpid() != _pid:
        _notice()


def known_pid() -> int:
    """
    The id of this process, as of the last fork that was noticed.
    """
    return _pid


def _notice() -> None:
    pid = os.getpid()
    mine = (threading.get_ident(),)
    runner = _runs.setdefault(pid, mine)
    if runner is mine:
        with contextlib.suppress(Exception):
            # Python then calls all that is registered for children, and so the handlers here.
            _tell_python()
        if pid != _pid:
            with contextlib.suppress(Exception):
                _child()
    elif runner != mine:
        for _ in range(_LONGEST_WAIT):
            if pid == _pid:
                return
            time.sleep(_NAP)
    # Else this call interrupts the one that runs the handlers, in the same thread, which goes on after it.


def _tell_python() -> None:
    """
    Have the interpreter do what it does in the child of a fork that it knows of.

    That forgets all threads but this one, and all interpreters but the main one. So it must be the only thread of the process,
    and run in that interpreter: else nothing is done.

    From CPython 3.13 on, nothing is done either: there, the function gives back locks that only an announced fork takes, and
    ends the process where they are not held.
    """
    if sys.version_info >= (3, 13):
        return
    if sys.implementation.name != "cpython" or sum(1 for _ in os.scandir("/proc/self/task")) != 1:
        return
    import ctypes  # noqa: PLC0415 -- nearly no process needs it

    api = ctypes.pythonapi
    this, main = api.PyInterpreterState_Get, api.PyInterpreterState_Main
    this.restype = main.restype = ctypes.c_void_p
    if this() == main():
        api.PyOS_AfterFork_Child.restype = None
        api.PyOS_AfterFork_Child()


def _prepare() -> None:
    global _announced  # noqa: PLW0603 -- there is one process
    _announced = True
    for stage in reversed(ForkStage):
        for handler in tuple(_before[stage]):
            handler()


def _parent() -> None:
    global _announced  # noqa: PLW0603 -- there is one process
    _announced = False
    for stage in ForkStage:
        for handler in tuple(_in_parent[stage]):
            handler()


def _child() -> None:
    global _announced, _pid  # noqa: PLW0603 -- there is one process
    failure: Exception | None = None
    for stage in ForkStage:
        for handler in tuple(_in_child[stage]):
            try:
                handler()
            except Exception as error:  # noqa: BLE001 -- the others must not be left with the parent's locks
                failure = failure or error
    _announced = False
    _pid = os.getpid()
    _runs.clear()
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_parent=_parent, after_in_child=_child)
