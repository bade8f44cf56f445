"""
A thread that does something again and again, survives forks, and keeps nobody alive.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

from collections.abc import Callable
from typing import Any, Final


OVERDUE: Final = 60.0
"""Seconds behind its due time at which a turn is taken for missing, and the thread looked after."""

_JOIN: Final = 1.0


class Refresher:
    """
    Takes turns, one at a time. Whoever depends on them calls :meth:`ensure` when :attr:`overdue` is past.

    Args:
        turn: A bound method: does it, told whether it was asked for, and returns in how many seconds to do it again. Its
            object isn't kept alive.
        delay: Seconds to the first turn.

    Attributes:
        overdue: When to call :meth:`ensure`, monotonic seconds.
    """

    def __init__(self, turn: Callable[[bool], float], delay: float) -> None:
        self._turn: weakref.WeakMethod[Any] = weakref.WeakMethod(turn)
        self._due = time.monotonic() + delay
        self._stopped = False
        self.renew()

    def renew(self) -> None:
        """
        Begin anew, as in a forked child: it has no thread, and its parent's lock may be held for ever.
        """
        self._lock = threading.RLock()  # a signal handler may decide, too
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = 0
        self.overdue: float = float("inf") if self._stopped else 0.0

    def ensure(self) -> None:
        """
        Start the thread where it isn't running.
        """
        with self._lock:
            if self._stopped:
                return
            self.overdue = time.monotonic() + OVERDUE
            if self._thread is not None and self._thread.is_alive() and self._process == os.getpid():
                return
            self._process = os.getpid()
            # Made anew when a thread waits for it: by then a library such as gevent may have replaced it.
            asked, self._wake = self._wake.is_set(), threading.Event()
            if asked:
                self._wake.set()
            self._thread = threading.Thread(target=self._run, name="wirewitness-datafile", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """
        Ask for a turn now.
        """
        self._wake.set()
        self.ensure()

    def stop(self, abort: Callable[[], None]) -> None:
        """
        Take no more turns; the one that goes on is aborted, and waited for a little.
        """
        with self._lock:
            self._stopped = True
            self.overdue = float("inf")
            thread = self._thread
        self._wake.set()
        abort()
        if thread is not None and thread is not threading.current_thread() and self._process == os.getpid():
            thread.join(_JOIN)

    def _run(self) -> None:
        while True:
            asked = self._wake.wait(max(0.0, self._due - time.monotonic()))
            self._wake.clear()
            turn = self._turn()
            if self._stopped or turn is None:
                return
            self._rest(turn(asked))
            del turn

    def _rest(self, delay: float) -> None:
        self._due = time.monotonic() + delay
        self.overdue = float("inf") if self._stopped else self._due + OVERDUE
