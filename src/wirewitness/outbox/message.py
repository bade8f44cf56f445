"""
What an Outbox keeps of a call until it is delivered.
"""

from __future__ import annotations

import enum
import functools

from typing import Any, Final, NamedTuple

from wirewitness.core.exchange import Address, address_of, cached_if_short
from wirewitness.core.payload import Payload
from wirewitness.core.request import Fields, Request, request_of
from wirewitness.core.settlement import Settlement


__all__ = ["OVERHEAD", "USUAL", "Fields", "Form", "Message", "Origin", "origin_of", "origin_of_url"]

OVERHEAD: Final = 1024
"""Bytes that a message takes in memory beside its body, roughly: with a URL and header fields of :data:`USUAL`."""

USUAL: Final = 512
"""Bytes of URL and header fields that :data:`OVERHEAD` holds; what goes beyond is counted."""


class Form(enum.StrEnum):
    """
    What the parameters were before they were frozen, so that an inner dispatcher can be given the same again.
    """

    VALUE = "value"
    """A mapping, a list or another JSON value."""
    TEXT = "text"
    BYTES = "bytes"
    QUERY = "query"
    """The body is a GET's whole query: the URL's own, then what the parameters made."""


class Message:
    """
    One accepted payload: its bytes, where they are to go, and how often that was tried.

    Attributes:
        id: Unique within its spool; grows in the order of acceptance.
        method: The HTTP method, upper-case.
        url: The absolute URL asked for, as the caller gave it.
        headers: The header fields that the caller asked for.
        body: The payload's bytes, never shown in a repr. Every attempt sends exactly these.
        form: What they were made from.
        accepted_ns: When they were accepted, Unix nanoseconds.
        attempts: How many times sending was begun and ended without success.
        answers: How many of them said something of the message, in this process: see :func:`says_something` in core/retry.py.
        recoveries: How often its server had recovered when it refused this message last, see
            :meth:`wirewitness.outbox.breaker.Breakers.recoveries`; None where it has not, in this process.
        due: Not to be tried before, Unix seconds; 0 for at once.
        context: What telemetry keeps of the caller; None if an earlier process accepted the message.
        quiet: Whether it is a log line about a dispatch itself, so that none is written about it.
        last: How the last attempt ended; None if there was none, or none in this process.
        home: The spool that holds it, where there is more than one.
        traced: Whether its attempts have spans, so that a sender is to keep their records.
        size: Bytes that the bounds reckon it with: body, URL and header fields beyond the usual, and :data:`OVERHEAD`.
    """

    __slots__ = (
        "accepted_ns",
        "answers",
        "attempts",
        "body",
        "context",
        "due",
        "form",
        "headers",
        "home",
        "id",
        "last",
        "method",
        "quiet",
        "recoveries",
        "size",
        "traced",
        "url",
    )

    def __init__(  # noqa: PLR0913, PLR0917 -- one record, made in one place
        self,
        method: str,
        url: str,
        headers: Fields,
        body: bytes,
        form: Form,
        accepted_ns: int,
        attempts: int = 0,
        due: float = 0.0,
        id: int = 0,  # noqa: A002 -- its name everywhere
        context: Any = None,
    ) -> None:
        self.method: str = method
        self.url: str = url
        self.headers: Fields = headers
        self.body: bytes = body
        self.form: Form = form
        self.accepted_ns: int = accepted_ns
        self.attempts: int = attempts
        self.answers: int = 0
        self.recoveries: int | None = None
        self.due: float = due
        self.id: int = id
        self.context: Any = context
        self.last: Settlement | None = None
        self.home: Any = None
        self.traced: bool = False
        self.quiet: bool = False
        asked = len(url)
        for name, value in headers:
            asked += len(name) + len(value)
        self.size: int = len(body) + OVERHEAD + (asked - USUAL if asked > USUAL else 0)

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from all others, also where several spools give ids."""
        return id(self.home), self.id

    @property
    def payload(self) -> Payload:
        """The body, with its digest at hand."""
        return Payload(self.body, in_query=self.form is Form.QUERY)

    @property
    def request(self) -> Request:
        """
        The request that any sender makes of it.

        Raises:
            UnsupportedPayload: If none can be made of it; an Outbox accepts no such message.
        """
        if self.form is Form.QUERY:
            return request_of(self.method, self.url, self.headers, self.body)
        return _request_of(self.method, self.url, self.headers)

    @property
    def target(self) -> str:
        """The URL that the caller asked for, a GET's query included. It may hold user info: see :attr:`request`."""
        if self.form is not Form.QUERY:
            return self.url
        base = self.url.partition("#")[0].partition("?")[0]
        return f"{base}?{self.body.decode('latin-1')}" if self.body else base

    @property
    def content(self) -> bytes:
        """The request's content: none in a GET."""
        return b"" if self.form is Form.QUERY else self.body

    @property
    def origin(self) -> Origin | None:
        """Scheme, host and port it goes to, or None where the URL can't be read."""
        return origin_of_url(self.url)

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.method} {len(self.body)} bytes, {self.attempts} attempts>"


class Origin(NamedTuple):
    """
    A server, as RFC 6454 section 4 names it.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def origin_of(address: Address | None) -> Origin | None:
    """
    The origin of an address.
    """
    return None if address is None else Origin(*address[:3])


@cached_if_short
def origin_of_url(url: str) -> Origin | None:
    """
    The origin of an absolute URL, or None if it isn't one.
    """
    return origin_of(address_of(url))


# Most messages of a process have the same URL and fields.
_request_of: Final = functools.lru_cache(maxsize=64)(request_of)
