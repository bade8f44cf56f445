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
from collections.abc import Iterator, Sequence
from typing import Final

from wirewitness._guard import fail_open
from wirewitness.outbox.clock import plausible_ns, steady
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.adoption import Adoption
from wirewitness.outbox.sqlite.faults import Faults
from wirewitness.outbox.sqlite.file import READ_ROWS
from wirewitness.outbox.sqlite.forks import keep_for_ever
from wirewitness.outbox.sqlite.journal import Journal, NotNow
from wirewitness.outbox.sqlite.pending import Call
from wirewitness.outbox.sqlite.place import Place
from wirewitness.outbox.sqlite.record import Record
from wirewitness.outbox.sqlite.survey import Found
from wirewitness.outbox.sqlite.window import Window


# Waking a thread costs its waker: it stays up for so long after the last call, and looks now and then.
_LINGER: Final = 0.05
# With a checkpoint to come, or a disk that fails.
_UNSETTLED_SECONDS: Final = 0.25
# A due time further off was made by a clock that was set back since.
_LONGEST_DELAY: Final = 3600.0
_CHUNK_BYTES: Final = 1 << 20
# Of one group, so that none takes long.
_MOST_CALLS: Final = 2048
_JOIN_SECONDS: Final = 10.0
_FORK_SECONDS: Final = 0.001


