"""
Which adapter fits a callable.
"""

from __future__ import annotations

import inspect

import pytest

from wirewitness.adapters import adapter_for
from wirewitness.typing import Intent


URL = "http://host/events"
PARAMS = {"visitor": "v1"}


def reading(function, *args, **kwargs):
    return adapter_for(inspect.signature(function))(args, kwargs)


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


def test_where_both_fit_the_number_of_arguments_decides():
    def dispatch(first, url=None, params=None):
        """Whatever."""

    assert reading(dispatch, PARAMS) == Intent("POST", None, PARAMS)
    assert reading(dispatch, "PUT", URL, PARAMS) == Intent("PUT", URL, PARAMS)


def test_where_no_signature_can_be_read_the_number_of_arguments_decides():
    adapter = adapter_for(None)
    assert adapter((PARAMS,), {}) == Intent("POST", None, PARAMS)
    assert adapter((), {"event": PARAMS}) == Intent("POST", None, PARAMS)
    assert adapter(("POST", URL), {"params": PARAMS}) == Intent("POST", URL, PARAMS)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda **event: None, lambda one, two: None, lambda a, b, c, d: None, lambda *, event: None],
)
def test_any_other_callable_fits_no_adapter(function):
    assert adapter_for(inspect.signature(function)) is None
