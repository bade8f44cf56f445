"""
``witness()``: decides the shape of what it wraps, and returns the same thing under observation.
"""

from __future__ import annotations

import functools
import inspect

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict, TypeVar, Unpack, overload

import wrapt

from wirewitness import wire
from wirewitness._observe import Observer, OnSettle, Options
from wirewitness.adapters import METHODS, adapter_for, explicit
from wirewitness.core.limits import origins
from wirewitness.core.payload import Encode
from wirewitness.errors import ConfigurationError
from wirewitness.ledger import Ledger
from wirewitness.telemetry import MeterProvider, Telemetry, TracerProvider
from wirewitness.typing import Adapter, Selector


T = TypeVar("T")

_MARK: Final = "__wirewitness__"

# Before wrapt 2, which older OpenTelemetry instrumentation can't be installed with, all proxies look iterable.
_Proxy: Final[Any] = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)


class WitnessOptions(TypedDict, total=False):
    """
    The options of :func:`witness`, which documents them.
    """

    name: str | None
    payload: Selector | None
    url: Selector | None
    encode: Encode | None
    evidence_timeout: float
    on_settle: OnSettle | None
    strict: bool
    receiver_origins: Iterable[str]
    suppress_http_instrumentation: bool
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None


@overload
def witness(inner: T, /, **options: Unpack[WitnessOptions]) -> T: ...


@overload
def witness(**options: Unpack[WitnessOptions]) -> Callable[[T], T]: ...


def witness(*inner: Any, **options: Any) -> Any:
    """
    Wrap a dispatcher, and know from the bytes on the socket what it really did.

    The result has the signature, name, docstring, return value and exceptions of ``inner``. Nothing that goes wrong in
    wirewitness reaches the caller. Without ``inner`` it is a decorator.

    Args:
        *inner: What dispatches events:

            - a class, or an instance, with a method ``dispatch_event``, ``dispatchEvent`` or ``dispatch``;
            - a function or method that takes an event, or ``(http_verb, url, params)``;
            - with ``payload=``, any callable;
            - ``async def`` in all of these.

            A class gives a subclass, an instance a transparent proxy.
        **options: See :class:`WitnessOptions`:

    Options:
        name: The dispatcher's name in spans, metrics and logs; by default that of the class or function. Calls under
            one name add up.
        payload: For a callable of any signature, what it sends: an argument's name, or a callable that gets the call's
            arguments and returns the value.
        url: Likewise, where it sends it.
        encode: Makes the payload's bytes (or UTF-8 text) from the parameters. By default bytes are themselves, text is
            UTF-8, and all else is ``json.dumps(params)``, as in ``optimizely/event_dispatcher.py``.
        evidence_timeout: Seconds for which a call that returned without evidence may still be settled by its bytes on
            the wire, before it's ``UNCONFIRMED``.
        on_settle: Called with every settled :class:`Dispatch`, in whichever thread settles it.
        strict: Raise :class:`IntegrityError` to the caller where a payload was ``ALTERED``. For tests.
        receiver_origins: The servers whose ``Wirewitness-Received-Digest`` counts, each as ``https://host`` or
            ``https://host:port``. By default none: any server can answer with such a field.
        suppress_http_instrumentation: Keep OpenTelemetry's other HTTP instrumentation off during the inner call. It
            would double the spans, and put ``traceparent`` and baggage into the request.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.

    Raises:
        ConfigurationError: If ``inner`` isn't anything of the above, or an option can't work.
    """
    settings = _Settings.of(options)
    if not inner:
        return lambda given: _wrap(given, settings)
    if len(inner) > 1:
        msg = f"witness() takes one dispatcher, and was given {len(inner)}"
        raise ConfigurationError(msg)
    return _wrap(inner[0], settings)


def ledger_of(dispatcher: object) -> Ledger:
    """
    The ledger of a witnessed dispatcher, or of a method of it.

    It's ``dispatcher.ledger`` too, unless the inner dispatcher has an attribute of that name.

    Raises:
        ConfigurationError: If ``dispatcher`` isn't witnessed.
    """
    observer = getattr(dispatcher, _MARK, None)
    if not isinstance(observer, Observer):
        msg = f"{dispatcher!r} is not witnessed: wrap it with witness() first"
        raise ConfigurationError(msg)
    return observer.ledger


@dataclass(frozen=True)
class _Settings:
    """The options, checked."""

    name: str | None = None
    payload: Selector | None = None
    url: Selector | None = None
    suppress_http_instrumentation: bool = True
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    observe: Options = field(default_factory=Options)

    @classmethod
    def of(cls, options: dict[str, Any]) -> _Settings:
        unknown = sorted(set(options) - set(WitnessOptions.__annotations__))
        if unknown:
            known = ", ".join(WitnessOptions.__annotations__)
            msg = f"witness() has no option {', '.join(unknown)}; its options: {known}"
            raise ConfigurationError(msg)
        receivers = origins("receiver_origins", options.pop("receiver_origins", ()))
        observing = {name: options.pop(name) for name in tuple(options) if name in Options.__dataclass_fields__}
        settings = cls(observe=Options(**observing, receivers=receivers), **options)
        settings._check()
        return settings

    def _check(self) -> None:
        observe = self.observe
        if self.url is not None and self.payload is None:
            msg = f"url={self.url!r} was given without payload=: name the argument that is sent, too"
            raise ConfigurationError(msg)
        seconds: object = observe.evidence_timeout
        if not (isinstance(seconds, (int, float)) and seconds > 0):
            msg = f"evidence_timeout={seconds!r}: must be a number of seconds greater than 0"
            raise ConfigurationError(msg)
        hooks: dict[str, object] = {"encode": observe.encode, "on_settle": observe.on_settle}
        for name, hook in hooks.items():
            if hook is not None and not callable(hook):
                msg = f"{name}={hook!r}: must be a callable"
                raise ConfigurationError(msg)

    def observer(self, name: str, adapter: Adapter) -> Observer:
        telemetry = Telemetry(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            suppress_http=self.suppress_http_instrumentation,
        )
        wire.install()
        return Observer(self.name or name, adapter, self.observe, telemetry)


