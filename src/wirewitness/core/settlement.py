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
    """

    exchange: Exchange
    comparison: Comparison
    carried: bool


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
    findings = _unknown_findings(exchanges) if payload is None else _findings(payload, exchanges, target)
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


class _Ending(NamedTuple):
    outcome: Outcome
    reason: Reason = Reason.NONE
    error_type: str | None = None


def _unknown_findings(exchanges: Sequence[Exchange]) -> list[Finding]:
    # What can't be compared can still be seen to be there: as content, or as the first request of all.
    return [
        Finding(exchange, UNOBSERVED, carried=_went_out(exchange) and (exchange.body != b"" or not index))
        for index, exchange in enumerate(exchanges)
    ]


def _findings(payload: Payload, exchanges: Sequence[Exchange], target: Address | None) -> list[Finding]:
    expected = {target} if target else set()
    findings: list[Finding] = []
    previous: Exchange | None = None
    for exchange in exchanges:
        if previous is not None and previous.redirected and previous.address in expected:
            expected.add(exchange.address)
        finding = _examine(payload, exchange, expected, resent=any(earlier.carried for earlier in findings))
        if finding is not None:
            findings.append(finding)
            expected |= {exchange.address} if finding.carried else set()
        previous = exchange
    return findings


def _examine(payload: Payload, exchange: Exchange, expected: set[Address], *, resent: bool) -> Finding | None:
    if not _went_out(exchange):
        return Finding(exchange, UNOBSERVED, carried=False)
    addressed = exchange.address in expected
    comparison = _compare(payload, exchange)
    if comparison.verdict is not Verdict.ALTERED:
        elsewhere = not payload.body and expected and not addressed
        return None if elsewhere else Finding(exchange, comparison, carried=True)
    if not (exchange.query if payload.in_query else exchange.body):
        return Finding(exchange, _lost(exchange, resent=resent), carried=False) if addressed else None
    if addressed or resembles(payload.body, exchange.body or b""):
        return Finding(exchange, comparison, carried=True)
    return None


def _went_out(exchange: Exchange) -> bool:
    return exchange.complete or bool(exchange.body)


def _compare(payload: Payload, exchange: Exchange) -> Comparison:
    if payload.in_query:
        return compare_query(payload, exchange.query)
    body = exchange.body
    if body is None or (not exchange.complete and payload.body.startswith(body)):
        return UNOBSERVED
    if exchange.received_digest not in {None, exchange.digest}:
        return Comparison(Verdict.ALTERED, Reason.ALTERED_IN_TRANSIT)
    comparison = compare(payload, body, exchange.content_encoding)
    if exchange.truncated and comparison.verdict is Verdict.ALTERED:
        return Comparison(Verdict.ALTERED, Reason.BODY_TRUNCATED, first_difference(payload.body, body))
    return comparison


def _lost(exchange: Exchange, *, resent: bool) -> Comparison:
    not_resent = resent and exchange.method not in QUERY_METHODS
    return Comparison(Verdict.ALTERED, Reason.BODY_NOT_RESENT if not_resent else Reason.BODY_LOST)


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
    return Evidence.RESPONSE if last.received_digest is None else Evidence.RECEIVER
