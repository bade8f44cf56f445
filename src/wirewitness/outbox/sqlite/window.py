"""
Which messages are in memory, and which stand on disk alone.
"""

from __future__ import annotations

import contextlib
import threading

from collections.abc import Collection, Iterator, Sequence

from wirewitness.outbox.message import Message, Origin
from wirewitness.outbox.spool import Shelf


class Tail:
    """
    Messages behind those in memory, by the runs of their ids.

    What it does in one step can't be torn apart by a signal handler that puts a message, too. Whoever calls it holds the
    shelf's lock.
    """

    def __init__(self) -> None:
        self._runs: list[list[int]] = []
        self.count: int = 0
        self.bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def first(self) -> tuple[int, int] | None:
        """The first run: its least and its greatest id."""
        runs = self._runs
        return (runs[0][0], runs[0][1]) if runs else None

    def add(self, number: int, size: int) -> None:
        """
        Add a message at the end.
        """
        run = self._runs[-1] if self._runs else None
        if run is not None and run[1] + 1 == number:
            run[1] = number
        else:
            self._runs.append([number, number])
        self.count += 1
        self.bytes += size

    def add_run(self, first: int, last: int, count: int, size: int) -> None:
        """
        Add messages, between which there may be gaps.
        """
        self._runs.append([first, last])
        self.count += count
        self.bytes += size

    def advance(self, upto: int, count: int, size: int) -> None:
        """
        Take messages off the first run.

        Args:
            upto: The greatest id that has been read.
            count: How many.
            size: Their bytes.
        """
        run = self._runs[0]
        run[0] = upto + 1
        if run[0] > run[1]:
            del self._runs[0]
        self.count -= count
        self.bytes -= size

    def settle(self) -> int:
        """
        Where nothing is left to read: how many were not found.
        """
        lost = 0
        if not self._runs:
            lost, self.count, self.bytes = self.count, 0, 0
        return lost


class Window:
    """
    The first messages in memory, the others on disk, in one order.

    Args:
        most_bytes: How many bytes are kept in memory.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.shelf: Shelf = Shelf()
        self.lock: threading.RLock = self.shelf.lock
        self.tail: Tail = Tail()
        self.spilled_bytes: int = 0

    def __len__(self) -> int:
        return len(self.shelf) + self.tail.count

    @property
    def bytes(self) -> int:
        """Bytes of all, as the bounds reckon them."""
        return self.shelf.bytes + self.tail.bytes

    def full(self, size: int) -> bool:
        """
        Whether a message of that size would stand on disk alone: it doesn't overtake those that do.
        """
        return bool(self.tail) or self.shelf.bytes + size > self.most_bytes

    def spill(self, number: int, size: int) -> None:
        """
        A message stands on disk alone, or will.
        """
        self.tail.add(number, size)
        self.spilled_bytes += size

    @property
    def hungry(self) -> bool:
        """Whether messages should be read from disk: at half the room, or sooner if all in memory are being sent."""
        if not self.tail:
            return False
        shelf = self.shelf
        busy = shelf.bytes < self.most_bytes and len(shelf) <= shelf.claimed
        return busy or shelf.bytes <= self.most_bytes // 2

    def restock(self, messages: Sequence[Message], upto: int, found: int, size: int) -> bool:
        """
        Take in messages that were read.

        Args:
            messages: They.
            upto: The greatest id that has been read.
            found: Their number, with those that turned out to be damaged.
            size: The bytes of all these.

        Returns:
            Whether they were taken in; not where another thread is busy with it.
        """
        with self.soon() as got:
            if got:
                for message in messages:
                    self.shelf.add(message)
                self.tail.advance(upto, found, size)
            return got

    def settle(self) -> int:
        """
        Where all has been read: how many messages weren't found.
        """
        with self.soon() as got:
            return self.tail.settle() if got else 0

    @contextlib.contextmanager
    def soon(self) -> Iterator[bool]:
        """
        Hold the lock, if it can be had soon: who has it may be waiting for the calling thread, from a signal handler.
        """
        got = self.lock.acquire(timeout=0.01)
        try:
            yield got
        finally:
            if got:
                self.lock.release()

    def next_due(self, closed: Collection[Origin], soon: float) -> float | None:
        """
        When something can be claimed.

        Args:
            closed: Origins whose messages aren't wanted.
            soon: When to look again where messages are being read.
        """
        due = self.shelf.next_due(closed)
        if due == 0.0 or not self.hungry:
            return due
        return soon if due is None else min(due, soon)
