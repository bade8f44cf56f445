from __future__ import annotations

import threading

import requests

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from wirewitness import Outcome, witness
from wirewitness.testing import capture


PAYLOAD = b"a payload that is long enough to be known anywhere"


def post(url):
    requests.post(url, data=PAYLOAD, timeout=5)


class Slow(SpanProcessor):
    def on_end(self, span):
        threading.Event().wait(0.05)


def test_a_block_ends_only_when_it_was_told_of_a_dispatch_that_settles_late(sink):
    provider = TracerProvider()
    provider.add_span_processor(Slow())
    threads = []

    @witness(payload="body", tracer_provider=provider)
    def hand_over(body):
        threads.append(threading.Thread(target=post, args=(f"{sink.url}/v1/events",)))

    with capture() as dispatches:
        hand_over(PAYLOAD)
        threads[0].start()
    threads[0].join()

    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.DELIVERED]
    provider.shutdown()


def test_what_nobody_sends_is_unconfirmed_at_the_end_of_the_block():
    with capture(timeout=0.01) as dispatches:
        witness(lambda body: None, payload="body")(b"never sent")
        assert dispatches == []

    assert [dispatch.outcome for dispatch in dispatches] == [Outcome.UNCONFIRMED]


def test_what_waited_before_the_block_is_left_alone():
    dispatcher = witness(lambda body: None, payload="body", evidence_timeout=30)
    dispatcher(b"sent by nobody, before")
    with capture(timeout=0.01) as dispatches:
        pass

    assert dispatches == []
    assert dispatcher.ledger.book().open == 1


def test_a_wait_for_dispatches_that_do_not_come_ends():
    with capture() as dispatches:
        assert not dispatches.wait_for(1, timeout=0.01)
