"""
Clocks that nobody sets, stops or freezes.

Tools that freeze time for a test replace ``time.monotonic`` and its like wherever they find them in a module. These here are
bound at import, out of reach. Others reach into the functions themselves: so whatever waits until a deadline
also counts what it has waited.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from typing import Final


# As defaults of arguments: there, tools that replace names in modules do not find them.


def monotonic(_clock: Callable[[], float] = time.monotonic) -> float:
    """
    Seconds that only ever grow.
    """
    return _clock()


def perf_counter(_clock: Callable[[], float] = time.perf_counter) -> float:
    """
    Seconds, as exact as they get.
    """
    return _clock()


def wall_ns(_clock: Callable[[], int] = time.time_ns) -> int:
    """
    Unix nanoseconds, as the system's clock is set.
    """
    return _clock()


class Clock:
    """
    The same clocks, for what is asked several times per dispatch: a call less each. Such tools look into no class, either.
    """

    monotonic = staticmethod(time.monotonic)
    perf_counter = staticmethod(time.perf_counter)
    wall_ns = staticmethod(time.time_ns)


# No process of this machine is older than the longest that a duration may be.
_LONGEST: Final = 10 * 365 * 86_400.0
_BEGAN: Final = monotonic()
# A process may have begun a while before it imported this.
_MARGIN: Final = 86_400.0


def plausible(seconds: float) -> float:
    """
    A duration within this process, such as a clock that was set in between cannot make it: at least 0, and at most the age
    of the process.
    """
    if 0.0 <= seconds <= _MARGIN:
        return seconds
    most = max(0.0, min(monotonic() - _BEGAN + _MARGIN, _LONGEST))
    return min(max(seconds, 0.0), most) if seconds == seconds else 0.0  # noqa: PLR0124 -- NaN differs from itself


class Deadline:
    """
    An end of waiting that comes even if the clock stands still. For one thread.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._unslept = seconds

    @property
    def left(self) -> float:
        """Seconds until it, at least 0."""
        return max(0.0, min(self._end - monotonic(), self._unslept))

    def nap(self, seconds: float) -> bool:
        """
        Sleep for so long, or until the deadline.

        Returns:
            Whether there was any time left.
        """
        step = min(seconds, self.left)
        if step <= 0.0:
            return False
        self._unslept -= step
        # Looked up when used: under gevent it is gevent's.
        time.sleep(step)
        return True
