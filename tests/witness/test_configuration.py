"""
What cannot be wrapped is refused, and the error says why.
"""

from __future__ import annotations

import pytest

from dispatchers import send

from wirewitness import (
    ConfigurationError,
    witness,
)


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
