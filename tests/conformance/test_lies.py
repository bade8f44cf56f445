"""
No lie of the witness goes unnoticed: true reports are changed in one thing each, and the sink's record doesn't bear them out.
"""

from __future__ import annotations

import copy

import pytest

from wirewitness.conformance.agreement import agreement
from wirewitness.conformance.observation import Observation, Report
from wirewitness.conformance.sink import Received


A, B, COMPACT, BATCH = b'{"number": 0}', b'{"number": 1}', b'{"number":0}', b'[{"number": 0}]'


def request(body, status=204, method="POST"):
    return Received(method, "/v1/events", (), body, 0, complete=True, status=status)


def exchange(of):
    digest = of.digest.hex()
    return {"method": of.method, "path": of.target, "status": of.status, "digest": digest, "complete": True}


def dispatch(payload, verdict, outcome, *requests):
    return {
        "payload": request(payload).digest.hex(),
        "in_query": False,
        "nested": False,
        "verdict": verdict,
        "outcome": outcome,
        "exchanges": [exchange(each) for each in requests],
    }


def told(*dispatches):
    """Of each: the payload, the verdict, the outcome, the requests."""
    wanted = tuple(payload for payload, *_ in dispatches)
    requests = tuple(each for _, _, _, *some in dispatches for each in some)
    return wanted, requests, [dispatch(*each) for each in dispatches]


LOST = request(b"", 200, "GET")
TRUE = {
    "two delivered": told((A, "identical", "delivered", request(A)), (B, "identical", "delivered", request(B))),
    "one altered": told((A, "identical", "delivered", request(A)), (B, "altered", "delivered", request(b"{}"))),
    "retried": told((A, "identical", "delivered", request(A, 503), request(A))),
    "rejected": told((A, "identical", "rejected", request(A, 503))),
    "lost": told((A, "altered", "rejected", request(A, 302), LOST)),
    "compact": told((A, "equivalent", "delivered", request(COMPACT))),
    "batched": told((A, "embedded", "delivered", request(BATCH))),
}


def agreed(wanted, requests, dispatches):
    calls = tuple({"returned": "None", "raised": None, "seconds": 0.0} for _ in wanted)
    return agreement(Observation(wanted, requests, Report(calls=calls, dispatches=tuple(dispatches)))).agrees


@pytest.mark.parametrize("name", TRUE)
def test_a_true_report_agrees(name):
    assert agreed(*TRUE[name])


FALSE = {
    "verdict": ["identical", "equivalent", "embedded", "altered", "unobserved"],
    "outcome": ["delivered", "rejected", "failed", "dropped", "unconfirmed"],
    "payload": ["11" * 32],
}
FALSE_EXCHANGE = {"status": [200, 500, None], "path": ["/else"], "digest": ["00" * 32], "method": ["PUT"]}


def changed(dispatches, index, change):
    copied = copy.deepcopy(dispatches)
    change(copied[index])
    return copied


def lies(dispatches):
    for index, true in enumerate(dispatches):
        for key, values in FALSE.items():
            for value in [value for value in values if value != true[key]]:
                yield f"{key} {value}", changed(dispatches, index, lambda it, k=key, v=value: it.update({k: v}))
        for at, seen in enumerate(true["exchanges"]):
            for key, values in FALSE_EXCHANGE.items():
                for value in [value for value in values if value != seen[key]]:
                    change = lambda it, n=at, k=key, v=value: it["exchanges"][n].update({k: v})  # noqa: E731
                    yield f"exchange {at} {key} {value}", changed(dispatches, index, change)
            yield f"no exchange {at}", changed(dispatches, index, lambda it, n=at: it["exchanges"].pop(n))
            yield f"exchange {at} twice", changed(dispatches, index, lambda it, s=seen: it["exchanges"].append(s))
        if len(true["exchanges"]) > 1:
            yield "another order", changed(dispatches, index, lambda it: it["exchanges"].reverse())
        yield f"no dispatch {index}", dispatches[:index] + dispatches[index + 1 :]
    if len(dispatches) > 1:
        swapped = copy.deepcopy(dispatches)
        swapped[0]["exchanges"], swapped[1]["exchanges"] = swapped[1]["exchanges"], swapped[0]["exchanges"]
        yield "exchanges of each other", swapped


@pytest.mark.parametrize("name", TRUE)
def test_no_lie_agrees(name):
    wanted, requests, dispatches = TRUE[name]
    unnoticed = [lie for lie, told in lies(dispatches) if agreed(wanted, requests, told) is not False]
    assert unnoticed == []


def of_an_outbox(*dispatches):
    # Two attempts, both answered 503; the payload was given up before a third.
    report = Report(calls=({"returned": "None", "raised": None, "seconds": 0.0},), dispatches=dispatches, counted=2)
    return agreement(Observation((A,), (request(A, 503), request(A, 503)), report)).agrees


@pytest.mark.parametrize("verdict", FALSE["verdict"])
@pytest.mark.parametrize("outcome", FALSE["outcome"])
def test_of_what_an_outbox_gave_up_between_two_attempts_the_sink_has_the_last(verdict, outcome):
    # The record of the end has no exchange; a last attempt that did not reach the sink may have failed.
    agrees = verdict == "identical" and outcome in {"rejected", "failed"}
    assert (of_an_outbox(dispatch(A, verdict, outcome)) is True) is agrees
