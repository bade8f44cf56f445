"""
Coroutine functions in every shape.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import traceback

import pytest

from dispatchers import DELIVERED, PARAMS, RETURNED, Broken, WithAsync, asend, async_shapes, ended, post

from wirewitness import Outcome, witness
from wirewitness.testing import capture
from wirewitness.typing import Reason


async def test_coroutine_functions_dispatch_in_every_shape_and_see_requests_of_other_threads(event):
    with capture() as dispatches:
        for dispatch in async_shapes():
            assert await dispatch(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 8


def test_a_wrapped_coroutine_function_is_one():
    for dispatch in (witness(asend), witness(WithAsync).dispatch_event, witness(WithAsync()).dispatch_event):
        assert inspect.iscoroutinefunction(dispatch)


async def test_coroutines_side_by_side_are_told_apart(sink):
    @witness
    async def ask(http_verb, url, params):
        return await asyncio.to_thread(post, url, json.dumps(params))

    calls = [ask("POST", f"{sink.url}/status/{code}", PARAMS) for code in (200, 404, 503)]
    with capture() as dispatches:
        assert await asyncio.gather(*calls) == [200, 404, 503]
    outcomes = {dispatch.target[3]: dispatch.outcome for dispatch in dispatches}
    assert outcomes == {
        "/status/200": Outcome.DELIVERED,
        "/status/404": Outcome.REJECTED,
        "/status/503": Outcome.REJECTED,
    }


async def test_a_cancelled_dispatch_is_failed_and_the_cancellation_reaches_the_caller(event):
    begun = asyncio.Event()

    @witness
    async def stuck(event):
        begun.set()
        await asyncio.Event().wait()

    with capture() as dispatches:
        task = asyncio.create_task(stuck(event))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.CANCELLED)


async def test_a_dispatch_cancelled_behind_its_response_is_delivered(event):
    begun = asyncio.Event()

    @witness
    async def slow(event):
        await asend(event)
        begun.set()
        await asyncio.Event().wait()

    with capture() as dispatches:
        task = asyncio.create_task(slow(event))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended(dispatches) == DELIVERED


async def test_a_coroutine_that_is_closed_is_settled(event):
    @witness
    async def stuck(event):
        await asyncio.sleep(0)

    with capture() as dispatches:
        coroutine = stuck(event)
        coroutine.send(None)
        coroutine.close()
    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.FAILED]


async def test_a_coroutine_that_is_closed_in_another_context_is_settled(event, faults):
    @witness
    async def stuck(event):
        await asyncio.sleep(0)

    with capture() as dispatches:
        coroutine = stuck(event)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.FAILED]
    assert faults() == 0


async def test_the_very_exception_leaves_a_coroutine_with_one_frame_more(event):
    error = Broken()

    async def inner(event):
        raise error

    with pytest.raises(Broken) as caught:
        await witness(inner)(event)
    assert caught.value is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:] == ["dispatch", "inner"]
