"""
What to do after an attempt: pure, so that the time and the jitter come in as arguments.
"""

from __future__ import annotations

import enum

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from wirewitness.core.limits import seconds
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence
from wirewitness.errors import ConfigurationError, shown


# RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: the same request may succeed later.
_TRANSIENT: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_REDIRECT: Final = 300
# RFC 6585 section 4, RFC 9110 sections 15.6.3 to 15.6.5: too many at once, or the server behind a gateway is away.
_NOT_ABOUT_THE_REQUEST: Final = frozenset({429, 502, 503, 504})
# Beyond that many doublings every backoff is at its ceiling.
_MOST_DOUBLINGS: Final = 64


class Action(enum.Enum):
    """
    What becomes of a message after an attempt.
    """

    ACK = "ack"
    """It's forgotten."""
    RETRY = "retry"
    """It's sent again, later."""
    DEAD_LETTER = "dead_letter"
    """It becomes a dead letter."""


@dataclass(frozen=True)
class Decision:
    """
    What becomes of a message.

    Attributes:
        action: What to do.
        delay: For a retry: in how many seconds.
        reason: For a dead letter: why, a :class:`Reason`'s value.
    """

    action: Action
    delay: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class RetryPolicy:
    """
    When to try again, and when to give up.

    The backoff is exponential with full jitter: a random part of ``base``, doubled with every attempt up to ``ceiling``,
    so that many senders that failed at one instant don't come back at one instant.

    Attributes:
        attempts: The most attempts at a message that say something of the message, the first one included; None for no
            limit. What is not counted: a server that can't be reached, and the answers 429, 502, 503 and 504. An outage so
            costs no message its attempts, whether it lasts minutes or hours; ``lifetime`` bounds these. But 502, 503 and 504
            without ``Retry-After`` are counted where the server took another message since it gave this one such an answer.
            The default allows some two and a half hours of a server that answers 500.
        lifetime: Seconds from acceptance after which no attempt is begun; None for no limit.
        base: The longest backoff after the first attempt, seconds.
        ceiling: The longest backoff of all, seconds.
        retry_after_ceiling: The longest ``Retry-After`` that is honoured, seconds; a longer one counts as this.
        statuses: The status codes below 500 after which the same request is sent again. After a 5xx it always is, 501 and
            505 included: a server that is being replaced answers them too, and ``attempts`` bounds what they cost.

    Raises:
        ConfigurationError: If a limit can't work.
    """

    attempts: int | None = 300
    lifetime: float | None = 86_400.0
    base: float = 0.5
    ceiling: float = 60.0
    retry_after_ceiling: float = 300.0
    statuses: frozenset[int] = _TRANSIENT

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if attempts is not None and not (type(attempts) is int and attempts > 0):
            msg = f"attempts={shown(attempts)}: must be a whole number greater than 0, or None for no limit"
            raise ConfigurationError(msg)
        for name in ("base", "ceiling", "retry_after_ceiling", *(() if self.lifetime is None else ("lifetime",))):
            seconds(name, getattr(self, name))
        if self.ceiling < self.base:
            msg = f"ceiling={shown(self.ceiling)}: must not be less than base={shown(self.base)}"
            raise ConfigurationError(msg)
        _check_statuses(self.statuses)

    def transient(self, status: int) -> bool:
        """
        Whether the same request may be answered otherwise later. A code above 599 is a 5xx (RFC 9110 section 15).
        """
        return status in self.statuses or status >= _SERVER_ERROR

    def delay(self, attempts: int, chance: float) -> float:
        """
        The backoff before the next attempt, in seconds.

        Args:
            attempts: How many there were.
            chance: The jitter: a random number from 0 to 1.
        """
        return chance * min(self.ceiling, self.base * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS))


def _check_statuses(given: Any) -> None:
    if not isinstance(given, frozenset):
        msg = f"statuses={shown(given)}: must be a frozenset of status codes, such as frozenset({{408, 425, 429}})"
        raise ConfigurationError(msg)
    for status in given:
        if type(status) is not int or not _REDIRECT <= status < _SERVER_ERROR:
            msg = f"statuses with {shown(status)}: must be status codes from 300 to 499; every 5xx counts anyway, no 2xx can"
            raise ConfigurationError(msg)


