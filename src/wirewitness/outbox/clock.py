"""
The time that messages are stamped with, and that retries wait for.
"""

from __future__ import annotations

import time

from typing import Final


_ANCHOR: Final = time.time_ns() - time.monotonic_ns()


def steady_ns() -> int:
    """
    Unix nanoseconds that never jump: the wall clock when this process began, and the monotonic clock since.

    A wall clock that is set back by a day must not delay a retry by a day, nor one that is set forward expire a queue.
    """
    return _ANCHOR + time.monotonic_ns()


def steady() -> float:
    """
    The same in seconds.
    """
    return steady_ns() / 1e9
