"""
A tap for a library that wirewitness does not know, as CONTRIBUTING.md tells to write one: examples/extending/wire.py.
"""

from __future__ import annotations

import json
import runpy
import threading

from pathlib import Path

import paperboat
import pytest

from seen import BODY, assert_delivered, ending, one

from wirewitness import Outcome, Verdict, wire, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason
from wirewitness.wire import canary


EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "extending" / "wire.py"


@pytest.fixture(scope="module")
def tap():
    witness(by_paperboat)
    return runpy.run_path(str(EXAMPLE))["TAP"]


def by_paperboat(http_verb, url, params):
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    return paperboat.Boat(host, int(port)).post("/v1/events", json.dumps(params).encode())


def test_a_new_wire_sees_a_delivery_byte_for_byte(sink, tap):
    dispatch = one(by_paperboat, f"{sink.url}/v1/events")
    assert_delivered(sink, dispatch)
    assert dispatch.exchanges[0].body == BODY


def test_a_new_wire_sees_what_the_library_altered(sink, tap):
    def inner(http_verb, url, params):
        by_paperboat(http_verb, url, {**params, "more": 1})

    assert one(inner, f"{sink.url}/v1/events").verdict is Verdict.ALTERED


def test_a_new_wire_sees_a_failure(tap):
    ended = ending(one(by_paperboat, "http://127.0.0.1:9/v1/events"))
    assert ended == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)


def test_a_new_wire_finds_a_payload_that_another_thread_sends(sink, tap):
    kept = []
    params = {"sent": "later, by a thread of the dispatcher's own"}
    with capture() as dispatches:
        witness(lambda http_verb, url, params: kept.append((http_verb, url, params)))(
            "POST", f"{sink.url}/v1/events", params
        )
        assert dispatches == []
        thread = threading.Thread(target=by_paperboat, args=kept[0])
        thread.start()
        thread.join()
    assert_delivered(sink, *dispatches)


def test_a_new_wire_is_proved(tap):
    assert tap.prove()
    tap.uninstall()
    assert not canary.sees(tap.canaries[0])
    tap.install()
    assert wire.states()["paperboat"] is wire.TapState.INTACT
