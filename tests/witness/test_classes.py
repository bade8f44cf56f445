"""
A wrapped class behaves as before, and what its instances do is known.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import inspect
import typing

import pytest

from dispatchers import CLASSES, DELIVERED, RETURNED, WithAsync, WithClass, WithInstance, WithStatic, ended, send
from optimizely.helpers.validator import is_event_dispatcher_valid

from wirewitness import ConfigurationError, witness
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


class Base:
    def __init__(self, url="u"):
        self.url = url

    def dispatch_event(self, event):
        return self.url


def _super_by_name():
    @witness
    class Named(Base):
        def __init__(self, url="u"):
            super().__init__(url)

        def dispatch_event(self, event):
            return super().dispatch_event(event)

    return Named


def _exact():
    @witness
    class Exact(Base):
        def dispatch_event(self, event):
            return "u" if type(self) is Exact else "another class"

    return Exact


def _dataclass_above():
    @dataclasses.dataclass(slots=True)
    @witness
    class Above:
        url: str = "u"

        def dispatch_event(self, event):
            return self.url

    return Above


def _dataclass_below():
    @witness
    @dataclasses.dataclass
    class Below:
        url: str = "u"

        def dispatch_event(self, event):
            return self.url

    return Below


T = typing.TypeVar("T")


def _generic():
    @witness
    class Of(typing.Generic[T]):
        def dispatch_event(self, event: T):
            return "u"

    return Of[dict]


def _wrapped_generic():
    class Of(typing.Generic[T]):
        def dispatch_event(self, event: T):
            return "u"

    return witness(Of)[dict]


def _registered():
    names = set()

    class Plugin:
        def __init_subclass__(cls, *, key="k"):
            assert cls.__name__ not in names
            names.add(cls.__name__)

    @witness
    class Registered(Plugin, key="other"):
        def dispatch_event(self, event):
            return "u"

    return Registered


def _named_tuple():
    @witness
    class Tuple(typing.NamedTuple):
        url: str = "u"

        def dispatch_event(self, event):
            return self.url

    return Tuple


def _enum():
    @witness
    class Choice(enum.Enum):
        ONLY = "u"

        def dispatch_event(self, event):
            return self.value

    return lambda: Choice.ONLY


def _partial_method():
    @witness
    class Partial:
        def _send(self, url, event):
            return url

        dispatch_event = functools.partialmethod(_send, "u")

    return Partial


def _abstract():
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def dispatch_event(self, event): ...

    @witness
    class Concrete(Abstract):
        def dispatch_event(self, event):
            return "u"

    return Concrete


def _both():
    @witness
    class Outer(_super_by_name()):
        def dispatch_event(self, event):
            return super().dispatch_event(event)

    return Outer


@pytest.mark.parametrize(
    "make",
    [
        _super_by_name,
        _exact,
        _dataclass_above,
        _dataclass_below,
        _generic,
        _wrapped_generic,
        _registered,
        _named_tuple,
        _enum,
        _partial_method,
        _abstract,
        _both,
    ],
    ids=lambda make: make.__name__.strip("_"),
)
def test_a_class_of_any_kind_behaves_as_before_and_counts_once(make):
    with capture(timeout=0) as dispatches:
        assert make()().dispatch_event({"visitor": "v1"}) == "u"
    assert len(dispatches) == 1


def _protocol():
    @witness
    class Protocol(typing.Protocol):
        def dispatch_event(self, event): ...


def _abstract_method():
    @witness
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def dispatch_event(self, event): ...


def _cached_property():
    @witness
    class Cached:
        @functools.cached_property
        def dispatch_event(self):
            return lambda event: None


def _single_dispatch():
    @witness
    class Overloaded:
        @functools.singledispatchmethod
        def dispatch_event(self, event): ...


def _has_members():
    class Choice(enum.Enum):
        ONLY = 1

        def dispatch_event(self, event): ...

    witness(Choice)


def _final():
    class Final:
        def __init_subclass__(cls):
            raise TypeError

        def dispatch_event(self, event): ...

    witness(Final)


@pytest.mark.parametrize(
    "wrap", [_protocol, _abstract_method, _cached_property, _single_dispatch, _has_members, _final]
)
def test_a_class_that_cannot_be_wrapped_is_a_configuration_error_that_says_what_can(wrap):
    with pytest.raises(ConfigurationError, match=r"wrap .*an instance"):
        wrap()
