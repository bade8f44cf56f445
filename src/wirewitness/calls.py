"""
What stands around a call: for functions, coroutine functions, generators of both kinds, and results whose work goes on after
the call.

A dispatch is the current one only while the inner code runs. Where that stops in between, at a ``yield`` or before what it
returned is awaited, the caller's own context is back until it goes on: what the caller sends meanwhile is none of its business.
"""

from __future__ import annotations

import functools
import inspect
import types

from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import CancelledError
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, Protocol

from wirewitness._guard import fail_open
from wirewitness.dispatch import Dispatch
from wirewitness.errors import IntegrityError
from wirewitness.proxy import blank_proxy, fill_proxy, keep_attributes


class Watching(Protocol):
    """
    What watches calls: an :class:`~wirewitness._observe.Observer`.
    """

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Dispatch | None:
        """A call comes in: its dispatch is the current one."""
        ...

    def enter(self, dispatch: Dispatch | None, /) -> object:
        """The inner code goes on."""
        ...

    def leave(self, dispatch: Dispatch | None, /) -> object:
        """The inner code has stopped for now."""
        ...

    def close(self, dispatch: Dispatch | None, error: BaseException | None, /) -> None:
        """The inner code is at its end."""
        ...


Find = Callable[[], Callable[..., Any]]


def observed(
    inner: Callable[..., Any],
    observer: Watching,
    *,
    drop_self: bool = False,
    find: Find | None = None,
) -> Callable[..., Any]:
    """
    A function that calls ``inner`` under observation, and is of the same kind: plain, ``async def``, or a generator.

    Args:
        inner: What is called.
        observer: Watches the calls.
        drop_self: Whether the function is a method, and ``inner`` is bound already and takes no ``self``.
        find: Returns what is called, at each call: ``inner``, or what somebody has put in its place.
    """
    kind = next((make for is_one, make in _KINDS if is_one(inner) or is_one(getattr(inner, "__call__", None))), _plain)  # noqa: B004 -- an instance's own __call__ can be async
    function = keep_attributes(inner, kind(find or (lambda: inner), observer, drop_self=drop_self))
    if kind is _generator and _is_awaited(inner):
        function = types.coroutine(function)
    if drop_self:
        signature = _with_self(inner)
        if signature is not None:
            function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _is_awaited(function: Any) -> bool:
    # A generator that types.coroutine() has made.
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)


def _with_self(inner: Any) -> inspect.Signature | None:
    try:
        signature = inspect.signature(inner)
    except (TypeError, ValueError):
        return None
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    rest = list(signature.parameters.values())
    if any(each.name == "self" for each in rest):
        first = first.replace(name="_self")
    return signature.replace(parameters=[first, *rest])


def _plain(find: Find, observer: Watching, *, drop_self: bool) -> Callable[..., Any]:
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if drop_self:
            args = args[1:]
        dispatch = observer.open(args, kwargs)
        try:
            returned = find()(*args, **kwargs)
        except BaseException as error:
            observer.close(dispatch, error)
            raise
        if returned is not None and dispatch is not None and _goes_on(returned):
            return _followed(returned, observer, dispatch)
        observer.close(dispatch, None)
        return returned

    return dispatch


def _async(find: Find, observer: Watching, *, drop_self: bool) -> Callable[..., Any]:
    async def dispatch(*args: Any, **kwargs: Any) -> Any:
        if drop_self:
            args = args[1:]
        dispatch = observer.open(args, kwargs)
        try:
            returned = await find()(*args, **kwargs)
        except BaseException as error:
            observer.close(dispatch, error)
            raise
        if returned is not None and dispatch is not None and _goes_on(returned):
            return _followed(returned, observer, dispatch)
        observer.close(dispatch, None)
        return returned

    return dispatch


def _generator(find: Find, observer: Watching, *, drop_self: bool) -> Callable[..., Any]:
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if drop_self:
            args = args[1:]
        dispatch = observer.open(args, kwargs)
        return (yield from _to_its_end(find, args, kwargs, observer, dispatch))

    return dispatch


def _to_its_end(
    find: Find, args: Any, kwargs: Any, observer: Watching, dispatch: Dispatch | None
) -> Generator[Any, Any, Any]:
    try:
        try:
            steps: Any = find()(*args, **kwargs)
        finally:
            observer.leave(dispatch)
        returned = yield from _within(observer, dispatch, steps)  # pyright: ignore[reportGeneralTypeIssues] -- a generator, whatever types.coroutine makes of it
    except GeneratorExit:
        # Whoever uses it has had enough: what it has done by now counts, and that isn't a failure.
        observer.close(dispatch, None)
        raise
    except BaseException as error:
        observer.close(dispatch, error)
        raise
    observer.close(dispatch, None)
    return returned


def _async_generator(find: Find, observer: Watching, *, drop_self: bool) -> Callable[..., Any]:
    async def dispatch(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        if drop_self:
            args = args[1:]
        dispatch = observer.open(args, kwargs)
        try:
            try:
                source = find()(*args, **kwargs)
            finally:
                observer.leave(dispatch)
            call, value = source.asend, None
            while True:
                try:
                    got = await _within(observer, dispatch, call(value).__await__())
                except StopAsyncIteration:
                    break
                try:
                    call, value = source.asend, (yield got)
                except GeneratorExit:
                    await _within(observer, dispatch, source.aclose().__await__())
                    raise
                except BaseException as error:  # noqa: BLE001 -- the inner generator's to handle
                    call, value = source.athrow, error
        except GeneratorExit:
            observer.close(dispatch, None)
            raise
        except BaseException as error:
            observer.close(dispatch, error)
            raise
        observer.close(dispatch, None)

    return dispatch


_KINDS: Final[tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...]] = (
    (inspect.iscoroutinefunction, _async),
    (inspect.isgeneratorfunction, _generator),
    (inspect.isasyncgenfunction, _async_generator),
)


