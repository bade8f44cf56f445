"""
Any callable, by the names of its arguments or by callables that pick the values.
"""

from __future__ import annotations

import inspect

from collections.abc import Callable
from typing import Any

from wirewitness.errors import ConfigurationError
from wirewitness.typing import Adapter, Intent, Selector


def explicit(signature: inspect.Signature | None, payload: Selector, url: Selector | None = None) -> Adapter:
    """
    An adapter for a callable of any signature.

    Args:
        signature: The callable's own, without ``self``; None where it has none that can be read.
        payload: The name of the argument to be sent, or a callable that gets the call's arguments and returns it.
        url: The same for where it's to go; None where the call doesn't say.

    Raises:
        ConfigurationError: If a name is no argument of the callable.
    """
    pick_payload = _picker(signature, "payload", payload)
    pick_url = _picker(signature, "url", url) if url is not None else None

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        target = None if pick_url is None else pick_url(*args, **kwargs)
        return Intent("POST", target, pick_payload(*args, **kwargs))

    return read


def _picker(signature: inspect.Signature | None, role: str, selector: object) -> Callable[..., Any]:
    if callable(selector):
        return selector
    if not isinstance(selector, str):
        msg = f"{role}= takes an argument's name or a callable, not {selector!r}"
        raise ConfigurationError(msg)
    if signature is None:
        msg = f"{role}={selector!r}: the callable's arguments can't be read; give a callable that picks the value"
        raise ConfigurationError(msg)
    return _by_name(signature, role, selector)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _by_name(signature: inspect.Signature, role: str, name: str) -> Callable[..., Any]:
    if name not in signature.parameters:
        known = ", ".join(signature.parameters) or "none"
        msg = f"{role}={name!r} names no argument of the callable; its arguments: {known}"
        raise ConfigurationError(msg)
    positional = [known for known, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
    index = positional.index(name) if name in positional else None

    def pick(*args: Any, **kwargs: Any) -> Any:
        if name in kwargs:
            return kwargs[name]
        if index is not None and index < len(args):
            return args[index]
        return signature.parameters[name].default

    return pick
