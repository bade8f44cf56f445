"""
No repr shows what was sent: reprs end in logs, tracebacks and error trackers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import wirewitness

from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.outbox import DeadLetter, Form, HttpSender, Message, Outbox
from wirewitness.outbox.dispatcher import RemadeEvent
from wirewitness.outbox.sender import Attempt
from wirewitness.testing import capture


SECRET = "hunter2"
# What a field of such a name holds can be a payload or a credential, or hold one.
TELLING = frozenset(
    [
        "authorization",
        "body",
        "content",
        "datafile",
        "fields",
        "head",
        "headers",
        "key",
        "location",
        "params",
        "payload",
        "query",
        "received",
        "redirect",
        "sdk_key",
        "target",
        "text",
        "transcript",
        "url",
        "user_info",
    ]
)
# The kit and the command line show what their own user gave them, to that user. _Settings holds selectors, no values.
LEFT_OUT = ("wirewitness.cli", "wirewitness.conformance", "wirewitness._witness")


def classes():
    for module in pkgutil.walk_packages(wirewitness.__path__, "wirewitness."):
        if module.name.startswith(LEFT_OUT):
            continue
        with contextlib.suppress(ImportError):
            for name, cls in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(cls) and cls.__module__ == module.name and name == cls.__name__:
                    yield cls


def fields_of(cls):
    if issubclass(cls, tuple):
        return getattr(cls, "_fields", ())
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else ()


RECORDS = {cls.__qualname__: cls for cls in classes() if TELLING & set(fields_of(cls))}


def test_there_are_records_that_could_tell():
    assert {"Exchange", "Payload", "Intent", "Request", "Destination", "Transferred"} <= set(RECORDS)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_no_records_repr_shows_what_was_sent(name):
    cls = RECORDS[name]
    values = {field: SECRET if field in TELLING else 1 for field in fields_of(cls)}
    if issubclass(cls, tuple):
        record = tuple.__new__(cls, values.values())
    else:
        record = object.__new__(cls)
        for field, value in values.items():
            object.__setattr__(record, field, value)
    # One that a repr reads further in, by attributes that 1 doesn't have, shows nothing of the others either.
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        assert SECRET not in repr(record)


def test_no_repr_on_the_way_of_a_message_shows_it(sink):
    url = f"{sink.url}/{SECRET}?t={SECRET}".replace("//", f"//kim:{SECRET}@", 1)
    message = Message("POST", url, (("X-Key", SECRET),), SECRET.encode(), Form.BYTES, 1)
    settlement = Settlement(Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL)
    attempt = Attempt(message, settlement, 0, 0.0, 1, 503)
    with capture() as dispatches, contextlib.closing(Outbox(HttpSender())) as outbox:
        outbox.dispatch_event(RemadeEvent(message))
        outbox.flush(20.0)
        shown = [repr(one) for one in (message, message.request, message.payload, attempt, DeadLetter(message, "x"))]
        shown += [repr(one) for one in (RemadeEvent(message), outbox, outbox.spool, outbox.ledger, message.origin)]
    shown += [repr((dispatch, dispatch.exchanges, dispatch.settlement)) for dispatch in dispatches]
    assert len(sink.requests) == 1
    assert [one for one in shown if SECRET in one or "kim" in one] == []


@pytest.mark.parametrize(
    ("host", "path"),
    [
        (f"kim:{SECRET}@h", "/"),
        (f"{SECRET}@h", "/"),
        (f"kim%3A{SECRET}%40h", "/"),
        ("h", f"kim:{SECRET}@h:443"),
        ("h", f"//kim:{SECRET}@h/x"),
        ("h", f"/http://kim:{SECRET}@h/x"),
        ("h", f"/http%3A%2F%2Fkim%3A{SECRET}%40h%2Fx"),
        ("h", f"HTTP://kim:{SECRET}@h/x"),
        ("h", f"ftp://kim:{SECRET}@[::1]:21/x"),
        ("h", f"http://kim:{SECRET}"),
        ("h", f"/x;jsessionid={SECRET}"),
        ("h", f"/x#{SECRET}"),
    ],
)
def test_an_exchanges_url_and_repr_show_no_credential(host, path):
    exchange = Exchange("POST", host=host, path=path, query=f"{SECRET}&t={SECRET}")
    for shown in (exchange.url, exchange.host, repr(exchange), repr(exchange.origin)):
        assert SECRET not in shown
        assert "kim" not in shown


@pytest.mark.parametrize("path", ["/v1/events", "/@scope/x", "*", "h:443", "http://h:8080/x", "/a:b/c"])
def test_a_path_without_a_credential_is_shown_as_it_is(path):
    assert Exchange("POST", host="h", path=path).url == f"http://h{path}"
