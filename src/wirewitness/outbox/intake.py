"""
From a call of any shape to a message: the payload is frozen here, on the caller's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wirewitness.adapters.optimizely import intent_of
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import QUERY_METHODS, Encode, freeze, freeze_query
from wirewitness.errors import UnsupportedPayload
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Fields, Form, Message, origin_of_url
from wirewitness.typing import Intent


JSON: Final[Fields] = (("Content-Type", "application/json"),)
"""What Optimizely's dispatcher sends with a payload, where the caller asks for nothing else."""

_ONE, _THREE = 1, 3


def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Intent, Fields]:
    """
    What a call asks for: ``(event)`` or ``(http_verb, url, params)``, by position or name, and ``headers`` if given.

    Raises:
        TypeError: If it's neither.
    """
    headers = kwargs.pop("headers", None)
    if len(args) == _ONE and not kwargs:
        return intent_of(args[0]), _fields(headers or _headers_of(args[0]))
    if len(args) + len(kwargs) == _ONE:
        (event,) = kwargs.values()
        return intent_of(event), _fields(headers or _headers_of(event))
    if len(args) + len(kwargs) == _THREE:
        return _of_three(args, kwargs), _fields(headers)
    msg = f"an Outbox takes an event, or (http_verb, url, params), and was given {len(args) + len(kwargs)} arguments"
    raise TypeError(msg)


def _of_three(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
    names = ("http_verb", "url", "params")
    verb, url, params = (*args, *(kwargs[name] for name in names[len(args) :]))
    return Intent(str(verb).upper(), url, params)


def _headers_of(event: Any) -> Any:
    return event.get("headers") if isinstance(event, Mapping) else getattr(event, "headers", None)


def _fields(headers: Any) -> Fields:
    if not headers:
        return JSON
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((str(name), str(value)) for name, value in pairs)


def message_of(intent: Intent, headers: Fields, encode: Encode | None = None) -> Message:
    """
    Freeze what is to be sent.

    Raises:
        UnsupportedPayload: If its bytes can't be known, or it can't be sent to where it's to go.
    """
    form = _form(intent)
    if form is Form.QUERY:
        body = freeze_query(intent.url, intent.params).body
        headers = () if headers is JSON else headers
    else:
        body = freeze(intent.params, encode=encode).body
    url = intent.url
    if not isinstance(url, str) or origin_of_url(url) is None:
        msg = f"{type(url).__name__} is no absolute URL to send to"
        raise UnsupportedPayload(msg, reason=Reason.UNSENDABLE)
    return Message(intent.method, url, headers, body, form, steady_ns())


def _form(intent: Intent) -> Form:
    params = intent.params
    if intent.method in QUERY_METHODS:
        return Form.QUERY
    if isinstance(params, dict):
        return Form.VALUE
    if isinstance(params, str):
        return Form.TEXT
    return Form.BYTES if isinstance(params, (bytes, bytearray, memoryview)) or hasattr(params, "read") else Form.VALUE
