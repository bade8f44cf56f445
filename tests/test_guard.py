"""
The one boundary at which wirewitness's own faults end.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import logging
import os
import queue
import signal
import threading
import time

import pytest

from wirewitness import _guard
from wirewitness._guard import InternalErrors, fail_open


@pytest.fixture
def errors(monkeypatch):
    fresh = InternalErrors()
    monkeypatch.setattr(_guard, "INTERNAL_ERRORS", fresh)
    return fresh


class Quoting(Exception):  # noqa: N818
    pass


def guarded(function, component="part"):
    return fail_open(component)(function)


def failing(*args):
    message = "s3cret"
    raise Quoting(message, *args)


def test_what_works_is_returned_with_its_arguments(errors):
    assert guarded(lambda one, *, two: (one, two))(1, two=2) == (1, 2)
    assert errors.counts() == {"part": 0}


def test_a_fault_returns_none_and_is_counted(errors):
    assert [guarded(failing)() for _ in range(3)] == [None, None, None]
    assert errors.counts() == {"part": 3}


def test_a_component_is_counted_from_zero_as_soon_as_it_is_guarded(errors):
    guarded(failing, "one")
    guarded(failing, "other")
    assert errors.counts() == {"one": 0, "other": 0}


def test_a_component_guarded_twice_keeps_its_count(errors):
    guarded(failing)()
    guarded(failing)
    assert errors.counts() == {"part": 1}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_of_a_programs_own_passes(kind, errors):
    def interrupted():
        raise kind

    with pytest.raises(kind):
        guarded(interrupted)()
    assert errors.counts() == {"part": 0}


def test_the_first_of_a_kind_is_logged_with_its_place_and_without_its_text(errors, caplog):
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        for _ in range(3):
            guarded(failing)()
    (record,) = caplog.records
    line = record.getMessage()
    assert "part: Quoting at" in line
    assert __file__ in line
    assert "s3cret" not in line
    assert record.exc_info is None


def test_another_kind_and_another_component_are_logged_too(errors, caplog):
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        guarded(failing)()
        guarded(failing, "other")()
        guarded(lambda: 1 / 0)()
    assert len(caplog.records) == 3


def test_an_error_that_was_never_raised_has_no_place(errors, caplog):
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        errors.report("part", Quoting())
    assert "at ?" in caplog.text


def test_logging_that_is_broken_harms_nobody(errors, monkeypatch):
    def broken(record):
        raise Quoting

    monkeypatch.setattr(logging.getLogger("wirewitness"), "filters", [broken])
    assert guarded(failing)() is None
    assert errors.counts() == {"part": 1}


def test_a_stack_that_has_run_out_harms_nobody(errors):
    returned = []
    guard = guarded(failing)

    def descend():
        with contextlib.suppress(RecursionError):
            descend()
        try:
            returned.append(guard())
        except RecursionError as error:  # no room for the guard itself
            assert error.__traceback__.tb_next is None  # noqa: PT017 -- only one depth of many may come here

    thread = threading.Thread(target=descend)
    thread.start()
    thread.join()
    assert len(returned) > 100
    assert set(returned) == {None}


def test_a_guarded_function_keeps_its_name():
    assert guarded(failing).__name__ == "failing"
    assert guarded(failing).__wrapped__ is failing


def test_threads_count_together(errors):
    guard = guarded(failing)
    threads = [threading.Thread(target=lambda: [guard() for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.counts() == {"part": 800}


def test_clearing_keeps_the_components_and_logs_again(errors, caplog):
    guard = guarded(failing)
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        guard()
        errors.clear()
        assert errors.counts() == {"part": 0}
        guard()
    assert len(caplog.records) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_counts_from_zero_even_where_the_parent_held_the_lock():
    guard = fail_open("forked")(failing)
    guard()
    with _guard.INTERNAL_ERRORS._lock:
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                before = _guard.INTERNAL_ERRORS.counts()["forked"]
                thread = threading.Thread(target=guard)
                thread.start()
                thread.join(10)
                code = 0 if (before, _guard.INTERNAL_ERRORS.counts()["forked"]) == (0, 1) else 2
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _guard.INTERNAL_ERRORS.counts()["forked"] == 1


class TimeUp(Exception):  # noqa: N818 -- as Celery's SoftTimeLimitExceeded
    pass


class Told(Exception):  # noqa: N818
    def __init__(self):
        super().__init__("with a message")


@contextlib.contextmanager
def handling(handler):
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupted():
    signal.raise_signal(signal.SIGUSR1)


def plain(number, frame):
    raise TimeUp


def forgetful(number, frame):
    del number, frame
    raise TimeoutError


class Method:
    def handle(self, *_):
        raise ValueError

    def __call__(self, number, frame):
        raise KeyError(number)


HANDLERS = [
    plain,
    forgetful,
    lambda *_: plain(1, 2),
    Method().handle,
    Method(),
    functools.partial(lambda some, number, frame: failing(), 1),
]


@pytest.mark.parametrize("handler", HANDLERS)
def test_what_a_signal_handler_raises_passes_to_the_caller(errors, handler):
    with handling(handler), pytest.raises((TimeUp, TimeoutError, ValueError, KeyError, Quoting)):
        guarded(lambda: [interrupted() for _ in range(1)])()
    assert errors.counts() == {"part": 0}


def test_what_a_signal_handler_raises_passes_through_code_that_makes_another_exception_of_it(errors):
    def converting():
        try:
            interrupted()
        except ValueError as error:
            raise Quoting from error

    with handling(Method().handle), pytest.raises(ValueError):  # noqa: PT011 -- it has no text
        guarded(converting)()
    assert errors.counts() == {"part": 0}


def test_what_the_caller_was_handling_already_is_not_raised_again(errors):
    with handling(plain):
        try:
            interrupted()
        except TimeUp:
            assert guarded(failing)() is None
    assert errors.counts() == {"part": 1}


@pytest.mark.parametrize("kind", [TimeUp, TimeoutError, Told])
def test_what_is_raised_into_a_thread_passes(errors, kind):
    outcome = []
    begun = threading.Event()

    @fail_open("part")
    def work():
        begun.set()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            sum(range(20))

    def run():
        try:
            outcome.append(work())
        except kind:
            outcome.append(kind)

    # Here it is code of wirewitness that is interrupted, and not of a user's.
    work.__wrapped__.__globals__["__name__"], name = "wirewitness.part", __name__
    try:
        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(20)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))
        thread.join(30)
    finally:
        globals()["__name__"] = name
    assert outcome == [kind]
    assert errors.counts() == {"part": 0}


@pytest.mark.parametrize(
    "call",
    [
        failing,
        queue.SimpleQueue().get_nowait,
        lambda: json.dumps(object()),
        lambda: int("no number"),
        lambda: {}["key"],
        lambda: next(iter(())),
    ],
)
def test_what_our_own_code_or_what_it_calls_raises_is_swallowed(errors, call):
    assert guarded(call)() is None
    assert errors.counts() == {"part": 1}
