"""
The time that messages are stamped with, and that retries and deadlines wait for.

The clock functions are bound when this module is imported, as defaults of arguments: tools that freeze time replace names in
modules, and a frozen clock must not make a deadline wait forever.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from typing import Final


_ANCHOR: Final = time.time_ns() - time.monotonic_ns()


def steady_ns(_monotonic_ns: Callable[[], int] = time.monotonic_ns, _anchor: int = _ANCHOR) -> int:
    """
    Unix nanoseconds that never jump: the wall clock when this process began, and the monotonic clock since.

    A wall clock that is set back by a day must not delay a retry by a day, nor one that is set forward expire a queue.
    """
    return _anchor + _monotonic_ns()


def steady() -> float:
    """
    The same in seconds.
    """
    return steady_ns() / 1e9


def monotonic(_monotonic_ns: Callable[[], int] = time.monotonic_ns) -> float:
    """
    Seconds of the monotonic clock, for deadlines.
    """
    return _monotonic_ns() / 1e9


_BEGAN_NS: Final = steady_ns()


def plausible_ns(accepted_ns: int, lived_ns: int = 0, now_ns: int | None = None) -> int:
    """
    When a message of another process was accepted, on this process's clock.

    The other process's clock may have been wrong, and how long nobody ran is unknown. So the age of such a message is what
    processes have really seen of it: what it had lived when that was last written down, and at most this process's own
    life. A device that began in 1970, or in 2040, then neither expires all that it kept nor reports an age of decades.

    Args:
        accepted_ns: What the other process wrote down, Unix nanoseconds.
        lived_ns: The age that was last written down, measured by that process's steady clock.
        now_ns: The time on this process's clock; None for now.
    """
    now = steady_ns() if now_ns is None else now_ns
    return min(max(accepted_ns, _BEGAN_NS), now, now - lived_ns)
