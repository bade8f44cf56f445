"""
How a dispatcher is called: one rule for all who ask.
"""

from __future__ import annotations

import functools
import inspect
import queue
import time

import pytest

from optimizely.event_builder import Event

from wirewitness import ConfigurationError, Outbox, witness
from wirewitness.optimizely import adapt_dispatcher
from wirewitness.shapes import Shape, reader, resolve, shape_of
from wirewitness.testing import capture
from wirewitness.typing import Intent


URL = "http://host/events"
PARAMS = {"visitor": "v1"}


def reading(function, *args, **kwargs):
    signature = inspect.signature(function)
    return reader(signature, shape_of(signature))(args, kwargs)


@pytest.mark.parametrize(
    "function",
    [
        lambda event: None,
        lambda event, timeout=3: None,
        lambda event, timeout=3, retries=2: None,
        lambda event, /: None,
        lambda event, *more: None,
        lambda *events: None,
    ],
)
def test_a_callable_of_one_argument_takes_an_event(function):
    assert reading(function, PARAMS).params is PARAMS


def test_an_event_argument_of_another_name_is_read_by_keyword():
    assert reading(lambda log_event: None, log_event=PARAMS).params is PARAMS


def test_optional_arguments_behind_an_event_are_not_a_url():
    assert reading(lambda event, timeout=3, retries=2: None, PARAMS, 5, 1) == Intent("POST", None, PARAMS)


@pytest.mark.parametrize(
    "function",
    [
        lambda http_verb, url, params: None,
        lambda method, endpoint, body: None,
        lambda method, endpoint, body, timeout=3: None,
        lambda method, endpoint, *rest: None,
        lambda *args: None,
    ],
)
def test_a_callable_of_three_arguments_takes_verb_url_and_parameters(function):
    assert reading(function, "post", URL, PARAMS) == Intent("POST", URL, PARAMS)


def test_three_arguments_of_other_names_are_read_by_keyword():
    intent = reading(lambda method, endpoint, body: None, body=PARAMS, endpoint=URL, method="POST")
    assert intent == Intent("POST", URL, PARAMS)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda event, url=None, params=None: None, Shape.EVENT),
        (lambda log_event, retries=3, timeout=10: None, Shape.EVENT),
        (lambda http_verb=None, url=None, params=None: None, Shape.CLASSIC),
        (lambda httpVerb, url="", params=None: None, Shape.CLASSIC),  # noqa: N803
        (lambda payload, retries=3: None, Shape.EVENT),
        (lambda verb, url, body=None: None, Shape.CLASSIC),
    ],
)
def test_where_both_fit_the_names_of_the_arguments_decide(function, shape):
    assert shape_of(inspect.signature(function)) is shape


@pytest.mark.parametrize(
    "function",
    [
        lambda payload, retries=3, timeout=10: None,
        lambda item, block=True, timeout=None: None,
        lambda first, url=None, params=None: None,
        lambda topic, body, retries=3: None,
        lambda url, params, http_verb: None,
        lambda url, params=None, http_verb="POST": None,
        lambda event, url, params: None,
        lambda url, timeout=3: None,
        queue.Queue().put,
    ],
)
def test_what_may_be_called_in_two_ways_is_a_configuration_error_that_names_the_choices(function):
    for door in (witness, Outbox, adapt_dispatcher):
        with pytest.raises(ConfigurationError) as caught:
            door(function)
        assert {
            word for word in ("shape='event'", "shape='classic'", "payload=") if word not in str(caught.value)
        } == set()


def test_a_default_that_is_a_key_is_in_no_message():
    with pytest.raises(ConfigurationError) as caught:
        witness(lambda payload, token="s3cr3t", timeout=3: None)
    assert "s3cr3t" not in str(caught.value)
    assert "token" in str(caught.value)


@pytest.mark.parametrize("method", ["dispatch_event", "dispatchEvent", "dispatch"])
def test_a_method_called_dispatch_event_takes_an_event(method):
    inner = type("Inner", (), {method: lambda self, payload, retries=3, timeout=10: None})()
    if method == "dispatch_event":
        assert resolve(inner).shape is Shape.EVENT
    else:
        with pytest.raises(ConfigurationError, match="shape="):
            resolve(inner)


