"""
Whatever the shape of a dispatcher: wrapped, it behaves as before, and what it does is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import http.client
import inspect
import json
import logging
import signal
import socket
import threading
import traceback
import uuid

from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests

from optimizely.event_builder import Event
from optimizely.event_dispatcher import EventDispatcher
from optimizely.helpers.validator import is_event_dispatcher_valid

from wirewitness import (
    ConfigurationError,
    Evidence,
    IntegrityError,
    Outcome,
    Reason,
    Verdict,
    ledger_of,
    witness,
)
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.evidence import EVIDENCE
from wirewitness.testing import capture


PARAMS = {"visitor": "v1", "event": "clicked"}
RETURNED = object()


def post(url, body, method="POST"):
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body)
        return connection.getresponse().status


def send(event):
    """Send it as it is."""
    post(event.url, json.dumps(event.params))
    return RETURNED


def tamper(event):
    post(event.url, json.dumps({**event.params, "event": "cl1cked"}))
    return RETURNED


@pytest.fixture
def url(sink):
    return f"{sink.url}/v1/events"


@pytest.fixture
def event(url):
    return Event(
        url, {**PARAMS, "uuid": str(uuid.uuid4())}, http_verb="POST", headers={"Content-Type": "application/json"}
    )


@pytest.fixture
def refusing():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unheard.getsockname()[1]}/v1/events"


@pytest.fixture(autouse=True)
def _nothing_left():
    """What waits for evidence is settled in its own test."""
    yield
    for dispatch in EVIDENCE.waiting():
        EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)


@pytest.fixture
def faults():
    """How many internal errors a test causes."""
    before = sum(INTERNAL_ERRORS.counts().values())
    return lambda: sum(INTERNAL_ERRORS.counts().values()) - before


def ended(dispatches):
    return [(dispatch.outcome, dispatch.verdict) for dispatch in dispatches]


DELIVERED = [(Outcome.DELIVERED, Verdict.IDENTICAL)]
ALTERED = [(Outcome.DELIVERED, Verdict.ALTERED)]


# Classes.


class WithStatic:
    """Documented."""

    @staticmethod
    def dispatch_event(event):
        """Send it."""
        return send(event)


class WithClass:
    """Documented."""

    calls = ()

    @classmethod
    def dispatch_event(cls, event):
        """Send it."""
        cls.calls = (*cls.calls, event)
        return send(event)


class WithInstance:
    """Documented."""

    def __init__(self, prefix=""):
        self.prefix = prefix

    def dispatch_event(self, event):
        """Send it."""
        self.last = event
        return send(event)


class WithAsync:
    """Documented."""

    async def dispatch_event(self, event):
        """Send it."""
        return await asyncio.to_thread(send, event)


CLASSES = [WithStatic, WithClass, WithInstance]


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


# Instances.


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


class Callable:
    def __init__(self):
        self.calls = 0

    def __call__(self, event):
        self.calls += 1
        return send(event)


def test_a_callable_instance_is_called_through_its_proxy(event):
    inner = Callable()
    wrapped = witness(inner)
    with capture() as dispatches:
        assert wrapped(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert (inner.calls, wrapped.calls) == (1, 1)
    assert callable(wrapped)
    assert isinstance(wrapped, Callable)


# Functions and methods.


def test_a_function_of_an_event_dispatches(event):
    with capture() as dispatches:
        assert witness(send)(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].name == "send"


@pytest.mark.parametrize("name", ["dispatchEvent", "dispatch", "dispatch_event"])
def test_a_function_of_any_name_dispatches(name, event):
    def inner(event):
        return send(event)

    inner.__name__ = name
    with capture() as dispatches:
        assert witness(inner)(event=event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].name == name


def classic(http_verb, url, params):
    """Send three arguments."""
    return post(url, json.dumps(params), http_verb)


def renamed(method, endpoint, body):
    return post(endpoint, json.dumps(body), method)


def test_a_function_of_three_arguments_dispatches(url):
    wrapped = witness(classic)
    with capture() as dispatches:
        wrapped("POST", url, PARAMS)
        wrapped("POST", url=url, params=PARAMS)
        wrapped(params=PARAMS, url=url, http_verb="POST")
        witness(renamed)("PUT", body=PARAMS, endpoint=url)
    assert ended(dispatches) == DELIVERED * 4
    assert [dispatch.method for dispatch in dispatches] == ["POST", "POST", "POST", "PUT"]


def test_a_get_is_judged_by_its_query(url):
    @witness
    def ask(http_verb, url, params):
        with requests.Session() as session:
            return session.request(http_verb, url, params=params, timeout=10).status_code

    with capture() as dispatches:
        assert ask("GET", f"{url}?own=0", {"a": [1, None, "x y"]}) == 204
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].payload.body == b"own=0&a=1&a=x+y"


def test_a_bound_method_dispatches_under_its_classs_name(event):
    inner = WithInstance()
    with capture() as dispatches:
        assert witness(inner.dispatch_event)(event) is RETURNED
        assert witness(WithClass.dispatch_event)(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 2
    assert [dispatch.name for dispatch in dispatches] == ["WithInstance", "WithClass"]
    assert inner.last is event


def test_a_partial_dispatches(url, event):
    with capture() as dispatches:
        assert witness(functools.partial(send))(event) is RETURNED
        witness(functools.partial(send, event), payload=lambda: event.params)()
    assert ended(dispatches) == DELIVERED * 2


def test_a_method_is_decorated_in_its_class(event):
    class Mine:
        @witness
        def dispatch_event(self, event):
            self.last = event
            return send(event)

        @witness(name="second")
        def dispatch(self, http_verb, url, params):
            return post(url, json.dumps(params), http_verb)

        @witness
        @staticmethod
        def static(event):
            return send(event)

        @staticmethod
        @witness
        def inside(event):
            return send(event)

        @witness
        @classmethod
        def by_class(cls, event):
            assert cls is Mine
            return send(event)

    mine = Mine()
    with capture() as dispatches:
        assert mine.dispatch_event(event) is RETURNED
        assert mine.dispatch("POST", event.url, PARAMS) == 204
        for method in (Mine.static, mine.static, Mine.inside, Mine.by_class, mine.by_class):
            assert method(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 7
    assert mine.last is event
    assert ledger_of(mine.dispatch).name == "second"
    assert ledger_of(Mine.by_class).name == "by_class"


def test_any_callable_is_told_by_argument_names(url):
    @witness(payload="body", url="to")
    def publish(topic, body, *, to, retries=0):
        return post(to, body)

    with capture() as dispatches:
        assert publish("topic", b"raw bytes", to=url) == 204
        assert publish(topic="topic", to=url, body="text") == 204
    assert ended(dispatches) == DELIVERED * 2
    assert dispatches[0].target == ("http", "127.0.0.1", urlsplit(url).port, "/v1/events")


def test_any_callable_is_told_by_callables(url):
    def publish(message):
        return post(message["to"], message["bytes"])

    wrapped = witness(publish, payload=lambda message: message["bytes"], url=lambda message: message["to"])
    with capture() as dispatches:
        assert wrapped({"to": url, "bytes": b"raw"}) == 204
    assert ended(dispatches) == DELIVERED


def test_a_method_is_told_by_argument_names(url):
    class Publisher:
        def dispatch(self, topic, body):
            return post(url, body)

    with capture() as dispatches:
        assert witness(Publisher, payload="body")().dispatch("t", b"x") == 204
        assert witness(Publisher(), payload="body").dispatch("t", body=b"x") == 204
    assert ended(dispatches) == DELIVERED * 2


def test_another_encoder_says_what_is_meant(event):
    def compact(params):
        return json.dumps(params, separators=(",", ":"))

    def inner(event):
        return post(event.url, compact(event.params))

    with capture() as dispatches:
        witness(inner)(event)
        witness(inner, encode=compact)(event)
    assert [dispatch.verdict for dispatch in dispatches] == [Verdict.EQUIVALENT, Verdict.IDENTICAL]


# What must not change.


@pytest.mark.parametrize("inner", [send, classic])
def test_a_function_keeps_its_name_signature_and_documentation(inner):
    wrapped = witness(inner)
    assert inspect.signature(wrapped) == inspect.signature(inner)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(wrapped, attribute) == getattr(inner, attribute)
    assert wrapped.__wrapped__ is inner


def test_the_inner_gets_the_very_same_objects():
    given = []
    event = SimpleNamespace(url="http://127.0.0.1:9/", params={"a": [1]}, http_verb="POST", headers={})
    extra = object()

    def inner(*args, **kwargs):
        given.append((args, kwargs))

    with capture():
        witness(inner, payload=lambda event, **_: event.params, evidence_timeout=0.001)(event, extra=extra)
    ((args, kwargs),) = given
    assert args[0] is event
    assert kwargs["extra"] is extra
    assert vars(event) == {"url": "http://127.0.0.1:9/", "params": {"a": [1]}, "http_verb": "POST", "headers": {}}


class Broken(Exception):  # noqa: N818
    pass


def shapes_of(function):
    """The same behaviour in every shape, each as a call of one event."""
    yield "function", witness(function)
    yield "static", witness(type("S", (), {"dispatch_event": staticmethod(function)})).dispatch_event
    yield "method", witness(type("M", (), {"dispatch_event": lambda self, event: function(event)}))().dispatch_event
    yield "instance", witness(SimpleNamespace(dispatch_event=function)).dispatch_event
    yield "partial", witness(functools.partial(function))


@pytest.mark.parametrize("kind", [Broken, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_the_very_exception_leaves_with_one_frame_more(kind, event):
    error = kind("as it was")

    def inner(event):
        raise error

    for shape, dispatch in shapes_of(inner):
        error.__traceback__ = None
        with pytest.raises(kind) as caught:
            dispatch(event)
        assert caught.value is error, shape
        assert error.__cause__ is None
        assert error.__context__ is None
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert [name for name in names if name != "<lambda>"][1:] == ["dispatch", "inner"], shape


def test_a_raised_exception_is_failed_with_its_type():
    def inner(event):
        raise Broken

    with capture() as dispatches, pytest.raises(Broken):
        witness(inner)(PARAMS)
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.evidence, dispatch.reason) == (Outcome.FAILED, Evidence.CALL, Reason.ERROR)
    assert dispatch.settlement.error_type == f"{__name__}.Broken"


def test_wrong_arguments_raise_the_inners_own_error(url):
    wrapped = witness(classic)
    with pytest.raises(TypeError, match=r"classic\(\) missing 1 required positional argument"):
        wrapped("POST", url)


# Coroutines.


async def asend(event):
    """Send it."""
    return await asyncio.to_thread(send, event)


def async_shapes():
    class Caller:
        async def __call__(self, event):
            return await asend(event)

    class Decorated:
        @witness
        async def dispatch_event(self, event):
            return await asend(event)

    yield witness(asend)
    yield witness(WithAsync)().dispatch_event
    yield witness(WithAsync()).dispatch_event
    yield witness(WithAsync().dispatch_event)
    yield witness(type("S", (), {"dispatch_event": staticmethod(asend)})).dispatch_event
    yield witness(functools.partial(asend))
    yield witness(Caller())
    yield Decorated().dispatch_event


async def test_coroutine_functions_dispatch_in_every_shape_and_see_requests_of_other_threads(event):
    with capture() as dispatches:
        for dispatch in async_shapes():
            assert await dispatch(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 8


def test_a_wrapped_coroutine_function_is_one():
    for dispatch in (witness(asend), witness(WithAsync).dispatch_event, witness(WithAsync()).dispatch_event):
        assert inspect.iscoroutinefunction(dispatch)


async def test_coroutines_side_by_side_are_told_apart(sink):
    @witness
    async def ask(http_verb, url, params):
        return await asyncio.to_thread(post, url, json.dumps(params))

    calls = [ask("POST", f"{sink.url}/status/{code}", PARAMS) for code in (200, 404, 503)]
    with capture() as dispatches:
        assert await asyncio.gather(*calls) == [200, 404, 503]
    outcomes = {dispatch.target[3]: dispatch.outcome for dispatch in dispatches}
    assert outcomes == {
        "/status/200": Outcome.DELIVERED,
        "/status/404": Outcome.REJECTED,
        "/status/503": Outcome.REJECTED,
    }


async def test_a_cancelled_dispatch_is_failed_and_the_cancellation_reaches_the_caller(event):
    begun = asyncio.Event()

    @witness
    async def stuck(event):
        begun.set()
        await asyncio.Event().wait()

    with capture() as dispatches:
        task = asyncio.create_task(stuck(event))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.CANCELLED)


async def test_a_dispatch_cancelled_behind_its_response_is_delivered(event):
    begun = asyncio.Event()

    @witness
    async def slow(event):
        await asend(event)
        begun.set()
        await asyncio.Event().wait()

    with capture() as dispatches:
        task = asyncio.create_task(slow(event))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended(dispatches) == DELIVERED


async def test_a_coroutine_that_is_closed_is_settled(event):
    @witness
    async def stuck(event):
        await asyncio.sleep(0)

    with capture() as dispatches:
        coroutine = stuck(event)
        coroutine.send(None)
        coroutine.close()
    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.FAILED]


async def test_a_coroutine_that_is_closed_in_another_context_is_settled(event, faults):
    @witness
    async def stuck(event):
        await asyncio.sleep(0)

    with capture() as dispatches:
        coroutine = stuck(event)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.FAILED]
    assert faults() == 0


async def test_the_very_exception_leaves_a_coroutine_with_one_frame_more(event):
    error = Broken()

    async def inner(event):
        raise error

    with pytest.raises(Broken) as caught:
        await witness(inner)(event)
    assert caught.value is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:] == ["dispatch", "inner"]


# Nested witnesses.


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


# Ledgers.


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


# Late evidence.


def test_a_dispatcher_with_a_thread_of_its_own_is_settled_late(event):
    go = threading.Event()

    class Queueing:
        def dispatch_event(self, event):
            self.thread = threading.Thread(target=lambda: go.wait(10) and send(event))
            self.thread.start()

    dispatcher = witness(Queueing)()
    with capture() as dispatches:
        dispatcher.dispatch_event(event)
        assert dispatches == []
        assert dispatcher.ledger.book().open == 1
        go.set()
        dispatcher.thread.join()
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].evidence is Evidence.RESPONSE


def test_a_dispatch_whose_bytes_never_show_up_is_unconfirmed():
    settled = threading.Event()
    wrapped = witness(lambda event: None, evidence_timeout=0.01, on_settle=lambda dispatch: settled.set())
    with capture() as dispatches:
        wrapped(PARAMS)
        assert settled.wait(10)
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.verdict, dispatch.evidence, dispatch.reason) == (
        Outcome.UNCONFIRMED,
        Verdict.UNOBSERVED,
        Evidence.CALL,
        Reason.NO_EVIDENCE,
    )


# Strict mode.


def test_in_strict_mode_an_alteration_raises_behind_the_dispatch(sink, event):
    with (
        capture() as dispatches,
        pytest.raises(IntegrityError, match="tamper altered the payload: bytes_differ") as caught,
    ):
        witness(tamper, strict=True)(event)
    assert ended(dispatches) == ALTERED
    assert f"byte {dispatches[0].offset}" in str(caught.value)
    assert "clicked" not in str(caught.value)
    assert len(sink.requests) == 1


async def test_in_strict_mode_an_alteration_raises_from_a_coroutine(event):
    async def inner(event):
        await asyncio.to_thread(tamper, event)

    with pytest.raises(IntegrityError):
        await witness(inner, strict=True)(event)


def test_without_strict_mode_an_alteration_is_told_and_raises_nothing(event):
    with capture() as dispatches:
        assert witness(tamper)(event) is RETURNED
    assert ended(dispatches) == ALTERED


def test_strict_mode_raises_for_nothing_but_alterations(sink, event, refusing):
    def compact(event):
        with contextlib.suppress(OSError):
            post(event.url, json.dumps(event.params, separators=(",", ":")))

    wrapped = witness(compact, strict=True)
    with capture() as dispatches:
        for target in (event.url, f"{sink.url}/status/503", refusing):
            wrapped(Event(target, PARAMS, "POST"))
        witness(lambda event: None, strict=True, evidence_timeout=0.001)(event)
    assert {dispatch.outcome for dispatch in dispatches} == {
        Outcome.DELIVERED,
        Outcome.REJECTED,
        Outcome.FAILED,
        Outcome.UNCONFIRMED,
    }


def test_strict_mode_does_not_hide_the_inners_exception(event):
    def inner(event):
        tamper(event)
        raise Broken

    with pytest.raises(Broken):
        witness(inner, strict=True)(event)


# Optimizely's own dispatcher.


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


# Bad input.


class Nothing:
    pass


class NoMethod:
    dispatch_event = 5


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (
            None,
            {},
            ["None is no dispatcher", "dispatch_event", "dispatchEvent", "dispatch", "(http_verb, url, params)"],
        ),
        (5, {}, ["5 is no dispatcher", "dispatch_event"]),
        (Nothing, {}, ["Nothing", "is no dispatcher", "dispatch_event"]),
        (Nothing(), {}, ["a Nothing is no dispatcher", "dispatch_event", "payload="]),
        (NoMethod, {}, ["NoMethod.dispatch_event", "int"]),
        (lambda one, two: None, {}, ["<lambda>(one, two)", "an event", "(http_verb, url, params)", "payload="]),
        (lambda: None, {}, ["<lambda>()", "payload="]),
        (send, {"payload": "body"}, ["payload=a str of 4 characters", "event"]),
        (send, {"payload": "event", "url": "to"}, ["url=a str of 2 characters", "event"]),
        (send, {"payload": 5}, ["payload=", "5"]),
        (send, {"url": "event"}, ["url=a str of 5 characters", "payload="]),
        (send, {"evidence_timeout": 0}, ["evidence_timeout=0", "greater than 0"]),
        (send, {"evidence_timeout": -1.5}, ["evidence_timeout=-1.5"]),
        (send, {"evidence_timeout": "60"}, ["evidence_timeout=a str of 2 characters"]),
        (send, {"evidence_timeout": None}, ["evidence_timeout=None"]),
        (send, {"evidence_timeout": float("nan")}, ["evidence_timeout=nan"]),
        (send, {"encode": "json"}, ["encode=a str of 4 characters", "callable"]),
        (send, {"on_settle": 5}, ["on_settle=5", "callable"]),
        (send, {"timeout": 5}, ["no option timeout", "evidence_timeout"]),
    ],
)
def test_what_cannot_work_is_a_configuration_error_that_says_why(given, options, words):
    with pytest.raises(ConfigurationError) as caught:
        witness(given, **options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_options_are_checked_when_the_decorator_is_made():
    with pytest.raises(ConfigurationError, match="evidence_timeout"):
        witness(evidence_timeout=0)


def test_two_dispatchers_at_once_are_a_configuration_error():
    with pytest.raises(ConfigurationError, match="takes one dispatcher, and was given 2"):
        witness(send, send)


def test_a_class_that_cannot_be_subclassed_is_a_configuration_error():
    class Final:
        def __init_subclass__(cls):
            message = "final"
            raise TypeError(message)

        def dispatch_event(self, event):
            """Nothing."""

    with pytest.raises(ConfigurationError, match=r"can't be subclassed \(TypeError\): wrap an instance"):
        witness(Final)


def test_a_configuration_error_is_a_value_error():
    with pytest.raises(ValueError, match="no dispatcher"):
        witness(None)


# Faults.


def unreadable(event):
    raise Broken


def test_an_adapter_that_raises_stops_nothing(sink, url, faults):
    @witness(payload=unreadable)
    def inner(event):
        post(url, b"x")
        return RETURNED

    with capture() as dispatches:
        assert inner(PARAMS) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1
    assert len(sink.requests) == 1


def test_an_encoder_that_raises_stops_nothing(sink, event, faults):
    with capture() as dispatches:
        assert witness(send, encode=unreadable)(event) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1
    assert sink.requests[0].body == json.dumps(event.params).encode()


@pytest.mark.parametrize("encoded", [None, 5, bytearray(b"x")])
def test_an_encoder_that_makes_no_bytes_stops_nothing(encoded, event, faults):
    with capture() as dispatches:
        assert witness(send, encode=lambda params: encoded)(event) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1


def test_a_hook_that_raises_stops_nothing_and_the_others_are_called(event, faults):
    with capture() as dispatches:
        assert witness(send, on_settle=unreadable)(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert faults() == 1


def test_a_hook_is_called_with_every_settled_dispatch(event):
    hooked = []
    with capture() as dispatches:
        witness(send, on_settle=hooked.append)(event)
    assert hooked == dispatches


@pytest.mark.parametrize("method", ["opened", "closed", "settled"])
def test_telemetry_that_raises_stops_nothing(method, event, faults, monkeypatch):
    from wirewitness.telemetry.spans import Spans

    def broken(*args, **kwargs):
        raise Broken

    wrapped = witness(send)
    monkeypatch.setattr(Spans, method, broken)
    with capture() as dispatches:
        # In a context of its own: where it can't be left, it would be the next test's.
        assert contextvars.copy_context().run(wrapped, event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert faults() >= 1
    assert wrapped.ledger.book().open == 0


def test_an_internal_error_is_logged_once_and_without_the_payload(event, caplog):
    class Quoting(Exception):  # noqa: N818
        pass

    def quoting(event):
        raise Quoting(event.params)

    wrapped = witness(send, payload=quoting)
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        wrapped(event)
        wrapped(event)
    lines = [record.getMessage() for record in caplog.records if "Quoting" in record.getMessage()]
    assert len(lines) == 1
    assert "clicked" not in lines[0]


def test_arguments_that_no_adapter_expects_are_the_inners_business(faults):
    seen = []

    @witness(payload="event")
    def inner(event, *more):
        seen.append((event, more))

    with capture(timeout=0.01):
        inner(PARAMS, 1, 2)
    assert seen == [(PARAMS, (1, 2))]
    assert faults() == 0


def test_near_the_recursion_limit_the_inner_call_happens_all_the_same():
    calls, returned = [], []

    def inner(event):
        calls.append(1)
        return RETURNED

    wrapped = witness(inner, evidence_timeout=0.001)
    failures = []

    def descend():
        with contextlib.suppress(RecursionError):
            descend()
        before = len(calls)
        try:
            returned.append(wrapped(PARAMS))
        except RecursionError:
            failures.append(len(calls) - before)

    # Down there, a finalizer of something else that is collected would fail, too.
    gc.collect()
    gc.disable()
    try:
        with capture():
            thread = threading.Thread(target=descend)
            thread.start()
            thread.join()
    finally:
        gc.enable()
    assert returned.count(RETURNED) == len(returned) > 100
    assert sum(calls) == len(returned)
    assert set(failures) <= {0}
    assert wrapped.ledger.book().closes
    assert wrapped.ledger.book().open == 0
    assert not [dispatch for dispatch in EVIDENCE.by_body.values() if dispatch.name == "inner"]


def test_a_dispatch_of_a_signal_handler_is_no_part_of_the_one_that_it_interrupts(sink):
    @witness(name="interrupted")
    def dispatch(http_verb, url, params):
        requests.post(url, json.dumps(params), timeout=5)

    def interrupt(*_):
        dispatch("POST", f"{sink.url}/v1/events", {"account_id": "12001", "number": 1})

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with capture() as dispatches:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            dispatch("POST", f"{sink.url}/slow/400", {"account_id": "12001", "number": 0})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [(one.outcome, one.verdict) for one in dispatches] == [(Outcome.DELIVERED, Verdict.IDENTICAL)] * 2
    assert len(sink.requests) == 2
