"""
A dispatcher of any shape, as the SDK takes it: with a method ``dispatch_event(event)``.
"""

from __future__ import annotations

from typing import Any

from wirewitness.errors import ConfigurationError, shown
from wirewitness.shapes import METHODS, Resolved, Shape, instance_of, resolve, resolve_to_call


class _Adapted:
    """
    What the SDK takes for a dispatcher, made of another one.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved

    def dispatch_event(self, event: Any) -> None:
        """
        Hand an event on, its parameters being the very same object.
        """
        self._resolved.send(event)


class ThreeArguments(_Adapted):
    """
    What the Python SDK takes for an event dispatcher, made of what other SDKs and older documentation call one:
    ``dispatchEvent(httpVerb, url, params)``, or a function of these.

    Args:
        inner: The dispatcher, witnessed or not.

    Raises:
        ConfigurationError: If it's none.
    """

    def __init__(self, inner: Any) -> None:
        try:
            resolved = resolve(instance_of(inner), Shape.CLASSIC)
        except ConfigurationError as error:
            msg = f"{shown(inner)} is no dispatcher of (http_verb, url, params): {error}"
            raise ConfigurationError(msg) from error
        super().__init__(resolved)


def adapt_dispatcher(dispatcher: Any) -> Any:
    """
    A dispatcher as the SDK takes it: itself where it has ``dispatch_event(event)``, else something that calls it in its own
    shape.

    Args:
        dispatcher: A dispatcher of any shape, witnessed or not; None for the SDK's own.

    Raises:
        ConfigurationError: If it's no dispatcher, or may be called in two ways.
    """
    if dispatcher is None:
        return None
    if callable(getattr(dispatcher, METHODS[0], None)) and resolve(dispatcher).shape is not Shape.CLASSIC:
        return dispatcher
    return _Adapted(resolve_to_call(instance_of(dispatcher)))