class Ticket:
    """
    What a thread waits with until all that was called before is written.

    Args:
        id: The message that it's about; 0 for all.
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


class Committer:
    """
    Writes what threads call for, in groups; reads on; adopts. It alone touches the journal once it runs.

    Args:
        journal: What's written.
        window: What's in memory.
        place: Where orphans are.
        faults: Where troubles are counted.
        interval: Seconds between two groups; 0 to write at once.
        adopt_interval: Seconds between two looks for orphans.

    Attributes:
        calls: What was called for and isn't looked at yet. Whoever appends to it rings.
        found: What was adopted, and isn't in the window yet.
        lost: How many messages couldn't be read any more.
        gate: Held while SQLite works: a fork in the meantime would leave its locks held in the child.
        forking: Whether a fork waits for the gate, which is to have it next.
        looking: Whether orphans are to be looked for.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- it's where all of it meets
        self, journal: Journal, window: Window, place: Place, faults: Faults, interval: float, adopt_interval: float
    ) -> None:
        self._journal = journal
        self._window = window
        self._place = place
        self._faults = faults
        self._interval = interval
        self._adopt_interval = adopt_interval
        self.calls: deque[Call] = deque()
        self.found: deque[Found] = deque()
        self.lost: int = 0
        self.gate: threading.RLock = threading.RLock()
        self.forking = False
        self.looking: bool = False
        self._parked = False
        self._closing = False
        self._moving = False
        self._rings: queue.SimpleQueue[None] | None = None
        self._tickets: list[Ticket] = []
        self._adoption: Iterator[Found] | None = None
        self._adopt_at = time.monotonic() + adopt_interval
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """
        Start it; at interpreter shutdown none can be, and what's left is written when it's closed.
        """
        # Made here: a library that replaces the primitives, as gevent does, may come after a fork.
        self._rings = queue.SimpleQueue()
        thread = threading.Thread(target=self._run, name="wirewitness-spool", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def here(self) -> bool:
        """Whether this is its thread, in which nobody may wait for it."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def ring(self) -> None:
        """
        Wake it, if it sleeps for long. ``SimpleQueue.put`` may be called inside itself, by a signal handler.
        """
        rings = self._rings
        if self._parked and rings is not None:
            self._parked = False
            rings.put(None)

    def ask(self, ticket: Ticket, timeout: float) -> bool:
        """
        Wait until all that was called for is written, or has failed to be.

        Returns:
            Whether it was waited for so long.
        """
        self.calls.append(ticket)
        self.ring()
        deadline = time.monotonic() + timeout
        while self.running and not self.here and (left := deadline - time.monotonic()) > 0:
            if ticket.wait(min(left, 1.0)):
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
            self._rest(active)

    def _rest(self, active: float) -> None:
        if self._interval and time.monotonic() - active < _LINGER:
            time.sleep(self._interval if len(self.calls) < _MOST_CALLS else 0.0)
            return
        self._parked = True
        # Again, now that a ring would be heard.
        if not self.calls and not self._closing and self._rings is not None:
            with contextlib.suppress(queue.Empty):
                self._rings.get(timeout=self._patience())
        self._parked = False

    def _patience(self) -> float:
        unsettled = self._window.hungry or not self._journal.settled
        return min(self._adopt_interval, _UNSETTLED_SECONDS) if unsettled else self._adopt_interval

    @fail_open("spool")
    def _round(self) -> bool:
        with self.gate:
            busy = self._drain(_MOST_CALLS)
            self._write()
            self._moving = any([self._refill(), self._adopt()])
            return busy or self._moving

    def _drain(self, most: int = sys.maxsize) -> bool:
        calls, take = self.calls, self._journal.pending.take
        number = min(len(calls), most)
        for _ in range(number):
            call = calls.popleft()
            if type(call) is Ticket:
                self._tickets.append(call)
            else:
                take(call)
        return number > 0

    def _write(self) -> None:
        self._renew()
        self._journal.commit()
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.answer(durable=not self._journal.pending.holds(ticket.id))
        self._journal.checkpoint()

    def _renew(self) -> None:
        if self._journal.due:
            with self._window.soon() as got:
                held = self._window.shelf.messages() if got else None
            if held is not None:
                self._journal.restage(held)
                self._journal.reopen()
        if self._journal.found:
            self.found += self._journal.found
            self._journal.found = []

    # Reading on

    def _refill(self) -> bool:
        run = self._window.tail.first
        if run is None or not self._window.hungry:
            return False
        # What is in the run now is in the file or pending, once all calls are taken.
        self._drain()
        try:
            return self._restock(*run)
        except NotNow:
            return False

    def _restock(self, first: int, last: int) -> bool:
        most = self._most()
        records = self._journal.read(first, last, most)
        # What comes after them in the run is read next time: a chunk is bounded in bytes, too.
        upto = records[-1].id if records else last
        spilled = self._journal.pending.spilled_between(first, upto)
        messages = [*_clamped(records), *spilled]
        messages.sort(key=_id)
        number = len(records) + len(spilled)
        size = sum([record.size for record in records]) + sum([one.size for one in spilled])
        if not self._window.restock(messages, upto, number, size):
            return False
        self._settle(records, spilled)
        return True

    def _most(self) -> int:
        tail = self._window.tail
        return max(1, min(READ_ROWS, _CHUNK_BYTES * tail.count // max(1, tail.bytes)))

    def _settle(self, records: Sequence[Record], spilled: Sequence[Message]) -> None:
        for message in spilled:
            self._journal.pending.unspill(message)
        for record in records:
            if record.message is None:
                self._journal.bury(record.id)
                self.lost += 1
        self.lost += self._window.settle()

    def fill(self) -> None:
        """
        Read as much as there's room for, before the thread runs.
        """
        while self._refill():
            pass

    # Adopting

    def _adopt(self) -> bool:
        if self._adoption is None:
            if not self.looking or time.monotonic() < self._adopt_at:
                return False
            self._adopt_at = time.monotonic() + self._adopt_interval
            self.looking = False
            self._adoption = self.adoptions()
        found = next(self._adoption, None)
        if found is None:
            self._adoption = None
        elif found.number:
            self.found.append(found)
        return found is not None

    def adoptions(self) -> Iterator[Found]:
        """
        Adopt all orphans, a chunk a step.
        """
        for lock in self._place.orphans(self._journal.path):
            yield from Adoption(lock, self._journal, self._place, self._faults).steps()

    # End

    def disown(self) -> None:
        """
        Leave the orphan alone that the parent is copying, in a forked child.
        """
        if self._adoption is not None:
            keep_for_ever(self._adoption)

    def close(self) -> list[Message]:
        """
        Write what's left, and close the file.

        Returns:
            What couldn't be written.
        """
        self._closing = True
        if self._rings is not None:
            self._rings.put(None)
        if self._thread is not None and not self.here:
            self._thread.join(_JOIN_SECONDS)
        got = self.gate.acquire(timeout=1.0)
        try:
            if got:
                self._finish()
            return self._journal.pending.messages()
        finally:
            if got:
                self._journal.forget()
                self.gate.release()

    @fail_open("spool")
    def _finish(self) -> None:
        # Generators let go of an orphan's lock when they're dropped.
        self._adoption = None
        self._drain()
        self._write()
        self._journal.close()


def _clamped(records: Sequence[Record]) -> list[Message]:
    latest = steady() + _LONGEST_DELAY
    messages = [record.message for record in records if record.message is not None]
    for message in messages:
        message.due = min(message.due, latest)
        # Another process's clock may have been wrong: what it accepted must not expire for that.
        message.accepted_ns = plausible_ns(message.accepted_ns)
    return messages


def _id(message: Message) -> int:
    return message.id
