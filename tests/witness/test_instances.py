"""
A wrapped instance behaves as before, and what it does is known.
"""

from __future__ import annotations

import json

import pytest

from dispatchers import DELIVERED, PARAMS, RETURNED, Callable, WithInstance, ended, post, send

from wirewitness import (
    witness,
)
from wirewitness.testing import capture


def test_a_wrapped_instance_dispatches(event):
    with capture() as dispatches:
        assert witness(WithInstance()).dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED


def test_a_wrapped_instance_is_seen_through(event):
    inner = WithInstance(prefix="p")
    wrapped = witness(inner)
    assert isinstance(wrapped, WithInstance)
    assert wrapped.prefix == "p"
    wrapped.prefix = "q"
    wrapped.dispatch_event(event)
    assert (inner.prefix, inner.last) == ("q", event)
    del wrapped.prefix
    assert not hasattr(inner, "prefix")
    assert wrapped.__doc__ == "Documented."


@pytest.mark.parametrize("method", ["dispatch_event", "dispatchEvent", "dispatch"])
def test_an_object_with_any_of_the_known_methods_is_a_dispatcher(method, event):
    wrapped = witness(type("Inner", (), {method: staticmethod(send)})())
    with capture() as dispatches:
        assert getattr(wrapped, method)(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].name == "Inner"


@pytest.mark.parametrize("method", ["dispatch_event", "dispatchEvent", "dispatch"])
def test_a_class_with_any_of_the_known_methods_is_a_dispatcher(method, event):
    wrapped = witness(type("Inner", (), {method: staticmethod(send)}))
    with capture() as dispatches:
        assert getattr(wrapped, method)(event) is RETURNED
    assert ended(dispatches) == DELIVERED


def test_an_objects_method_may_take_three_arguments(url):
    class Classic:
        def dispatch(self, http_verb, url, params):
            return post(url, json.dumps(params), http_verb)

    with capture() as dispatches:
        assert witness(Classic)().dispatch("POST", url, PARAMS) == 204
        assert witness(Classic()).dispatch(http_verb="POST", url=url, params=PARAMS) == 204
    assert ended(dispatches) == DELIVERED * 2


def test_a_callable_instance_is_called_through_its_proxy(event):
    inner = Callable()
    wrapped = witness(inner)
    with capture() as dispatches:
        assert wrapped(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert (inner.calls, wrapped.calls) == (1, 1)
    assert callable(wrapped)
    assert isinstance(wrapped, Callable)
