"""
Any dispatcher as the sender of an Outbox.
"""

from __future__ import annotations

import inspect
import json

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from wirewitness.core.limits import positive
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.sender import Unsendable
from wirewitness.shapes import instance_of, resolve_to_call


class DispatcherSender:
    """
    Gives messages to a dispatcher of any shape.

    Args:
        inner: A dispatcher: a class or an instance with ``dispatch_event``, ``dispatchEvent`` or ``dispatch``, or a
            function of an event or of ``(http_verb, url, params)``. It may be witnessed.
        threads: How many threads call it at once; more than one only if it can be called so.
        shape: ``event`` or ``classic``, where its arguments don't tell which it takes.

    Raises:
        ConfigurationError: If ``inner`` is no dispatcher, or may be called in two ways.
    """

    def __init__(self, inner: Any, *, threads: int = 1, shape: str | None = None) -> None:
        self.threads: int = positive("threads", threads)
        self._inner = resolve_to_call(instance_of(inner), shape)
        if inspect.iscoroutinefunction(inspect.unwrap(self._inner.function)):
            msg = f"{shown(inner)} is async: an Outbox has threads of its own, give it a dispatcher that isn't"
            raise ConfigurationError(msg)

    def send(self, message: Message) -> None:
        """
        Call the dispatcher. What it returns says nothing: the tap on the wire tells what it did.

        Raises:
            Unsendable: If it can't be given a value that it would encode as the payload's bytes.
            BaseException: Whatever the dispatcher raises.
        """
        self._inner.send(RemadeEvent(message))


class RemadeEvent:
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
        self.url: str = message.url
        self.params: Any = params_of(message)
        self.http_verb: str = message.method
        self.headers: dict[str, str] = dict(message.headers)


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
