"""
Helpers for the tests of people who write or use dispatchers.
"""

from __future__ import annotations

import contextlib

from collections.abc import Iterator
from typing import Final

from wirewitness._clock import Deadline
from wirewitness._observe import LISTENERS
from wirewitness.core.outcome import Reason
from wirewitness.dispatch import Dispatch
from wirewitness.evidence import EVIDENCE


__all__ = ["Captured", "capture"]


# How often whoever waits looks.
_LOOK: Final = 0.002


class Captured(list[Dispatch]):
    """
    The dispatches settled so far, in the order in which they were settled.
    """

    def wait_for(self, count: int, timeout: float = 5.0) -> bool:
        """
        Wait until this many dispatches are settled.

        Args:
            count: How many.
            timeout: Seconds to wait at most.

        Returns:
            Whether there are.
        """
        deadline = Deadline(timeout)
        while len(self) < count and deadline.nap(_LOOK):
            pass
        return len(self) >= count


@contextlib.contextmanager
def capture(*, timeout: float = 5.0) -> Iterator[Captured]:
    """
    Collect every dispatch that is settled inside the block.

    At the block's end, dispatches whose calls have returned and whose bytes have not been seen yet (a dispatcher with a
    thread or a queue of its own) are waited for; those left after ``timeout`` are settled as ``UNCONFIRMED``.

    Args:
        timeout: Seconds to wait at the end.

    Yields:
        A list of settled dispatches, each with ``outcome``, ``verdict``, ``evidence``, ``reason``, ``offset``,
        ``payload`` and ``exchanges``.
    """
    before = set(EVIDENCE.waiting())
    captured = Captured()
    LISTENERS.append(captured.append)
    try:
        yield captured
        _settle(before, timeout)
    finally:
        LISTENERS.remove(captured.append)


def _settle(before: set[Dispatch], timeout: float) -> None:
    deadline = Deadline(timeout)
    # In the order in which their calls returned: what is captured is in the order of settling.
    while left := [dispatch for dispatch in EVIDENCE.waiting() if dispatch not in before]:
        if not deadline.nap(_LOOK):
            for dispatch in left:
                EVIDENCE.give_up(dispatch, Reason.NO_EVIDENCE)
            return
