"""
The judgement: from a payload, its exchanges and the error to outcome, verdict and evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wirewitness.core.exchange import Address, Exchange
from wirewitness.core.outcome import Outcome, Reason, error_type, reason_of_error, reason_of_status
from wirewitness.core.payload import QUERY_METHODS, Payload
from wirewitness.core.verdict import (
    UNOBSERVED,
    Comparison,
    Evidence,
    Verdict,
    compare,
    compare_query,
    first_difference,
    resembles,
)


@dataclass(frozen=True)
class Settlement:
    """
    How a dispatch ended.

    Attributes:
        outcome: The one outcome.
        verdict: What happened to the payload.
        evidence: How far it was followed; the verdict claims no more.
        reason: Why; what was done to the payload goes before why the dispatch ended.
        offset: Index of the payload's first byte that the wire didn't carry, for an ``ALTERED`` whose bytes differ.
        error_type: The exception that ended it, fully qualified, or the status code that rejected it; None if neither.
    """

    outcome: Outcome
    verdict: Verdict
    evidence: Evidence
    reason: Reason = Reason.NONE
    offset: int | None = None
    error_type: str | None = None

    @property
    def final(self) -> bool:
        """Whether later evidence could not change it."""
        return self.outcome is not Outcome.UNCONFIRMED


class Finding(NamedTuple):
    """
    What one exchange says about the payload.

    Attributes:
        exchange: The exchange.
        comparison: What it did to the payload.
        carried: Whether the payload, in whatever state, was in it.
        aside: Whether it says something only where no other exchange carried the payload.
    """

    exchange: Exchange
    comparison: Comparison
    carried: bool
    aside: bool = False


def judge(
    payload: Payload | None,
    exchanges: Sequence[Exchange],
    *,
    target: Address | None = None,
    error: BaseException | None = None,
    unknown: Reason = Reason.UNKNOWN_PAYLOAD,
) -> Settlement:
    """
    Judge one dispatch by what the wire saw of it.

    Args:
        payload: What was meant, or None where it couldn't be known.
        exchanges: All requests made for it, in order.
        target: Where the caller asked it to go; None if that isn't known.
        error: What the inner dispatcher raised.
        unknown: Why there's no payload, if there's none.
    """
    if len(exchanges) == 1 and _plainly_delivered(payload, exchanges[0]):
        return _DELIVERED
    findings = _unknown_findings(exchanges, target) if payload is None else _findings(payload, exchanges, target)
    carrying = [finding for finding in findings if finding.carried]
    comparison = _worst(findings, carrying)
    missing = unknown if payload is None else None
    ending = _answered(carrying[-1].exchange, error) if carrying else _unanswered(findings, error, missing)
    return Settlement(
        ending.outcome,
        comparison.verdict,
        _evidence(findings, carrying),
        comparison.reason or ending.reason,
        comparison.offset,
        ending.error_type,
    )


_DELIVERED = Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE)


def _plainly_delivered(payload: Payload | None, exchange: Exchange) -> bool:
    # What nearly every dispatch is comes to the same below; here it costs a comparison.
    return (
        payload is not None
        and not payload.in_query
        and exchange.body == payload.body != b""
        and exchange.complete
        and exchange.succeeded
        and exchange.received_digest is None
    )


class _Ending(NamedTuple):
    outcome: Outcome
    reason: Reason = Reason.NONE
    error_type: str | None = None


def _unknown_findings(exchanges: Sequence[Exchange], target: Address | None) -> list[Finding]:
    # What can't be compared can still be seen to be there: as content, or as the first request of all.
    return [
        Finding(
            exchange,
            UNOBSERVED,
            carried=_carried(exchange) and (exchange.body != b"" or (not index and target in {None, exchange.address})),
        )
        for index, exchange in enumerate(exchanges)
    ]


class _Place(NamedTuple):
    """
    Where an exchange stands among a dispatch's.

    Attributes:
        addressed: Whether it went where the payload was to go, or has gone before.
        followed: Whether it came right behind a redirect from there.
        elsewhere: Whether it's known to have gone to neither.
        resent: Whether the payload was carried before.
        repeated: Whether it followed that redirect with the content that had led to it.
    """

    addressed: bool
    followed: bool
    elsewhere: bool
    resent: bool
    repeated: bool


def _findings(payload: Payload, exchanges: Sequence[Exchange], target: Address | None) -> list[Finding]:
    expected = {target} if target else set()
    findings: list[Finding] = []
    previous: Exchange | None = None
    followed = False
    for exchange in exchanges:
        followed = previous is not None and _follows(exchange, previous) and (followed or previous.address in expected)
        addressed = exchange.address in expected
        elsewhere = bool(expected) and not (addressed or followed)
        resent = any(earlier.carried for earlier in findings)
        repeated = followed and previous is not None and previous.body == exchange.body
        finding = _examine(payload, exchange, _Place(addressed, followed, elsewhere, resent, repeated))
        if finding is not None:
            findings.append(finding)
            expected |= {exchange.address} if finding.carried else set()
        previous = exchange
    carried = any(finding.carried for finding in findings)
    return [finding for finding in findings if not (carried and finding.aside)]


def _follows(exchange: Exchange, previous: Exchange) -> bool:
    return previous.redirected and previous.location in {None, exchange.address}


def _examine(payload: Payload, exchange: Exchange, place: _Place) -> Finding | None:
    if not exchange.complete:
        return Finding(exchange, UNOBSERVED, carried=_carried(exchange) and not place.elsewhere)
    comparison = _compare(payload, exchange)
    if comparison.verdict is not Verdict.ALTERED:
        proves = comparison.verdict is not Verdict.UNOBSERVED and payload.body
        return None if place.elsewhere and not proves else Finding(exchange, comparison, carried=True)
    sent = exchange.query.encode("utf-8", "surrogatepass") if payload.in_query else exchange.body
    if not sent:
        return _without(payload, exchange, place)
    least = _LEAST_SHARED if place.elsewhere else 1
    if place.addressed or place.repeated or resembles(payload.body, sent, least=least):
        return Finding(exchange, comparison, carried=True)
    return None


# Any two JSON objects share a few bytes. Where a payload is so short, another URL's is nobody's.
_LEAST_SHARED = 16

_SAFE_METHODS = QUERY_METHODS | {"OPTIONS", "TRACE"}
"""RFC 9110 section 9.2.1. One that no redirect caused asks for something else than to take a payload."""


def _without(payload: Payload, exchange: Exchange, place: _Place) -> Finding | None:
    # An empty request before the payload can be the first step of a challenge, as in NTLM; after it, it's a resend.
    safe = exchange.method in _SAFE_METHODS
    if not place.followed and (not place.addressed or (safe and not payload.in_query)):
        return None
    lost = Reason.BODY_NOT_RESENT if place.resent and not safe else Reason.BODY_LOST
    aside = not place.followed and (safe or not place.resent)
    return Finding(exchange, Comparison(Verdict.ALTERED, lost), carried=False, aside=aside)


def _went_out(exchange: Exchange) -> bool:
    return exchange.complete or bool(exchange.body) or exchange.status is not None


def _carried(exchange: Exchange) -> bool:
    # Part of a payload can be refused or fail; it can't be delivered.
    return _went_out(exchange) and (exchange.complete or not exchange.succeeded)


def _compare(payload: Payload, exchange: Exchange) -> Comparison:
    if payload.in_query:
        return compare_query(payload, exchange.query)
    body = exchange.body
    if body is None:
        return UNOBSERVED
    if exchange.received_digest not in {None, exchange.digest}:
        return Comparison(Verdict.ALTERED, Reason.ALTERED_IN_TRANSIT)
    comparison = compare(payload, body, exchange.content_encoding)
    if exchange.truncated and comparison.verdict is Verdict.ALTERED:
        return Comparison(Verdict.ALTERED, Reason.BODY_TRUNCATED, first_difference(payload.body, body))
    return comparison


_SEVERITY = (Verdict.UNOBSERVED, Verdict.IDENTICAL, Verdict.EMBEDDED, Verdict.EQUIVALENT, Verdict.ALTERED)


def _worst(findings: Sequence[Finding], carrying: Sequence[Finding]) -> Comparison:
    for finding in findings:
        if finding.comparison.verdict is Verdict.ALTERED:
            return finding.comparison
    if not carrying or carrying[-1].comparison.verdict is Verdict.UNOBSERVED:
        return UNOBSERVED
    return max((finding.comparison for finding in carrying), key=lambda seen: _SEVERITY.index(seen.verdict))


def _answered(last: Exchange, error: BaseException | None) -> _Ending:
    if last.succeeded:
        return _Ending(Outcome.DELIVERED)
    if last.status is not None:
        return _Ending(Outcome.REJECTED, reason_of_status(last.status), str(last.status))
    if last.failure is not None:
        return _Ending(Outcome.FAILED, last.failure, last.error_type)
    if error is not None:
        return _Ending(Outcome.FAILED, reason_of_error(error), error_type(error))
    return _Ending(Outcome.UNCONFIRMED, Reason.RESPONSE_UNREAD)


def _unanswered(findings: Sequence[Finding], error: BaseException | None, missing: Reason | None) -> _Ending:
    if findings and findings[-1].exchange.failure is not None:
        last = findings[-1].exchange
        return _Ending(Outcome.FAILED, last.failure or Reason.ERROR, last.error_type)
    if any(finding.comparison.verdict is Verdict.ALTERED for finding in findings):
        return _Ending(Outcome.FAILED, Reason.BODY_LOST, Reason.BODY_LOST.value)
    if error is not None:
        dropped = missing is Reason.UNSERIALIZABLE
        return _Ending(
            Outcome.DROPPED if dropped else Outcome.FAILED,
            Reason.UNSERIALIZABLE if dropped else reason_of_error(error),
            error_type(error),
        )
    return _Ending(Outcome.UNCONFIRMED, missing or Reason.NO_EVIDENCE)


def _evidence(findings: Sequence[Finding], carrying: Sequence[Finding]) -> Evidence:
    relevant = carrying or [finding for finding in findings if _went_out(finding.exchange)]
    if not relevant:
        return Evidence.CALL
    last = relevant[-1].exchange
    if last.status is None:
        return Evidence.SOCKET
    # What a receiver says of no content says nothing of a query.
    return Evidence.RECEIVER if last.received_digest is not None and last.body else Evidence.RESPONSE
