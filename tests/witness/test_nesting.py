"""
Witnessed dispatchers within witnessed dispatchers, and which ledger is whose.
"""

from __future__ import annotations

import functools
import json

import pytest

from dispatchers import DELIVERED, RETURNED, Callable, WithClass, WithInstance, WithStatic, asend, ended, post, send
from optimizely.event_builder import Event

from wirewitness import (
    ConfigurationError,
    Verdict,
    ledger_of,
    witness,
)
from wirewitness.testing import capture


def test_nested_witnesses_count_a_payload_once(event):
    inner = witness(send, name="inner")
    outer = witness(inner, name="outer")
    with capture() as dispatches:
        outer(event)
    assert [dispatch.name for dispatch in dispatches] == ["outer"]
    assert (ledger_of(outer).book().accepted, ledger_of(inner).book().accepted) == (1, 0)


def test_a_class_wrapped_twice_counts_a_payload_once(event):
    with capture() as dispatches:
        witness(witness(WithInstance), name="outer")().dispatch_event(event)
        witness(witness(WithStatic), name="outer").dispatch_event(event)
    assert [dispatch.name for dispatch in dispatches] == ["outer", "outer"]


def test_a_class_called_by_a_function_counts_a_payload_once(event):
    inner = witness(WithInstance)

    @witness
    def outer(http_verb, url, params):
        return inner().dispatch_event(Event(url, params, http_verb))

    with capture() as dispatches:
        assert outer("POST", event.url, event.params) is RETURNED
    assert [dispatch.name for dispatch in dispatches] == ["outer"]


def test_equal_bytes_in_another_object_are_counted_once(event):
    @witness
    def inner(http_verb, url, params):
        return post(url, params)

    @witness
    def outer(event):
        return inner("POST", event.url, json.dumps(event.params))

    with capture() as dispatches:
        outer(event)
    assert [dispatch.name for dispatch in dispatches] == ["outer"]
    assert ended(dispatches) == DELIVERED


def test_another_payload_within_a_dispatch_counts_itself(event):
    inner = witness(send, name="inner")

    @witness
    def outer(event):
        inner(Event(event.url, {"batch": [event.params, event.params]}, "POST"))
        return RETURNED

    with capture() as dispatches:
        outer(event)
    verdicts = {dispatch.name: dispatch.verdict for dispatch in dispatches}
    assert verdicts == {"inner": Verdict.IDENTICAL, "outer": Verdict.EMBEDDED}


def test_a_second_call_behind_the_first_counts_itself(event):
    wrapped = witness(send)
    with capture() as dispatches:
        wrapped(event)
        wrapped(event)
    assert ended(dispatches) == DELIVERED * 2


def test_a_dispatcher_wrapped_twice_has_the_outer_ledger():
    for inner in (send, WithStatic, WithInstance, WithInstance(), Callable()):
        outer = witness(witness(inner, name="inner"), name="outer")
        assert outer.ledger.name == ledger_of(outer).name == "outer"


def test_every_shape_has_its_ledger(event):
    for dispatcher in (
        witness(send),
        witness(WithStatic),
        witness(WithStatic)(),
        witness(WithInstance()),
        witness(Callable()),
        witness(WithInstance().dispatch_event),
        witness(functools.partial(send)),
        witness(asend),
    ):
        assert dispatcher.ledger is ledger_of(dispatcher)
        assert ledger_of(dispatcher).book().accepted == 0


def test_a_method_leads_to_its_dispatchers_ledger():
    for dispatcher in (witness(WithStatic), witness(WithInstance)(), witness(WithClass), witness(WithInstance())):
        assert ledger_of(dispatcher.dispatch_event) is ledger_of(dispatcher)


def test_an_inner_attribute_called_ledger_stays_the_inners():
    class Accounting:
        ledger = "the inner's own"

        def dispatch_event(self, event):
            """Nothing."""

    wrapped_class, wrapped_instance = witness(Accounting), witness(Accounting())

    def function(event):
        """Nothing."""

    function.ledger = "the inner's own"
    wrapped_function = witness(function)
    for dispatcher in (wrapped_class, wrapped_class(), wrapped_instance, wrapped_function):
        assert dispatcher.ledger == "the inner's own"
        assert ledger_of(dispatcher).book().accepted == 0


@pytest.mark.parametrize("given", [None, send, WithStatic, object()])
def test_what_is_not_witnessed_has_no_ledger(given):
    with pytest.raises(ConfigurationError, match="not witnessed"):
        ledger_of(given)
