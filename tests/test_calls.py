"""
What stands around a call: it is of the same kind as what it calls, and follows work that goes on after the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import types

import pytest

from opentelemetry import context as otel
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY

from wirewitness import Outcome, witness
from wirewitness.dispatch import current


EVENT = {"visitor": "v1"}


def generator(event):
    try:
        given = yield current()
    except KeyError:
        given = "thrown"
    yield given
    return "returned"


async def async_generator(event):
    try:
        given = yield current()
    except KeyError:
        given = "thrown"
    yield given


@types.coroutine
def generator_that_is_awaited(event):
    yield from asyncio.sleep(0).__await__()
    return "returned"


@pytest.mark.parametrize(
    "is_one",
    [inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.iscoroutinefunction],
)
def test_a_witnessed_function_is_of_the_same_kind(is_one):
    async def coroutine(event):
        pass

    for inner in (generator, async_generator, coroutine, lambda event: None):
        assert is_one(witness(inner)) is is_one(inner)


def test_a_generator_is_open_until_its_end_and_current_only_while_it_runs():
    seen = witness(generator)
    steps = seen(EVENT)
    inside = next(steps)
    assert inside is not None
    assert current() is None
    assert seen.ledger.book().open == 1
    assert steps.send("sent") == "sent"
    with pytest.raises(StopIteration, match="returned"):
        next(steps)
    assert not inside.open


def test_a_generator_that_is_closed_or_thrown_into_is_settled():
    seen = witness(generator)
    steps = seen(EVENT)
    next(steps)
    assert steps.throw(KeyError()) == "thrown"
    steps.close()
    steps = seen(EVENT)
    inside = next(steps)
    steps.close()
    assert not inside.open


async def test_an_async_generator_is_open_until_its_end():
    seen = witness(async_generator)
    steps = seen(EVENT)
    inside = await anext(steps)
    assert (inside.open, current()) == (True, None)
    assert await steps.athrow(KeyError()) == "thrown"
    await steps.aclose()
    assert not inside.open
    assert len([each async for each in seen(EVENT)]) == 2


async def test_a_generator_that_is_awaited_can_be_awaited():
    assert await witness(generator_that_is_awaited)(EVENT) == "returned"
    assert await witness(lambda event: generator_that_is_awaited({"of": event}))(EVENT) == "returned"


def test_a_context_manager_is_entered_as_before():
    @witness
    @contextlib.contextmanager
    def entered(event):
        yield "inside"

    with entered(EVENT) as inside:
        assert inside == "inside"


def test_the_attributes_of_a_cached_function_are_kept():
    calls = []
    cached = witness(functools.lru_cache(calls.append))
    cached("payload")
    cached("payload")
    assert calls == ["payload"]
    assert cached.cache_info().hits == 1
    cached.cache_clear()


class Never:
    def __await__(self):
        yield


def test_a_coroutine_that_is_closed_in_the_middle_of_another_dispatch_leaves_that_one_current(caplog):
    @witness(name="left")
    async def left(event):
        await Never()

    abandoned = left(EVENT)
    contextvars.Context().run(abandoned.send, None)

    @witness
    def other(event):
        before = current()
        abandoned.close()
        return before is current() is not None

    assert other(EVENT)
    assert left.ledger.book().count(Outcome.FAILED) == 1
    assert not [record for record in caplog.records if "detach" in record.getMessage()]


async def test_a_task_that_is_started_during_the_inner_call_does_not_stay_suppressed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation", types.ModuleType("loaded"))
    go_on = asyncio.Event()
    seen = []

    async def background():
        seen.append(bool(otel.get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)))
        await go_on.wait()
        seen.append(bool(otel.get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)))
        seen.append(current())

    @witness
    async def dispatch(event):
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return [task]

    (task,) = await dispatch(EVENT)
    go_on.set()
    await task
    assert seen == [True, False, None]


def test_what_nobody_ever_runs_is_settled_when_it_is_collected():
    @witness
    def later(event):
        return generator(event)

    steps = later(EVENT)
    assert later.ledger.book().open == 1
    del steps
    gc.collect()
    assert later.ledger.book().closes
