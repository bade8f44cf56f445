"""
The judges, by observations made by hand.
"""

from __future__ import annotations

import pytest

from wirewitness.conformance.agreement import agreement
from wirewitness.conformance.observation import Observation, Report
from wirewitness.conformance.payloads import BUILDERS, bytes_of
from wirewitness.conformance.sink import Received
from wirewitness.conformance.suite import SCENARIOS, choose, find


BODY = bytes_of(BUILDERS["plain"]())
SUCCESS = Report(calls=({"returned": "None", "raised": None, "seconds": 0.0},))


def request(  # noqa: PLR0913
    status=503, body=BODY, method="POST", *, complete=True, arrived=0.0, headers=(), target="/"
):
    return Received(method, target, headers, body, 0, complete, status, arrived)


def report(*, returned="None", raised=None, seconds=0.0, **more):
    return Report(calls=({"returned": returned, "raised": raised, "seconds": seconds},), **more)


def judged(name, *requests, said=None, wanted=None):
    scenario = find(name)
    seen = Observation((BODY,) if wanted is None else wanted, requests, said or report(), None, SUCCESS)
    return scenario.judge(scenario, seen)


@pytest.mark.parametrize(
    ("name", "requests", "said", "mark", "words"),
    [
        ("payload/plain", [request(204)], {}, "pass", "identical"),
        ("payload/plain", [], {}, "fail", "nothing was sent, nobody told"),
        ("payload/plain", [request(None, complete=False)], {}, "fail", "nothing arrived whole, nobody told"),
        ("payload/plain", [request(204), request(204)], {}, "warn", "sent 2 times"),
        ("payload/plain", [request(204, BODY.replace(b", ", b","))], {}, "warn", "same JSON value"),
        ("payload/plain", [request(204, BODY.replace(b"12001", b"12002"))], {}, "fail", "other bytes"),
        ("payload/plain", [request(204, BODY[:-1])], {}, "fail", "other bytes"),
        ("payload/bytes", [], {"raised": "TypeError"}, "n/a", "TypeError"),
        ("payload/bytes", [], {}, "fail", "nobody told"),
        ("payload/nan", [request(204)], {}, "warn", "no JSON"),
        ("payload/nan", [], {"raised": "ValueError"}, "pass", "refused"),
        ("status/200", [request(200)], {"raised": "KeyError"}, "warn", "yet it raised KeyError"),
        ("status/200", [request(200)], {"returned": "200"}, "pass", "identical"),
        ("status/503", [request()], {}, "fail", "sent once, nobody told"),
        ("status/503", [request()], {"logged": 1}, "fail", "it was logged"),
        ("status/503", [request()], {"raised": "HTTPError"}, "pass", "raised HTTPError"),
        ("status/503", [request()], {"returned": "503"}, "pass", "returned 503"),
        ("status/503", [request()], {"told": {"close()": "1 lost"}}, "pass", "close() said 1 lost"),
        ("status/503", [request(), request()], {}, "warn", "sent 2 times"),
        ("status/503", [request(), request(body=b"{}")], {"raised": "HTTPError"}, "fail", "1 of 2 requests"),
        ("status/503", [], {}, "fail", "nothing was sent"),
        ("status/404", [request(404)], {}, "warn", "nobody told"),
        ("status/404", [request(404)], {"raised": "HTTPError"}, "pass", "raised"),
        ("status/404", [request(404), request(404)], {"raised": "HTTPError"}, "warn", "no repetition helps"),
        ("status/404", [request(404, b"")], {}, "fail", "other bytes"),
        ("status/404", [], {}, "fail", "nothing was sent"),
        ("status/302", [request(302), request(200, b"", "GET")], {}, "fail", "GET with 0 bytes, answered 200"),
        ("status/302", [request(302), request(200)], {}, "pass", "followed with identical bytes"),
        ("status/302", [request(302), request(200, BODY + b" ")], {}, "pass", "followed with the payload"),
        ("status/302", [request(302)], {"raised": "HTTPError"}, "pass", "not followed"),
        ("status/302", [request(302)], {}, "warn", "not followed, nobody told"),
        ("status/307", [request(307), request(204, b"")], {}, "fail", "the payload is lost"),
        ("status/307", [], {}, "fail", "nothing was sent"),
        ("status/429", [request(429), request(429, arrived=0.2)], {"raised": "E"}, "warn", "sent again after 0.20 s"),
        ("status/429", [request(429), request(429, arrived=1.1)], {"raised": "E"}, "pass", "sent 2 times"),
        ("transport/refused", [], {}, "fail", "tried once, nobody told"),
        ("transport/refused", [], {"raised": "ConnectionError"}, "pass", "raised"),
        ("transport/refused", [], {"counted": 4}, "warn", "tried 4 times and given up"),
        ("transport/reset_after_body", [request(None), request(204)], {}, "pass", "delivered in the end"),
        ("transport/reset_after_body", [request(None), request(None, b"")], {}, "fail", "1 of 2 requests"),
        ("transport/recovery", [request(500), request(204)], {}, "pass", "delivered in the end"),
        ("transport/recovery", [request(500), request(204, b"")], {}, "fail", "lost"),
        ("transport/recovery", [request(500, b""), request(204)], {}, "fail", "1 of 2 requests"),
        ("transport/recovery", [request(500)], {"raised": "E"}, "pass", "not sent again"),
        ("transport/proxy", [], {}, "fail", "isn't used"),
        ("transport/proxy", [], {"raised": "E"}, "warn", "isn't used"),
        ("transport/proxy", [request(204)], {}, "pass", "through the proxy"),
        ("transport/slow_response", [request(204)], {"seconds": 1.5}, "warn", "blocked for 1.5 s"),
        ("transport/slow_response", [], {}, "fail", "nothing was sent"),
        ("transport/slow_read", [request(204, b"", complete=False)], {}, "fail", "1 of 1 lost"),
        ("transport/slow_read", [request(204, BODY + b" ")], {}, "pass", "1 of 1 arrived"),
        ("transport/slow_read", [request(204, b"x")], {}, "fail", "carried other bytes"),
        ("transport/slow_read", [request(204), request(204)], {}, "warn", "twice"),
        ("headers/content_type", [request(204)], {}, "fail", "nothing arrived"),
        ("headers/content_type", [], {}, "fail", "nothing was sent"),
        ("headers/own_field", [request(204)], {"three": True}, "n/a", "no place for header fields"),
        ("headers/no_coding", [request(204, headers=(("content-encoding", "gzip"),))], {}, "warn", "gzip was added"),
        ("headers/no_coding", [request(204)], {}, "pass", "chunked"),
        ("headers/no_coding", [], {}, "fail", "nothing was sent"),
        ("headers/no_leak", [request(204, headers=(("baggage", "user=1"),))], {}, "fail", "baggage added"),
        ("headers/no_leak", [], {}, "fail", "nothing was sent"),
        ("caller/return_value", [request(204)], {"raised": "KeyError"}, "fail", "after a success"),
        ("caller/not_mutated", [request(204)], {"mutated": True}, "fail", "changed in place"),
        ("caller/changed_after", [request(204, b'"changed by the caller"')], {}, "fail", "serialised later"),
        ("caller/changed_after", [], {}, "fail", "nothing was sent"),
        ("caller/unserializable", [request(204, b"{}")], {}, "fail", "was sent for it"),
        ("caller/unserializable", [], {}, "fail", "nobody told"),
        ("shape/unknown_verb", [request(204)], {}, "warn", "POST was sent"),
        ("shape/unknown_verb", [], {}, "fail", "nobody told"),
        ("shape/params_none", [request(204, b"None")], {}, "fail", "for None"),
        ("shape/params_none", [], {"raised": "TypeError"}, "pass", "refused"),
        ("shape/get_query", [request(204)], {}, "fail", "POST was sent"),
        ("shape/get_query", [], {}, "fail", "nothing was sent"),
        (
            "shape/get_query",
            [request(204, b"", "GET", target="/v1/events?own=1&a=1&b=x%20y")],
            {},
            "warn",
            "another encoding",
        ),
        ("shape/get_query", [request(204, b"", "GET", target="/v1/events?own=1")], {}, "fail", "nowhere"),
    ],
)
def test_a_judge_says_so(name, requests, said, mark, words):
    result = judged(name, *requests, said=report(**said))
    assert (result.mark.value, words in result.reason) == (mark, True), result


