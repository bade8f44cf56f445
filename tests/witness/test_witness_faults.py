"""
No fault, wherever it is, stops or changes a dispatch.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import json
import logging
import signal
import threading

import pytest
import requests

from dispatchers import DELIVERED, PARAMS, RETURNED, Broken, ended, post, send, unreadable

from wirewitness import (
    Outcome,
    Verdict,
    witness,
)
from wirewitness.evidence import EVIDENCE
from wirewitness.testing import capture


def test_an_adapter_that_raises_stops_nothing(sink, url, faults):
    @witness(payload=unreadable)
    def inner(event):
        post(url, b"x")
        return RETURNED

    with capture() as dispatches:
        assert inner(PARAMS) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1
    assert len(sink.requests) == 1


def test_an_encoder_that_raises_stops_nothing(sink, event, faults):
    with capture() as dispatches:
        assert witness(send, encode=unreadable)(event) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1
    assert sink.requests[0].body == json.dumps(event.params).encode()


@pytest.mark.parametrize("encoded", [None, 5, bytearray(b"x")])
def test_an_encoder_that_makes_no_bytes_stops_nothing(encoded, event, faults):
    with capture() as dispatches:
        assert witness(send, encode=lambda params: encoded)(event) is RETURNED
    assert ended(dispatches) == [(Outcome.DELIVERED, Verdict.UNOBSERVED)]
    assert faults() == 1


def test_a_hook_that_raises_stops_nothing_and_the_others_are_called(event, faults):
    with capture() as dispatches:
        assert witness(send, on_settle=unreadable)(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert faults() == 1


def test_a_hook_is_called_with_every_settled_dispatch(event):
    hooked = []
    with capture() as dispatches:
        witness(send, on_settle=hooked.append)(event)
    assert hooked == dispatches


@pytest.mark.parametrize("method", ["opened", "closed", "settled"])
def test_telemetry_that_raises_stops_nothing(method, event, faults, monkeypatch):
    from wirewitness.telemetry.spans import Spans

    def broken(*args, **kwargs):
        raise Broken

    wrapped = witness(send)
    monkeypatch.setattr(Spans, method, broken)
    with capture() as dispatches:
        # In a context of its own: where it can't be left, it would be the next test's.
        assert contextvars.copy_context().run(wrapped, event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert faults() >= 1
    assert wrapped.ledger.book().open == 0


def test_an_internal_error_is_logged_once_and_without_the_payload(event, caplog):
    class Quoting(Exception):  # noqa: N818
        pass

    def quoting(event):
        raise Quoting(event.params)

    wrapped = witness(send, payload=quoting)
    with caplog.at_level(logging.WARNING, logger="wirewitness"):
        wrapped(event)
        wrapped(event)
    lines = [record.getMessage() for record in caplog.records if "Quoting" in record.getMessage()]
    assert len(lines) == 1
    assert "clicked" not in lines[0]


def test_arguments_that_no_adapter_expects_are_the_inners_business(faults):
    seen = []

    @witness(payload="event")
    def inner(event, *more):
        seen.append((event, more))

    with capture(timeout=0.01):
        inner(PARAMS, 1, 2)
    assert seen == [(PARAMS, (1, 2))]
    assert faults() == 0


def test_near_the_recursion_limit_the_inner_call_happens_all_the_same():
    calls, returned = [], []

    def inner(event):
        calls.append(1)
        return RETURNED

    wrapped = witness(inner, evidence_timeout=0.001)
    failures = []

    def descend():
        with contextlib.suppress(RecursionError):
            descend()
        before = len(calls)
        try:
            returned.append(wrapped(PARAMS))
        except RecursionError:
            failures.append(len(calls) - before)

    # Down there, a finalizer of something else that is collected would fail, too.
    gc.collect()
    gc.disable()
    try:
        with capture():
            thread = threading.Thread(target=descend)
            thread.start()
            thread.join()
    finally:
        gc.enable()
    assert returned.count(RETURNED) == len(returned) > 100
    assert sum(calls) == len(returned)
    assert set(failures) <= {0}
    assert wrapped.ledger.book().closes
    assert wrapped.ledger.book().open == 0
    assert not [dispatch for dispatch in EVIDENCE.by_body.values() if dispatch.name == "inner"]


def test_a_dispatch_of_a_signal_handler_is_no_part_of_the_one_that_it_interrupts(sink):
    @witness(name="interrupted")
    def dispatch(http_verb, url, params):
        requests.post(url, json.dumps(params), timeout=5)

    def interrupt(*_):
        dispatch("POST", f"{sink.url}/v1/events", {"account_id": "12001", "number": 1})

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with capture() as dispatches:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            dispatch("POST", f"{sink.url}/slow/400", {"account_id": "12001", "number": 0})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [(one.outcome, one.verdict) for one in dispatches] == [(Outcome.DELIVERED, Verdict.IDENTICAL)] * 2
    assert len(sink.requests) == 2
