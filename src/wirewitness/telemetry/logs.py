"""
Logs: one line a settled dispatch, through structlog where the application has configured it, else through ``logging``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import threading
import weakref

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN, Span

from wirewitness import feedback, fork
from wirewitness._clock import monotonic
from wirewitness._guard import report_or_raise
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict
from wirewitness.dispatch import Dispatch


LOGGER: Final = feedback.LOGGER

_EVENTS: Final = {
    Outcome.DELIVERED: (logging.DEBUG, "dispatch.delivered"),
    Outcome.REJECTED: (logging.WARNING, "dispatch.rejected"),
    Outcome.FAILED: (logging.WARNING, "dispatch.failed"),
    Outcome.DROPPED: (logging.WARNING, "dispatch.dropped"),
    Outcome.UNCONFIRMED: (logging.DEBUG, "dispatch.unconfirmed"),
}
_METHODS: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}
_ALTERED: Final = (logging.ERROR, "payload.altered")

_stdlib: Final = logging.getLogger(LOGGER)


Write = Callable[..., None]
"""Writes a line: the event's name, and its fields as keywords."""


def _through_logging(level: int, event: str, **fields: Any) -> None:
    # As structlog's key-value renderer writes it.
    _stdlib.log(level, "%s", " ".join(f"{name}={value}" for name, value in {"event": event, **fields}.items()))


def _through_structlog(level: int, event: str, **fields: Any) -> None:
    """
    Write a line through whichever bound logger the application has configured; through ``logging`` where that can't be done.
    """
    try:
        logger = _bound(_configured_structlog())
        # By the level's method, which each of structlog's has. A generic BoundLogger would take a level for the event's name.
        by_level = getattr(logger, _METHODS[level], None)
        written = logger.log(level, event, **fields) if by_level is None else by_level(event, **fields)
        if not inspect.iscoroutine(written):
            return
        written.close()
    except Exception as error:  # noqa: BLE001 -- a processor of the application has failed; a fault of its own doesn't lose the line
        report_or_raise("telemetry", error)
    _through_logging(level, event, **fields)


class Logs:
    """
    Writes the lines.
    """

    def __init__(self) -> None:
        self._drops = RateLimit(most=10, seconds=60.0)
        self._retries = RateLimit(most=10, seconds=60.0)
        self._echoes = 0

    def settled(self, dispatch: Dispatch, settlement: Settlement, span: Span) -> None:
        """
        Say how a dispatch ended.
        """
        level, event = _ALTERED if settlement.verdict is Verdict.ALTERED else _EVENTS[settlement.outcome]
        write = self._voice(level)
        if write is None:
            return
        fields = _fields(dispatch, settlement, span)
        if settlement.outcome is Outcome.DROPPED:
            suppressed = self._drops.take()
            if suppressed is None:
                return
            fields["suppressed"] = suppressed
        if self._echoes:
            fields["echoes"], self._echoes = self._echoes, 0
        with feedback.speaking(self):
            write(event, **fields)

    def retried(self, dispatch: Dispatch, settlement: Settlement, delay: float) -> None:
        """
        Say that an attempt went wrong, and that another will follow in ``delay`` seconds.
        """
        write = self._voice(logging.INFO)
        if write is None:
            return
        suppressed = self._retries.take()
        if suppressed is not None:
            fields = _fields(dispatch, settlement, INVALID_SPAN)
            with feedback.speaking(self):
                write("dispatch.retried", delay=round(delay, 3), suppressed=suppressed, **fields)

    def cut_off(self, name: str) -> None:
        """
        Say that log lines about an Outbox's own deliveries come back to it, and are dropped.
        """
        write = _enabled(logging.WARNING)
        if write is not None:
            with feedback.speaking(self):
                write("dispatch.feedback", dispatcher=name, outcome="dropped", reason="feedback")

    def _voice(self, level: int) -> Write | None:
        write = _enabled(level)
        if write is not None and feedback.is_echo():
            # A line about a line: where a handler dispatches each, there would be no end. The next line says how many.
            self._echoes += 1
            return None
        return write

    @staticmethod
    def wants_everything() -> bool:
        """
        Whether a delivered payload's line would be written.
        """
        return _enabled(logging.DEBUG) is not None


