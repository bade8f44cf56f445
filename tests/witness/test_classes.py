"""
A wrapped class behaves as before, and what its instances do is known.
"""

from __future__ import annotations

import inspect

import pytest

from dispatchers import CLASSES, DELIVERED, RETURNED, WithAsync, WithClass, WithInstance, WithStatic, ended, send
from optimizely.helpers.validator import is_event_dispatcher_valid

from wirewitness import (
    witness,
)
from wirewitness.testing import capture


@pytest.mark.parametrize("cls", CLASSES)
def test_a_wrapped_class_dispatches_through_its_instances(cls, event):
    with capture() as dispatches:
        assert witness(cls)().dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED


@pytest.mark.parametrize("cls", [WithStatic, WithClass])
def test_a_wrapped_class_dispatches_by_itself(cls, event):
    with capture() as dispatches:
        assert witness(cls).dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED


@pytest.mark.parametrize("cls", CLASSES)
def test_optimizely_accepts_a_wrapped_class_and_its_instances(cls):
    assert is_event_dispatcher_valid(witness(cls))
    assert is_event_dispatcher_valid(witness(cls)())
    assert is_event_dispatcher_valid(witness(cls()))


@pytest.mark.parametrize("cls", [*CLASSES, WithAsync])
def test_a_wrapped_class_is_a_subclass_under_the_same_name(cls):
    wrapped = witness(cls)
    assert issubclass(wrapped, cls)
    assert isinstance(wrapped(), cls)
    assert (wrapped.__name__, wrapped.__qualname__, wrapped.__module__) == (
        cls.__name__,
        cls.__qualname__,
        cls.__module__,
    )
    assert wrapped.__doc__ == "Documented."
    assert wrapped.dispatch_event.__doc__ == "Send it."
    assert inspect.signature(wrapped.dispatch_event) == inspect.signature(cls.dispatch_event)
    assert inspect.signature(wrapped().dispatch_event) == inspect.signature(cls().dispatch_event)


def test_the_inner_class_stays_as_it_was(event):
    inner = WithStatic.dispatch_event
    witness(WithStatic)
    with capture() as dispatches:
        WithStatic.dispatch_event(event)
    assert WithStatic.dispatch_event is inner
    assert dispatches == []


def test_a_class_method_gets_the_wrapped_class(event):
    before = WithClass.calls
    wrapped = witness(WithClass)
    wrapped.dispatch_event(event)
    assert wrapped.calls == (*before, event)
    assert WithClass.calls == before


def test_an_instance_keeps_its_constructor_and_state(event):
    dispatcher = witness(WithInstance)(prefix="p")
    dispatcher.dispatch_event(event)
    assert (dispatcher.prefix, dispatcher.last) == ("p", event)


def test_a_wrapped_class_can_be_subclassed_and_reached_by_super(event):
    class Derived(witness(WithInstance)):
        def dispatch_event(self, event):
            return super().dispatch_event(event)

    with capture() as dispatches:
        assert Derived().dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED


def test_a_method_that_calls_super_in_a_wrapped_class_is_counted_once(event):
    @witness
    class Derived(WithInstance):
        def dispatch_event(self, event):
            return super().dispatch_event(event)

    with capture() as dispatches:
        assert Derived().dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED


def test_an_inherited_method_is_wrapped_in_the_class_given(event):
    class Derived(WithStatic):
        pass

    with capture() as dispatches:
        witness(Derived).dispatch_event(event)
    assert [dispatch.name for dispatch in dispatches] == ["Derived"]


def test_a_class_can_be_decorated_with_arguments(event):
    @witness(name="mine")
    class Mine(WithStatic):
        pass

    with capture() as dispatches:
        Mine.dispatch_event(event)
    assert [dispatch.name for dispatch in dispatches] == ["mine"]
    assert Mine.ledger.name == "mine"


def test_a_class_with_slots_can_be_wrapped(event):
    class Slotted:
        __slots__ = ("last",)

        def dispatch_event(self, event):
            self.last = event
            return send(event)

    dispatcher = witness(Slotted)()
    dispatcher.dispatch_event(event)
    assert dispatcher.last is event
    assert not hasattr(dispatcher, "__dict__")


def test_a_class_whose_method_is_a_callable_instance_can_be_wrapped(event):
    class Sender:
        def __call__(self, event):
            return send(event)

    class Holder:
        dispatch_event = Sender()

    with capture() as dispatches:
        assert witness(Holder)().dispatch_event(event) is RETURNED
    assert ended(dispatches) == DELIVERED
