"""
Optimizely's own dispatcher, and what it swallows.
"""

from __future__ import annotations

import json

import pytest

from dispatchers import DELIVERED, PARAMS, ended
from optimizely.event_builder import Event
from optimizely.event_dispatcher import EventDispatcher

from wirewitness import Outcome, Verdict, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


@pytest.fixture
def optimizely():
    return witness(EventDispatcher)


def test_optimizelys_dispatcher_delivers(optimizely, sink, event):
    with capture() as dispatches:
        assert optimizely.dispatch_event(event) is None
    assert ended(dispatches) == DELIVERED
    (received,) = sink.requests
    assert received.body == json.dumps(event.params).encode()
    assert received.header("Content-Type") == "application/json"
    assert received.header("traceparent") is None


def test_optimizelys_dispatcher_swallows_a_503_that_is_rejected(optimizely, sink, caplog):
    with capture() as dispatches:
        assert optimizely.dispatch_event(Event(f"{sink.url}/status/503", PARAMS, "POST", {})) is None
    assert ended(dispatches) == [(Outcome.REJECTED, Verdict.IDENTICAL)]
    assert len(sink.requests) == 1
    assert "Dispatch event failed" in caplog.text


def test_optimizelys_dispatcher_sends_a_get_again(optimizely, sink):
    with capture() as dispatches:
        optimizely.dispatch_event(Event(f"{sink.url}/flaky/1/503", PARAMS, "GET"))
    assert ended(dispatches) == DELIVERED
    assert [exchange.status for exchange in dispatches[0].exchanges] == [503, 204]


@pytest.mark.processes
def test_optimizelys_dispatcher_swallows_a_refused_connection_that_is_failed(optimizely, refusing, caplog):
    with capture() as dispatches:
        assert optimizely.dispatch_event(Event(refusing, PARAMS, "POST", {})) is None
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.evidence, dispatch.reason) == (Outcome.FAILED, Evidence.CALL, Reason.REFUSED)
    assert "Dispatch event failed" in caplog.text


def test_optimizelys_dispatcher_loses_the_body_in_a_302_that_is_rejected(optimizely, sink):
    with capture() as dispatches:
        assert optimizely.dispatch_event(Event(f"{sink.url}/redirect/302", PARAMS, "POST", {})) is None
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.REJECTED,
        Verdict.ALTERED,
        Reason.BODY_LOST,
    )
    assert [received.method for received in sink.requests] == ["POST", "GET"]


def test_optimizelys_dispatcher_sends_nan(optimizely, sink, url):
    with capture() as dispatches:
        optimizely.dispatch_event(Event(url, {"value": float("nan")}, "POST", {}))
    assert ended(dispatches) == DELIVERED
    assert sink.requests[0].body == b'{"value": NaN}'


def test_optimizelys_dispatcher_raises_for_what_cannot_be_serialised_and_that_is_dropped(optimizely, sink, url):
    with capture() as dispatches, pytest.raises(TypeError, match="not JSON serializable"):
        optimizely.dispatch_event(Event(url, {"value": {1, 2}}, "POST", {}))
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.reason) == (Outcome.DROPPED, Reason.UNSERIALIZABLE)
    assert sink.requests == []


def test_optimizelys_dispatcher_sends_nothing_for_an_unknown_verb_and_that_is_unconfirmed(sink, url):
    optimizely = witness(EventDispatcher, evidence_timeout=0.001)
    with capture() as dispatches:
        assert optimizely.dispatch_event(Event(url, PARAMS, "PATCH", {})) is None
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.UNCONFIRMED,
        Verdict.UNOBSERVED,
        Reason.NO_EVIDENCE,
    )
    assert sink.requests == []
