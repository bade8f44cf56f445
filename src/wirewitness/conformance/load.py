"""
From ``module:attribute`` to something that can be called with an event.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wirewitness._witness import witness
from wirewitness.errors import WireWitnessError
from wirewitness.ledger import Ledger
from wirewitness.shapes import Resolved, Shape, binds, needs_no_instance, resolve_to_call


SHAPES: Final = ("auto", "event", "classic", "three")
"""What a dispatcher is called with: found out, one event, or a verb, a URL and parameters (``three`` is ``classic``)."""

_CHECKED: Final = {"three": "classic"}


class BadTarget(Exception):  # noqa: N818 -- named for what it says of the target
    """
    What was named can't be had, or is no dispatcher.
    """


@dataclass(frozen=True)
class LoadEvent:
    """
    An event as Optimizely's SDK hands it to a dispatcher.
    """

    url: str
    params: Any
    http_verb: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """
    A dispatcher that is ready to be called.

    Attributes:
        raw: The dispatcher itself.
        send: Calls it, under the witness.
        keyword: Calls it with the arguments by their names.
        witnessed: Whether it has a witness of its own inside.
        three: Whether it takes a verb, a URL and parameters.
    """

    raw: Any
    send: Callable[[LoadEvent], Any]
    keyword: Callable[[LoadEvent], Any]
    witnessed: bool
    three: bool = False


def load(spec: str, shape: str = "auto", kwargs: Mapping[str, Any] | None = None) -> Target:
    """
    Import a dispatcher, make it if it's a class or a factory, and put the witness around it.

    Args:
        spec: ``module:attribute``; the attribute may have dots.
        shape: One of :data:`SHAPES`.
        kwargs: What a class or a factory is called with.

    Raises:
        BadTarget: If that can't be done.
    """
    try:
        raw = _made(_imported(spec), dict(kwargs or {}), shape)
    except BadTarget:
        raise
    except Exception as error:
        msg = f"{spec} could not be made: {_told(error)}"
        raise BadTarget(msg) from error
    return _target(spec, raw, shape)


def _imported(spec: str) -> Any:
    module, colon, path = spec.partition(":")
    if not (module and colon and path):
        msg = f"{spec!r} is no module:attribute, such as optimizely.event_dispatcher:EventDispatcher"
        raise BadTarget(msg)
    if os.getcwd() not in sys.path:  # noqa: PTH109 -- a text, as the path's entries are
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        msg = f"{module} can't be imported: {_told(error)}"
        raise BadTarget(msg) from error
    for name in path.split("."):
        if not hasattr(found, name):
            msg = f"{module} has no {path}"
            raise BadTarget(msg)
        found = getattr(found, name)
    return found


def _made(found: Any, kwargs: dict[str, Any], shape: str) -> Any:
    if isinstance(found, type):
        return found if needs_no_instance(found) and not kwargs else found(**kwargs)
    return found(**kwargs) if inspect.isfunction(found) and _is_factory(found, kwargs, shape) else found


def _is_factory(function: Any, kwargs: dict[str, Any], shape: str) -> bool:
    # A function that dispatches needs an event; one that can be called without anything makes something.
    signature = inspect.signature(function)
    if not kwargs and shape != "auto":
        return not binds(signature, 1 if shape == "event" else 3)
    variadic = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in signature.parameters.values())
    return bool(kwargs) or (binds(signature, 0) and not variadic)


def _target(spec: str, raw: Any, shape: str) -> Target:
    given = None if shape == "auto" else _CHECKED.get(shape, shape)
    try:
        resolved = resolve_to_call(raw, given)
        witnessed = isinstance(getattr(raw, "ledger", None), Ledger)
        observed = raw if witnessed else witness(raw, shape=given)
        called = resolve_to_call(observed, resolved.shape)
    except WireWitnessError as error:
        msg = f"{spec} has no known shape: {error}"
        raise BadTarget(msg) from error
    except Exception as error:
        msg = f"{spec} can't be witnessed: {_told(error)}"
        raise BadTarget(msg) from error
    return Target(raw, called.send, _keywords(called), witnessed, resolved.shape is Shape.CLASSIC)


def _keywords(called: Resolved) -> Callable[[LoadEvent], Any]:
    three = called.shape is Shape.CLASSIC
    names = [] if called.signature is None else list(called.signature.parameters)
    if len(names) < (3 if three else 1) or names[0] in {"args", "kwargs"}:
        return called.send

    def send(event: LoadEvent) -> Any:
        values = (event.http_verb, event.url, event.params) if three else (event,)
        return called.function(**dict(zip(names, values, strict=False)))

    return send


def _told(error: Exception) -> str:
    # An exception's text can hold what the target was given, such as a key: it is not shown.
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{type(error).__name__}: there is no module {error.name}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}"
