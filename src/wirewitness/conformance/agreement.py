"""
Tap and sink held against each other: they parse the same bytes independently, so a difference is a fault of one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wirewitness.conformance.observation import Observation
from wirewitness.conformance.sink import Received


class Agreement(NamedTuple):
    """
    Whether the witness says what the sink says.

    Attributes:
        agrees: None where the witness saw nothing and claims nothing, such as of a client that it has no tap in.
        why: What differs.
    """

    agrees: bool | None
    why: str = ""


def agreement(seen: Observation) -> Agreement:
    """
    Compare what the witness reports with what the sink recorded.
    """
    if seen.died is not None or seen.report.skipped is not None:
        return Agreement(None, "the dispatcher's process left no report" if seen.died else "")
    sent = [exchange for exchange in seen.report.exchanges if exchange["complete"] or exchange["status"]]
    if not seen.report.exchanges and not any(_claims(dispatch) for dispatch in seen.report.dispatches):
        return Agreement(None if seen.requests else True)
    why = _tail(seen, sent) if seen.report.counted is not None else _requests(seen.requests, sent)
    return Agreement(not (why := why or _verdicts(seen)), why)


def _claims(dispatch: Mapping[str, Any]) -> bool:
    return bool(dispatch["verdict"] != "unobserved")


def _status(status: int | None) -> str:
    return str(status or "no answer")


def _tapped(exchange: Mapping[str, Any]) -> tuple[str, str, str]:
    return (exchange["method"], exchange["digest"] or "", _status(exchange["status"]))


def _recorded(request: Received) -> tuple[str, str, str]:
    return (request.method, request.digest.hex(), _status(request.status))


def _requests(requests: Sequence[Received], sent: Sequence[Mapping[str, Any]]) -> str:
    # What the sink cut short it knows a part of: the tap may count it as handed to the socket, or as failed.
    whole = Counter(_recorded(request) for request in requests if request.complete)
    tapped = Counter(_tapped(exchange) for exchange in sent)
    unseen = whole - tapped
    if unseen:
        return f"the sink received {_shown(unseen)}, and the tap did not see it"
    invented = sum((tapped - whole).values()) - sum(not request.complete for request in requests)
    if invented > 0:
        return f"the tap saw {_shown(tapped - whole)}, and the sink did not receive it"
    return ""


def _shown(counted: Counter[tuple[str, str, str]]) -> str:
    (method, digest, status), number = counted.most_common(1)[0]
    return f"{number} x {method} {digest[:12]} answered {status}"


def _tail(seen: Observation, sent: Sequence[Mapping[str, Any]]) -> str:
    # An Outbox's record holds a payload's last attempt, its book the number of all.
    whole = Counter(_recorded(request) for request in seen.requests if request.complete)
    cut = sum(not request.complete for request in seen.requests)
    invented = sum((Counter(map(_tapped, sent)) - whole).values()) - cut
    if invented > 0:
        return "the record holds an exchange that the sink did not receive"
    if (seen.report.counted or 0) < len(seen.requests):
        return f"the sink received {len(seen.requests)} requests, the book counts {seen.report.counted}"
    return ""


def _verdicts(seen: Observation) -> str:
    meant = {_digest(body) for body in seen.wanted}
    arrived = [request.digest.hex() for request in seen.requests if request.complete]
    identical = [dispatch for dispatch in seen.report.dispatches if dispatch["verdict"] == "identical"]
    if any(request.method in {"GET", "HEAD"} for request in seen.requests[:1]):
        return ""
    if len(identical) == len(seen.report.dispatches) and identical and any(digest not in meant for digest in arrived):
        return "the verdict is identical, and the sink received other bytes"
    if (
        arrived
        and set(arrived) <= meant
        and any(dispatch["verdict"] == "altered" for dispatch in seen.report.dispatches)
    ):
        return "a verdict is altered, and the sink received nothing but the very bytes"
    if arrived and len(arrived) >= len(seen.wanted) and set(arrived) <= meant and not identical and _saw(seen):
        return f"the sink received the very bytes, and the verdict is {seen.report.dispatches[0]['verdict']}"
    return ""


def _saw(seen: Observation) -> bool:
    return bool(seen.report.exchanges)


def _digest(body: bytes) -> str:
    return Received("", "", (), body, 0).digest.hex()
