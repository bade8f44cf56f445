"""
Tap and sink held against each other: they parse the same bytes independently, so a difference is a fault of one of them.
"""

from __future__ import annotations

import hashlib

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from wirewitness.conformance.observation import Observation
from wirewitness.conformance.sink import Received
from wirewitness.core.payload import freeze
from wirewitness.core.verdict import Verdict, compare


class Agreement(NamedTuple):
    """
    Whether the witness says what the sink says.

    Attributes:
        agrees: None where the witness saw nothing and claims nothing, such as of a client that it has no tap in.
        why: What differs.
    """

    agrees: bool | None
    why: str = ""


Dispatched = Mapping[str, Any]
Key = tuple[str, str, str, str]

_SUCCESS: Final = range(200, 300)  # RFC 9110 section 15.3
_SEVERITY: Final = ("unobserved", "identical", "embedded", "equivalent", "altered")


def agreement(seen: Observation) -> Agreement:
    """
    Compare what the witness reports with what the sink recorded: of every request its method, path, digest and status, their
    number and order, and of every dispatch the payload, the verdict and the outcome.
    """
    if seen.died is not None or seen.report.skipped is not None or not seen.report.calls:
        return Agreement(None, "the dispatcher's process left no report" if seen.died else "")
    if seen.report.dispatches and not seen.report.exchanges and not any(map(_claims, seen.report.dispatches)):
        return Agreement(None if seen.requests else True)
    why = next(_differences(seen), "")
    return Agreement(not why, why)


def _claims(dispatch: Dispatched) -> bool:
    return bool(dispatch["verdict"] != "unobserved" or dispatch["outcome"] in {"delivered", "rejected"})


def _differences(seen: Observation) -> Iterator[str]:
    report, sent = seen.report, [each for each in seen.report.exchanges if each["complete"] or each["status"]]
    yield from _tail(seen, sent) if report.counted is not None else _requests(seen.requests, sent)
    outer = [dispatch for dispatch in report.dispatches if not dispatch["nested"]]
    if len(outer) < len(report.calls):
        yield f"{len(report.calls)} calls were made, and the witness settled {len(outer)}"
    if len(outer) == len(report.dispatches):  # what is nested shares its exchanges with what is around it
        for dispatch in outer:
            yield from _dispatch(seen, dispatch)


def _tapped(exchange: Mapping[str, Any]) -> Key:
    return (exchange["method"], exchange["path"], exchange["digest"] or "", str(exchange["status"] or "no answer"))


def _recorded(request: Received) -> Key:
    # To a proxy, the target is the whole URL (RFC 9112 section 3.2.2).
    path = request.target.partition("?")[0]
    path = path if path.startswith("/") else "/" + path.partition("//")[2].partition("/")[2]
    return (request.method, path, request.digest.hex(), str(request.status or "no answer"))


