"""
The one rule how a dispatcher is called: :func:`~wirewitness.witness`, the Outbox, ``wirewitness check`` and the Optimizely
integration all ask here.

There are two shapes. ``event``: the dispatcher takes one event, as in Optimizely's Python SDK. ``classic``: it takes
``(http_verb, url, params)``, as in Optimizely's Ruby SDK and its older documentation.

A signature decides, in this order:

1. What can be called with one argument only is ``event``, what can be called with three only is ``classic``.
2. Where both are possible, the arguments' names decide, and then the name of the method (``dispatch_event`` takes an event).
3. ``*args``, or a signature that can't be read, takes either: :func:`~wirewitness.witness`, which only reads calls that
   others make, goes by the number of arguments of each call. Who makes the calls gives an event.
4. Everything else is ambiguous, and a :class:`~wirewitness.errors.ConfigurationError` that names the choices. A URL is
   never passed to an argument that may be called ``retries``.
"""

from __future__ import annotations

import enum
import inspect

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from wirewitness.core.payload import UnreadableSource
from wirewitness.core.request import verb_of
from wirewitness.errors import ConfigurationError, shown
from wirewitness.typing import Adapter, Intent, Selector


METHODS: Final = ("dispatch_event", "dispatchEvent", "dispatch")
"""The methods that make an object a dispatcher: the first found is the one that's called."""


class Shape(enum.StrEnum):
    """
    What a dispatcher takes.
    """

    EVENT = "event"
    """One event, with ``url``, ``params``, ``http_verb`` and ``headers``."""
    CLASSIC = "classic"
    """``(http_verb, url, params)``."""


_VERB, _URL, _PARAMS, _EVENT = "verb", "url", "params", "event"

# Lower-case, without underscores.
_ROLES: Final = {
    **dict.fromkeys(("httpverb", "verb", "method", "httpmethod"), _VERB),
    **dict.fromkeys(("url", "uri", "endpoint", "target"), _URL),
    **dict.fromkeys(("params", "parameters", "payload", "body", "data", "content", "json"), _PARAMS),
    **dict.fromkeys(("event", "logevent"), _EVENT),
}
_CLASSIC: Final = (_VERB, _URL, _PARAMS)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Resolved:
    """
    How one dispatcher is called.

    Attributes:
        function: What is called.
        method: Its name on the dispatcher; None where the dispatcher itself is called.
        signature: Its signature, without ``self``; None where it can't be read.
        shape: What it takes; None where each call decides.
    """

    function: Callable[..., Any]
    method: str | None
    signature: inspect.Signature | None
    shape: Shape | None

    def send(self, event: Any) -> Any:
        """
        Call the dispatcher with an event, in its own shape.

        Args:
            event: With ``http_verb``, ``url`` and ``params``.
        """
        if self.shape is Shape.CLASSIC:
            return self.function(event.http_verb, event.url, event.params)
        return self.function(event)


def resolve(dispatcher: Any, shape: str | None = None) -> Resolved:
    """
    Find out how a dispatcher is called.

    Args:
        dispatcher: A function, or an object with one of :data:`METHODS`, or a callable. A class is taken as what it is:
            see :func:`instance_of`.
        shape: ``event`` or ``classic``, where the caller knows; None to find out.

    Raises:
        ConfigurationError: If it's no dispatcher, or its shape is ambiguous.
    """
    method = method_of(dispatcher)
    function: Any = dispatcher if method is None else getattr(dispatcher, method)
    if not callable(function):
        msg = f"{shown(dispatcher)} is no dispatcher: looked for a callable {', '.join(METHODS)}, or a callable"
        raise ConfigurationError(msg)
    signature = signature_of(function)
    return Resolved(function, method, signature, shape_of(signature, shape, method=method, name=name_of(function)))


def resolve_to_call(dispatcher: Any, shape: str | None = None) -> Resolved:
    """
    As :func:`resolve`, for those who make the calls themselves: what takes anything gets an event.

    Raises:
        ConfigurationError: If it's no dispatcher, or its shape is ambiguous.
    """
    resolved = resolve(dispatcher, shape)
    return replace(resolved, shape=Shape.EVENT) if resolved.shape is None else resolved


def instance_of(given: Any) -> Any:
    """
    A dispatcher that can be called: itself, a class whose method needs no instance, or an instance that is made here.

    Raises:
        ConfigurationError: If a class can't be made without arguments.
    """
    if not isinstance(given, type) or needs_no_instance(given):
        return given
    try:
        return given()
    except TypeError as error:
        msg = f"{given.__qualname__} can't be made without arguments: give an instance of it"
        raise ConfigurationError(msg) from error


