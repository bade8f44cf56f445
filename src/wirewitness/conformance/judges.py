"""
The judges: pure functions from what was seen to a verdict and its reason.
"""

from __future__ import annotations

import json

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from wirewitness.conformance.observation import Observation, Result, Scenario, failed, not_applicable, passed, warned
from wirewitness.conformance.sink import Received
from wirewitness.core.payload import freeze
from wirewitness.core.verdict import Verdict
from wirewitness.core.verdict import compare as verdict_of


_SUCCESS: Final = range(200, 300)  # RFC 9110 section 15.3
LONG: Final = 1.0
"""Seconds: a caller that is blocked for longer in a plain case has a reason to complain."""


def value_of(text: bytes) -> Any:
    """
    A JSON text's value with its numbers as written; None for what isn't JSON.
    """
    try:
        return json.loads(
            text.decode("utf-8"), parse_float=str, object_pairs_hook=lambda pairs: [sorted(pairs, key=str)]
        )
    except (ValueError, RecursionError):
        return None


def brought(wanted: bytes, request: Received) -> Verdict:
    """
    What a request made of a payload.
    """
    # What is JSON already, such as a payload that was cut out of a compressed request, is in no coding.
    coding = "" if value_of(request.body) is not None else (request.header("content-encoding") or "").lower()
    return verdict_of(freeze(wanted), request.body, coding).verdict


def compare(wanted: bytes, requests: Sequence[Received]) -> Result:
    """
    Hold what arrived against what was meant.
    """
    found = [brought(wanted, request) for request in requests]
    worst = max(found, key=_SEVERITY.index)
    other = requests[found.index(worst)]
    sizes = f"({len(wanted)} bytes meant, {len(other.body)} sent)"
    if worst is Verdict.IDENTICAL:
        return passed(f"{len(wanted)} bytes, identical")
    if worst is not Verdict.ALTERED:
        return warned(f"{_OTHERWISE[worst]} {sizes}")
    if value_of(other.body) == wanted.decode("utf-8", "replace"):
        return warned("sent as a JSON string: encoded twice")
    return failed(f"other bytes {sizes}")


_SEVERITY: Final = (Verdict.IDENTICAL, Verdict.EMBEDDED, Verdict.EQUIVALENT, Verdict.UNOBSERVED, Verdict.ALTERED)
_OTHERWISE: Final = MappingProxyType(
    {
        Verdict.EMBEDDED: "inside a larger content",
        Verdict.EQUIVALENT: "same JSON value, other bytes",
        Verdict.UNOBSERVED: "in a coding that can't be undone here",
    }
)


def nothing_arrived(seen: Observation) -> Result:
    """
    The judgement where no request came whole.
    """
    what = "nothing arrived whole" if seen.requests else "nothing was sent"
    return failed(f"{what}, {seen.telling or seen.silence}")


def intact(_: Scenario, seen: Observation) -> Result:
    """
    The payload arrives once, as it was meant.
    """
    (wanted,) = seen.wanted
    if not seen.complete:
        return nothing_arrived(seen)
    result = compare(wanted, seen.complete)
    if result.mark == "pass" and len(seen.complete) > 1:
        return warned(f"sent {len(seen.complete)} times")
    return result


def optional(scenario: Scenario, seen: Observation) -> Result:
    """
    Likewise, for a kind of payload that a dispatcher needn't take if it says so.
    """
    if not seen.complete and seen.telling:
        return not_applicable(f"doesn't take it, and says so: {seen.telling}")
    return intact(scenario, seen)


def not_json(scenario: Scenario, seen: Observation) -> Result:
    """
    A value that JSON has no number for: refusing it is right.
    """
    if not seen.complete and seen.telling:
        return passed(f"refused: {seen.telling}")
    result = intact(scenario, seen)
    if result.mark == "pass":
        return warned(
            "NaN and Infinity went out as they are: no JSON (RFC 8259 section 6), the receiver may refuse it all"
        )
    return result


def nothing_sent(_: Scenario, seen: Observation) -> Result:
    """
    A value that can't be sent: the caller must know.
    """
    if seen.requests:
        return failed(f"{seen.requests[0].method} with {len(seen.requests[0].body)} bytes was sent for it")
    return passed(f"refused: {seen.telling}") if seen.telling else failed(f"nothing was sent, {seen.silence}")


def carried(seen: Observation) -> list[Received]:
    """
    The requests that brought the first payload whole, in whatever form: what the form is worth, the group payload tells.
    """
    return [request for request in seen.complete if brought(seen.wanted[0], request) is not Verdict.ALTERED]


def strange(seen: Observation) -> str | None:
    """
    What is wrong with the contents of several attempts, or None.
    """
    others = len(seen.complete) - len(carried(seen))
    if others:
        return f"{others} of {len(seen.complete)} requests carried other bytes"
    if len({request.body for request in seen.complete}) > 1:
        return "the attempts differ in bytes"
    return None


def succeeded(scenario: Scenario, seen: Observation) -> Result:
    """
    Answered 2xx: sent once, and not taken for a failure.
    """
    result = intact(scenario, seen)
    if result.mark == "pass" and seen.report.raised:
        return warned(f"a success, and yet it {seen.telling}")
    return result


