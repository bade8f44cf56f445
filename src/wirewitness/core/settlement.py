"""
The judgement: from a payload, its exchanges and the error to outcome, verdict and evidence.

Theory of operation
===================

The input is everything that one dispatch did on the wire, in order: its attempts, redirects and retries, but also
whatever else ran within the call, such as a token request, a log line that was shipped, or a copy for an audit.
The judgement has four steps, and no state, clock or socket.

1. *Where.* Each exchange is at the payload's target, follows a redirect from there, or is elsewhere. Where the caller named
   a target, only that counts. The same bytes seen elsewhere make no outcome and no verdict: an error report that quotes a
   refused event was taken, and the event was not. There's one exception, for dispatchers that send to a gateway whatever URL
   they are given: see :func:`_relay`. Where no target is known, :func:`_presumed_target` picks the one address that the
   dispatch was about.
2. *Role.* :data:`ROLES` is a table: its first row that fits an exchange names the role that the exchange plays. The role
   says whether the exchange carried the payload, and what it did to the content.
3. *Verdict.* The worst that any exchange did to the payload, for each attempt may have been taken by the receiver.
4. *Outcome.* What answered the last exchange that carried the payload. Without one, the error; without that, nobody knows.

A rule for every doubt: what isn't known is ``UNOBSERVED`` and ``UNCONFIRMED``, never a guess.
"""

from __future__ import annotations