def needs_no_instance(cls: type) -> bool:
    """
    Whether a class's dispatching method is a static one or one of the class.
    """
    method = next((name for name in METHODS if hasattr(cls, name)), None)
    return method is not None and isinstance(inspect.getattr_static(cls, method), (staticmethod, classmethod))


def method_of(dispatcher: Any) -> str | None:
    """
    The name of the method that dispatches; None where there's none, and the dispatcher itself is called.
    """
    return next((name for name in METHODS if callable(getattr(dispatcher, name, None))), None)


def signature_of(function: Any) -> inspect.Signature | None:
    """
    A callable's signature, or None where it can't be read.
    """
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def name_of(function: Any) -> str:
    """
    What a function is called in names and messages: a method has its class's name.
    """
    owner = getattr(function, "__self__", None)
    if inspect.ismethod(function):
        return owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return str(getattr(function, "__name__", None) or type(function).__name__)


def shape_of(
    signature: inspect.Signature | None, given: str | None = None, *, method: str | None = None, name: str = "it"
) -> Shape | None:
    """
    What a callable takes, by its signature.

    Args:
        signature: The callable's own, without ``self``; None where it can't be read.
        given: The shape, where the caller knows it.
        method: The name of the method that is called, or None.
        name: What messages call it.

    Returns:
        None where the number of arguments of each call decides.

    Raises:
        ConfigurationError: If it takes neither an event nor ``(http_verb, url, params)``, or may take either.
    """
    if given is not None:
        return _checked(given, signature, name)
    if signature is None:
        return Shape.EVENT if method == METHODS[0] else None
    names = _positional(signature)
    roles = [_role(each) for each in names[:3]]
    takes_event, takes_classic = binds(signature, 1), binds(signature, 3)
    if takes_event and takes_classic:
        return _by_names(signature, roles, method, name)
    if takes_event and roles[:1] not in ([_VERB], [_URL]):
        return Shape.EVENT
    if takes_classic and _in_order(roles) and (roles[:2] == [_VERB, _URL] or not binds(signature, 2)):
        return Shape.CLASSIC
    if takes_event or takes_classic:
        raise ConfigurationError(_ambiguous(name, signature))
    msg = (
        f"{name}{_names_only(signature)} takes neither an event nor (http_verb, url, params): "
        "say with payload= which argument is sent, or wrap it in a function of one event"
    )
    raise ConfigurationError(msg)


def _by_names(signature: inspect.Signature, roles: list[str | None], method: str | None, name: str) -> Shape | None:
    # Called with one argument or with three: only names can tell.
    if roles[:1] == [_EVENT]:
        return Shape.EVENT
    if roles[:2] == [_VERB, _URL]:
        return Shape.CLASSIC
    if method == METHODS[0]:
        return Shape.EVENT
    variadic = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in signature.parameters.values())
    if variadic and roles[:1] not in ([_VERB], [_URL]) and len(roles) <= 1:
        return None
    raise ConfigurationError(_ambiguous(name, signature))


def _checked(given: object, signature: inspect.Signature | None, name: str) -> Shape:
    if given not in tuple(Shape):
        msg = f"shape={shown(given)}: must be one of {', '.join(Shape)}"
        raise ConfigurationError(msg)
    shape = Shape(str(given))
    count = 1 if shape is Shape.EVENT else 3
    if signature is not None and not binds(signature, count):
        msg = f"{name}{_names_only(signature)} can't be called with {count} positional arguments, as shape={shape.value!r} says"
        raise ConfigurationError(msg)
    return shape


def _ambiguous(name: str, signature: inspect.Signature | None) -> str:
    return (
        f"{name}{_names_only(signature)} may take an event or (http_verb, url, params): say shape='event' or "
        "shape='classic', name its first argument event, or wrap it in a function of one event"
        "; witness() also takes payload= for the argument that is sent"
    )


