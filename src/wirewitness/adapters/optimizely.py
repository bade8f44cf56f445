"""
``dispatch_event(event)``: the shape of Optimizely's Python SDK.

An event has ``url``, ``params``, ``http_verb`` and ``headers`` (``optimizely/event_builder.py``, class ``Event``, and
``optimizely/event/log_event.py``, class ``LogEvent``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wirewitness.typing import Adapter, Intent


def event(name: str = "event") -> Adapter:
    """
    An adapter for calls with one event, given by position or as keyword ``name``.

    The event may be an object with ``params``, a mapping with the key ``params``, or the payload itself.
    """

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        return intent_of(args[0] if args else kwargs[name])

    return read


def intent_of(given: Any) -> Intent:
    """
    What an event asks for.
    """
    if hasattr(given, "params"):
        verb = getattr(given, "http_verb", None) or "POST"
        return Intent(str(verb).upper(), getattr(given, "url", None), given.params)
    if isinstance(given, Mapping) and "params" in given:
        verb = given.get("http_verb") or "POST"
        return Intent(str(verb).upper(), given.get("url"), given["params"])
    return Intent("POST", None, given)
