"""
Who carries messages: the protocol between an Outbox and its senders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wirewitness._current import Dispatch
from wirewitness.core.settlement import Settlement
from wirewitness.outbox.message import Message


class Attempt(NamedTuple):
    """
    One attempt at a message, judged from the wire.

    Attributes:
        message: What was to be sent.
        settlement: Outcome, verdict, evidence and reason of this attempt.
        exchanges: HTTP requests made in it.
        duration: Seconds of the attempt's last exchange, for a sender that makes exactly one; else of the whole attempt.
        ended_ns: When it ended, Unix nanoseconds.
        status: The last status code, or None.
        retry_after: The last answer's ``Retry-After`` field as received, or None.
        dispatch: The attempt's record, with its exchanges; None where a sender didn't keep any, which it may only for a
            plain success.
    """

    message: Message
    settlement: Settlement
    exchanges: int
    duration: float
    ended_ns: int
    status: int | None = None
    retry_after: str | None = None
    dispatch: Dispatch | None = None


class Desk(Protocol):
    """
    The Outbox's side, where senders fetch messages and report. Thread-safe.
    """

    @property
    def recording(self) -> bool:
        """Whether every attempt's record is wanted, a plain success's too."""

    def take(self, most: int, timeout: float | None) -> list[Message] | None:
        """
        Messages to be sent now, each to be reported by :meth:`done` exactly once.

        Args:
            most: How many at most.
            timeout: Seconds to wait for the first, 0 for not at all, None for as long as it takes.

        Returns:
            At least one; none where ``timeout`` is over; None where the sender is to finish what it has, and return.
        """

    def done(self, attempts: Sequence[Attempt]) -> None:
        """
        Report what became of messages. Never raises.
        """


class Sender(Protocol):
    """
    Carries messages. It makes one attempt a message and no retry of its own, and follows no redirect.

    Attributes:
        threads: How many threads are to call :meth:`run`.
    """

    @property
    def threads(self) -> int:
        """How many threads are to call :meth:`run`."""

    def run(self, desk: Desk) -> None:
        """
        Carry messages from ``desk.take`` to ``desk.done`` until the former returns None. Called once in each thread, and
        again in a forked child, in which nothing of the parent's connections may be used.
        """
