"""
The thread that writes.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from wirewitness._guard import fail_open
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.store import State, Store


# Waking a thread costs its waker: it stays up for so long after the last call, and looks now and then.
_LINGER: Final = 0.05
# With a checkpoint to come, or a disk that fails.
_UNSETTLED_SECONDS: Final = 0.25
# Of one group, so that none takes long.
_MOST_CALLS: Final = 2048
_JOIN_SECONDS: Final = 10.0
_FORK_SECONDS: Final = 0.001


class Ticket:
    """
    What a thread waits with until all that was called before is written.

    Args:
        id: The message that it is about; 0 for all.
    """

    def __init__(self, id: int = 0) -> None:  # noqa: A002 -- a message's
        self.id = id
        self.durable: bool = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def answer(self, *, durable: bool) -> None:
        """
        Let it go on.
        """
        self.durable = durable
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """
        Wait for the answer.

        Returns:
            Whether there is one.
        """
        return self._lock.acquire(timeout=seconds)


class WriterThread:
    """
    Writes what threads call for, in groups; reads on; looks for files of dead processes.

    Args:
        store: What is written. Who uses it holds :attr:`gate`.
        interval: Seconds between two groups; 0 to write at once.
        look_interval: Seconds between two looks for files of dead processes.

    Attributes:
        calls: What was called for and is not taken in yet: see :meth:`Store.take`, or a :class:`Ticket`. Any thread appends to it,
            and calls :meth:`ring`.
        gate: Held while SQLite works: a fork in the meantime would leave its locks held in the child.
        forking: Whether a fork waits for the gate, which is to have it next.
        looking: Whether files of dead processes are to be looked for.
    """

    def __init__(self, store: Store, interval: float, look_interval: float) -> None:
        self._store = store
        self._interval = interval
        self._look_interval = look_interval
        self.calls: deque[Any] = deque()
        self.gate: threading.RLock = threading.RLock()
        self.forking = False
        self.looking: bool = False
        self._look_at = time.monotonic() + look_interval
        self._parked = False
        self._closing = False
        self._moving = False
        self._rings: queue.SimpleQueue[None] | None = None
        self._tickets: list[Ticket] = []
        self._thread: threading.Thread | None = None
        self._unstarted = threading.Lock()
        self._inside: int | None = None

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def here(self) -> bool:
        """Whether this is its thread, or one that writes in its place: in that, a finalizer or a signal handler cannot wait."""
        me = threading.get_ident()
        return self._inside == me or (self._thread is not None and self._thread.ident == me)

    def ring(self) -> None:
        """
        Start the thread, or wake it if it sleeps for long. May be called inside itself, by a signal handler.

        It starts with the first call and not before: a server's master that only makes a spool and forks has no thread.
        """
        rings = self._rings
        if self._parked and rings is not None:
            self._parked = False
            rings.put(None)
        # Taken once and for good: a finalizer may ring while the thread is being made.
        elif self._thread is None and self._unstarted.acquire(blocking=False):
            # Now and not before: gevent, which replaces this, may come after a fork.
            self._rings = queue.SimpleQueue()
            thread = threading.Thread(target=self._run, name="wirewitness-spool", daemon=True)
            # At interpreter shutdown none can be started, and what is left is written when it is closed.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def ask(self, ticket: Ticket, timeout: float) -> bool:
        """
        Wait until all that was called for is written, or has failed to be.

        Returns:
            Whether it was waited for so long.
        """
        self.calls.append(ticket)
        self.ring()
        deadline = time.monotonic() + timeout
        while not self.here and (left := deadline - time.monotonic()) > 0:
            if not self.running:
                # It is just being started, or can be started no more.
                self._round()
            if ticket.wait(min(left, 1.0) if self.running else 0.0):
                return True
        return False

    def _run(self) -> None:
        active = time.monotonic()
        while not self._closing:
            while self.forking:
                time.sleep(_FORK_SECONDS)
            if self._round():
                active = time.monotonic()
                if self._moving:
                    continue
            if self._interval and time.monotonic() - active < _LINGER:
                time.sleep(self._interval if len(self.calls) < _MOST_CALLS else 0.0)
                continue
            self._parked = True
            # Again, now that a ring would be heard.
            if not self.calls and self._rings is not None:
                unsettled = self._store.reading or not self._store.settled
                patience = min(self._look_interval, _UNSETTLED_SECONDS) if unsettled else self._look_interval
                with contextlib.suppress(queue.Empty):
                    self._rings.get(timeout=patience)
            self._parked = False

    @fail_open("spool")
    def _round(self) -> bool:
        with self.inside() as first:
            return first and self._work()

    @contextlib.contextmanager
    def inside(self) -> Iterator[bool]:
        """
        Hold the gate, and note that this thread is inside: a signal handler or a finalizer in it must not enter again.

        Returns:
            Whether it was not inside already.
        """
        with self.gate:
            first = self._inside is None
            if first:
                self._inside = threading.get_ident()
            try:
                yield first
            finally:
                if first:
                    self._inside = None

    def _work(self) -> bool:
        store = self._store
        busy = self.take_in(_MOST_CALLS)
        store.commit()
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.answer(durable=not store.holds(ticket.id))
        store.checkpoint()
        self._moving = False
        if store.reading:
            # What is to be read now is in a file, or taken in.
            self.take_in()
            self._moving = store.refill()
        if self.looking and time.monotonic() >= self._look_at:
            self._moving = found = store.look()
            if not found:
                self._look_at = time.monotonic() + self._look_interval
                self.looking = False
        return busy or self._moving

    def take_in(self, most: int = sys.maxsize) -> bool:
        """
        Have the store take in what was called for.
        """
        calls, take = self.calls, self._store.take
        number = min(len(calls), most)
        for _ in range(number):
            call = calls.popleft()
            if type(call) is Ticket:
                self._tickets.append(call)
            else:
                take(call)
        return number > 0

    def close(self) -> list[Message]:
        """
        Write what is left, and close the files.

        Returns:
            What could not be written.
        """
        self._closing = True
        if self._rings is not None:
            self._rings.put(None)
        if self._thread is not None and not self.here:
            self._thread.join(_JOIN_SECONDS)
        # Where the disk hangs, and with it the thread, nothing more is written.
        if self.gate.acquire(timeout=1.0):
            try:
                self._finish()
            finally:
                self.gate.release()
        return self._store.unwritten

    @fail_open("spool")
    def _finish(self) -> None:
        with self.inside():
            self.take_in()
            if self._store.state is not State.CLOSED:
                self._store.close()
