"""
From a call of any shape to a message: the payload is frozen here, on the caller's thread.
"""

from __future__ import annotations

import logging

from collections.abc import Mapping
from typing import Any, Final

from wirewitness.core.outcome import Reason
from wirewitness.core.payload import QUERY_METHODS, Encode, freeze, freeze_query
from wirewitness.core.request import MOST_URL, Fields, destination_of, fields_of, method_of, verb_of
from wirewitness.errors import UnsupportedPayload
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Form, Message
from wirewitness.shapes import intent_of
from wirewitness.typing import Intent


JSON: Final[Fields] = (("Content-Type", "application/json"),)
"""What Optimizely's dispatcher sends with a payload, where the caller asks for nothing else."""

_ONE, _THREE = 1, 3

_log: Final = logging.getLogger("wirewitness")
# The names of header fields that were said to be left out: a dozen at most, they are all known ones.
_SAID: Final[set[str]] = set()


def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Intent, Fields]:
    """
    What a call asks for: ``(event)`` or ``(http_verb, url, params)``, by position or name, and ``headers`` if given.

    Raises:
        TypeError: If it's neither.
        UnsupportedPayload: If a header field can't be sent.
    """
    headers = kwargs.pop("headers", None)
    if len(args) == _ONE and not kwargs:
        return intent_of(args[0], without_verb=True), _fields(headers or _headers_of(args[0]))
    if len(args) + len(kwargs) == _ONE:
        (event,) = kwargs.values()
        return intent_of(event, without_verb=True), _fields(headers or _headers_of(event))
    if len(args) + len(kwargs) == _THREE:
        return _of_three(args, kwargs), _fields(headers)
    msg = f"an Outbox takes an event, or (http_verb, url, params), and was given {len(args) + len(kwargs)} arguments"
    raise TypeError(msg)


def _of_three(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
    names = ("http_verb", "url", "params")
    verb, url, params = (*args, *(kwargs[name] for name in names[len(args) :]))
    return Intent(verb_of(verb), url, params)


def _headers_of(event: Any) -> Any:
    return event.get("headers") if isinstance(event, Mapping) else getattr(event, "headers", None)


def _fields(headers: Any) -> Fields:
    if not headers:
        return JSON
    fields, left_out = fields_of(headers)
    for name in left_out:
        if name not in _SAID:
            _SAID.add(name)
            _log.warning(
                "the header field %s is left out of requests: the sender sets it; further ones are not logged", name
            )
    return fields


def message_of(intent: Intent, headers: Fields, encode: Encode | None = None) -> Message:
    """
    Freeze what is to be sent.

    Raises:
        UnsupportedPayload: If its bytes can't be known, or no request can be made of it: see :mod:`wirewitness.core.request`.
    """
    method, url = method_of(intent.method), intent.url
    if type(url) is not str:
        # A subclass may be an enumeration of URLs.
        url = str.__str__(url) if isinstance(url, str) else ""
    destination_of(url)
    form = _form(intent)
    if form is Form.QUERY:
        body = freeze_query(url, intent.params).body
        headers = () if headers is JSON else headers
        if len(url) + len(body) > MOST_URL:
            msg = f"the URL with its query has more than {MOST_URL} characters"
            raise UnsupportedPayload(msg, reason=Reason.UNSENDABLE)
    else:
        body = freeze(intent.params, encode=encode).body
    return Message(method, url, headers, body, form, steady_ns())


def _form(intent: Intent) -> Form:
    params = intent.params
    if intent.method in QUERY_METHODS:
        return Form.QUERY
    if isinstance(params, dict):
        return Form.VALUE
    if isinstance(params, str):
        return Form.TEXT
    return Form.BYTES if isinstance(params, (bytes, bytearray, memoryview)) or hasattr(params, "read") else Form.VALUE
