"""
Which adapter fits a callable, by its signature.
"""

from __future__ import annotations

import inspect

from typing import Any, Final

from wirewitness.adapters.optimizely import event
from wirewitness.adapters.three_args import three_arguments
from wirewitness.typing import Adapter, Intent


METHODS: Final = ("dispatch_event", "dispatchEvent", "dispatch")
"""The methods that make an object a dispatcher: the first found is the one that's called."""


def adapter_for(signature: inspect.Signature | None) -> Adapter | None:
    """
    The adapter for a callable that takes an event, or a verb, a URL and parameters; None where it takes neither.

    Args:
        signature: The callable's own, without ``self``; None where it has none that can be read, which leaves the
            number of arguments to each call.
    """
    if signature is None:
        return _by_count("event")
    names = [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
    takes_event, takes_three = binds(signature, 1), binds(signature, 3)
    if takes_event and takes_three and names[:1] != ["event"]:
        return _by_count(names[0] if names else "event")
    if takes_event:
        return event(names[0])
    return three_arguments(names[:3]) if takes_three else None


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def binds(signature: inspect.Signature, count: int) -> bool:
    """
    Whether a callable can be called with so many positional arguments.
    """
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _by_count(name: str) -> Adapter:
    one, three = event(name), three_arguments()

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        texts = all(isinstance(given, str) for given in args[:2])
        adapter = three if texts and len(args) + len(kwargs) >= 3 else one  # noqa: PLR2004 -- verb, URL, parameters
        return adapter(args, kwargs)

    return read
