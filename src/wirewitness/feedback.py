"""
Feedback: a log line that is written because of a dispatch, and that a log handler dispatches in turn.

Where each record of the root logger is shipped through an Outbox, the lines about its deliveries (urllib3's of the request,
wirewitness's own of the outcome) would be payloads themselves, without an end. So it is looked up where a payload comes from:

========================================================  ======================================================
a log line that is written                                 becomes
========================================================  ======================================================
in a sender's thread of the same Outbox                    nothing: dropped as ``feedback``
by wirewitness, or in a sender's thread of another one     a payload about whose delivery no line is written, and
                                                           during whose delivery every line is feedback
anywhere else                                              a payload as any other
========================================================  ======================================================

A dispatcher under ``witness()`` is the application's own to call: its calls happen, but no line is written about a call that
a line of wirewitness has caused.

Marks are kept per thread, and each thread writes only its own. Handlers that pass records on to another thread are recognised
by the record, which says in which thread it was made.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import sys
import threading

from collections.abc import Iterator
from types import FrameType
from typing import Final

from wirewitness import fork


LOGGER: Final = "wirewitness"
"""The logger that all of wirewitness's own lines go to."""

# Between a payload's acceptance and the handler that made it a payload there are few frames, and looking at each costs every
# payload some time. Between the handler and the end of a dispatch that it has made there can be more.
_TO_A_PUT: Final = 10
_TO_AN_END: Final = 32
_HANDLES: Final = frozenset({logging.Handler.handle.__code__, logging.Logger.callHandlers.__code__})
_LOGGING: Final = frozenset({"logging", "structlog", "loguru"})


class Cause(enum.Enum):
    """
    What a payload comes from.
    """

    OWN_LINE = enum.auto()
    """A line about the same Outbox's deliveries, or about a payload that was a line itself."""
    OTHER_LINE = enum.auto()
    """A line of wirewitness, or of another Outbox's sender."""


class _Mark:
    """
    What a thread does.
    """

    __slots__ = ("owner", "quiet", "speaks")

    def __init__(self, owner: object, *, speaks: bool) -> None:
        self.owner = owner
        self.speaks = speaks
        self.quiet = False


_marks: Final[dict[int, _Mark]] = {}

fork.register(fork.ForkStage.TELEMETRY, in_child=_marks.clear)


@contextlib.contextmanager
def _marked(owner: object, *, speaks: bool) -> Iterator[None]:
    thread = threading.get_ident()
    before = _marks.get(thread)
    mark = _marks[thread] = _Mark(owner, speaks=speaks)
    mark.quiet = before is not None and before.quiet
    try:
        yield
    finally:
        if before is None:
            _marks.pop(thread, None)
        else:
            _marks[thread] = before


def delivering(owner: object) -> contextlib.AbstractContextManager[None]:
    """
    While this thread sends the messages of an Outbox.

    Args:
        owner: Stands for the Outbox.
    """
    return _marked(owner, speaks=False)


def speaking(owner: object) -> contextlib.AbstractContextManager[None]:
    """
    While this thread writes a line of wirewitness about a dispatch.
    """
    return _marked(owner, speaks=True)


def be_quiet(*, quiet: bool) -> None:
    """
    Say of the message that this thread has in hand whether it was a log line itself.
    """
    mark = _marks.get(threading.get_ident())
    if mark is not None:
        mark.quiet = quiet


def cause(owner: object) -> Cause | None:
    """
    What a payload comes from that is being accepted in this thread; None for the application.

    Args:
        owner: Stands for the Outbox that accepts it.
    """
    mark = _marks.get(threading.get_ident())
    if mark is None:
        record = _record_behind(_TO_A_PUT)
        if record is None:
            return None
        mark = _marks.get(record.thread or 0)
        if mark is not None and mark.owner is owner:
            return Cause.OWN_LINE
        return None if mark is None and record.name != LOGGER else Cause.OTHER_LINE
    if not (mark.speaks or _is_within_logging()):
        return None
    return Cause.OWN_LINE if mark.quiet or mark.owner is owner else Cause.OTHER_LINE


def is_echo() -> bool:
    """
    Whether a line about what has ended in this thread would be an echo: a line of wirewitness is what has caused it.
    """
    mark = _marks.get(threading.get_ident())
    if mark is not None:
        return mark.quiet or mark.speaks
    record = _record_behind(_TO_AN_END)
    return record is not None and record.name == LOGGER


def _record_behind(most_frames: int) -> logging.LogRecord | None:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 -- inspect.currentframe() is this, too
    for _ in range(most_frames):
        if frame is None:
            break
        if frame.f_code in _HANDLES:
            record = frame.f_locals.get("record")
            return record if isinstance(record, logging.LogRecord) else None
        frame = frame.f_back
    return None


def _is_within_logging() -> bool:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 -- as above
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _LOGGING:
            return True
        frame = frame.f_back
    return False
