"""
httpx and httpx2, synchronous, on asyncio and on trio: one script, `async def script(client, http_verb, url, params)`, for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import httpx2
import pytest
import trio

from seen import BODY, PATIENCE, PAYLOAD

from wirewitness import witness
from wirewitness.testing import capture


class Immediate:
    """A synchronous client whose requests can be awaited."""

    def __init__(self, client):
        self._client = client

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._client.close()

    async def request(self, *args, **kwargs):
        return self._client.request(*args, **kwargs)


def drive(coroutine):
    """Run a coroutine in which nothing waits."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise AssertionError


async def send(client, http_verb, url, params):
    if http_verb in {"GET", "HEAD"}:
        return await client.request(http_verb, url, params=params)
    return await client.request(
        http_verb, url, content=json.dumps(params) if isinstance(params, (dict, list)) else params
    )


class Kind:
    """
    Attributes:
        library: httpx or httpx2.
        run: Runs an async function on an event loop; None for the synchronous client.
    """

    def __init__(self, library, run=None):
        self.library, self.run = library, run

    def client(self, **options):
        options = {"timeout": PATIENCE, "follow_redirects": True, **options}
        if self.run is None:
            return Immediate(self.library.Client(**options))
        return self.library.AsyncClient(**options)

    def transport(self, **options):
        return (self.library.HTTPTransport if self.run is None else self.library.AsyncHTTPTransport)(**options)

    def pieces(self, *pieces):
        """A body that is made while it's sent."""

        async def slowly():
            for piece in pieces:
                yield piece

        return iter(pieces) if self.run is None else slowly()

    def dispatcher(self, script=send, client=None, **options):
        """What `witness` wraps."""

        async def inner(http_verb, url, params):
            async with contextlib.nullcontext(client) if client else self.client(**options) as own:
                return await script(own, http_verb, url, params)

        def at_once(http_verb, url, params):
            drive(inner(http_verb, url, params))

        return at_once if self.run is None else inner

    def settled(self, url, params, verb="POST", script=send, observe=None, **options):
        """The dispatches of one call, whatever it raises."""
        witnessed = witness(self.dispatcher(script, **options), **(observe or {}))
        with capture() as dispatches, contextlib.suppress(Exception, asyncio.CancelledError):
            if self.run is None:
                witnessed(verb, url, params)
            else:
                self.run(witnessed, verb, url, params)
        return dispatches

    def one(self, url, params, verb="POST", script=send, **options):
        (dispatch,) = self.settled(url, params, verb, script, **options)
        return dispatch


def on_asyncio(function, *args):
    return asyncio.run(function(*args))


KINDS = {
    "httpx": Kind(httpx),
    "httpx-asyncio": Kind(httpx, on_asyncio),
    "httpx-trio": Kind(httpx, trio.run),
    "httpx2": Kind(httpx2),
    "httpx2-asyncio": Kind(httpx2, on_asyncio),
    "httpx2-trio": Kind(httpx2, trio.run),
}


async def cancelled_in_the_middle(kind, url, **client):
    """
    The dispatch of a task that is cancelled when a part of its body has been made.
    """
    sent = asyncio.Event()

    async def body():
        yield BODY[:9]
        sent.set()
        await asyncio.Event().wait()

    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=body())

    with capture() as dispatches:
        task = asyncio.create_task(witness(kind.dispatcher(script, **client))("POST", url, PAYLOAD))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (dispatch,) = dispatches
    return dispatch
