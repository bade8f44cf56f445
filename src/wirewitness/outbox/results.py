"""
What an attempt has come to, and what it is counted by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wirewitness._guard import fail_open
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome, Reason, reason_of_status
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.dispatch import Dispatch
from wirewitness.ledger import Ending
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sender import Answer, Attempt


OnDrop = Callable[[Message, Reason], object]

_FIRST_2XX: Final = 200
_FIRST_3XX: Final = 300


def by_answer(answer: Answer) -> Settlement:
    """
    What a response says that only its sender has seen: how it ended, and nothing of the bytes.
    """
    if _FIRST_2XX <= answer.status < _FIRST_3XX:
        return Settlement(Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE)
    return Settlement(
        Outcome.REJECTED,
        Verdict.UNOBSERVED,
        Evidence.RESPONSE,
        reason_of_status(answer.status),
        error_type=str(answer.status),
    )


def attempt_of(message: Message, dispatch: Dispatch, settlement: Settlement, answer: Answer | None) -> Attempt:
    """
    What a settled record, and the response in its sender's hands, say of an attempt.
    """
    exchanges = dispatch.exchanges
    answered = [exchange for exchange in exchanges if exchange.status is not None]
    # Not simply the last: a redirect that lost the body was followed by a request that carried nothing.
    carrying = [exchange for exchange in answered if str(exchange.status) == settlement.error_type]
    seen: Exchange | None = (carrying or answered or [None])[-1]  # type: ignore[list-item]
    status, retry_after = (None, None) if seen is None else (seen.status, seen.retry_after)
    if isinstance(answer, Answer):
        status, retry_after = answer
    return Attempt(
        message,
        settlement,
        len(exchanges) or isinstance(answer, Answer),
        dispatch.duration,
        steady_ns(),
        status,
        retry_after,
        dispatch,
    )


def ending_of(settlement: Settlement) -> Ending:
    """
    What a settlement is counted by.
    """
    return (settlement.outcome, settlement.reason, settlement.verdict)


def dropped(reason: Reason) -> Settlement:
    """
    The settlement of a message that was never attempted.
    """
    return Settlement(Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, reason)


@fail_open("hook")
def call_drop_hook(hook: OnDrop, message: Message, reason: Reason) -> None:
    """
    Call a user's hook.
    """
    hook(message, reason)
