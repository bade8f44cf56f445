"""
A proxy that stands for one object, so closely that code which holds it need not know.

It has the special methods that the object's type has and no others, so that ``callable()``, iteration, ``await``, ``with``
and ``isinstance(..., Sized)`` answer as they do for the object itself. Its other attributes are the object's own. What
hands out the object (``return self`` of a fluent setter, ``__enter__``, ``await``, ``yield self``) hands out the proxy: else
the caller would go on with the bare object, and nobody would see it. Another object of the same class, such as what
``dataclasses.replace()`` makes, is not witnessed.

The object itself is never changed, and sees itself, not the proxy, as ``self``.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect

from collections.abc import AsyncGenerator, Callable, Generator
from types import AsyncGeneratorType, FunctionType, GeneratorType, MethodType
from typing import Any, Final, NamedTuple


class _Parts(NamedTuple):
    """
    What a proxy's class keeps.

    Attributes:
        again: Makes a proxy of a copy of the object, with the same members.
        reduce: What pickle gets for a proxy of an object.
        methods: By the object's methods, those of the proxy.
    """

    again: Callable[[Any], Any]
    reduce: Callable[[Any], Any]
    methods: dict[Any, Any]


class Proxy:
    """
    The base of every proxy's class. Each proxy has a class of its own.
    """

    __slots__ = ("__weakref__", "_wirewitness_inner")

    _wirewitness_parts: _Parts

    def __getattr__(self, name: str) -> Any:
        inner = inner_of(self)
        return _handed_out(self, inner, getattr(inner, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(inner_of(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(inner_of(self), name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(inner_of(self)), *(name for name in vars(type(self)) if not name.startswith("_"))})

    def __copy__(self) -> Any:
        return _parts(self).again(copy.copy(inner_of(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = copy.deepcopy(inner_of(self), memo)
        made = memo.get(id(self))
        # Where the object leads back to its proxy, the copy of that has been made meanwhile.
        return _parts(self).again(copied) if made is None else made

    def __reduce_ex__(self, _: Any) -> Any:
        return _parts(self).reduce(inner_of(self))

    def __reduce__(self) -> Any:
        return _parts(self).reduce(inner_of(self))


def _parts(proxy: Proxy) -> _Parts:
    return type(proxy)._wirewitness_parts  # noqa: SLF001 -- on the class, so that no attribute of an object is hidden


def inner_of(proxy: Any) -> Any:
    """
    The object that a proxy stands for; anything else stands for itself.
    """
    return object.__getattribute__(proxy, "_wirewitness_inner") if issubclass(type(proxy), Proxy) else proxy


def blank_proxy() -> Any:
    """
    A proxy of nothing yet, for whoever unpickles: an object may lead back to its proxy.
    """
    return object.__new__(Proxy)


def fill_proxy(
    proxy: Any,
    inner: Any,
    members: dict[str, Any],
    *,
    again: Callable[[Any], Any],
    reduce: Callable[[Any], Any],
) -> None:
    """
    Make a blank proxy that of an object.

    Args:
        proxy: What :func:`blank_proxy` has made.
        inner: The object.
        members: Attributes of the proxy's class, which hide the object's.
        again: Makes a proxy of a copy of the object.
        reduce: What pickle gets for it, as :meth:`object.__reduce__` returns it.
    """
    kind = type(inner)
    namespace = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": property(lambda self: inner_of(self).__doc__),
        "__class__": property(lambda self: inner_of(self).__class__, _set_class),
        "_wirewitness_parts": _Parts(again, reduce, _standing_for(inner, members)),
        **{name: getattr(kind, name) for name in _DATA if hasattr(kind, name)},
        **_special_methods(kind),
        **members,
    }
    if hasattr(inner, "__dict__"):
        namespace["__dict__"] = property(lambda self: inner_of(self).__dict__)
    object.__setattr__(proxy, "__class__", type(kind.__name__, (Proxy,), namespace))
    object.__setattr__(proxy, "_wirewitness_inner", inner)


def _standing_for(inner: Any, members: dict[str, Any]) -> dict[Any, Any]:
    methods: dict[Any, Any] = {}
    for name, member in members.items():
        bound = getattr(inner, name, None)
        if type(bound) is MethodType and bound.__self__ is inner and type(member) is FunctionType:
            methods[bound.__func__] = member
    return methods


def _set_class(proxy: Any, kind: type) -> None:
    inner_of(proxy).__class__ = kind


# Those that Proxy has itself, and those that are no one's to forward: they make, describe or destroy the very object.
_OWN: Final = frozenset(
    {name for name in vars(Proxy) if name.startswith("__")}
    | {
        "__class__",
        "__class_getitem__",
        "__del__",
        "__dict__",
        "__getattribute__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getstate__",
        "__init__",
        "__init_subclass__",
        "__new__",
        "__set_name__",
        "__setstate__",
        "__subclasshook__",
    }
)
# What the standard library looks for on an object's type.
_DATA: Final = ("__dataclass_fields__",)
_ALWAYS: Final = (
    "__eq__",
    "__format__",
    "__ge__",
    "__gt__",
    "__hash__",
    "__le__",
    "__lt__",
    "__ne__",
    "__repr__",
    "__str__",
)
_COMPARES: Final = frozenset({"__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__"})


def _special_methods(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _ALWAYS:
        found[name] = None if getattr(kind, name) is None else _forward(name)
    for cls in kind.__mro__[:-1]:
        for name, value in vars(cls).items():
            if name.startswith("__") and name.endswith("__") and name not in _OWN and name not in found:
                if value is None:
                    found[name] = None
                elif hasattr(type(value), "__get__") and not isinstance(value, property):
                    found[name] = _forward(name)
    return found


def _special(inner: Any, name: str) -> Any:
    # As the interpreter looks a special method up: on the type, and never on the instance.
    for cls in type(inner).__mro__:
        if name in vars(cls):
            value = vars(cls)[name]
            return value.__get__(inner, type(inner)) if hasattr(type(value), "__get__") else value
    raise AttributeError(name)


def _forward(name: str) -> Callable[..., Any]:
    if name in {"__aenter__", "__aexit__", "__anext__"}:

        async def forward_async(self: Any, *args: Any) -> Any:
            inner = inner_of(self)
            return _handed_out(self, inner, await _special(inner, name)(*args))

        return forward_async
    if name == "__await__":

        def forward_await(self: Any) -> Generator[Any, Any, Any]:
            inner = inner_of(self)
            returned = yield from _special(inner, name)()
            return _handed_out(self, inner, returned)

        return forward_await

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = inner_of(self)
        given = map(inner_of, args) if name in _COMPARES else args
        return _handed_out(self, inner, _special(inner, name)(*given, **kwargs))

    return forward


def _handed_out(proxy: Any, inner: Any, value: Any) -> Any:
    if value is inner:
        return proxy
    if type(value) is MethodType and value.__self__ is inner:
        return _method(proxy, value)
    return value


def _returned(proxy: Any, inner: Any, value: Any) -> Any:
    # What a method has made may hand the object out later.
    if type(value) is GeneratorType:
        return _relay(lambda _: value)(proxy)
    if type(value) is AsyncGeneratorType:
        return _relay_async(lambda _: value)(proxy)
    if type(value) in _CONTEXT_MANAGERS:
        value.gen = _returned(proxy, inner, value.gen)
    return _handed_out(proxy, inner, value)


_MAKERS: Final[tuple[Any, ...]] = (contextlib.contextmanager, contextlib.asynccontextmanager)
_CONTEXT_MANAGERS: Final = tuple(type(make(lambda: None)()) for make in _MAKERS)


def _relay(start: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Generator[Any, Any, Any]]:
    def relayed(self: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = inner_of(self)
        steps = start(inner, *args, **kwargs)
        call: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                got = call(value)
            except StopIteration as stop:
                return _handed_out(self, inner, stop.value)
            try:
                call, value = steps.send, (yield _handed_out(self, inner, got))
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 -- the object's generator's to handle
                call, value = steps.throw, error

    return relayed


def _relay_async(start: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def relayed(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = inner_of(self)
        steps = start(inner, *args, **kwargs)
        call: Callable[[Any], Any] = steps.asend
        value: Any = None
        while True:
            try:
                got = await call(value)
            except StopAsyncIteration:
                return
            try:
                call, value = steps.asend, (yield _handed_out(self, inner, got))
            except GeneratorExit:
                await steps.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 -- as above
                call, value = steps.athrow, error

    return relayed


def _method(proxy: Any, bound: MethodType) -> Any:
    function: Any = bound.__func__
    # The same function each time, so that methods of one proxy compare equal, as those of one object do.
    methods = _parts(proxy).methods
    forward = methods.get(function)
    if forward is None:
        forward = methods.setdefault(function, keep_attributes(function, _forward_method(function)))
    return MethodType(forward, proxy)


def _forward_method(function: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function):
        return _relay(function)
    if inspect.isasyncgenfunction(function):
        return _relay_async(function)
    if inspect.iscoroutinefunction(function):

        async def forward_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            inner = inner_of(self)
            return _returned(self, inner, await function(inner, *args, **kwargs))

        return forward_async

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = inner_of(self)
        return _returned(self, inner, function(inner, *args, **kwargs))

    return forward


def keep_attributes(inner: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Give a function the name, signature and documentation of another callable, and all public attributes that this one has,
    such as the ``cache_info`` of a cached function.
    """
    functools.update_wrapper(function, inner)
    for name in () if type(inner) is FunctionType else dir(inner):
        if not name.startswith("_") and not hasattr(function, name):
            setattr(function, name, getattr(inner, name))
    return function
