"""
Any dispatcher as the sender of an Outbox.
"""

from __future__ import annotations

import inspect
import json

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from wirewitness.adapters import METHODS, binds
from wirewitness.core.limits import positive
from wirewitness.errors import ConfigurationError
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.sender import Unsendable


class DispatcherSender:
    """
    Gives messages to a dispatcher of any shape.

    Args:
        inner: A dispatcher: a class or an instance with ``dispatch_event``, ``dispatchEvent`` or ``dispatch``, or a
            function of an event or of ``(http_verb, url, params)``. It may be witnessed.
        threads: How many threads call it at once; more than one only if it can be called so.

    Raises:
        ConfigurationError: If ``inner`` is no dispatcher.
    """

    def __init__(self, inner: Any, *, threads: int = 1) -> None:
        self.threads = positive("threads", threads)
        self._function = _function_of(inner)
        self._with_event = _takes_event(self._function)

    def send(self, message: Message) -> None:
        """
        Call the dispatcher. What it returns says nothing: the tap on the wire tells what it did.

        Raises:
            Unsendable: If it can't be given a value that it would encode as the payload's bytes.
            BaseException: Whatever the dispatcher raises.
        """
        if self._with_event:
            self._function(Event(message))
        else:
            self._function(message.method, message.url, params_of(message))


def _function_of(given: Any) -> Callable[..., Any]:
    inner = _instance_of(given)
    function: Any = next((found for name in METHODS if callable(found := getattr(inner, name, None))), inner)
    if not callable(function):
        msg = f"{given!r} is no dispatcher: it has no {', '.join(METHODS)}, and can't be called"
        raise ConfigurationError(msg)
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        msg = f"{given!r} is async: an Outbox has threads of its own, give it a dispatcher that isn't"
        raise ConfigurationError(msg)
    called: Callable[..., Any] = function
    return called


def _instance_of(inner: Any) -> Any:
    if not isinstance(inner, type):
        return inner
    name = next((name for name in METHODS if hasattr(inner, name)), None)
    found = None if name is None else inspect.getattr_static(inner, name)
    if isinstance(found, (staticmethod, classmethod)):
        return inner
    try:
        return inner()
    except TypeError as error:
        msg = f"{inner.__qualname__} can't be made without arguments ({error}): give an instance of it"
        raise ConfigurationError(msg) from error


def _takes_event(function: Any) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    names = list(signature.parameters)
    if names[:1] == ["event"]:
        return True
    return not binds(signature, 3)


class Event:
    """
    What an inner dispatcher gets in place of the caller's event, anew for every attempt.

    Attributes:
        url: As the caller gave it.
        params: The payload, made anew from its frozen bytes: a value equal to the caller's, or the bytes or text itself.
        http_verb: The method.
        headers: The header fields.
    """

    __slots__ = ("headers", "http_verb", "params", "url")

    def __init__(self, message: Message) -> None:
        self.url = message.url
        self.params = params_of(message)
        self.http_verb = message.method
        self.headers = dict(message.headers)


def params_of(message: Message) -> Any:
    """
    The parameters from which an inner dispatcher makes the payload's bytes again.

    Raises:
        Unsendable: If a decoded value would be encoded as other bytes: duplicate keys, or another encoder's bytes.
    """
    if message.form is Form.TEXT:
        return message.body.decode("utf-8")
    if message.form is Form.BYTES:
        return message.body
    if message.form is Form.QUERY:
        own = urlsplit(message.url).query
        return _as_mapping(message.body[len(own) :].lstrip(b"&").decode("latin-1"))
    try:
        value = json.loads(message.body)
        if json.dumps(value).encode() == message.body:
            return value
    except ValueError as error:
        raise Unsendable from error
    raise Unsendable


def _as_mapping(query: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return values