def _requests(requests: Sequence[Received], sent: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    # What the sink cut short it knows a part of: the tap may count it as handed to the socket, or as failed.
    whole = Counter(_recorded(request) for request in requests if request.complete)
    tapped = Counter(map(_tapped, sent))
    if whole - tapped:
        yield f"the sink received {_shown(whole - tapped)}, and the tap did not see it"
    if sum((tapped - whole).values()) > sum(not request.complete for request in requests):
        yield f"the tap saw {_shown(tapped - whole)}, and the sink did not receive it"


def _shown(counted: Counter[Key]) -> str:
    (method, path, digest, status), number = counted.most_common(1)[0]
    return f"{number} x {method} {path} {digest[:12]} answered {status}"


def _tail(seen: Observation, sent: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    # An Outbox's record holds a payload's last attempt, its book the number of all.
    whole = Counter(_recorded(request) for request in seen.requests if request.complete)
    cut = sum(not request.complete for request in seen.requests)
    if sum((Counter(map(_tapped, sent)) - whole).values()) > cut:
        yield "the record holds an exchange that the sink did not receive"
    if (seen.report.counted or 0) < len(seen.requests):
        yield f"the sink received {len(seen.requests)} requests, the book counts {seen.report.counted}"


def _dispatch(seen: Observation, dispatch: Dispatched) -> Iterator[str]:
    own = _own(seen.requests, dispatch)
    if own is None:
        yield "the tap has a dispatch's requests in another order than the sink"
        return
    meant = {hashlib.sha256(body).hexdigest(): body for body in seen.wanted}
    payload = dispatch["payload"]
    if payload is None:
        return
    if not dispatch["in_query"] and payload not in meant:
        yield "the witness took other bytes for the payload than the caller meant"
        return
    whole = len(own) == sum(bool(each["complete"] or each["status"]) for each in dispatch["exchanges"])
    if seen.report.counted is not None and not dispatch["exchanges"]:
        # Given up between two attempts: the record tells how the last one ended, and only the sink has its request.
        own = [each for each in seen.requests if each.complete and _found(dispatch, meant, each) == "identical"][-1:]
    yield from _verdict(dispatch, [_found(dispatch, meant, request) for request in own], whole=whole)
    yield from _outcome(dispatch, [request for request in own if _carries(dispatch, request)], whole=whole)


def _own(requests: Sequence[Received], dispatch: Dispatched) -> list[Received] | None:
    # The sink's records of a dispatch's exchanges; None where they can't be found in this order. What the sink cut is skipped.
    left = [request for request in requests if request.complete]
    known = Counter(map(_recorded, left))
    own: list[Received] = []
    for key in filter(known.__contains__, map(_tapped, dispatch["exchanges"])):
        at = next((index for index, request in enumerate(left) if _recorded(request) == key), None)
        if at is None:
            return None
        own.append(left[at])
        left = left[at + 1 :]
    return own


def _found(dispatch: Dispatched, meant: Mapping[str, bytes], request: Received) -> str:
    if dispatch["in_query"]:
        same = hashlib.sha256(request.target.partition("?")[2].encode()).hexdigest() == dispatch["payload"]
        return "identical" if same else "other"
    if request.digest.hex() == dispatch["payload"]:
        return "identical"
    found = compare(
        freeze(meant[dispatch["payload"]]), request.body, (request.header("content-encoding") or "").lower()
    )
    return found.verdict.value


def _carries(dispatch: Dispatched, request: Received) -> bool:
    return bool(dispatch["in_query"] or request.body or request.digest.hex() == dispatch["payload"])


def _verdict(dispatch: Dispatched, found: Sequence[str], *, whole: bool) -> Iterator[str]:
    said = dispatch["verdict"]
    # Of a query, another spelling of the same pairs is no alteration; of what was cut, only the whole is known.
    if "other" in found or not found or (said == "unobserved" and found[-1] == "unobserved"):
        if said == "identical" and found:
            yield "the verdict is identical, and the sink received another query"
        return
    worst = max(found, key=_SEVERITY.index)
    if worst != said and (whole or _SEVERITY.index(worst) > _SEVERITY.index(said)):
        yield f"by what the sink received the payload is {worst}, and the verdict is {said}"


def _outcome(dispatch: Dispatched, carrying: Sequence[Received], *, whole: bool) -> Iterator[str]:
    said, status = dispatch["outcome"], carrying[-1].status if carrying else None
    expected = {"failed", "unconfirmed", "dropped"}
    if status is not None:
        expected = {"delivered"} if status in _SUCCESS else {"rejected"}
        # Where the record has no exchange, a later attempt may not have reached the sink.
        expected |= set() if dispatch["exchanges"] else {"failed"}
    elif carrying:
        expected = {"failed", "unconfirmed"}
    if said not in expected and whole and (carrying or not dispatch["exchanges"]):
        yield f"the sink answered {status or 'nothing'}, and the outcome is {said}"


assert set(_SEVERITY) == {verdict.value for verdict in Verdict}  # noqa: S101 -- a verdict more would be forgotten here