def permanent(_: Scenario, seen: Observation) -> Result:
    """
    Answered 4xx: repeating won't help, and the caller should know.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    status, times = seen.complete[0].status, len(seen.complete)
    if wrong := strange(seen):
        return failed(f"answered {status}, and {wrong}")
    if times > 1:
        return warned(f"answered {status}, and sent {times} times: no repetition helps")
    if seen.telling:
        return passed(f"answered {status}, {seen.telling}")
    return warned(f"answered {status}, {seen.silence}")


def transient(_: Scenario, seen: Observation) -> Result:
    """
    Answered with what may pass: to be sent again, or handed back to the caller.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    status, times = seen.complete[0].status, len(seen.complete)
    if wrong := strange(seen):
        return failed(f"answered {status}, and {wrong}")
    if times == 1 and not seen.telling:
        return failed(f"answered {status}, sent once, {seen.silence}")
    if not seen.telling:
        return warned(f"answered {status}, sent {times} times with identical bytes and given up, {seen.silence}")
    told = f"{'sent once' if times == 1 else f'sent {times} times with identical bytes'}, {seen.telling}"
    return passed(f"answered {status}, {told}")


def throttled(scenario: Scenario, seen: Observation) -> Result:
    """
    Likewise, and the server has said when to come back.
    """
    result = transient(scenario, seen)
    times = [request.arrived for request in seen.complete]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if result.mark != "fail" and gaps and min(gaps) < asked_wait(scenario) * 0.9:
        return warned(f"sent again after {min(gaps):.2f} s, Retry-After said {asked_wait(scenario):g}")
    return result


def asked_wait(scenario: Scenario) -> float:
    """
    The ``Retry-After`` in a scenario's path, seconds.
    """
    return float(scenario.path.partition("retry-after=")[2] or 0)


def redirected(_: Scenario, seen: Observation) -> Result:
    """
    Answered 3xx: followed with the payload, or handed back.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    first, *later = seen.complete
    known = carried(seen)
    lost = [request for request in later if request not in known]
    if first not in known or lost:
        bad = (lost or [first])[0]
        request = f"{bad.method} with {len(bad.body)} bytes, answered {bad.status}"
        return failed(f"answered {first.status}, followed by {request}: the payload is lost")
    if later:
        same = {request.body for request in later} == {first.body}
        return passed(f"answered {first.status}, followed with {'identical bytes' if same else 'the payload'}")
    if seen.telling:
        return passed(f"answered {first.status}, not followed, {seen.telling}")
    return warned(f"answered {first.status}, not followed, {seen.silence}")


def broken(_: Scenario, seen: Observation) -> Result:
    """
    The transport fails for good: to be tried again, and handed back to the caller.
    """
    tries = max(len(seen.requests), len(seen.report.exchanges), seen.report.counted or 0)
    if wrong := strange(seen):
        return failed(wrong)
    if any(request.status in _SUCCESS for request in seen.complete):
        return passed("delivered in the end, with identical bytes")
    tried = "tried once" if tries <= 1 else f"tried {tries} times"
    if seen.telling:
        return passed(f"{tried}, {seen.telling}")
    if tries <= 1:
        return failed(f"{tried}, {seen.silence}")
    return warned(f"{tried} and given up, {seen.silence}")


def untrusting(scenario: Scenario, seen: Observation) -> Result:
    """
    The server can't be trusted: nothing is sent to it.
    """
    if seen.requests:
        return failed(f"{len(seen.requests[0].body)} bytes were sent to a server that nobody vouches for")
    return broken(scenario, seen)


def recovers(_: Scenario, seen: Observation) -> Result:
    """
    A fault that passes: delivered by the next attempt, or handed back.
    """
    if any(request.status in _SUCCESS for request in carried(seen)):
        if wrong := strange(seen):
            return failed(wrong)
        return passed("delivered in the end, with identical bytes")
    return passed(f"not sent again, {seen.telling}") if seen.telling else failed(f"lost, {seen.silence}")


def arrives(_: Scenario, seen: Observation) -> Result:
    """
    Every payload arrives, each as it was meant.
    """
    total = len(seen.wanted)
    matches = [[body for body in seen.wanted if brought(body, each) is not Verdict.ALTERED] for each in seen.complete]
    nobodys = [request for request, bodies in zip(seen.complete, matches, strict=True) if not bodies]
    if nobodys:
        return failed(f"{len(nobodys)} requests carried other bytes")
    got = Counter(body for bodies in matches for body in bodies)
    good = {
        body
        for request, bodies in zip(seen.complete, matches, strict=True)
        if request.status in _SUCCESS
        for body in bodies
    }
    lost = sum(body not in good for body in seen.wanted)
    if lost:
        return (warned if seen.telling else failed)(f"{lost} of {total} lost, {seen.telling or seen.silence}")
    doubles = sum(count - 1 for count in got.values())
    return warned(f"all arrived, {doubles} twice") if doubles else passed(f"{total} of {total} arrived")


def proxied(_: Scenario, seen: Observation) -> Result:
    """
    The environment names a proxy.
    """
    if carried(seen):
        return passed("sent through the proxy that the environment names")
    if seen.telling:
        return warned(f"HTTP_PROXY isn't used: {seen.telling}")
    return failed(f"HTTP_PROXY isn't used, {seen.silence}")
