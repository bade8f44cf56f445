"""
The judges: pure functions from what was seen to a verdict and its reason.
"""

from __future__ import annotations

import json

from collections import Counter
from itertools import pairwise
from typing import Any, Final

from wirewitness.conformance.observation import Observation, Result, Scenario, failed, not_applicable, passed, warned
from wirewitness.conformance.sink import Received


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


def compare(wanted: bytes, bodies: list[bytes]) -> Result:
    """
    Hold what arrived against what was meant.
    """
    if all(body == wanted for body in bodies):
        return passed(f"{len(wanted)} bytes, identical")
    other = next(body for body in bodies if body != wanted)
    meant = value_of(wanted)
    if meant is not None and value_of(other) == meant:
        return warned(f"same JSON value, other bytes ({len(wanted)} meant, {len(other)} sent)")
    if value_of(other) == wanted.decode("utf-8", "replace"):
        return warned("sent as a JSON string: encoded twice")
    return failed(f"other bytes: {len(wanted)} meant, {len(other)} sent")


def nothing_arrived(seen: Observation) -> Result:
    """
    The judgement where no request came whole.
    """
    return failed(f"nothing was sent, {seen.telling or seen.silence}")


def intact(_: Scenario, seen: Observation) -> Result:
    """
    The payload arrives once, as it was meant.
    """
    (wanted,) = seen.wanted
    bodies = [request.body for request in seen.complete]
    if not bodies:
        return nothing_arrived(seen)
    result = compare(wanted, bodies)
    if result.mark == "pass" and len(bodies) > 1:
        return warned(f"sent {len(bodies)} times")
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
    The requests that brought the first payload whole.
    """
    return [request for request in seen.complete if request.body == seen.wanted[0]]


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
    if len(carried(seen)) != times:
        return failed(f"answered {status}, and {_of_others(seen)}")
    if times > 1:
        return warned(f"answered {status}, and sent {times} times: no repetition helps")
    if seen.telling:
        return passed(f"answered {status}, {seen.telling}")
    return warned(f"answered {status}, {seen.silence}")


def _of_others(seen: Observation) -> str:
    others = [request for request in seen.complete if request.body != seen.wanted[0]]
    return f"{len(others)} of {len(seen.complete)} requests carried other bytes"


def transient(_: Scenario, seen: Observation) -> Result:
    """
    Answered with what may pass: to be sent again, or handed back to the caller.
    """
    if not seen.complete:
        return nothing_arrived(seen)
    status, times = seen.complete[0].status, len(seen.complete)
    if len(carried(seen)) != times:
        return failed(f"answered {status}, and {_of_others(seen)}")
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
    lost = [request for request in later if request.body != seen.wanted[0]]
    if first.body != seen.wanted[0] or lost:
        bad = (lost or [first])[0]
        request = f"{bad.method} with {len(bad.body)} bytes, answered {bad.status}"
        return failed(f"answered {first.status}, followed by {request}: the payload is lost")
    if later:
        return passed(f"answered {first.status}, followed with identical bytes")
    if seen.telling:
        return passed(f"answered {first.status}, not followed, {seen.telling}")
    return warned(f"answered {first.status}, not followed, {seen.silence}")


def broken(_: Scenario, seen: Observation) -> Result:
    """
    The transport fails for good: to be tried again, and handed back to the caller.
    """
    tries = max(len(seen.requests), len(seen.report.exchanges), seen.report.counted or 0)
    if any(request.body != seen.wanted[0] for request in seen.complete):
        return failed(_of_others(seen))
    if any(request.status and request.status < 300 for request in seen.complete):  # noqa: PLR2004 -- RFC 9110
        return passed("delivered in the end, with identical bytes")
    tried = "tried once" if tries <= 1 else f"tried {tries} times"
    if seen.telling:
        return passed(f"{tried}, {seen.telling}")
    if tries <= 1:
        return failed(f"{tried}, {seen.silence}")
    return warned(f"{tried} and given up, {seen.silence}")


def recovers(_: Scenario, seen: Observation) -> Result:
    """
    A fault that passes: delivered by the next attempt, or handed back.
    """
    if any(request.status and request.status < 300 for request in carried(seen)):  # noqa: PLR2004 -- RFC 9110
        if len(carried(seen)) < len(seen.complete):
            return failed(_of_others(seen))
        return passed("delivered in the end, with identical bytes")
    return passed(f"not sent again, {seen.telling}") if seen.telling else failed(f"lost, {seen.silence}")


def arrives(_: Scenario, seen: Observation) -> Result:
    """
    Every payload arrives, each as it was meant.
    """
    wanted, got = Counter(seen.wanted), Counter(request.body for request in seen.complete)
    answered = Counter(
        request.body
        for request in seen.complete
        if request.status and request.status < 300  # noqa: PLR2004
    )
    missing, strange = wanted - answered, [body for body in got if body not in wanted]
    if missing and not strange:
        number = sum(missing.values())
        said = seen.telling or seen.silence
        return (warned if seen.telling else failed)(f"{number} of {len(seen.wanted)} lost, {said}")
    if strange:
        worst = compare(next(iter(missing), seen.wanted[0]), strange)
        return worst if worst.mark == "warn" else failed(f"{len(strange)} requests carried other bytes")
    doubles = sum((got - wanted).values())
    return (
        warned(f"all arrived, {doubles} twice")
        if doubles
        else passed(f"{len(seen.wanted)} of {len(seen.wanted)} arrived")
    )


def proxied(_: Scenario, seen: Observation) -> Result:
    """
    The environment names a proxy.
    """
    if carried(seen):
        return passed("sent through the proxy that the environment names")
    if seen.telling:
        return warned(f"HTTP_PROXY isn't used: {seen.telling}")
    return failed(f"HTTP_PROXY isn't used, {seen.silence}")
