"""
The threads that send: started when there is work, started again where one is missing, and none of them dies of a message.
"""

from __future__ import annotations

import threading
import time

from typing import Final, Protocol

from wirewitness._clock import monotonic
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.outbox.wakeup import Wakeup


# How long a thread rests whose sender broke down.
_REST: Final = 1.0


class Work(Protocol):
    """
    What sender threads run.
    """

    stopped: bool
    """Whether the threads are to end."""

    wakeup: Wakeup
    """What they wait at."""

    def run(self) -> None:
        """Send until told to stop, in the calling thread."""
        ...

    def put_back(self, thread: int) -> None:
        """Take back what a thread had when it broke down."""
        ...


class SenderThreads:
    """
    The threads that send, and that are started again where one is missing. ``_lock`` guards the list.

    Args:
        name: The Outbox's name, for the threads'.
        number: How many.
        loop: What they run.
    """

    def __init__(self, name: str, number: int, loop: Work) -> None:
        self._name = name
        self._number = number
        self._loop = loop
        self._lock = threading.RLock()
        self._threads: set[threading.Thread] = set()
        self._missing = number
        self._prepared = False

    def ensure(self) -> bool:
        """
        Start those that are missing. Cheap where none is: called with every message.

        Returns:
            Whether at least one runs. Where the system has no thread left, or the interpreter shuts down, the next call tries
            again.
        """
        if self._missing and not self._loop.stopped and self._lock.acquire(blocking=False):
            try:
                if not self._prepared:
                    # First the flag: a signal handler that dispatches may come here again, and threads wait by then.
                    self._prepared = True
                    self._loop.wakeup.prepare()
                while len(self._threads) < self._number:
                    thread = threading.Thread(
                        target=self._work, name=f"wirewitness-{self._name}-{len(self._threads)}", daemon=True
                    )
                    try:
                        thread.start()
                    except (RuntimeError, MemoryError):
                        break
                    self._threads.add(thread)
                self._missing = self._number - len(self._threads)
            finally:
                self._lock.release()
        return bool(self._threads)

    def _work(self) -> None:
        try:
            self.run_here()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
                self._missing = self._number - len(self._threads)

    def run_here(self) -> None:
        """
        Send in the calling thread, where no other can be started any more.
        """
        while not self._loop.stopped:
            try:
                self._loop.run()
            except Exception as error:  # noqa: BLE001 -- the sender's fault; what it held goes back, and others are sent
                INTERNAL_ERRORS.report("outbox", error)
            except BaseException as error:
                if threading.current_thread() is threading.main_thread():
                    raise
                INTERNAL_ERRORS.report("outbox", error)
            else:
                return
            finally:
                self._loop.put_back(threading.get_ident())
            time.sleep(_REST)

    @property
    def running(self) -> bool:
        """Whether any thread lives."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    def join(self, timeout: float) -> bool:
        """
        Wait for them to end.

        Returns:
            Whether they have.
        """
        deadline = monotonic() + timeout
        for thread in tuple(self._threads):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))
        return not self.running
