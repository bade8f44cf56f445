"""
What a call with one event asks for.
"""

from __future__ import annotations

import copy
import itertools

from types import MappingProxyType, SimpleNamespace

import pytest
import requests

from optimizely.event.log_event import LogEvent
from optimizely.event_builder import Event

from wirewitness import Verdict, witness
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import freeze, freeze_query
from wirewitness.errors import UnsupportedPayload
from wirewitness.shapes import read_event
from wirewitness.testing import capture
from wirewitness.typing import Intent


URL = "http://host/events"
PARAMS = {"visitor": "v1"}


def read(*args, name="event", **kwargs):
    return read_event(name)(args, kwargs)


@pytest.mark.parametrize("kind", [Event, LogEvent])
def test_an_event_object_says_all(kind):
    intent = read(kind(URL, PARAMS, "POST", {"Content-Type": "application/json"}))
    assert intent == Intent("POST", URL, PARAMS)
    assert intent.params is PARAMS


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_a_mapping_with_url_verb_and_params_says_all(kind):
    assert read(kind({"url": URL, "params": PARAMS, "http_verb": "get"})) == Intent("GET", URL, PARAMS)


@pytest.mark.parametrize(
    "given",
    [
        requests.Request("POST", URL, params=PARAMS, json={"sent": 1}),
        SimpleNamespace(params=PARAMS),
        SimpleNamespace(params=PARAMS, url=URL),
        SimpleNamespace(params=PARAMS, http_verb="POST"),
        SimpleNamespace(url=URL, http_verb="POST"),
        {"jsonrpc": "2.0", "method": "track", "params": PARAMS},
        {"params": PARAMS, "url": URL},
        {"params": PARAMS, "http_verb": "POST"},
        MappingProxyType({"params": PARAMS}),
    ],
    ids=repr,
)
def test_only_what_has_url_verb_and_params_is_taken_for_an_event(given):
    intent = read(given)
    assert intent == Intent("POST", None, given)
    assert intent.params is given


class MadeAnew:
    url = URL
    http_verb = "POST"

    @property
    def params(self):
        return {"sent_at": next(_numbers)}


_numbers = itertools.count()


@pytest.mark.parametrize("encode", [None, str])
def test_parameters_that_are_made_anew_at_each_read_are_unreadable(encode):
    intent = read(MadeAnew())
    assert (intent.method, intent.url) == ("POST", URL)
    with pytest.raises(UnsupportedPayload) as refused:
        freeze(intent.params, encode=encode)
    assert refused.value.reason == Reason.UNREADABLE
    with pytest.raises(UnsupportedPayload):
        freeze_query(URL, intent.params)


@pytest.mark.parametrize("given", [MadeAnew(), requests.Request("POST", URL, params=PARAMS, json={"sent": 1})])
def test_what_cannot_be_known_is_never_altered(sink, given):
    @witness(evidence_timeout=0.1)
    def dispatch_event(event):
        body = event.json if isinstance(event, requests.Request) else event.params
        requests.post(f"{sink.url}/v1/events", json=body, timeout=10)

    with capture() as dispatches:
        dispatch_event(given)
    (dispatch,) = dispatches
    assert (dispatch.verdict, dispatch.payload) == (Verdict.UNOBSERVED, None)


@pytest.mark.parametrize("given", [PARAMS, b"raw", "text", None, [1], 5])
def test_anything_else_is_the_payload_itself(given):
    intent = read(given)
    assert intent == Intent("POST", None, given)
    assert intent.params is given


def test_an_event_can_be_given_by_keyword():
    assert read(event=Event(URL, PARAMS)).params is PARAMS
    assert read(name="log_event", log_event=Event(URL, PARAMS)).params is PARAMS


def test_a_missing_verb_is_post():
    assert read(SimpleNamespace(params=PARAMS, http_verb=None, url=URL)).method == "POST"


def test_verbs_are_upper_case():
    assert read(Event(URL, PARAMS, http_verb="put")).method == "PUT"


def test_an_event_is_never_changed():
    given = Event(URL, copy.deepcopy(PARAMS), "POST", {"A": "1"})
    before = copy.deepcopy(vars(given))
    read(given)
    assert vars(given) == before
