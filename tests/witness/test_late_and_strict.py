"""
Settlements that come after the call, and those that raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import pytest

from dispatchers import ALTERED, DELIVERED, PARAMS, RETURNED, Broken, ended, post, send, tamper
from optimizely.event_builder import Event

from wirewitness import IntegrityError, Outcome, Verdict, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


def test_a_dispatcher_with_a_thread_of_its_own_is_settled_late(event):
    go = threading.Event()

    class Queueing:
        def dispatch_event(self, event):
            self.thread = threading.Thread(target=lambda: go.wait(10) and send(event))
            self.thread.start()

    dispatcher = witness(Queueing)()
    with capture() as dispatches:
        dispatcher.dispatch_event(event)
        assert dispatches == []
        assert dispatcher.ledger.book().open == 1
        go.set()
        dispatcher.thread.join()
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].evidence is Evidence.RESPONSE


def test_a_dispatch_whose_bytes_never_show_up_is_unconfirmed():
    settled = threading.Event()
    wrapped = witness(lambda event: None, evidence_timeout=0.01, on_settle=lambda dispatch: settled.set())
    with capture() as dispatches:
        wrapped(PARAMS)
        assert settled.wait(10)
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.verdict, dispatch.evidence, dispatch.reason) == (
        Outcome.UNCONFIRMED,
        Verdict.UNOBSERVED,
        Evidence.CALL,
        Reason.NO_EVIDENCE,
    )


def test_in_strict_mode_an_alteration_raises_behind_the_dispatch(sink, event):
    with (
        capture() as dispatches,
        pytest.raises(IntegrityError, match="tamper altered the payload: bytes_differ") as caught,
    ):
        witness(tamper, strict=True)(event)
    assert ended(dispatches) == ALTERED
    assert f"byte {dispatches[0].offset}" in str(caught.value)
    assert "clicked" not in str(caught.value)
    assert len(sink.requests) == 1


async def test_in_strict_mode_an_alteration_raises_from_a_coroutine(event):
    async def inner(event):
        await asyncio.to_thread(tamper, event)

    with pytest.raises(IntegrityError):
        await witness(inner, strict=True)(event)


def test_without_strict_mode_an_alteration_is_told_and_raises_nothing(event):
    with capture() as dispatches:
        assert witness(tamper)(event) is RETURNED
    assert ended(dispatches) == ALTERED


def test_strict_mode_raises_for_nothing_but_alterations(sink, event, refusing):
    def compact(event):
        with contextlib.suppress(OSError):
            post(event.url, json.dumps(event.params, separators=(",", ":")))

    wrapped = witness(compact, strict=True)
    with capture() as dispatches:
        for target in (event.url, f"{sink.url}/status/503", refusing):
            wrapped(Event(target, PARAMS, "POST"))
        witness(lambda event: None, strict=True, evidence_timeout=0.001)(event)
    assert {dispatch.outcome for dispatch in dispatches} == {
        Outcome.DELIVERED,
        Outcome.REJECTED,
        Outcome.FAILED,
        Outcome.UNCONFIRMED,
    }


def test_strict_mode_does_not_hide_the_inners_exception(event):
    def inner(event):
        tamper(event)
        raise Broken

    with pytest.raises(Broken):
        witness(inner, strict=True)(event)
