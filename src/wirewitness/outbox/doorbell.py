"""
How a caller wakes the threads that send: cheaply, and from anywhere.
"""

from __future__ import annotations

import contextlib
import threading
import time

from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, TypeVar


T = TypeVar("T")

# Waking a thread costs its waker more than all else that an Outbox does for a caller. So one thread stays up for a while
# after the last message, and looks now and then.
_LINGER: Final = 0.05
_LOOK: Final = 0.002


class Doorbell:
    """
    Threads wait at it, and whoever has work for them rings.

    ``queue.SimpleQueue`` is the one primitive whose ``put`` may run inside another ``put`` of the same thread, as it does
    in a signal handler or a garbage collection; ``threading.Event`` would wait for itself there.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()
        self._waiting = 0
        self._lock = threading.RLock()
        self._watch = threading.Lock()

    def ring(self) -> None:
        """
        Wake a thread, unless enough are awake.
        """
        if self._waiting > self._rings.qsize() and not self._watch.locked():
            self._rings.put(None)

    def ring_all(self) -> None:
        """
        Wake every thread that waits.
        """
        for _ in range(self._waiting + 1):
            self._rings.put(None)

    def wait_for(self, find: Callable[[], T | None], seconds: Callable[[], float]) -> T | None:
        """
        Look until something is found.

        Args:
            find: Looks, and returns what it found, or None.
            seconds: How long to wait at most, from now on.

        Returns:
            What was found; None where it was waited long enough.
        """
        found = self._linger(find, seconds)
        if found is not None:
            return found
        with self._attending():
            # Again, now that a ring would be heard.
            found = find()
            if found is None:
                self._wait(seconds())
        return found if found is not None else find()

    def _linger(self, find: Callable[[], T | None], seconds: Callable[[], float]) -> T | None:
        if not self._watch.acquire(blocking=False):
            return None
        try:
            until = time.monotonic() + min(_LINGER, seconds())
            found = find()
            while found is None and time.monotonic() < until:
                time.sleep(_LOOK)
                found = find()
            return found
        finally:
            self._watch.release()

    @contextlib.contextmanager
    def _attending(self) -> Iterator[None]:
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._rings.get(timeout=max(0.0, seconds))