import enum

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from wirewitness.core.exchange import Address, Exchange, Origin
from wirewitness.core.outcome import Outcome, Reason, error_type, reason_of_error, reason_of_status
from wirewitness.core.payload import QUERY_METHODS, SMALL, Payload
from wirewitness.core.verdict import (
    EMBEDDED,
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
        """Whether waiting for later evidence can't change it."""
        return self.outcome is not Outcome.UNCONFIRMED or self.reason in _NOTHING_TO_WAIT_FOR


_NOTHING_TO_WAIT_FOR: Final = frozenset({Reason.FRAMED_ODDLY, Reason.TAP_LOST})


class Where(enum.Enum):
    """
    Where an exchange went, as seen from the payload.
    """

    TARGET = "target"
    """To the payload's address, or to one that a redirect from there has led it to before."""
    FOLLOWED = "followed"
    """To where the exchange just before, at the target, was redirected."""
    ELSEWHERE = "elsewhere"
    """To any other address."""


class Carried(enum.Enum):
    """
    What an exchange carried, as its content or in a GET as its query.
    """

    PAYLOAD = "payload"
    """The payload as it was meant, or something that can't be compared with it."""
    OTHER = "other"
    """Something else."""
    NOTHING = "nothing"


class Role(enum.Enum):
    """
    The part that an exchange plays in a dispatch.
    """

    ELSEWHERE = "elsewhere"
    """Another address's business, whatever it carried."""
    BROKEN_OFF = "broken_off"
    """Part of a request, or one whose content nobody can tell. It can be refused or fail; it can't be a delivery."""
    CARRIER = "carrier"
    """Carried the payload, or what was made of it."""
    FOLLOW_UP = "follow_up"
    """Followed a redirect, and lost the payload on the way."""
    RESEND = "resend"
    """Repeats an attempt without its content."""
    CHALLENGE = "challenge"
    """Asks without the payload before the payload is sent, as the first step of NTLM does. Alone, the payload was lost."""
    BYSTANDER = "bystander"
    """Asks the target for something else."""


class RoleRow(NamedTuple):
    """
    One row of :data:`ROLES`. A condition that is None fits everything.

    Attributes:
        role: The role of an exchange that fits.
        where: Where it went.
        complete: Whether all of it was sent, in a framing that every receiver reads alike.
        carried: What it carried.
        safe: Whether its method asks for something rather than to take a payload (RFC 9110 section 9.2.1).
        resent: Whether an earlier exchange carried the payload.
        in_query: Whether the payload is a query.
        lost: What became of the payload in it.
    """

    role: Role
    where: Where | None = None
    complete: bool | None = None
    carried: Carried | None = None
    safe: bool | None = None
    resent: bool | None = None
    in_query: bool | None = None
    lost: Reason = Reason.NONE


ROLES: Final = (
    RoleRow(Role.ELSEWHERE, where=Where.ELSEWHERE),
    RoleRow(Role.BROKEN_OFF, complete=False),
    RoleRow(Role.CARRIER, carried=Carried.PAYLOAD),
    RoleRow(Role.CARRIER, carried=Carried.OTHER),
    RoleRow(Role.FOLLOW_UP, where=Where.FOLLOWED, safe=False, resent=True, lost=Reason.BODY_NOT_RESENT),
    RoleRow(Role.FOLLOW_UP, where=Where.FOLLOWED, lost=Reason.BODY_LOST),
    RoleRow(Role.RESEND, safe=False, resent=True, lost=Reason.BODY_NOT_RESENT),
    RoleRow(Role.CHALLENGE, safe=False, lost=Reason.BODY_LOST),
    RoleRow(Role.CHALLENGE, in_query=True, lost=Reason.BODY_LOST),
    RoleRow(Role.BYSTANDER),
)
"""What an exchange's role is: the first row that fits decides."""


class Finding(NamedTuple):
    """
    What one exchange says about the payload.

    Attributes:
        exchange: The exchange.
        role: Its role.
        comparison: What it did to the payload.
        carried: Whether the payload, in whatever state, was in it.
    """

    exchange: Exchange
    role: Role
    comparison: Comparison
    carried: bool


def judge(  # noqa: PLR0913 -- what is known of a dispatch
    payload: Payload | None,
    exchanges: Sequence[Exchange],
    *,
    target: Address | None = None,
    error: BaseException | None = None,
    unknown: Reason = Reason.UNKNOWN_PAYLOAD,
    unseen: Reason = Reason.NO_EVIDENCE,
    receivers: Collection[Origin] = (),
) -> Settlement:
    """
    Judge one dispatch by what the wire saw of it.

    Args:
        payload: What was meant, or None where it couldn't be known.
        exchanges: All requests made for it, in order.
        target: Where the caller asked it to go; None if that isn't known.
        error: What the inner dispatcher raised.
        unknown: Why there's no payload, if there's none.
        unseen: Why nothing may have been seen.
        receivers: Whose word on what they got is taken. Any server can answer with a digest field.
    """
    if len(exchanges) == 1 and _plainly_delivered(payload, exchanges[0], target):
        return _DELIVERED
    exchanges = [
        exchange
        if exchange.received_digest is None or exchange.origin in receivers
        else replace(exchange, received_digest=None)
        for exchange in exchanges
    ]
    findings = _findings(payload, exchanges, target)
    carrying = [finding for finding in findings if finding.carried]
    comparison = _worst(findings, carrying)
    if carrying:
        ending = _answered(carrying[-1].exchange, error)
    else:
        ending = _unanswered(findings, error, unknown if payload is None else None)
        if ending.reason is Reason.NO_EVIDENCE:
            ending = _Ending(Outcome.UNCONFIRMED, _why_unseen(payload, exchanges, findings, unseen))
    return Settlement(
        ending.outcome,
        comparison.verdict,
        _evidence(findings, carrying),
        comparison.reason or ending.reason,
        comparison.offset,
        ending.error_type,
    )


_DELIVERED = Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE)


def _plainly_delivered(payload: Payload | None, exchange: Exchange, target: Address | None) -> bool:
    # What nearly every dispatch is comes to the same below; here it costs a comparison.
    return (
        payload is not None
        and not payload.in_query
        and exchange.body == payload.body != b""
        and exchange.complete
        and exchange.succeeded
        and exchange.received_digest is None
        and (target is None or (exchange.scheme, exchange.host, exchange.port, exchange.path) == target)
    )


