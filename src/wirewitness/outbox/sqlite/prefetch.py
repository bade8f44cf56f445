"""
Which messages are in memory, and which stand on disk alone.
"""

from __future__ import annotations

import contextlib
import threading

from collections.abc import Collection, Iterator

from wirewitness.outbox.message import Origin
from wirewitness.outbox.spool import ReadyQueue


class OnDiskRanges:
    """
    The messages of one file that are not in memory, by the runs of their ids.

    Who calls it holds the lock of the prefetch. What it does in one step cannot be torn apart by a signal handler or a finalizer
    that puts a message, too.
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

    def add(self, id_: int, size: int) -> None:
        """
        Add a message at the end.
        """
        run = self._runs[-1] if self._runs else None
        if run is not None and run[1] + 1 == id_:
            run[1] = id_
        else:
            self._runs.append([id_, id_])
        self.count += 1
        self.bytes += size

    def add_run(self, first: int, last: int, count: int, size: int) -> None:
        """
        Add messages, between which there may be gaps.
        """
        self._runs.append([first, last])
        self.count += count
        self.bytes += size

    def take(self, other: OnDiskRanges) -> None:
        """
        Take over all that another has.
        """
        self._runs += other._runs
        self.count += other.count
        self.bytes += other.bytes
        other._runs, other.count, other.bytes = [], 0, 0

    def remove(self, size: int) -> None:
        """
        Count one message less, which will not be found.
        """
        self.count -= 1
        self.bytes -= size

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
        missing = 0
        if not self._runs:
            missing, self.count, self.bytes = self.count, 0, 0
        return max(0, missing)


class Prefetch:
    """
    The first messages in memory, the others on disk, in one order.

    Args:
        most_bytes: How many bytes are kept in memory.

    Attributes:
        ready: Those in memory.
        lock: Guards all of this. It is held for moments, and nothing is waited for under it.
        own: What stands in this process's own file alone.
        others: The same for each file of a dead process.
        spilled_bytes: Bytes of all that was ever put to stand on disk alone.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.ready: ReadyQueue = ReadyQueue()
        self.lock: threading.RLock = self.ready.lock
        self.own: OnDiskRanges = OnDiskRanges()
        self.others: tuple[OnDiskRanges, ...] = ()
        self.spilled_bytes: int = 0

    def __len__(self) -> int:
        count = len(self.ready) + self.own.count
        return count + sum([ranges.count for ranges in self.others]) if self.others else count

    @property
    def bytes(self) -> int:
        """Bytes of all, as the bounds reckon them."""
        size = self.ready.bytes + self.own.bytes
        return size + sum([ranges.bytes for ranges in self.others]) if self.others else size

    def full(self, size: int) -> bool:
        """
        Whether a message of that size would stand on disk alone: it does not overtake those that do.
        """
        return bool(self.own) or self.ready.bytes + size > self.most_bytes

    def spill(self, id_: int, size: int) -> None:
        """
        A message stands on disk alone, or will.
        """
        self.own.add(id_, size)
        self.spilled_bytes += size

    @property
    def hungry(self) -> bool:
        """Whether messages should be read from disk: at half the room, or sooner if all in memory are being sent."""
        if not self.own and not any(self.others):
            return False
        ready = self.ready
        busy = ready.bytes < self.most_bytes and len(ready) <= ready.claimed
        return busy or ready.bytes <= self.most_bytes // 2

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
            closed: Origins whose messages are not wanted.
            soon: When to look again where messages are being read.
        """
        due = self.ready.next_due(closed)
        if due == 0.0 or not self.hungry:
            return due
        return soon if due is None else min(due, soon)
