"""
What OpenTelemetry's exporters log when a backend is down: every failure counted, and a line now and then.
"""

from __future__ import annotations

import logging

from typing import Final

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.telemetry.logs import RateLimit


COMPONENT: Final = "exporter"
SECONDS_BETWEEN_LINES: Final = 600.0

_LOGGERS: Final = ("opentelemetry.exporter.", "opentelemetry.sdk.")


class SeldomLines(logging.Filter):
    """
    Lets one line in ten minutes through from each place in the code, and counts the errors as internal ones.

    A backend that is down fails every export, several times a minute for as long as it's down.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[tuple[str, int], RateLimit] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """
        Whether the line is written.
        """
        if record.levelno >= logging.ERROR:
            INTERNAL_ERRORS.count(COMPONENT)
        place = (record.name, record.lineno)
        limit = self._limits.setdefault(place, RateLimit(most=1, seconds=SECONDS_BETWEEN_LINES))
        return limit.take() is not None


def log_failures_seldom() -> None:
    """
    Quieten the exporters that are loaded by now.
    """
    INTERNAL_ERRORS.register(COMPONENT)
    seldom = SeldomLines()
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(_LOGGERS):
            logging.getLogger(name).addFilter(seldom)