class _Ending(NamedTuple):
    outcome: Outcome
    reason: Reason = Reason.NONE
    error_type: str | None = None


def _findings(payload: Payload | None, exchanges: Sequence[Exchange], target: Address | None) -> list[Finding]:
    """
    What the exchanges say, those elsewhere and bystanders left out.
    """
    compared = [UNOBSERVED if payload is None else _compare(payload, exchange) for exchange in exchanges]
    aim = (
        _presumed_target(payload, exchanges, compared)
        if target is None
        else _relay(payload, exchanges, compared, target)
    )
    addresses = set() if aim is None else {aim}
    findings: list[Finding] = []
    previous: Exchange | None = None
    followed = False
    for exchange, comparison in zip(exchanges, compared, strict=True):
        followed = previous is not None and _follows(exchange, previous) and (followed or _is_at(previous, addresses))
        where = Where.FOLLOWED if followed else Where.TARGET if _is_at(exchange, addresses) else Where.ELSEWHERE
        previous = exchange
        resent = any(earlier.carried for earlier in findings)
        in_query = payload is not None and payload.in_query
        # An unknown payload can't be compared. It can still be seen that something was sent: as content, or first of all.
        known = payload is not None or exchange.body != b"" or (not findings and where is Where.TARGET)
        row = _row(exchange, where, _content(exchange, comparison, known=known, in_query=in_query), resent, in_query)
        if row.role in {Role.ELSEWHERE, Role.BYSTANDER}:
            continue
        if row.role is Role.BROKEN_OFF:
            comparison = UNOBSERVED  # noqa: PLW2901 -- of a part nothing is known
        elif row.role is not Role.CARRIER:
            comparison = Comparison(Verdict.ALTERED, row.lost) if payload is not None else UNOBSERVED  # noqa: PLW2901
        carried = row.role is Role.CARRIER or (row.role is Role.BROKEN_OFF and _broke_off_with_it(exchange))
        findings.append(Finding(exchange, row.role, comparison, carried))
        if carried:
            addresses.add(exchange.address)
    carried = any(finding.carried for finding in findings)
    return [finding for finding in findings if not (carried and finding.role is Role.CHALLENGE)]


def _row(exchange: Exchange, where: Where, carried: Carried, resent: bool, in_query: bool) -> RoleRow:  # noqa: FBT001 -- the table's columns
    seen = (where, exchange.complete, carried, exchange.method in _SAFE_METHODS, resent, in_query)
    return next(row for row in ROLES if all(wanted in {None, is_} for wanted, is_ in zip(row[1:-1], seen, strict=True)))


_SAFE_METHODS: Final = QUERY_METHODS | {"OPTIONS", "TRACE"}


def _content(exchange: Exchange, comparison: Comparison, *, known: bool, in_query: bool) -> Carried:
    if comparison.verdict is not Verdict.ALTERED:
        return Carried.PAYLOAD if known else Carried.NOTHING
    return Carried.OTHER if (exchange.query if in_query else exchange.body) else Carried.NOTHING


def _is_at(exchange: Exchange, addresses: Iterable[Address]) -> bool:
    # An attempt that failed at connecting asked for no path yet.
    return any(exchange.address == each or (not exchange.path and exchange.origin == each[:3]) for each in addresses)


def _follows(exchange: Exchange, previous: Exchange) -> bool:
    return previous.redirected and previous.location is not None and _is_at(exchange, (previous.location,))


def _relay(
    payload: Payload | None, exchanges: Sequence[Exchange], compared: Sequence[Comparison], target: Address
) -> Address:
    """
    The target itself, or where a dispatcher sends in its place: a gateway, or a test's endpoint.

    That is claimed only where nothing at all went to the target, and the whole payload went to one address and no other,
    within the call. A payload in an envelope doesn't do, as an error report is one; nor does a small one.
    """
    if payload is None or len(payload) < SMALL or any(_is_at(exchange, (target,)) for exchange in exchanges):
        return target
    whole = [
        exchange.address
        for index, exchange in enumerate(exchanges)
        if compared[index].verdict in {Verdict.IDENTICAL, Verdict.EQUIVALENT}
        and not (index and _follows(exchange, exchanges[index - 1]))
    ]
    return whole[0] if len(set(whole)) == 1 else target


