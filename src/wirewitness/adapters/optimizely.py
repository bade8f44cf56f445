"""
``dispatch_event(event)``: the shape of Optimizely's Python SDK.

An event has ``url``, ``params``, ``http_verb`` and ``headers`` (``optimizely/event_builder.py``, class ``Event``, and
``optimizely/event/log_event.py``, class ``LogEvent``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wirewitness.core.payload import Unreadable
from wirewitness.core.request import verb_of
from wirewitness.typing import Adapter, Intent


def event(name: str = "event") -> Adapter:
    """
    An adapter for calls with one event, given by position or as keyword ``name``.

    The event is what :func:`intent_of` takes for one. Where its ``params`` are made anew at each read, the dispatcher
    reads other ones than wirewitness does: what it sends can't be known, and the payload is ``Unreadable``.
    """

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        given = args[0] if args else kwargs[name]
        intent = intent_of(given)
        if intent.params is given or isinstance(given, Mapping) or given.params is intent.params:
            return intent
        return intent._replace(params=Unreadable())

    return read


def intent_of(given: Any) -> Intent:
    """
    What an event asks for.

    An event has all of ``url``, ``params`` and ``http_verb``, as attributes or as keys of a mapping. ``params`` alone
    mean nothing: a ``requests.Request`` has them, and so has every JSON-RPC call. What is no event is a payload itself.
    """
    if isinstance(given, Mapping):
        if not all(key in given for key in _OF_AN_EVENT):
            return Intent("POST", None, given)
        url, verb, params = (given[key] for key in _OF_AN_EVENT)
    else:
        try:
            url, verb, params = given.url, given.http_verb, given.params
        except AttributeError:
            return Intent("POST", None, given)
    return Intent(verb_of(verb or "POST"), url, params)


_OF_AN_EVENT = ("url", "http_verb", "params")
