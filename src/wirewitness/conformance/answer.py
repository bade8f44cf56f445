"""
What the sink answers, by the path that a client asks for: any client can ask for any fault.
"""

from __future__ import annotations

import enum
import re

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


class Moment(enum.Enum):
    """
    When the sink acts on a request.
    """

    AT_HEAD = "at_head"
    """As soon as the head has arrived; the content isn't read."""
    IN_CONTENT = "in_content"
    """When a part of the content has arrived."""
    AT_END = "at_end"
    """When the whole request has arrived."""


@dataclass(frozen=True)
class SinkAnswer:
    """
    One answer of the sink.

    Attributes:
        status: The response's status code; None for a TCP reset (RFC 9293 section 3.5.2) in place of a response.
        fields: Header fields of the response.
        moment: When the sink answers.
        delay: Seconds to wait before.
        close: Whether the connection is closed behind the response.
        tells_digest: Whether the response reports the digest of the content received.
        pace: Seconds to wait behind each piece of the content.
        orderly: Without a status: whether the connection is ended by a FIN in place of a reset.
        hangs_up: Whether the connection is closed behind the response without having said so.
    """

    status: int | None = 204
    fields: tuple[tuple[str, str], ...] = ()
    moment: Moment = Moment.AT_END
    delay: float = 0.0
    close: bool = False
    tells_digest: bool = False
    pace: float = 0.0
    orderly: bool = False
    hangs_up: bool = False


class Asked(NamedTuple):
    """
    What a request asks of the sink.

    Attributes:
        path: The parts of the path, by the names in its rule.
        query: The query as sent.
        earlier: How many requests for this path came before.
    """

    path: Mapping[str, str | None]
    query: str
    earlier: int

    def number(self, name: str) -> int:
        """
        A part of the path, as a number.
        """
        return int(self.path[name] or 0)


class Rule(NamedTuple):
    """
    A kind of path, and the answer to it.

    Attributes:
        pattern: The whole path, with named groups.
        answer: Makes the answer from what was asked.
    """

    pattern: str
    answer: Callable[[Asked], SinkAnswer]


def _status(asked: Asked) -> SinkAnswer:
    seconds = asked.query.partition("retry-after=")[2].strip()
    return SinkAnswer(asked.number("code"), (("Retry-After", seconds),) if seconds else ())


def _redirect(asked: Asked) -> SinkAnswer:
    target = asked.path["target"]
    query = f"?{asked.query}" if asked.query else ""
    return SinkAnswer(asked.number("code"), (("Location", f"{target}{query}" if target else "/status/200"),))


def _flaky(asked: Asked) -> SinkAnswer:
    return SinkAnswer(asked.number("code") if asked.earlier < asked.number("times") else 204)


_CODE: Final = r"/(?P<code>[2-5]\d\d)"
# More digits than a timer takes, or than become a number, are another path.
_NUMBER: Final = r"\d{1,9}"

RULES: Final = (
    Rule(r"/v1/events", lambda _: SinkAnswer()),
    Rule(rf"/status{_CODE}", _status),
    Rule(r"/redirect/(?P<code>3\d\d)(?P<target>/.+)?", _redirect),
    Rule(rf"/slow/(?P<milliseconds>{_NUMBER})", lambda asked: SinkAnswer(delay=asked.number("milliseconds") / 1000)),
    Rule(r"/reset/before", lambda _: SinkAnswer(None, moment=Moment.AT_HEAD)),
    Rule(r"/reset/during", lambda _: SinkAnswer(None, moment=Moment.IN_CONTENT)),
    Rule(r"/reset/after", lambda _: SinkAnswer(None)),
    Rule(r"/half-close", lambda _: SinkAnswer(None, orderly=True)),
    Rule(rf"/hang-up{_CODE}", lambda asked: SinkAnswer(asked.number("code"), hangs_up=True)),
    Rule(
        rf"/slow-read/(?P<milliseconds>{_NUMBER})", lambda asked: SinkAnswer(pace=asked.number("milliseconds") / 1000)
    ),
    Rule(rf"/early{_CODE}", lambda asked: SinkAnswer(asked.number("code"), moment=Moment.AT_HEAD, close=True)),
    Rule(rf"/close{_CODE}", lambda asked: SinkAnswer(asked.number("code"), close=True)),
    Rule(r"/echo-digest", lambda _: SinkAnswer(tells_digest=True)),
    Rule(rf"/flaky/(?P<times>{_NUMBER}){_CODE}", _flaky),
)
"""The paths that the sink knows; the first that fits is taken, and any other path is answered 404."""


def answer_to(path: str, query: str, earlier: int) -> SinkAnswer:
    """
    The answer to a request.

    Args:
        path: The request target's path.
        query: Its query.
        earlier: How many requests for this path came before.
    """
    for rule in RULES:
        match = re.fullmatch(rule.pattern, path, re.ASCII)
        if match is not None:
            return rule.answer(Asked(match.groupdict(), query, earlier))
    return SinkAnswer(404)