def test_text_that_is_encoded_twice_is_told():
    text = b'{"a": 1}'
    result = judged("payload/str", request(204, b'"{\\"a\\": 1}"'), wanted=(text,))
    assert (result.mark.value, "twice" in result.reason) == ("warn", True)


def exchange(status=204, body=BODY, *, complete=True):
    digest = request(body=body).digest.hex()
    return {"method": "POST", "digest": digest, "status": status, "complete": complete, "path": "/", "failure": None}


def dispatch(*exchanges, verdict="identical", outcome=None, nested=False):
    last = exchanges[-1]["status"] if exchanges else None
    ended = "unconfirmed" if last is None else "delivered" if last < 300 else "rejected"
    return {
        "verdict": verdict,
        "outcome": outcome or ended,
        "payload": request(body=BODY).digest.hex(),
        "in_query": False,
        "exchanges": list(exchanges),
        "nested": nested,
    }


@pytest.mark.parametrize(
    ("requests", "dispatches", "more", "agrees"),
    [
        ([request(204)], [dispatch(exchange())], {}, True),
        ([request(204)], [dispatch(exchange(503))], {}, False),
        ([request(204)], [dispatch(exchange(body=b"{}"))], {}, False),
        ([request(204), request(204)], [dispatch(exchange())], {}, False),
        ([request(204)], [dispatch(exchange(), exchange())], {}, False),
        ([request(204)], [dispatch(exchange(), verdict="altered")], {}, False),
        ([request(204)], [dispatch(exchange(), verdict="equivalent")], {}, False),
        ([request(204, b"{}")], [dispatch(exchange(body=b"{}"))], {}, False),
        ([request(204, b"{}")], [dispatch(exchange(body=b"{}"), verdict="altered")], {}, True),
        ([request(None, b"", complete=False)], [dispatch(exchange(None))], {}, True),
        ([], [dispatch(exchange())], {}, False),
        ([request(204)], [dispatch(verdict="unobserved")], {}, None),
        ([], [dispatch(verdict="unobserved")], {}, True),
        ([request(503), request(204)], [dispatch(exchange())], {"counted": 2}, True),
        ([request(503), request(204)], [dispatch(exchange())], {"counted": 1}, False),
        ([request(503)], [dispatch(exchange())], {"counted": 1}, False),
    ],
)
def test_tap_and_sink_are_held_against_each_other(requests, dispatches, more, agrees):
    seen = Observation((BODY,), tuple(requests), report(dispatches=tuple(dispatches), **more))
    found = agreement(seen)
    assert (found.agrees, bool(found.why)) == (agrees, agrees is False), found


def test_a_process_that_died_says_nothing_about_the_witness():
    assert agreement(Observation((BODY,), (request(204),), died="hangs")).agrees is None


def test_there_are_40_scenarios_and_more_each_with_words_of_its_own():
    assert len(SCENARIOS) >= 40
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.summary and scenario.explanation for scenario in SCENARIOS)
    assert {scenario.group for scenario in SCENARIOS} == {
        "payload",
        "headers",
        "status",
        "transport",
        "caller",
        "concurrency",
        "shutdown",
        "shape",
    }


def test_scenarios_are_chosen_by_name_or_group():
    assert [scenario.name for scenario in choose(("status/503", "shutdown"))] == [
        "status/503",
        "shutdown/exit",
        "shutdown/sigterm",
    ]
    assert {scenario.name for scenario in choose(("status/50*",))} == {f"status/50{last}" for last in "0234"}
    with pytest.raises(KeyError, match="statsu"):
        choose(("statsu",))
