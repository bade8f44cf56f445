"""
The client of a cached datafile, and the dispatcher that it is given.
"""

from __future__ import annotations

import json

import pytest
import requests

from wirewitness import ConfigurationError, Outcome, Verdict, witness
from wirewitness.optimizely import ThreeArguments
from wirewitness.testing import capture


@pytest.fixture
def posted(sink):
    """
    Dispatchers that post to the sink, whatever the URL, by their shapes.
    """

    def post(http_verb, url, params):
        assert (http_verb, url) == ("POST", "https://logx.optimizely.com/v1/events")
        requests.request(http_verb, f"{sink.url}/v1/events", json=params, timeout=10)

    class Ruby:
        def dispatchEvent(self, httpVerb, url, params):  # noqa: N802, N803
            post(httpVerb, url, params)

    class Python:
        @staticmethod
        def dispatch_event(event):
            post(event.http_verb, event.url, event.params)

    return {"function": post, "dispatchEvent": Ruby(), "dispatch_event": Python}


@pytest.mark.parametrize("shape", ["function", "dispatchEvent", "dispatch_event"])
def test_events_go_through_a_dispatcher_of_any_shape(shape, posted, manage, close, sink):
    with capture() as dispatches:
        client = manage().client(witness(posted[shape], name=shape))
        client.create_user_context("ada").decide("new_checkout")
        client.create_user_context("ada").track_event("order_placed")
        close(client)

    assert {(one.outcome, one.verdict) for one in dispatches} == {(Outcome.DELIVERED, Verdict.IDENTICAL)}
    keys = [
        event["key"]
        for received in sink.requests
        for seen in json.loads(received.body)["visitors"]
        for snapshot in seen["snapshots"]
        for event in snapshot["events"]
    ]
    assert sorted(keys) == ["campaign_activated", "order_placed"]


def test_a_client_s_other_options_are_the_sdk_s_own(manage, close):
    client = manage().client(default_decide_options=["DISABLE_DECISION_EVENT"])
    assert client.default_decide_options == ["DISABLE_DECISION_EVENT"]
    close(client)


def test_what_is_no_dispatcher_is_refused():
    with pytest.raises(ConfigurationError, match="no dispatcher of"):
        ThreeArguments(object())
