"""
The one boundary at which a fault of wirewitness's own ends, so that it never reaches a user's dispatch.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import logging
import queue
import signal
import sys
import threading

from collections.abc import Callable
from functools import wraps
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from wirewitness import fork


P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")

# The standard library's logging, and not the user's structlog: this must work where that is what's broken.
_log = logging.getLogger("wirewitness")


class InternalErrors:
    """
    How many faults of its own wirewitness has met, by component.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._logged: set[tuple[str, type]] = set()
        self._lock = threading.RLock()

    def clear(self) -> None:
        """
        Start at zero: also in a child process, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()
        self._counts = dict.fromkeys(self._counts, 0)
        self._logged.clear()

    def register(self, component: str) -> None:
        """
        Have a component counted from zero.
        """
        self._counts.setdefault(component, 0)

    def count(self, component: str) -> None:
        """
        Count a fault.
        """
        with self._lock:
            self._counts[component] = self._counts.get(component, 0) + 1

    def report(self, component: str, error: BaseException) -> None:
        """
        Count a fault, and log the first of its kind.

        The log line holds where and of what class the fault was, and never its text, which could quote a payload.
        """
        with self._lock:
            self.count(component)
            kind = (component, type(error))
            first = kind not in self._logged
            self._logged.add(kind)
        if first:
            _log.warning(
                "wirewitness internal error in %s: %s at %s; dispatches go on, further ones are only counted",
                component,
                type(error).__qualname__,
                _where(error),
            )

    def counts(self) -> dict[str, int]:
        """
        The number of faults by component.
        """
        return dict(self._counts)


INTERNAL_ERRORS: Final = InternalErrors()


class TapHealth:
    """
    Whether the taps see the wire, as they found at their last look. Written under each tap's own lock.

    Attributes:
        seeing: By the tap's name.
        restored: How often each was put back after another tool had taken it away.
    """

    def __init__(self) -> None:
        self.seeing: dict[str, bool] = {}
        self.restored: dict[str, int] = {}


TAP_HEALTH: Final = TapHealth()

fork.register(fork.ForkStage.FAULTS, in_child=INTERNAL_ERRORS.clear)


def fail_open(component: str) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """
    Make a function return None, counted and logged, where it would raise an ``Exception`` of its own making.

    What somebody raises into the thread from outside passes: a signal handler's timeout is meant for the caller.

    Args:
        component: What the fault is counted under.
    """
    INTERNAL_ERRORS.register(component)

    def guard(function: Callable[P, T]) -> Callable[P, T | None]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 -- this is the boundary
                try:  # noqa: SIM105 -- suppress() needs stack, too
                    report_or_raise(component, error)
                except RecursionError:  # Stack may be what has run out.
                    pass
                return None

        return guarded

    return guard


def methods_fail_open(component: str) -> Callable[[type[C]], type[C]]:
    """
    Make a class a boundary: each of its public methods is as :func:`fail_open` makes it, and so can return None.

    Args:
        component: What faults are counted under.
    """
    guard = fail_open(component)

    def bound(cls: type[C]) -> type[C]:
        for name, method in list(vars(cls).items()):
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(cls, name, guard(method))
        return cls

    return bound


def report_or_raise(component: str, error: BaseException) -> None:
    """
    Decide whose an exception is that was just caught: a fault of wirewitness's own is counted and logged.

    Args:
        component: What the fault is counted under.
        error: The exception.

    Raises:
        BaseException: What was raised into the thread from outside, and all that is no ``Exception``.
    """
    try:
        outside = raised_from_outside(error) if isinstance(error, Exception) else error
        if outside is None:
            INTERNAL_ERRORS.report(component, error)
            return
    except Exception:  # noqa: BLE001 -- the user's logging may be what is broken, and nobody is left to be told
        return
    if outside is error:
        raise error
    raise outside from None


# Exceptions that C code raises without an argument.
_SILENT: Final = (MemoryError, StopIteration, StopAsyncIteration, queue.Empty)
_MOST_LINKS: Final = 16
_COOPERATIVE: Final = frozenset({"gevent", "greenlet", "eventlet"})
# Functions of ours that call what a user has given, which may be written in C and leave no frame of its own.
_CALLS_USERS: Final = frozenset({"freeze", "call_hook", "call_drop_hook", "hook"})


def raised_from_outside(error: BaseException) -> BaseException | None:
    """
    What was raised into this thread from outside, and not by code that wirewitness called: a signal handler's exception, one
    of ``PyThreadState_SetAsyncExc``, or one thrown into a greenlet.

    Args:
        error: As just caught. What it was raised from, or while handling, counts as well, if that happened below the frame
            that caught it: code on the way may have made another exception of the one from outside.

    Returns:
        That exception, or None if all was the doing of wirewitness, or of what it called.
    """
    inside = {trace.tb_frame for trace in _traces(error)}
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if link is None:
            break
        traces = _traces(link)
        if link is not error and not (traces and traces[0].tb_frame in inside):
            # The caller was handling it already when it called.
            break
        if _is_from_outside(link, traces):
            return link
        inside.update(trace.tb_frame for trace in traces)
        link = link.__cause__ or link.__context__
    return None


def _traces(error: BaseException) -> list[TracebackType]:
    traces: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        traces.append(trace)
        trace = trace.tb_next
    return traces


def _is_from_outside(error: BaseException, traces: list[TracebackType]) -> bool:
    if not traces or _passed_a_signal_handler(traces):
        return bool(traces)
    frame, at = traces[-1].tb_frame, traces[-1].tb_lasti
    code, home = frame.f_code, _package(frame.f_globals.get("__name__"))
    made_in = _package(type(error).__module__)
    if home in _COOPERATIVE:
        # It slept there, and something was thrown into it.
        return made_in not in _COOPERATIVE
    by_statement = 0 <= at < len(code.co_code) and dis.opname[code.co_code[at]] in {"RAISE_VARARGS", "RERAISE"}
    if by_statement or isinstance(error, _SILENT):
        return False
    # No statement has raised it. C code does so, too: with a message, and mostly classes of the standard library.
    ours = home == _package(__name__) and code.co_name not in _CALLS_USERS
    return not error.args or (ours and made_in not in sys.stdlib_module_names)


def _passed_a_signal_handler(traces: list[TracebackType]) -> bool:
    handlers = _signal_handlers() if len(traces) > 1 else set()
    for interrupted, called in itertools.pairwise(traces):
        # The interpreter calls a signal handler with the frame that it interrupts. Nobody else hands over its own frame.
        if any(argument is interrupted.tb_frame for argument in _arguments(called.tb_frame)):
            return True
        # A handler that has forgotten its arguments.
        if called.tb_frame.f_code in handlers:
            return True
    return False


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def _arguments(frame: FrameType) -> list[Any]:
    code, values = frame.f_code, frame.f_locals
    number = code.co_argcount + code.co_kwonlyargcount
    arguments = [values.get(name) for name in code.co_varnames[:number]]
    if code.co_flags & inspect.CO_VARARGS:
        arguments.extend(values.get(code.co_varnames[number], ()))
    return arguments


def _signal_handlers() -> set[CodeType]:
    codes: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        code = getattr(handler, "__code__", None) or getattr(getattr(handler, "__call__", None), "__code__", None)  # noqa: B004 -- an instance's own
        if code is not None:
            codes.add(code)
    return codes


def _where(error: BaseException) -> str:
    traces = _traces(error)
    return f"{traces[-1].tb_frame.f_code.co_filename}:{traces[-1].tb_lineno}" if traces else "?"
