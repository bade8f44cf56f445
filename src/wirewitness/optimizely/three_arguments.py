"""
The classic dispatcher of three arguments, as the SDK's of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wirewitness.errors import ConfigurationError, shown


_METHODS: Final = ("dispatchEvent", "dispatch")


class ThreeArguments:
    """
    What the Python SDK takes for an event dispatcher, made of what other SDKs and older documentation call one:
    ``dispatchEvent(httpVerb, url, params)``, or a function of these.

    Args:
        inner: The dispatcher, witnessed or not.

    Raises:
        ConfigurationError: If it's none.
    """

    def __init__(self, inner: Any) -> None:
        methods = [getattr(inner, name, None) for name in _METHODS]
        found = next((method for method in (*methods, inner) if callable(method)), None)
        if found is None:
            msg = f"{shown(inner)} is no dispatcher of (http_verb, url, params): looked for {', '.join(_METHODS)}, or a callable"
            raise ConfigurationError(msg)
        self._dispatch: Callable[[str, str, Any], Any] = found

    def dispatch_event(self, event: Any) -> None:
        """
        Hand an event on, its parameters being the very same object.
        """
        self._dispatch(event.http_verb, event.url, event.params)


def one_argument(dispatcher: Any) -> Any:
    """
    A dispatcher as the SDK takes it: itself, unless it's one of three arguments.
    """
    if dispatcher is None or callable(getattr(dispatcher, "dispatch_event", None)):
        return dispatcher
    return ThreeArguments(dispatcher)
