"""
``witness()``: decides what it wraps, and returns the same thing under observation.
"""

from __future__ import annotations

import abc
import copyreg
import functools
import inspect
import pickle
import sys
import uuid
import weakref

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MethodType
from typing import Any, Final, Generic, TypedDict, TypeVar, Unpack, cast, overload

from wirewitness import wire
from wirewitness._observe import Observer, ObserverOptions, OnSettle
from wirewitness.calls import observed
from wirewitness.core.limits import origins
from wirewitness.core.payload import Encode
from wirewitness.errors import ConfigurationError, shown
from wirewitness.ledger import Ledger
from wirewitness.proxy import blank_proxy, fill_proxy
from wirewitness.shapes import METHODS, method_of, name_of, read_selected, reader, shape_of, signature_of
from wirewitness.telemetry import MeterProvider, Telemetry, TracerProvider
from wirewitness.typing import Adapter, Selector


T = TypeVar("T")

_MARK: Final = "__wirewitness__"


class WitnessOptions(TypedDict, total=False):
    """
    The options of :func:`witness`, which documents them.
    """

    name: str | None
    payload: Selector | None
    url: Selector | None
    shape: str | None
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

    What dispatches events, and what becomes of it:

    - **A function or method** that takes an event, or ``(http_verb, url, params)``; with ``payload=``, any callable. The
      result is a function of the same kind. ``async def``, generators, and functions that return an awaitable, a generator
      or a future are observed until these have ended.
    - **An instance** with a method ``dispatch_event``, ``dispatchEvent`` or ``dispatch``, or that can be called. The result
      is a transparent proxy; the instance stays as it was. What could be copied and pickled still can: in another process
      the witness is made anew with the same options, and with the global providers there.
    - **A class that is being defined**, so with ``@witness`` above it: its method is replaced in the class itself, and the
      result is the class.
    - **A class that has its name already**, as in ``witness(EventDispatcher)``: the result is a subclass of the same name, and
      the class stays as it was. Don't bind the result to the class's own name: ``super(Name, self)`` in the class would then
      mean the subclass, as with any other, and never end.

    Args:
        *inner: What dispatches events.
        **options: See :class:`WitnessOptions`:

    ObserverOptions:
        name: The dispatcher's name in spans, metrics and logs; by default that of the class or function. Calls under
            one name add up.
        payload: For a callable of any signature, what it sends: an argument's name, or a callable that gets the call's
            arguments and returns the value.
        url: Likewise, where it sends it.
        shape: ``event`` or ``classic`` (verb, URL, parameters), where the arguments don't tell which it takes.
        encode: Makes the payload's bytes (or UTF-8 text) from the parameters. By default bytes are themselves, text is
            UTF-8, and all else is ``json.dumps(params)``, as in ``optimizely/event_dispatcher.py``.
        evidence_timeout: Seconds for which a call that returned without evidence may still be settled by its bytes on
            the wire, before it's ``UNCONFIRMED``.
        on_settle: Called with every settled :class:`Dispatch`, in whichever thread settles it.
        receiver_origins: The servers whose ``Wirewitness-Received-Digest`` counts, each as ``https://host`` or
            ``https://host:port``. By default none: any server can answer with such a field.
        strict: Raise :class:`IntegrityError` to the caller where a payload was ``ALTERED``. For tests. Where the call has
            returned a future, nobody is left to raise it to.
        suppress_http_instrumentation: Keep OpenTelemetry's other HTTP instrumentation off during the inner call. It
            would double the spans, and put ``traceparent`` and baggage into the request.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.

    Raises:
        ConfigurationError: If ``inner`` isn't anything of the above, if its arguments may mean two things, if its class
            can't be changed or subclassed, or if an option can't work.
    """
    settings = _Settings.of(options)
    if not inner:
        return lambda given: _wrap(given, settings)
    given, *more = inner
    if more:
        msg = f"witness() takes one dispatcher, and was given {len(inner)}"
        raise ConfigurationError(msg)
    return _wrap(given, settings)


def ledger_of(dispatcher: object) -> Ledger:
    """
    The ledger of a witnessed dispatcher, or of a method of it.

    It's ``dispatcher.ledger`` too, unless the inner dispatcher has an attribute of that name.

    Raises:
        ConfigurationError: If ``dispatcher`` isn't witnessed.
    """
    observer = getattr(dispatcher, _MARK, None)
    if not isinstance(observer, Observer):
        msg = f"{shown(dispatcher)} is not witnessed: wrap it with witness() first"
        raise ConfigurationError(msg)
    return observer.ledger


@dataclass(frozen=True)
class _Settings:
    """The options, checked."""

    name: str | None = None
    payload: Selector | None = None
    url: Selector | None = None
    shape: str | None = None
    suppress_http_instrumentation: bool = True
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    observe: ObserverOptions = field(default_factory=ObserverOptions)

    @classmethod
    def of(cls, options: dict[str, Any]) -> _Settings:
        unknown = sorted(set(options) - set(WitnessOptions.__annotations__))
        if unknown:
            known = ", ".join(WitnessOptions.__annotations__)
            msg = f"witness() has no option {', '.join(unknown)}; its options: {known}"
            raise ConfigurationError(msg)
        receivers = origins("receiver_origins", options.pop("receiver_origins", ()))
        observing = {name: options.pop(name) for name in tuple(options) if name in ObserverOptions.__dataclass_fields__}
        settings = cls(observe=ObserverOptions(**observing, receivers=receivers), **options)
        settings._check()
        return settings

    def _check(self) -> None:
        observe = self.observe
        if self.url is not None and self.payload is None:
            msg = f"url={shown(self.url)} was given without payload=: name the argument that is sent, too"
            raise ConfigurationError(msg)
        if self.shape is not None and self.payload is not None:
            msg = f"shape={shown(self.shape)} was given with payload=: give one of them"
            raise ConfigurationError(msg)
        seconds: object = observe.evidence_timeout
        if not (isinstance(seconds, (int, float)) and seconds > 0):
            msg = f"evidence_timeout={shown(seconds)}: must be a number of seconds greater than 0"
            raise ConfigurationError(msg)
        hooks: dict[str, object] = {"encode": observe.encode, "on_settle": observe.on_settle}
        for name, hook in hooks.items():
            if hook is not None and not callable(hook):
                msg = f"{name}={shown(hook)}: must be a callable"
                raise ConfigurationError(msg)

    def observer(self, name: str, adapter: Adapter) -> Observer:
        telemetry = Telemetry(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            suppress_http=self.suppress_http_instrumentation,
        )
        wire.install()
        return Observer(self.name or name, adapter, self.observe, telemetry)

    def __reduce__(self) -> tuple[Any, ...]:
        """
        Pickled without the providers: their locks, threads and sockets belong to this process.

        Raises:
            pickle.PicklingError: If an option can't be pickled; it names the option.
        """
        observe = {each.name: getattr(self.observe, each.name) for each in fields(self.observe)}
        kept = [each.name for each in fields(self) if each.name != "observe" and "provider" not in each.name]
        options = {name: getattr(self, name) for name in kept}
        # Picklers such as cloudpickle take what pickle doesn't: let them try.
        if not {"cloudpickle", "dill"} & sys.modules.keys():
            for name, value in (options | observe).items():
                _check_that_it_pickles(name, value)
        return _settings_again, (options, observe)


def _settings_again(options: dict[str, Any], observe: dict[str, Any]) -> _Settings:
    return _Settings(observe=ObserverOptions(**observe), **options)


def _check_that_it_pickles(name: str, value: object) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:
        msg = (
            f"a witnessed dispatcher can't be pickled with {name}={shown(value)}, which can't be pickled itself: "
            "use a function of a module, or wrap the dispatcher in the other process"
        )
        raise pickle.PicklingError(msg) from error


def _wrap(inner: Any, settings: _Settings) -> Any:
    if isinstance(inner, (staticmethod, classmethod)):
        bound = isinstance(inner, classmethod)
        return type(inner)(_wrap_function(inner.__func__, settings, bound=bound))
    if isinstance(inner, type):
        return _wrap_class(inner, settings)
    if inspect.isroutine(inner) or isinstance(inner, functools.partial):
        return _wrap_function(inner, settings, bound=_has_self(inner))
    return _wrap_instance(inner, settings)


# Functions.


def _has_self(function: Any) -> bool:
    # A function that is decorated within a class body gets its instance as first argument.
    names = list(getattr(signature_of(function), "parameters", ()))
    return inspect.isfunction(function) and names[:1] in (["self"], ["cls"])


def _wrap_function(inner: Any, settings: _Settings, *, bound: bool) -> Any:
    observer = settings.observer(name_of(inner), _adapter(inner, settings, bound=bound))
    function: Any = _marked(observed(inner, observer), observer)
    if not _has_own_ledger(inner):
        function.ledger = observer.ledger
    return function


def _marked(function: Any, observer: Observer) -> Any:
    setattr(function, _MARK, observer)
    return function


def _adapter(function: Any, settings: _Settings, *, bound: bool, method: str | None = None) -> Adapter:
    signature = signature_of(function)
    if bound and signature is not None:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    if settings.payload is not None:
        adapter = read_selected(signature, settings.payload, settings.url)
    else:
        adapter = reader(signature, shape_of(signature, settings.shape, method=method, name=name_of(function)))
    return _without_first(adapter) if bound else adapter


def _without_first(adapter: Adapter) -> Adapter:
    return lambda args, kwargs: adapter(args[1:], kwargs)


def _has_own_ledger(inner: Any) -> bool:
    if isinstance(inner, type) and any("ledger" in vars(cls).get("__annotations__", ()) for cls in inner.__mro__):
        return True
    return hasattr(inner, "ledger") and not isinstance(inner.ledger, Ledger)


def _no_dispatcher(inner: Any) -> ConfigurationError:
    msg = (
        f"{shown(inner)} is no dispatcher: looked for a callable {', '.join(METHODS)}, or a function of an event or of "
        "(http_verb, url, params); any other callable needs payload="
    )
    return ConfigurationError(msg)


# Classes.


def _wrap_class(cls: type, settings: _Settings) -> type:
    method = next((name for name in METHODS if hasattr(cls, name)), None)
    if method is None and any("__call__" in vars(each) for each in cls.__mro__):
        method = "__call__"
    if method is None:
        raise _no_dispatcher(cls)
    found = inspect.getattr_static(cls, method)
    if getattr(found, "__isabstractmethod__", False) or getattr(cls, "_is_protocol", False):
        msg = f"{cls.__qualname__}.{method} is abstract: wrap the class that implements it, or an instance"
        raise ConfigurationError(msg)
    member, observer = _observed_member(cls, method, found, settings)
    members = {method: member, _MARK: observer}
    if not _has_own_ledger(cls):
        members["ledger"] = observer.ledger
    return _subclass(cls, members, settings) if _has_its_name(cls) else _changed(cls, members)


def _observed_member(cls: type, method: str, found: Any, settings: _Settings) -> tuple[Any, Observer]:
    if isinstance(found, functools.partialmethod):
        # Of the class it makes a function, if that is what it is of.
        found = found.__get__(None, cls)
    if isinstance(found, property):
        # What it will return isn't known yet, and so each call decides by its arguments.
        shape = shape_of(None, settings.shape, method=method)
        by_call = read_selected(None, settings.payload, settings.url) if settings.payload else reader(None, shape)
        observer = settings.observer(cls.__name__, by_call)

        def get(self: Any) -> Any:
            bound: Any = found.__get__(self, cls)
            return _marked(observed(bound, observer), observer)

        return found.getter(get), observer
    kind = type(found) if isinstance(found, (staticmethod, classmethod)) else None
    function = found.__func__ if kind else found
    if not callable(function):
        msg = f"{cls.__qualname__}.{method} is a {type(found).__name__}, which can't be wrapped in the class: wrap an instance"
        raise ConfigurationError(msg)
    bound = kind is classmethod or (kind is None and hasattr(function, "__get__"))
    observer = settings.observer(cls.__name__, _adapter(function, settings, bound=bound, method=method))
    member = _marked(observed(function, observer), observer)
    return kind(member) if kind else member if bound else staticmethod(member), observer


def _has_its_name(cls: type) -> bool:
    """
    Whether a class's own name leads to it: if not, it is being defined, and a decorator of it asks.
    """
    scope, _, path = cls.__qualname__.rpartition("<locals>.")
    return any(_leads_to(names, path, cls) for names in _names(cls.__module__, local=bool(scope)))


def _names(module: str, *, local: bool) -> Iterator[Mapping[str, Any]]:
    if not local:
        yield getattr(sys.modules.get(module), "__dict__", {})
    frame = sys._getframe(1)  # noqa: SLF001 -- inspect.currentframe() is this, too
    while frame is not None:
        if local:
            yield frame.f_locals
        elif frame.f_globals.get("__name__") == module:
            yield frame.f_globals
        frame = frame.f_back  # type: ignore[assignment]


def _leads_to(names: Mapping[str, Any], path: str, cls: type) -> bool:
    first, *rest = path.split(".")
    found = names.get(first)
    for name in rest:
        found = inspect.getattr_static(found, name, None)
    return found is cls


def _changed(cls: type, members: dict[str, Any]) -> type:
    try:
        for name, value in members.items():
            setattr(cls, name, value)
    except (TypeError, AttributeError) as error:
        msg = f"{cls.__qualname__} can't be changed ({type(error).__name__}): wrap an instance of it"
        raise ConfigurationError(msg) from error
    return cls


def _subclass(cls: type, members: dict[str, Any], settings: _Settings) -> type:
    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": (),
    }
    parameters = getattr(cls, "__parameters__", ())
    if isinstance(parameters, tuple) and parameters and Generic in cls.__mro__:
        # Of as many parameters as the class has.
        namespace["__orig_bases__"] = (cls[parameters],)  # type: ignore[index]
    try:
        made: type = _metaclass(type(cls))(cls.__name__, (cls,), namespace)
    except Exception as error:
        msg = (
            f"{cls.__qualname__} can't be subclassed ({type(error).__name__}): wrap an instance of it, or decorate it with "
            "@witness where it's defined"
        )
        raise ConfigurationError(msg) from error
    token = uuid.uuid4().hex
    _MADE[token] = made
    # Afterwards: metaclasses such as pydantic's read more into what stands in a class's body.
    return _changed(made, {**members, _ORIGIN: (cls, settings, token)})


# A subclass can't be pickled by its name, which leads to the class that it's of. What it was made from can.
_ORIGIN: Final = "__wirewitness_origin__"
_MADE: Final[weakref.WeakValueDictionary[str, type]] = weakref.WeakValueDictionary()


@functools.cache
def _metaclass(kind: type) -> Any:
    # ABCMeta goes together with most others, if somebody derives from the subclass and from another class.
    made: Any = type(kind.__name__, (abc.ABCMeta if kind is type else kind,), {"__module__": kind.__module__})
    copyreg.pickle(made, cast(Any, _reduce_class))
    return made


def _reduce_class(cls: type) -> Any:
    if _ORIGIN not in vars(cls) or _has_its_name(cls):
        return cls.__qualname__
    return _class_again, vars(cls)[_ORIGIN]


def _class_again(cls: type, settings: _Settings, token: str) -> type:
    made = _MADE.get(token)
    if made is None:
        made = _MADE[token] = _wrap_class(cls, settings)
    return made


# Instances.


def _wrap_instance(inner: Any, settings: _Settings) -> Any:
    method = method_of(inner) or ("__call__" if callable(inner) else None)
    if method is None:
        raise _no_dispatcher(inner)
    _become(proxy := blank_proxy(), inner, method, settings)
    return proxy


def _become(proxy: Any, inner: Any, method: str, settings: _Settings) -> None:
    function = getattr(inner, method)
    observer = settings.observer(type(inner).__name__, _adapter(function, settings, bound=False, method=method))
    _stand_for(proxy, inner, method, observer, settings)


def _stand_for(proxy: Any, inner: Any, method: str, observer: Observer, settings: _Settings) -> None:
    function = getattr(inner, method)

    def find() -> Any:
        # Anew at each call: a test or another tool may have put something else in its place.
        return inner if method == "__call__" else getattr(inner, method)

    # As a method of the proxy where it's one of the object, so that it can be pickled as that can.
    is_method = method == "__call__" or (type(function) is MethodType and function.__self__ is inner)
    member = _marked(observed(function, observer, drop_self=is_method, find=find), observer)
    members: dict[str, Any] = {method: member if is_method else staticmethod(member), _MARK: observer}
    if not _has_own_ledger(inner):
        members["ledger"] = observer.ledger

    def again(copied: Any) -> Any:
        _stand_for(made := blank_proxy(), copied, method, observer, settings)
        return made

    fill_proxy(
        proxy,
        inner,
        members,
        again=again,
        # The object comes after its proxy, since it may lead back to that.
        reduce=lambda given: (blank_proxy, (), (given, method, settings), None, None, _fill),
    )


def _fill(proxy: Any, state: tuple[Any, str, _Settings]) -> None:
    _become(proxy, *state)
