"""
Any callable, by argument names and by callables that pick the values.
"""

from __future__ import annotations

import inspect

import pytest

from wirewitness.errors import ConfigurationError
from wirewitness.shapes import read_selected
from wirewitness.typing import Intent


def send(topic, body=b"default", *, to="http://default", **extra):
    """Whatever."""


SIGNATURE = inspect.signature(send)


def read(*args, payload="body", url=None, signature=SIGNATURE, **kwargs):
    return read_selected(signature, payload, url)(args, kwargs)


def test_a_named_argument_is_read_by_position():
    assert read("t", b"x") == Intent("POST", None, b"x")


def test_a_named_argument_is_read_by_keyword():
    assert read("t", body=b"x", to="http://h", url="to") == Intent("POST", "http://h", b"x")


def test_a_named_argument_that_is_not_given_has_its_default():
    assert read("t", url="to") == Intent("POST", "http://default", b"default")


def test_a_keyword_only_argument_is_never_read_by_position():
    def publish(*messages, body=b"default"):
        """Whatever."""

    assert read(b"one", b"two", signature=inspect.signature(publish)).params == b"default"


def test_arguments_in_a_row_are_no_single_argument():
    def publish(*messages):
        """Whatever."""

    picked = read(b"one", b"two", payload=lambda *messages: messages[1], signature=inspect.signature(publish))
    assert picked.params == b"two"


def test_callables_get_the_calls_own_arguments():
    intent = read(
        "t", [b"x"], to="h", payload=lambda topic, body, to: body[0], url=lambda topic, body, to: f"http://{to}"
    )
    assert intent == Intent("POST", "http://h", b"x")


def test_the_very_object_is_handed_on():
    body = {"a": 1}
    assert read("t", body).params is body
    assert body == {"a": 1}


def test_callables_need_no_signature():
    assert read(b"x", payload=lambda body: body, signature=None).params == b"x"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"payload": "bodi"}, ["payload=", "a str of 4", "topic, body, to, extra"]),
        ({"url": "uri"}, ["url=", "a str of 3", "topic, body, to, extra"]),
        ({"payload": 5}, ["payload=", "5", "name or a callable"]),
        ({"signature": None}, ["payload=", "a str of 4", "can't be read"]),
        ({"payload": "x", "signature": inspect.signature(lambda: None)}, ["a str of 1", "none"]),
    ],
)
def test_what_cannot_be_found_is_a_configuration_error_that_says_what_was_looked_for(known, words):
    with pytest.raises(ConfigurationError) as caught:
        read(**known)
    assert all(word in str(caught.value) for word in words)
