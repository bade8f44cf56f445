"""
Beginnings and ends that an Outbox does not choose: a fork, the process's end, SIGTERM.

At the end, Outboxes are drained first, at every occasion that :mod:`wirewitness.ending` knows, and closed last. What comes
in between is sent or kept as ever; what comes later still opens its Outbox once more.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import weakref

from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol

from wirewitness import ending, fork
from wirewitness._clock import monotonic
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.errors import ConfigurationError


class Closable(Protocol):
    """
    What is to be told.
    """

    @property
    def exit_timeout(self) -> float:
        """Seconds that the end may be delayed by."""
        ...

    def drain(self, timeout: float) -> object:
        """Wait until what is accepted is delivered, and stay open."""
        ...

    def close(self, timeout: float) -> object:
        """Deliver what is left, and let go of threads and files."""
        ...

    def renew(self) -> None:
        """Start empty: this is a forked child."""
        ...


# Not weakly: dropping the last reference to an Outbox does not say that what it holds may be lost.
_OPEN: Final[dict[int, Closable]] = {}
# The closed ones, too: a payload that comes later opens them again, in a child as well.
_ALL: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
# Seconds for which the end may still wait, where an Outbox has used some up.
_LEFT: Final[dict[int, float]] = {}
# However long others have taken, each Outbox gets so many seconds, if it has as many.
_AT_LEAST: Final = 0.5
_SIGNAL_EXIT: Final = 128


def register(outbox: Closable) -> None:
    """
    Tell an Outbox of forks, and of the end of the process.
    """
    _OPEN[id(outbox)] = outbox
    _ALL.add(outbox)
    ending.watch()


def unregister(outbox: Closable) -> None:
    """
    It is closed.
    """
    _OPEN.pop(id(outbox), None)


def drain_all() -> None:
    """
    Wait for every Outbox of this process, each within its ``exit_timeout``, counted from now.
    """
    _each(lambda outbox, seconds: outbox.drain(seconds))
    me, main = threading.current_thread(), threading.main_thread()
    if any(not thread.daemon and thread not in {me, main} for thread in threading.enumerate()):
        # The process goes on until these have ended. What they still dispatch may take its time again.
        _LEFT.clear()


def close_all() -> None:
    """
    Close every Outbox of this process, likewise.
    """
    _each(lambda outbox, seconds: outbox.close(seconds))


def _each(end: Callable[[Closable, float], object]) -> None:
    fork.check()
    began = monotonic()
    for outbox in tuple(_OPEN.values()):
        left = seconds_left(outbox)
        # They send at the same time, and so share the time that their end is waited for.
        shared = max(left - (monotonic() - began), min(left, _AT_LEAST))
        try:
            spend(outbox, functools.partial(end, outbox), shared)
        except BaseException as error:  # noqa: BLE001 -- neither a fault nor Ctrl-C keeps the others from sending
            if isinstance(error, Exception):
                INTERNAL_ERRORS.report("outbox", error)


def seconds_left(outbox: Closable) -> float:
    """
    For how many seconds an Outbox may still delay the end of the process.
    """
    return _LEFT.get(id(outbox), outbox.exit_timeout)


def spend(outbox: Closable, wait: Callable[[float], object], seconds: float) -> None:
    """
    Wait at the end of the process, and note what that has cost.
    """
    left, began = seconds_left(outbox), monotonic()
    try:
        wait(seconds)
    finally:
        _LEFT[id(outbox)] = max(0.0, left - (monotonic() - began))


def _renew_all() -> None:
    _LEFT.clear()
    for outbox in tuple(_ALL):
        # What one cannot do must not leave the others with the parent's messages.
        with contextlib.suppress(Exception):
            outbox.renew()


fork.register(fork.ForkStage.OUTBOXES, in_child=_renew_all)
ending.on_drain(drain_all)
ending.on_last(ending.Last.OUTBOXES, close_all)


def close_on_sigterm() -> None:
    """
    Have SIGTERM deliver what is queued first, and then do what it would have done.

    The draining runs in a thread, for ``exit_timeout`` seconds at most, and the application goes on meanwhile: a handler
    that waited would stop the very code that it interrupted. Outboxes stay open, for what the application still dispatches.
    Then the application's own handler is called. Without one the process ends as by SIGTERM; as process 1 of a container,
    which the system does not end so, it exits with status 143. Where SIGTERM is ignored, or handled by something that is
    not Python, nothing is changed. A second SIGTERM is not delayed.

    Raises:
        ConfigurationError: If this is not the main thread, the only one that may set a handler.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "close_on_sigterm() was called in a thread: call it in the main one, which alone may set signal handlers"
        raise ConfigurationError(msg)
    before = signal.getsignal(signal.SIGTERM)
    if before is not None and before is not signal.SIG_IGN and not isinstance(before, _Sigterm):
        signal.signal(signal.SIGTERM, _Sigterm(before))


class _Sigterm:
    """
    The handler. It runs in the main thread; its thread only drains, and sends the signal again.

    Args:
        before: What the signal would have done: a handler, or ``SIG_DFL``.
    """

    def __init__(self, before: Any) -> None:
        self._before = before
        self._draining = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not callable(self._before):
            # At once, and here, since only the main thread may: whoever sends a second one will not wait.
            signal.signal(number, signal.SIG_DFL)
        if not self._draining:
            self._draining = True
            try:
                threading.Thread(target=self._drain, args=(number,), name="wirewitness-sigterm", daemon=True).start()
            except RuntimeError:
                self._drain(number)
            return
        # The thread's own repetition, or somebody who will not wait.
        self._draining = False
        self._before(number, frame)

    def _drain(self, number: int) -> None:
        drain_all()
        if not callable(self._before):
            # What only memory holds is lost now: it is counted, and the hooks are told.
            _each(lambda outbox, _: outbox.close(0.0))
            os.kill(os.getpid(), number)
            # Still here: this is process 1 of its namespace, to which the system delivers no default action.
            os._exit(_SIGNAL_EXIT + number)
        noop = getattr(sys.modules.get("asyncio.unix_events"), "_sighandler_noop", None)
        if noop is not None and self._before is noop:
            # The first signal has woken the event loop, whose handler must not be told twice.
            self._draining = False
        elif self._draining:
            os.kill(os.getpid(), number)


# Threads that send nothing of an inner dispatcher's: wirewitness's own, and those of OpenTelemetry's SDK.
_NOBODY: Final = ("wirewitness-", "Otel")
# Where greenlets take turns in one thread, another of them may be about to send.
_COOPERATIVE: Final = ("gevent", "eventlet")


def is_alone() -> bool:
    """
    Whether no code but wirewitness's can run while the calling thread waits.
    """
    asyncio: Any = sys.modules.get("asyncio")
    if any(name in sys.modules for name in _COOPERATIVE):
        return False
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 -- the public one raises where none runs
        return False
    own = {thread.ident for thread in threading.enumerate() if thread.name.startswith(_NOBODY)}
    # All threads, also those that C code has started.
    return set(sys._current_frames()) <= own | {threading.get_ident()}  # noqa: SLF001 -- documented, "for specialized purposes"
