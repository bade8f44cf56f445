"""
Dispatchers to wrap, and what is asked of a dispatch.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json

from types import SimpleNamespace
from urllib.parse import urlsplit

from wirewitness import (
    Outcome,
    Verdict,
    witness,
)


PARAMS = {"visitor": "v1", "event": "clicked"}


RETURNED = object()


def post(url, body, method="POST"):
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body)
        return connection.getresponse().status


def send(event):
    """Send it as it is."""
    post(event.url, json.dumps(event.params))
    return RETURNED


def tamper(event):
    post(event.url, json.dumps({**event.params, "event": "cl1cked"}))
    return RETURNED


def ended(dispatches):
    return [(dispatch.outcome, dispatch.verdict) for dispatch in dispatches]


DELIVERED = [(Outcome.DELIVERED, Verdict.IDENTICAL)]


ALTERED = [(Outcome.DELIVERED, Verdict.ALTERED)]


class WithStatic:
    """Documented."""

    @staticmethod
    def dispatch_event(event):
        """Send it."""
        return send(event)


class WithClass:
    """Documented."""

    calls = ()

    @classmethod
    def dispatch_event(cls, event):
        """Send it."""
        cls.calls = (*cls.calls, event)
        return send(event)


class WithInstance:
    """Documented."""

    def __init__(self, prefix=""):
        self.prefix = prefix

    def dispatch_event(self, event):
        """Send it."""
        self.last = event
        return send(event)


class WithAsync:
    """Documented."""

    async def dispatch_event(self, event):
        """Send it."""
        return await asyncio.to_thread(send, event)


CLASSES = [WithStatic, WithClass, WithInstance]


class Callable:
    def __init__(self):
        self.calls = 0

    def __call__(self, event):
        self.calls += 1
        return send(event)


def classic(http_verb, url, params):
    """Send three arguments."""
    return post(url, json.dumps(params), http_verb)


class Broken(Exception):  # noqa: N818
    pass


def shapes_of(function):
    """The same behaviour in every shape, each as a call of one event."""
    yield "function", witness(function)
    yield "static", witness(type("S", (), {"dispatch_event": staticmethod(function)})).dispatch_event
    yield "method", witness(type("M", (), {"dispatch_event": lambda self, event: function(event)}))().dispatch_event
    yield "instance", witness(SimpleNamespace(dispatch_event=function)).dispatch_event
    yield "partial", witness(functools.partial(function))


async def asend(event):
    """Send it."""
    return await asyncio.to_thread(send, event)


def async_shapes():
    class Caller:
        async def __call__(self, event):
            return await asend(event)

    class Decorated:
        @witness
        async def dispatch_event(self, event):
            return await asend(event)

    yield witness(asend)
    yield witness(WithAsync)().dispatch_event
    yield witness(WithAsync()).dispatch_event
    yield witness(WithAsync().dispatch_event)
    yield witness(type("S", (), {"dispatch_event": staticmethod(asend)})).dispatch_event
    yield witness(functools.partial(asend))
    yield witness(Caller())
    yield Decorated().dispatch_event


def unreadable(event):
    raise Broken