def _names_only(signature: inspect.Signature | None) -> str:
    # Without the defaults and annotations, which can hold a key.
    if signature is None:
        return "(...)"
    bare = [
        each.replace(default=inspect.Parameter.empty, annotation=inspect.Parameter.empty)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


def _positional(signature: inspect.Signature) -> list[str]:
    return [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]


def _role(name: str) -> str | None:
    return _ROLES.get(name.replace("_", "").lower())


def _in_order(roles: list[str | None]) -> bool:
    # A name that is known stands where (http_verb, url, params) has it.
    return all(role in (None, expected) for role, expected in zip(roles, _CLASSIC, strict=False))


def binds(signature: inspect.Signature, count: int) -> bool:
    """
    Whether a callable can be called with so many positional arguments.
    """
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


# What a call asks for, as witness() reads it.


def reader(signature: inspect.Signature | None, shape: Shape | None) -> Adapter:
    """
    What reads an :class:`~wirewitness.typing.Intent` from each call's arguments, and changes none.

    Args:
        signature: The callable's own, without ``self``; None where it can't be read.
        shape: What it takes; None where the number of arguments of each call decides.
    """
    names = [] if signature is None else _positional(signature)
    event = read_event(names[0] if names else "event")
    if shape is Shape.EVENT:
        return event
    classic = read_classic(names[:3] if len(names) >= 3 else _default_names(names))  # noqa: PLR2004 -- verb, URL, parameters
    if shape is Shape.CLASSIC:
        return classic

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        texts = all(isinstance(given, str) for given in args[:2])
        takes_three = texts and len(args) + len(kwargs) >= 3  # noqa: PLR2004 -- as above
        return classic(args, kwargs) if takes_three else event(args, kwargs)

    return read


def _default_names(names: list[str]) -> list[str]:
    return [*names, *("http_verb", "url", "params")[len(names) :]]


def read_event(name: str = "event") -> Adapter:
    """
    Reads calls with one event, given by position or as keyword ``name``.

    Where an event's ``params`` are made anew at each read, the dispatcher reads other ones than wirewitness does: what it
    sends can't be known, and the payload is ``UnreadableSource``.
    """

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        given = args[0] if args else kwargs[name]
        intent = intent_of(given)
        if intent.params is given or isinstance(given, Mapping) or given.params is intent.params:
            return intent
        return intent._replace(params=UnreadableSource())

    return read


def read_classic(names: Sequence[str] = ("http_verb", "url", "params")) -> Adapter:
    """
    Reads calls with a verb, a URL and parameters, by position or under these names.
    """

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        if len(args) >= len(names):
            verb, url, params = args[:3]
        else:
            verb, url, params = (args[i] if i < len(args) else kwargs[name] for i, name in enumerate(names))
        return Intent(verb_of(verb), url, params)

    return read


def intent_of(given: Any, *, without_verb: bool = False) -> Intent:
    """
    What an event asks for.

    An event has all of ``url``, ``params`` and ``http_verb``, as attributes or as keys of a mapping. ``params`` alone
    mean nothing: a ``requests.Request`` has them, and so has every JSON-RPC call. What is no event is a payload itself.

    Args:
        given: An event, or a payload.
        without_verb: Whether ``http_verb`` may be missing, because only an event can have been given.
    """
    try:
        if isinstance(given, Mapping):
            url, params = given["url"], given["params"]
            verb = given.get("http_verb") if without_verb else given["http_verb"]
        else:
            url, params = given.url, given.params
            verb = getattr(given, "http_verb", None) if without_verb else given.http_verb
    except (AttributeError, KeyError):
        return Intent("POST", None, given)
    return Intent(verb_of(verb or "POST"), url, params)


# A callable of any signature, by the names of its arguments or by callables that pick the values.


def read_selected(signature: inspect.Signature | None, payload: Selector, url: Selector | None = None) -> Adapter:
    """
    Reads calls of a callable of any signature.

    Args:
        signature: The callable's own, without ``self``; None where it can't be read.
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


def _picker(signature: inspect.Signature | None, option: str, selector: object) -> Callable[..., Any]:
    if callable(selector):
        return selector
    if not isinstance(selector, str):
        msg = f"{option}= takes an argument's name or a callable, not {shown(selector)}"
        raise ConfigurationError(msg)
    if signature is None:
        msg = (
            f"{option}={shown(selector)}: the callable's arguments can't be read; give a callable that picks the value"
        )
        raise ConfigurationError(msg)
    parameters = signature.parameters
    if selector not in parameters:
        known = ", ".join(parameters) or "none"
        msg = f"{option}={shown(selector)} names no argument of the callable; its arguments: {known}"
        raise ConfigurationError(msg)
    positional = _positional(signature)
    index = positional.index(selector) if selector in positional else None

    def pick(*args: Any, **kwargs: Any) -> Any:
        if selector in kwargs:
            return kwargs[selector]
        if index is not None and index < len(args):
            return args[index]
        return parameters[selector].default

    return pick
