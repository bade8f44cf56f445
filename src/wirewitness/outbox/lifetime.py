"""
Beginnings and ends that an Outbox doesn't choose: a fork, the interpreter's exit, SIGTERM.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import threading

from types import FrameType
from typing import Any, Final, Protocol

from wirewitness import fork
from wirewitness.errors import ConfigurationError


class Mortal(Protocol):
    """
    What is to be told.
    """

    @property
    def exit_timeout(self) -> float:
        """Seconds that the end may be delayed by."""

    def close(self, timeout: float) -> object:
        """Deliver what is left."""

    def renew(self) -> None:
        """Start empty: this is a forked child."""


# Not weakly: who drops the last reference to an Outbox hasn't said that what it holds may be lost.
_LIVING: Final[dict[int, Mortal]] = {}


def live(outbox: Mortal) -> None:
    """
    Tell an Outbox of forks, and close it when the interpreter exits.
    """
    _LIVING[id(outbox)] = outbox
    _close_at_exit()


def die(outbox: Mortal) -> None:
    """
    It is closed.
    """
    _LIVING.pop(id(outbox), None)


@functools.cache
def _close_at_exit() -> None:
    # Registered with the first Outbox, and so after a tracer provider's own: atexit runs it before that.
    atexit.register(close_all)


def close_all() -> None:
    """
    Close every Outbox of this process, each within its ``exit_timeout``.
    """
    for outbox in tuple(_LIVING.values()):
        outbox.close(outbox.exit_timeout)


def _renew_all() -> None:
    for outbox in tuple(_LIVING.values()):
        outbox.renew()


fork.register(fork.Stage.OUTBOXES, in_child=_renew_all)


def close_on_sigterm() -> None:
    """
    Have SIGTERM close every Outbox first, and then do what it did before.

    The draining runs in a thread, and the application goes on meanwhile: a handler that waited would stop the very code
    that it interrupted.

    Raises:
        ConfigurationError: If this isn't the main thread, the only one that may set a handler.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "close_on_sigterm() was called in a thread: call it in the main one, which alone may set signal handlers"
        raise ConfigurationError(msg)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, functools.partial(_drain, before))


def _drain(before: Any, _: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
    threading.Thread(target=_drain_and_repeat, name="wirewitness-sigterm", daemon=True).start()


def _drain_and_repeat() -> None:
    close_all()
    os.kill(os.getpid(), signal.SIGTERM)
