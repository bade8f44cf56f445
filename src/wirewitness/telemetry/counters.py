"""
Counts of a process by labels, kept for observable counters: counting costs a dictionary's entry, and no instrument.
"""

from __future__ import annotations

import threading

from collections.abc import Iterator
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation

from wirewitness import fork


class LabelledCounter:
    """
    How often what happened in this process.

    Args:
        *labels: The labels' names.
    """

    def __init__(self, *labels: str) -> None:
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.RLock()
        _TALLIES.append(self)

    def declare(self, *values: str) -> None:
        """
        Have this counted from zero.
        """
        with self._lock:
            self._counts.setdefault(values, 0)

    def count(self, *values: str) -> None:
        """
        It happened once more.
        """
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + 1

    def observe(self, _: CallbackOptions) -> Iterator[Observation]:
        """
        What an observable counter is asked for.
        """
        with self._lock:
            counts = list(self._counts.items())
        for values, number in counts:
            yield Observation(number, dict(zip(self._labels, values, strict=True)))

    def clear(self) -> None:
        """
        Start at zero, as a child process does, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()
        self._counts = dict.fromkeys(self._counts, 0)


_TALLIES: Final[list[LabelledCounter]] = []


def _start_empty_in_child() -> None:
    for tally in _TALLIES:
        tally.clear()


fork.register(fork.ForkStage.TELEMETRY, in_child=_start_empty_in_child)
