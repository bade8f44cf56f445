"""
How a process ends, as far as Python lets anybody know: this module alone registers for it.

A process says good-bye in many ways, and each runs other functions, in an order of its own:

=============================================  =====================================================================
what ends                                      what runs, in this order
=============================================  =====================================================================
the main interpreter                           ``threading._register_atexit`` (before thread pools refuse work), then
                                               ``atexit``, last registered first
a child of multiprocessing, a worker of        ``multiprocessing.util.Finalize``, then ``threading._register_atexit``;
``concurrent.futures.ProcessPoolExecutor``     with fork and forkserver no ``atexit``: ``os._exit`` ends it
a process of billiard                          ``billiard.util.Finalize``, no ``atexit``
a child of Celery's pool                       the signal ``worker_process_shutdown``, no ``atexit``
=============================================  =====================================================================

So there are two kinds of functions. Those that **drain** run at every one of these occasions, as early as possible, while
thread pools, queues and exporters of others still work. They wait, and close nothing, for more may come. Those that are
**last** run after whatever the application and its libraries registered: they close, and settle what waits for evidence.

``os._exit`` called by the application itself, and SIGKILL, run nothing at all.
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import functools
import os
import sys
import threading

from collections.abc import Callable
from typing import Any, Final

from wirewitness import fork


Handler = Callable[[], object]

# Among the finalizers of multiprocessing and billiard: before a queue of theirs is closed (10), and after all are joined.
_FIRST_OF_ALL: Final = 100
_LAST_OF_ALL: Final = -100


class Last(enum.IntEnum):
    """
    Who is last, in this order.
    """

    OUTBOXES = 0
    EVIDENCE = 1
    LEDGERS = 2
    PROVIDERS = 3


_drains: Final[list[Handler]] = []
_lasts: Final[dict[Last, list[Handler]]] = {last: [] for last in Last}
_watched_pid = 0
_begun_in = 0


def on_drain(handler: Handler) -> None:
    """
    Have a function wait for what is under way, at every occasion. It may run several times, and must not raise.
    """
    _drains.append(handler)


def on_last(last: Last, handler: Handler) -> None:
    """
    Have a function run when nothing else of the process will. It may run several times, and must not raise.
    """
    _lasts[last].append(handler)


def has_begun() -> bool:
    """
    Whether this process has begun to end: threads may refuse to start, and whoever comes now is among the last.
    """
    return _begun_in == os.getpid()


def watch() -> None:
    """
    Something could be lost from now on: register in this process with whatever tells of its end. Cheap when repeated.
    """
    # Not by the system's own word, which costs as much as ten calls: whoever comes here has noticed any fork.
    if _watched_pid == fork.known_pid():
        return
    _watch_anew()


def _watch_anew(*_: object) -> None:
    global _watched_pid  # noqa: PLW0603 -- there is one process
    _watched_pid = fork.known_pid()
    _watch_interpreter()
    for library in ("multiprocessing", "billiard"):
        process: Any = sys.modules.get(f"{library}.process")
        util: Any = sys.modules.get(f"{library}.util")
        if process is None or util is None:
            continue
        current: Any = process.current_process()
        if type(current).__name__ != "_MainProcess":
            util.Finalize(None, _drain, exitpriority=_FIRST_OF_ALL)
            util.Finalize(None, _finish, exitpriority=_LAST_OF_ALL)
        elif hasattr(current, "_inheriting"):
            # A child that was not forked imports the main module. It becomes itself only after that, and forgets every
            # Finalize until then; what is registered for children of a fork it calls right afterwards.
            util.register_after_fork(watch, _watch_anew)
    # In the processes of Celery's pool, which end by os._exit after this signal.
    signals: Any = sys.modules.get("celery.signals")
    if signals is not None:
        with contextlib.suppress(Exception):
            signals.worker_process_shutdown.connect(_finish, weak=False, dispatch_uid="wirewitness")


@functools.cache
def _watch_interpreter() -> None:
    # Once for this process and all that are forked from it, which inherit both.
    # After this import, and so called before the function of it that has thread pools refuse work.
    import concurrent.futures.thread  # noqa: F401, PLC0415 -- only where something can be lost

    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        with contextlib.suppress(RuntimeError):  # The end has begun.
            register(_drain)
    # After a provider of telemetry that exists, and so called before its last export.
    atexit.register(_drain)


def _drain(*_: object, **__: object) -> None:
    global _begun_in  # noqa: PLW0603 -- there is one process
    _begun_in = os.getpid()
    for handler in tuple(_drains):
        handler()


def _finish(*_: object, **__: object) -> None:
    _drain()
    for last in Last:
        for handler in tuple(_lasts[last]):
            handler()


# When this is imported, and so called after whatever is registered later.
atexit.register(_finish)
