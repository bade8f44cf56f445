"""
How a caller wakes the threads that send: cheaply, and from anywhere.
"""

from __future__ import annotations

import contextlib
import queue
import threading

from collections.abc import Callable
from typing import Final, TypeVar

from wirewitness._clock import Deadline


T = TypeVar("T")

# Waking a thread costs its waker more than all else that an Outbox does for a caller. So one thread stays up for a while
# after the last message, and looks now and then.
_LINGER: Final = 0.05
_LOOK: Final = 0.002


class Wakeup:
    """
    Threads wait at it, and whoever has work for them rings.

    ``queue.SimpleQueue`` is the one primitive whose ``put`` may run inside another ``put`` of the same thread, as it does
    in a signal handler or a garbage collection; ``threading.Event`` would wait for itself there.

    :meth:`prepare` makes the primitives, right before the first thread starts: a library that replaces them, as gevent
    does, may come after this module's import, and after a fork.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._rings: queue.SimpleQueue[None] | None = None

    def prepare(self) -> None:
        """
        Get ready for threads that wait. Until then nobody does.
        """
        self._lock = threading.RLock()
        self._watch = threading.Lock()
        self._rings = queue.SimpleQueue()

    def ring(self) -> None:
        """
        Wake a thread, unless enough are awake.
        """
        rings = self._rings
        if rings is not None and self._waiting > rings.qsize() and not self._watch.locked():
            rings.put(None)

    def wake_another(self) -> None:
        """
        Wake a thread that waits, from one that is awake and has found work: there may be more.
        """
        rings = self._rings
        if rings is not None and self._waiting > rings.qsize():
            rings.put(None)

    def ring_all(self) -> None:
        """
        Wake every thread that waits.
        """
        rings = self._rings
        if rings is not None:
            for _ in range(self._waiting + 1):
                rings.put(None)

    def wait_for(self, find: Callable[[], T | None], seconds: Callable[[], float]) -> T | None:
        """
        Look until something is found.

        Args:
            find: Looks, and returns what it found, or None.
            seconds: How long to wait at most, from now on.

        Returns:
            What was found; None where it was waited long enough.
        """
        rings = self._rings
        if rings is None:
            self.prepare()
            return self.wait_for(find, seconds)
        if self._watch.acquire(blocking=False):
            try:
                deadline = Deadline(min(_LINGER, seconds()))
                found = find()
                while found is None and deadline.nap(_LOOK):
                    found = find()
            finally:
                self._watch.release()
            if found is not None:
                return found
        with self._lock:
            self._waiting += 1
        try:
            # Again, now that a ring would be heard.
            found = find()
            if found is None:
                with contextlib.suppress(queue.Empty):
                    rings.get(timeout=max(0.0, seconds()))
        finally:
            with self._lock:
                self._waiting -= 1
        return found if found is not None else find()