def _wrap(inner: Any, settings: _Settings) -> Any:
    if isinstance(inner, (staticmethod, classmethod)):
        bound = isinstance(inner, classmethod)
        return type(inner)(_wrap_function(inner.__func__, settings, bound=bound))
    if isinstance(inner, type):
        return _wrap_class(inner, settings)
    if inspect.isroutine(inner) or isinstance(inner, functools.partial):
        return _wrap_function(inner, settings, bound=_has_self(inner))
    return _wrap_instance(inner, settings)


def _has_self(function: Any) -> bool:
    # A function that is decorated within a class body gets its instance as first argument.
    names = list(getattr(_signature(function), "parameters", ()))
    return inspect.isfunction(function) and names[:1] in (["self"], ["cls"])


def _wrap_function(inner: Any, settings: _Settings, *, bound: bool) -> Any:
    observer = settings.observer(_name_of(inner), _adapter(inner, settings, bound=bound))
    return _marked(_observed(inner, observer), observer)


def _name_of(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    if inspect.ismethod(function):
        return owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _wrap_class(cls: type, settings: _Settings) -> type:
    method = _method_of(cls)
    found = inspect.getattr_static(cls, method)
    kind = type(found) if isinstance(found, (staticmethod, classmethod)) else None
    function = found.__func__ if kind else found
    if not callable(function):
        msg = f"{cls.__qualname__}.{method} is a {type(found).__name__}, which can't be wrapped in the class: wrap an instance"
        raise ConfigurationError(msg)
    bound = kind is classmethod or (kind is None and hasattr(function, "__get__"))
    observer = settings.observer(cls.__name__, _adapter(function, settings, bound=bound))
    observed = _observed(function, observer)
    return _subclass(cls, {method: kind(observed) if kind else observed if bound else staticmethod(observed)}, observer)


def _subclass(cls: type, members: dict[str, Any], observer: Observer) -> type:
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": (),
        _MARK: observer,
        **members,
    }
    if not _has_own_ledger(cls):
        namespace["ledger"] = observer.ledger
    try:
        return type(cls)(cls.__name__, (cls,), namespace)
    except TypeError as error:
        msg = f"{cls.__qualname__} can't be subclassed ({error}): wrap an instance of it"
        raise ConfigurationError(msg) from error


def _wrap_instance(inner: Any, settings: _Settings) -> Any:
    method = _method_of(inner, or_else="__call__" if callable(inner) else None)
    function = getattr(inner, method)
    observer = settings.observer(type(inner).__name__, _adapter(function, settings, bound=False))
    members = {method: staticmethod(_observed(function, observer)), _MARK: observer}
    if not _has_own_ledger(inner):
        members["ledger"] = observer.ledger
    proxy = type(type(inner).__name__, (_Proxy,), members)
    return proxy(inner)


def _method_of(inner: Any, or_else: str | None = None) -> str:
    for name in METHODS:
        if callable(getattr(inner, name, None)) or (isinstance(inner, type) and hasattr(inner, name)):
            return name
    if or_else is None:
        msg = (
            f"{inner!r} is no dispatcher: looked for a callable {', '.join(METHODS)}, or a function of an event or of "
            "(http_verb, url, params); any other callable needs payload="
        )
        raise ConfigurationError(msg)
    return or_else


def _adapter(function: Any, settings: _Settings, *, bound: bool) -> Adapter:
    signature = _signature(function)
    if bound and signature is not None:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    if settings.payload is not None:
        adapter: Adapter | None = explicit(signature, settings.payload, settings.url)
    else:
        adapter = adapter_for(signature)
    if adapter is None:
        msg = (
            f"{_name_of(function)}{signature} takes neither an event nor (http_verb, url, params): "
            "say with payload= which argument is sent"
        )
        raise ConfigurationError(msg)
    return _without_first(adapter) if bound else adapter


def _without_first(adapter: Adapter) -> Adapter:
    return lambda args, kwargs: adapter(args[1:], kwargs)


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _observed(inner: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    observed = _observed_async(inner, observer) if _is_async(inner) else _observed_sync(inner, observer)
    setattr(observed, _MARK, observer)
    return observed


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 -- an instance's own __call__ can be async


def _observed_sync(inner: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    @functools.wraps(inner)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        dispatch = observer.open(args, kwargs)
        try:
            returned = inner(*args, **kwargs)
        except BaseException as error:
            observer.close(dispatch, error)
            raise
        observer.close(dispatch, None)
        return returned

    return dispatch


def _observed_async(inner: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def dispatch(*args: Any, **kwargs: Any) -> Any:
        dispatch = observer.open(args, kwargs)
        try:
            returned = await inner(*args, **kwargs)
        except BaseException as error:
            observer.close(dispatch, error)
            raise
        observer.close(dispatch, None)
        return returned

    return dispatch


def _marked(function: Any, observer: Observer) -> Any:
    if not _has_own_ledger(function):
        function.ledger = observer.ledger
    return function


def _has_own_ledger(inner: Any) -> bool:
    return hasattr(inner, "ledger") and not isinstance(inner.ledger, Ledger)
