"""
What sends messages for an Outbox, and what it says of an attempt.

A sender of your own is an object with ``threads`` and ``send``, see :class:`Sender`; docs/extending.md has one in thirty lines. One
that sends many messages at once from a single thread, as libcurl does, implements :class:`MultiplexingSender` in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wirewitness.core.settlement import Settlement
from wirewitness.dispatch import Dispatch
from wirewitness.outbox.message import Message


class Answer(NamedTuple):
    """
    The final response that a sender holds in its hands.

    Attributes:
        status: Its status code.
        retry_after: Its ``Retry-After`` field as received, or None.
    """

    status: int
    retry_after: str | None = None


class Unsendable(Exception):  # noqa: N818 -- it says what the message is
    """
    A sender can't send this message as the bytes that were accepted. It becomes a dead letter, and nothing is sent.
    """


class Sender(Protocol):
    """
    Sends one message after the other, in each of several threads.

    It makes attempts, and nothing else: the Outbox queues, retries, judges and counts. It has no start and no end. What it
    keeps open between attempts belongs to one thread of one process.

    Attributes:
        threads: How many threads send, each one message at a time. Read when the Outbox is made.
    """

    @property
    def threads(self) -> int:
        """How many threads send, each one message at a time."""
        ...

    def send(self, message: Message) -> Answer | None:
        """
        Make one attempt at a message: one request, no retry, no redirect. Return or raise within a bounded time.

        It is called in several threads at once, and after a fork in the child, where it must not use the parent's connections.

        Args:
            message: ``message.request`` has the method, the destination (scheme, host, port), the target and the header
                fields, all checked: write them as they are. ``message.content`` is the content, of which every byte counts.
                The sender adds ``Host``, where no field is one, and ``Content-Length``. It changes nothing of the message.

        Returns:
            The response, if the sender has one; None where only the tap on the wire can tell.

        Raises:
            Unsendable: If it can't send these very bytes, at any time. The message becomes a dead letter.
            BaseException: Whatever else ended the attempt. The Outbox judges by what the tap saw, and goes on.
        """
        ...


class Attempt(NamedTuple):
    """
    One attempt at a message, and how it ended.

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


class Lane(Protocol):
    """
    Where a multiplexing sender gets its messages, and reports. Thread-safe.
    """

    @property
    def recording(self) -> bool:
        """Whether every attempt's record is wanted, a plain success's too."""
        ...

    def take(self, most: int, timeout: float | None) -> list[Message] | None:
        """
        Lease messages to be sent now, each to be reported by :meth:`done` exactly once.

        Args:
            most: How many at most.
            timeout: Seconds to wait for the first, 0 for not at all, None for as long as it takes.

        Returns:
            At least one; none where ``timeout`` is over; None where the sender is to finish what it has, and return.
        """
        ...

    def done(self, attempts: Sequence[Attempt]) -> None:
        """
        Report what became of messages. Never raises.
        """
        ...


class MultiplexingSender(Protocol):
    """
    Sends many messages at once, each in one attempt, without a retry or a redirect of its own.

    Attributes:
        threads: How many threads call :meth:`run`.
    """

    @property
    def threads(self) -> int:
        """How many threads call :meth:`run`."""
        ...

    def run(self, lane: Lane) -> None:
        """
        Carry messages from ``lane.take`` to ``lane.done`` until the former returns None. Called once in each thread, and
        again in a forked child, in which nothing of the parent's connections may be used.
        """
        ...