def _presumed_target(
    payload: Payload | None, exchanges: Sequence[Exchange], compared: Sequence[Comparison]
) -> Address | None:
    """
    Where a payload was to go that nobody named a target for; None where nothing tells.

    It's the address of the exchange that carried the payload best, for an error report or an audit copy carries it in an
    envelope, masked or not at all. Of equals it's the last that was taken, for a dispatcher may go on to a second
    endpoint where the first is down, or else the first.
    """
    if payload is None:
        return _presumed_target_of_unknown(exchanges)
    best: tuple[int, bool, int] | None = None
    found = -1
    for index, (exchange, comparison) in enumerate(zip(exchanges, compared, strict=True)):
        sent = exchange.query.encode("utf-8", "surrogatepass") if payload.in_query else exchange.body
        altered = comparison.verdict is Verdict.ALTERED
        if altered and not (sent and resembles(payload.body, sent)):
            continue
        rank = len(_BEST_FIRST) if not exchange.complete else _BEST_FIRST.index(comparison.verdict)
        key = (-rank, exchange.succeeded, index if exchange.succeeded else -index)
        if best is None or key > best:
            best, found = key, index
    # Where a redirect led there, the dispatch began before it.
    while found > 0 and _follows(exchanges[found], exchanges[found - 1]):
        found -= 1
    return exchanges[found].address if best is not None else None


_BEST_FIRST: Final = (Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.EMBEDDED, Verdict.UNOBSERVED, Verdict.ALTERED)


def _presumed_target_of_unknown(exchanges: Sequence[Exchange]) -> Address | None:
    """
    The one address that was sent content, or asked at all; None where several were, and not all took what they got.
    """
    sent = [exchange for exchange in exchanges if exchange.body != b""] or list(exchanges[:1])
    redirected = {exchange.location for exchange in sent if exchange.redirected}
    addresses = {exchange.address for exchange in sent} - redirected
    if len(addresses) > 1 and not all(exchange.succeeded for exchange in sent):
        return None
    return sent[-1].address if len(addresses) != 1 and sent else next(iter(addresses), None)


def _went_out(exchange: Exchange) -> bool:
    return exchange.complete or bool(exchange.body) or exchange.status is not None


def _broke_off_with_it(exchange: Exchange) -> bool:
    # Part of a payload can be refused or fail; it can't be delivered.
    return _went_out(exchange) and not exchange.succeeded


def _why_unseen(
    payload: Payload | None, exchanges: Sequence[Exchange], findings: Sequence[Finding], unseen: Reason
) -> Reason:
    if any(not finding.exchange.clear for finding in findings):
        return Reason.FRAMED_ODDLY
    if unseen is not Reason.NO_EVIDENCE or payload is None or findings or not payload.body:
        return unseen
    seen = (_compare(payload, exchange).verdict for exchange in exchanges if exchange.complete)
    return Reason.ELSEWHERE if any(verdict in _BEST_FIRST[:3] for verdict in seen) else unseen


def _compare(payload: Payload, exchange: Exchange) -> Comparison:
    body = exchange.body
    if not exchange.complete or (body is None and not payload.in_query):
        return UNOBSERVED
    if payload.in_query or body is None:
        return compare_query(payload, exchange.query)
    # In this order: a digest costs time in proportion to the body, which hundreds of payloads may share.
    if exchange.received_digest is not None and exchange.received_digest != exchange.digest:
        return Comparison(Verdict.ALTERED, Reason.ALTERED_IN_TRANSIT)
    if payload.body in exchange.embeds and not exchange.content_encoding:
        return EMBEDDED
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
    if last.answered and last.status is not None:
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