def test_what_takes_any_arguments_is_read_by_their_number_and_called_with_an_event(sink):
    seen = []

    def anything(*args, **kwargs):
        seen.append(args)

    witnessed = witness(anything)
    with capture(timeout=0.01) as dispatches:
        witnessed("PUT", "http://h/", {"a": 1})
        witnessed({"a": 1})
    assert [(one.method, one.payload.body) for one in dispatches] == [("PUT", b'{"a": 1}'), ("POST", b'{"a": 1}')]
    event = Event("http://h/", {"a": 1}, "POST")
    adapt_dispatcher(anything).dispatch_event(event)
    assert seen[-1] == (event,)


def test_a_shape_that_is_given_decides():
    def send(payload, retries=3, timeout=10):
        """Whatever."""

    assert resolve(send, "event").shape is Shape.EVENT
    assert resolve(send, "classic").shape is Shape.CLASSIC
    witness(send, shape="event", evidence_timeout=0.01)
    for given in ("three", 5, "a token"):
        with pytest.raises(ConfigurationError, match="must be one of event, classic") as caught:
            witness(send, shape=given)
        assert "token" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="can't be called with 3"):
        witness(lambda event: None, shape="classic")


def test_all_doors_call_a_dispatcher_in_the_same_shape(sink):
    def of_event(event):
        calls.append(("event", event.url, event.params))

    def of_three(http_verb, url, params=None, headers=None):
        calls.append((http_verb, url, params))

    class Ruby:
        def dispatchEvent(self, httpVerb, url, params):  # noqa: N802, N803
            calls.append((httpVerb, url, params))

    calls = []
    event = Event("http://h/", {"a": 1}, "POST")
    for given, expected in ((of_event, "event"), (of_three, "POST"), (Ruby, "POST"), (Ruby(), "POST")):
        calls.clear()
        adapt_dispatcher(given).dispatch_event(event)
        outbox = Outbox(given, evidence_timeout=0.05)
        outbox.dispatch_event(event)
        deadline = time.monotonic() + 10
        while len(calls) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        outbox.close(0.1)
        assert calls[:2] == [(expected, "http://h/", {"a": 1})] * 2


def test_where_no_signature_can_be_read_the_number_of_arguments_decides():
    adapter = reader(None, shape_of(None))
    assert adapter((PARAMS,), {}) == Intent("POST", None, PARAMS)
    assert adapter((), {"event": PARAMS}) == Intent("POST", None, PARAMS)
    assert adapter(("POST", URL), {"params": PARAMS}) == Intent("POST", URL, PARAMS)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda **event: None, lambda one, two: None, lambda a, b, c, d: None, lambda *, event: None],
)
def test_any_other_callable_is_refused(function):
    with pytest.raises(ConfigurationError, match="neither an event nor"):
        shape_of(inspect.signature(function))


@pytest.mark.parametrize("function", [lambda verb, *rest: None, lambda url, *rest: None])
def test_an_event_is_not_passed_to_an_argument_that_is_called_a_verb_or_a_url(function):
    with pytest.raises(ConfigurationError, match="may take an event or"):
        resolve(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda *, event: None,
        lambda event, *, key: None,
        lambda **fields: None,
        functools.partial(lambda http_verb, url, params: None, "POST"),
        functools.partial(lambda event, timeout=1: None, event=PARAMS),
    ],
)
def test_what_takes_its_event_by_keyword_only_or_has_it_already_is_refused(function):
    with pytest.raises(ConfigurationError, match="takes neither an event nor"):
        resolve(function)


class Caller:
    def __call__(self, http_verb, url, params, timeout=10):
        pass

    def _send(self, timeout, event):
        pass

    dispatch_later = functools.partialmethod(_send, 5)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (Caller(), Shape.CLASSIC),
        (Caller().dispatch_later, Shape.EVENT),
        (Caller()._send, None),
        (functools.partial(Caller()._send, 5), Shape.EVENT),
        (functools.partial(lambda http_verb, url, params, timeout: None, timeout=3), Shape.CLASSIC),
        (functools.lru_cache(lambda event: None), Shape.EVENT),
    ],
)
def test_arguments_that_are_bound_already_do_not_count(function, shape):
    if shape is None:
        with pytest.raises(ConfigurationError, match="takes neither"):
            resolve(function)
    else:
        assert resolve(function).shape is shape
