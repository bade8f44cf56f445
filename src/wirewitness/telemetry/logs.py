"""
Logs: one line a settled dispatch, through structlog where the application has configured it, else through ``logging``.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import weakref

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN, Span

from wirewitness import feedback, fork
from wirewitness._clock import monotonic
from wirewitness._current import Dispatch
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict


LOGGER: Final = feedback.LOGGER

_EVENTS: Final = {
    Outcome.DELIVERED: (logging.DEBUG, "dispatch.delivered"),
    Outcome.REJECTED: (logging.WARNING, "dispatch.rejected"),
    Outcome.FAILED: (logging.WARNING, "dispatch.failed"),
    Outcome.DROPPED: (logging.WARNING, "dispatch.dropped"),
    Outcome.UNCONFIRMED: (logging.DEBUG, "dispatch.unconfirmed"),
}
_ALTERED: Final = (logging.ERROR, "payload.altered")

_stdlib: Final = logging.getLogger(LOGGER)


class _Stdlib:
    """
    Lines as structlog's key-value renderer writes them, through ``logging``.
    """

    @staticmethod
    def log(level: int, event: str, **fields: Any) -> None:
        _stdlib.log(level, "%s", " ".join(f"{name}={value}" for name, value in {"event": event, **fields}.items()))


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
        logger = self._voice(level)
        if logger is None:
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
            logger.log(level, event, **fields)

    def retried(self, dispatch: Dispatch, settlement: Settlement, delay: float) -> None:
        """
        Say that an attempt went wrong, and that another will follow in ``delay`` seconds.
        """
        logger = self._voice(logging.INFO)
        if logger is None:
            return
        suppressed = self._retries.take()
        if suppressed is not None:
            fields = _fields(dispatch, settlement, INVALID_SPAN)
            with feedback.speaking(self):
                logger.log(logging.INFO, "dispatch.retried", delay=round(delay, 3), suppressed=suppressed, **fields)

    def cut_off(self, name: str) -> None:
        """
        Say that log lines about an Outbox's own deliveries come back to it, and are dropped.
        """
        logger = _enabled(logging.WARNING)
        if logger is not None:
            with feedback.speaking(self):
                logger.log(logging.WARNING, "dispatch.feedback", dispatcher=name, outcome="dropped", reason="feedback")

    def _voice(self, level: int) -> Any:
        logger = _enabled(level)
        if logger is not None and feedback.is_echo():
            # A line about a line: where a handler dispatches each, there would be no end. The next line says how many.
            self._echoes += 1
            return None
        return logger

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


def _enabled(level: int) -> Any:
    structlog = _configured_structlog()
    if structlog is None:
        return _Stdlib if _stdlib.isEnabledFor(level) else None
    is_enabled = _level_check(structlog.get_config()["wrapper_class"])
    return structlog.get_logger(LOGGER) if is_enabled is None or is_enabled(level) else None


@functools.lru_cache(maxsize=8)
def _level_check(_: type) -> Callable[[int], bool] | None:
    # Which levels a structlog logger lets through is a matter of its class, and binding one anew costs more than a line.
    logger = _configured_structlog().get_logger(LOGGER).bind()
    return getattr(logger, "is_enabled_for", None) or getattr(logger, "isEnabledFor", None)


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


fork.register(fork.Stage.TELEMETRY, in_child=_renew_all)
