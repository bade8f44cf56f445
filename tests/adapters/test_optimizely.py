"""
What a call with one event asks for.
"""

from __future__ import annotations

import copy

from types import MappingProxyType, SimpleNamespace

import pytest

from optimizely.event.log_event import LogEvent
from optimizely.event_builder import Event

from wirewitness.adapters import event
from wirewitness.typing import Intent


URL = "http://host/events"
PARAMS = {"visitor": "v1"}


def read(*args, name="event", **kwargs):
    return event(name)(args, kwargs)


@pytest.mark.parametrize("kind", [Event, LogEvent])
def test_an_event_object_says_all(kind):
    intent = read(kind(URL, PARAMS, "POST", {"Content-Type": "application/json"}))
    assert intent == Intent("POST", URL, PARAMS)
    assert intent.params is PARAMS


def test_a_mapping_with_params_says_all():
    assert read({"url": URL, "params": PARAMS, "http_verb": "get"}) == Intent("GET", URL, PARAMS)
    assert read(MappingProxyType({"params": PARAMS})) == Intent("POST", None, PARAMS)


@pytest.mark.parametrize("given", [PARAMS, b"raw", "text", None, [1], 5])
def test_anything_else_is_the_payload_itself(given):
    intent = read(given)
    assert intent == Intent("POST", None, given)
    assert intent.params is given


def test_an_event_can_be_given_by_keyword():
    assert read(event=Event(URL, PARAMS)).params is PARAMS
    assert read(name="log_event", log_event=Event(URL, PARAMS)).params is PARAMS


def test_a_missing_verb_is_post():
    assert read(SimpleNamespace(params=PARAMS)) == Intent("POST", None, PARAMS)
    assert read(SimpleNamespace(params=PARAMS, http_verb=None, url=URL)).method == "POST"


def test_verbs_are_upper_case():
    assert read(Event(URL, PARAMS, http_verb="put")).method == "PUT"


def test_an_event_is_never_changed():
    given = Event(URL, copy.deepcopy(PARAMS), "POST", {"A": "1"})
    before = copy.deepcopy(vars(given))
    read(given)
    assert vars(given) == before