def parse_retry_after(value: str, now: float) -> float | None:
    """
    The wait that a ``Retry-After`` field asks for (RFC 9110 section 10.2.3), in seconds; None where it can't be read.

    Args:
        value: The field's value: seconds, or a date in any of the three forms of section 5.6.7.
        now: Unix seconds.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        # asctime's form names no zone: HTTP's dates are all in UTC.
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def says_something(settlement: Settlement, status: int | None, exchanges: int) -> bool:
    """
    Whether the end of an attempt says something of the message, and not only that its server is away or busy.

    Args:
        settlement: How it ended.
        status: The status code that it was answered with, or None.
        exchanges: HTTP requests made in it, those included that could not even connect.
    """
    if status is not None:
        return status not in _NOT_ABOUT_THE_REQUEST
    return not away(settlement, exchanges)


_UNREACHED: Final = frozenset({Reason.DNS, Reason.PROXY, Reason.REFUSED, Reason.RESET, Reason.TIMEOUT, Reason.TLS})
_UNREACHED_BEYOND_DOUBT: Final = frozenset({Reason.DNS, Reason.REFUSED})


def away(settlement: Settlement, exchanges: int) -> bool:
    """
    Whether an attempt ended because the server could not be reached: no byte left, and it was not for what the message is.

    Args:
        settlement: How it ended.
        exchanges: HTTP requests made in it. Where none was seen, a timeout can be one after the bytes have left.
    """
    if settlement.outcome is not Outcome.FAILED or settlement.evidence is not Evidence.CALL:
        return False
    return settlement.reason in (_UNREACHED if exchanges else _UNREACHED_BEYOND_DOUBT)


def decide(  # noqa: PLR0913 -- all that has a say
    policy: RetryPolicy,
    settlement: Settlement,
    *,
    status: int | None,
    attempts: int,
    answers: int | None = None,
    age: float,
    retry_after: str | None,
    now: float,
    chance: float,
) -> Decision:
    """
    What to do with a message after an attempt.

    One that nobody knows the end of is not sent again: that might double it, and whoever can't see can't tell. One whose
    attempt was cancelled is: it was the attempt that was given up, not the message. One that couldn't be tried again within
    its lifetime is given up now, and not kept for nothing.

    Args:
        policy: The limits.
        settlement: How the attempt ended.
        status: The status code that it was answered with, or None.
        attempts: How many there were, this one included: what the backoff grows with.
        answers: How many of them said something of the message, see :func:`says_something`: what ``policy.attempts`` bounds.
            None for all of them.
        age: Seconds since the message was accepted.
        retry_after: The answer's ``Retry-After``, or None.
        now: Unix seconds.
        chance: The jitter: a random number from 0 to 1.
    """
    if settlement.outcome in {Outcome.DELIVERED, Outcome.UNCONFIRMED}:
        return Decision(Action.ACK)
    dead = Decision(Action.DEAD_LETTER, reason=settlement.reason.value)
    refused = settlement.outcome is Outcome.REJECTED and not (status is not None and policy.transient(status))
    if settlement.outcome is Outcome.DROPPED or refused:
        return dead
    if policy.attempts is not None and (attempts if answers is None else answers) >= policy.attempts:
        return dead
    delay = _delay(policy, attempts, retry_after, now, chance)
    if policy.lifetime is not None and age + delay > policy.lifetime:
        return Decision(Action.DEAD_LETTER, reason=Reason.EXPIRED.value)
    return Decision(Action.RETRY, delay)


def _delay(policy: RetryPolicy, attempts: int, retry_after: str | None, now: float, chance: float) -> float:
    backoff = policy.delay(attempts, chance)
    asked = pause_asked(policy, retry_after, now)
    if asked is None:
        return backoff
    # All who were asked to come back then would come at one instant; and a server that asks for 0 s has no more than others.
    return max(backoff, asked + min(backoff, policy.base))


def pause_asked(policy: RetryPolicy, retry_after: str | None, now: float) -> float | None:
    """
    The pause that an answer asks for, in seconds, as far as the policy honours it; None where it asks for none.
    """
    asked = None if retry_after is None else parse_retry_after(retry_after, now)
    return None if asked is None else min(asked, policy.retry_after_ceiling)