def _configured_structlog() -> Any:
    # Not loaded for its own sake: that takes longer than all of wirewitness. And where it is loaded but not configured, it prints
    # every line to standard output: no library may do that to an application.
    structlog = sys.modules.get("structlog")
    is_configured = getattr(structlog, "is_configured", None)
    return structlog if is_configured is not None and is_configured() else None


def _enabled(level: int) -> Write | None:
    structlog = _configured_structlog()
    if structlog is None:
        return functools.partial(_through_logging, level) if _stdlib.isEnabledFor(level) else None
    configured = structlog.get_config()
    is_enabled = _level_check(configured["wrapper_class"], configured["logger_factory"])
    return functools.partial(_through_structlog, level) if is_enabled is None or is_enabled(level) else None


@functools.lru_cache(maxsize=8)
def _level_check(_: type, __: object) -> Callable[[int], bool] | None:
    # Which levels a structlog logger lets through is a matter of its class and of what it wraps, and binding one anew costs
    # more than a line.
    try:
        logger = _bound(_configured_structlog())
    except Exception:  # noqa: BLE001 -- the line itself will be written another way, and tell
        return None
    # On the classes: a generic BoundLogger makes a line of each method that the logger in it has.
    for each, name in ((logger, "is_enabled_for"), (getattr(logger, "_logger", None), "isEnabledFor")):
        if callable(getattr(type(each), name, None)):
            is_enabled: Callable[[int], bool] = getattr(each, name)
            # structlog's own for the standard library asks the logger in it, which may know nothing of levels.
            with contextlib.suppress(AttributeError):
                is_enabled(logging.WARNING)
                return is_enabled
    return None


def _bound(structlog: Any) -> Any:
    wrapper: Any = structlog.get_config()["wrapper_class"]
    if inspect.iscoroutinefunction(getattr(wrapper, "info", None)):
        # Such as an AsyncBoundLogger, which works in a running loop only: nobody could await the line.
        wrapper = structlog.stdlib.BoundLogger
    return structlog.wrap_logger(None, wrapper_class=wrapper, logger_factory_args=(LOGGER,)).bind()


def _fields(dispatch: Dispatch, settlement: Settlement, span: Span) -> dict[str, Any]:
    where = span.get_span_context()
    fields = {
        "dispatcher": dispatch.name,
        "outcome": settlement.outcome.value,
        "verdict": settlement.verdict.value,
        "evidence": settlement.evidence.value,
        "reason": settlement.reason.value or None,
        "offset": settlement.offset,
        "error_type": settlement.error_type,
        "exchanges": len(dispatch.exchanges),
        "duration": round(dispatch.duration, 6),
        "digest": None if dispatch.payload is None else dispatch.payload.digest.hex(),
        "trace_id": f"{where.trace_id:032x}" if where.is_valid else None,
        "span_id": f"{where.span_id:016x}" if where.is_valid else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


class RateLimit:
    """
    Lets a number of lines through in a stretch of time, and counts the others.

    Args:
        most: How many.
        seconds: The stretch's length.
    """

    def __init__(self, *, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self.renew()
        _limits.add(self)

    def renew(self) -> None:
        """
        Begin anew: also in a forked child, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()  # a signal handler may dispatch, too
        self._begun = float("-inf")
        self._taken = 0
        self._suppressed = 0

    def take(self) -> int | None:
        """
        Ask for a line.

        Returns:
            How many were suppressed since the last one; None where this one is, too.
        """
        with self._lock:
            now = monotonic()
            if now - self._begun >= self._seconds:
                self._begun, self._taken = now, 0
            if self._taken >= self._most:
                self._suppressed += 1
                return None
            self._taken += 1
            suppressed, self._suppressed = self._suppressed, 0
            return suppressed


_limits: Final[weakref.WeakSet[RateLimit]] = weakref.WeakSet()


def _renew_all() -> None:
    for limit in tuple(_limits):
        limit.renew()


fork.register(fork.ForkStage.TELEMETRY, in_child=_renew_all)
