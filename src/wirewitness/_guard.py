"""
The one boundary at which a fault of wirewitness's own ends, so that it never reaches a user's dispatch.
"""

from __future__ import annotations

import logging
import threading

from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from wirewitness import fork


P = ParamSpec("P")
T = TypeVar("T")

# The standard library's logging, and not the user's structlog: this must work where that is what's broken.
_log = logging.getLogger("wirewitness")


class InternalErrors:
    """
    How many faults of its own wirewitness has met, by component.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._logged: set[tuple[str, type]] = set()
        self._lock = threading.RLock()

    def clear(self) -> None:
        """
        Start at zero: also in a child process, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()
        self._counts = dict.fromkeys(self._counts, 0)
        self._logged.clear()

    def register(self, component: str) -> None:
        """
        Have a component counted from zero.
        """
        self._counts.setdefault(component, 0)

    def count(self, component: str) -> None:
        """
        Count a fault.
        """
        with self._lock:
            self._counts[component] = self._counts.get(component, 0) + 1

    def report(self, component: str, error: BaseException) -> None:
        """
        Count a fault, and log the first of its kind.

        The log line holds where and of what class the fault was, and never its text, which could quote a payload.
        """
        with self._lock:
            self.count(component)
            kind = (component, type(error))
            first = kind not in self._logged
            self._logged.add(kind)
        if first:
            _log.warning(
                "wirewitness internal error in %s: %s at %s; dispatches go on, further ones are only counted",
                component,
                type(error).__qualname__,
                _where(error),
            )

    def counts(self) -> dict[str, int]:
        """
        The number of faults by component.
        """
        return dict(self._counts)


INTERNAL_ERRORS: Final = InternalErrors()


class TapHealth:
    """
    Whether the taps see the wire, as they found at their last look. Written under each tap's own lock.

    Attributes:
        seeing: By the tap's name.
        restored: How often each was put back after another tool had taken it away.
    """

    def __init__(self) -> None:
        self.seeing: dict[str, bool] = {}
        self.restored: dict[str, int] = {}


TAP_HEALTH: Final = TapHealth()

fork.register(fork.Stage.FAULTS, in_child=INTERNAL_ERRORS.clear)


def fail_open(component: str) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """
    Make a function return None, counted and logged, where it would raise an ``Exception``.

    Args:
        component: What the fault is counted under.
    """
    INTERNAL_ERRORS.register(component)

    def guard(function: Callable[P, T]) -> Callable[P, T | None]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 -- this is the boundary
                # Reporting needs stack, which may be what has run out, and the user's logging, which may be what's broken.
                try:  # noqa: SIM105 -- suppress() needs stack, too
                    INTERNAL_ERRORS.report(component, error)
                except Exception:  # noqa: BLE001, S110 -- nobody is left to be told
                    pass
                return None

        return guarded

    return guard


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
