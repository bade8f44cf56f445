"""
Observable instruments that are read at one instant.
"""

from __future__ import annotations

import threading

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from opentelemetry.metrics import CallbackOptions, Observation


T = TypeVar("T")


class SnapshotGroup(Generic[T]):
    """
    Gives all instruments of one collection the counts of the same instant, so that what is exported closes.

    A collection asks for each instrument once, in one thread: the counts are read anew when an instrument comes again.

    Args:
        counts: Reads all counts.
    """

    def __init__(self, counts: Callable[[], T]) -> None:
        self._counts = counts
        self._local = threading.local()

    def of(self, read: Callable[[T], Iterable[Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """
        An instrument's callback.

        Args:
            read: Makes its observations of the counts.
        """

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            served: set[object] = getattr(self._local, "served", {read})
            if read in served:
                served = self._local.served = set()
                self._local.counts = self._counts()
            served.add(read)
            return read(self._local.counts)

        return observe