@types.coroutine
def _within(observer: Watching, dispatch: Dispatch | None, steps: Any) -> Generator[Any, Any, Any]:
    """
    Run a generator, a coroutine or an awaitable's iterator to its end, the dispatch being current at each step only.
    """
    call: Callable[[Any], Any] = getattr(steps, "send", None) or (lambda _: next(steps))
    value: Any = None
    while True:
        observer.enter(dispatch)
        try:
            got = call(value)
        except StopIteration as stop:
            return stop.value
        finally:
            observer.leave(dispatch)
        try:
            value = yield got
            call = getattr(steps, "send", None) or (lambda _: next(steps))
        except GeneratorExit:
            observer.enter(dispatch)
            try:
                getattr(steps, "close", int)()
            finally:
                observer.leave(dispatch)
            raise
        except BaseException as error:
            if not hasattr(steps, "throw"):
                raise
            call, value = steps.throw, error


# Results whose work goes on after the call.


def _goes_on(returned: object) -> bool:
    kind = type(returned)
    return (
        hasattr(kind, "__await__")
        or hasattr(kind, "add_done_callback")
        or kind is GeneratorType
        or kind is AsyncGeneratorType
    )


def _followed(returned: Any, observer: Watching, dispatch: Dispatch) -> Any:
    observer.leave(dispatch)
    kind = type(returned)
    if hasattr(kind, "add_done_callback"):
        _close_when_done(returned, observer, dispatch)
        return returned
    unfinished = _Unfinished(observer, dispatch)
    if kind is GeneratorType or kind is AsyncGeneratorType:
        make = _generator if kind is GeneratorType else _async_generator
        again = make(
            functools.partial(_second, unfinished, lambda: returned), _Opened(observer, dispatch), drop_self=False
        )
        if kind is GeneratorType and returned.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            again = types.coroutine(again)
        return _named(again(), returned)
    if kind is CoroutineType:
        return _named(_run_coroutine(returned, observer, dispatch, unfinished), returned)

    def __await__(_: Any) -> Any:  # noqa: N807 -- that's what it is
        return _run_coroutine(returned, observer, dispatch, unfinished).__await__()

    members: dict[str, Any] = {"__await__": __await__}
    if hasattr(kind, "__aenter__"):
        # Such as what aiohttp's requests return, which can be awaited or entered.
        async def __aenter__(_: Any) -> Any:  # noqa: N807 -- as above
            return await _run_coroutine(returned.__aenter__(), observer, dispatch, unfinished)

        members["__aenter__"] = __aenter__
    proxy = blank_proxy()
    fill_proxy(proxy, returned, members, again=lambda copied: copied, reduce=lambda inner: inner.__reduce_ex__(2))
    return proxy


def _second(_: object, second: Any) -> Any:
    return second


def _named(made: Any, returned: Any) -> Any:
    made.__name__, made.__qualname__ = returned.__name__, returned.__qualname__
    return made


class _Opened:
    """
    An observer of a dispatch that is open already, and is entered again.
    """

    def __init__(self, observer: Watching, dispatch: Dispatch) -> None:
        self._observer = observer
        self._dispatch = dispatch
        self.enter, self.leave, self.close = observer.enter, observer.leave, observer.close

    def open(self, *_: Any) -> Dispatch:
        self.enter(self._dispatch)
        return self._dispatch


async def _run_coroutine(steps: Any, observer: Watching, dispatch: Dispatch, _: _Unfinished) -> Any:
    try:
        returned = await _within(observer, dispatch, steps if type(steps) is CoroutineType else steps.__await__())
    except BaseException as error:
        observer.close(dispatch, error)
        raise
    observer.close(dispatch, None)
    return returned


class _Unfinished:
    """
    Held by what was handed out in place of a result: where nobody ever runs that, the dispatch is over when it's collected.
    """

    def __init__(self, observer: Watching, dispatch: Dispatch) -> None:
        self._observer = observer
        self._dispatch = dispatch

    def __del__(self) -> None:
        if self._dispatch.open:
            _close_late(self._observer, self._dispatch, None)


def _close_when_done(future: Any, observer: Watching, dispatch: Dispatch) -> None:
    def done(future: Any) -> None:
        # Not by exception(), which tells asyncio that somebody has seen the error.
        error = CancelledError() if future.cancelled() else getattr(future, "_exception", None)
        _close_late(observer, dispatch, error)

    try:
        future.add_done_callback(done)
    except Exception:  # noqa: BLE001 -- a loop that is closed: nobody will tell
        _close_late(observer, dispatch, None)


@fail_open("witness")
def _close_late(observer: Watching, dispatch: Dispatch, error: BaseException | None) -> None:
    try:
        observer.close(dispatch, error)
    except IntegrityError:
        # In strict mode: there's no caller left to raise it to.
        return
