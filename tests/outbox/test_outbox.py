"""
The Outbox, end to end over loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from dataclasses import replace
from pathlib import Path

import pytest
import requests

from outbox_events import FAST, event

from wirewitness import Outcome, Verdict, testing, witness
from wirewitness.errors import ConfigurationError
from wirewitness.outbox import (
    Block,
    Breakers,
    DispatcherSender,
    HttpSender,
    MemorySpool,
    Outbox,
    RetryPolicy,
    Spill,
    SqliteSpool,
)
from wirewitness.typing import Reason


DATAFILE = (Path(__file__).parents[2] / "examples" / "datafile.json").read_text(encoding="utf-8")
PATIENT = RetryPolicy(attempts=None, base=0.01, ceiling=0.02)
PAYLOAD = {"visitors": [{"visitor_id": "v", "snapshots": []}], "account_id": "1"}


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def counts(outbox):
    book = outbox.ledger.book()
    assert book.closes
    return {outcome: book.count(outcome) for outcome in Outcome if book.count(outcome)}


def test_an_event_is_delivered_with_exactly_the_bytes_of_json_dumps(make, sink):
    outbox = make()
    outbox.dispatch_event(event(f"{sink.url}/v1/events", PAYLOAD))
    assert outbox.flush(5.0).empty
    (received,) = sink.requests
    assert received.body == json.dumps(PAYLOAD).encode()
    assert received.header("content-type") == "application/json"
    assert counts(outbox) == {Outcome.DELIVERED: 1}
    assert outbox.ledger.book().verdicts[Verdict.IDENTICAL] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda outbox, url: outbox.dispatch_event(event(url, PAYLOAD)),
        lambda outbox, url: outbox.dispatch_event(event={"url": url, "params": PAYLOAD}["url"] and event(url, PAYLOAD)),
        lambda outbox, url: outbox("POST", url, PAYLOAD),
        lambda outbox, url: outbox(http_verb="POST", url=url, params=PAYLOAD),
        lambda outbox, url: outbox.dispatchEvent("POST", url, PAYLOAD),
        lambda outbox, url: outbox.dispatchEvent({"url": url, "params": PAYLOAD, "http_verb": "post"}),
        lambda outbox, url: outbox("post", url, params=json.dumps(PAYLOAD)),
        lambda outbox, url: outbox("POST", url, json.dumps(PAYLOAD).encode()),
    ],
)
def test_it_is_a_dispatcher_of_every_shape(make, sink, call):
    outbox = make()
    call(outbox, f"{sink.url}/v1/events")
    assert outbox.flush(5.0).empty
    (received,) = sink.requests
    assert (received.method, received.body) == ("POST", json.dumps(PAYLOAD).encode())


def test_a_get_puts_its_parameters_into_the_query(make, sink):
    outbox = make()
    outbox("GET", f"{sink.url}/v1/events?a=1", {"b": "x y", "c": None})
    outbox.flush(5.0)
    (received,) = sink.requests
    assert (received.method, received.target, received.body) == ("GET", "/v1/events?a=1&b=x+y", b"")
    assert counts(outbox) == {Outcome.DELIVERED: 1}


def test_what_the_caller_changes_afterwards_is_not_sent(make, sink):
    outbox = make()
    gate = threading.Event()
    params = {"n": 1}
    outbox = make(lambda http_verb, url, params: (gate.wait(5.0), requests.post(url, json.dumps(params), timeout=5)))
    outbox("POST", f"{sink.url}/v1/events", params)
    params["n"] = 2
    gate.set()
    outbox.flush(5.0)
    assert sink.requests[0].body == b'{"n": 1}'


def test_a_transient_answer_is_retried_with_the_same_bytes(make, sink):
    outbox = make()
    outbox.dispatch_event(event(f"{sink.url}/flaky/2/503", PAYLOAD))
    assert outbox.flush(5.0).empty
    assert [received.body for received in sink.requests] == [json.dumps(PAYLOAD).encode()] * 3
    assert counts(outbox) == {Outcome.DELIVERED: 1}
    assert outbox.ledger.book().exchanges == 3


def test_the_sdks_own_dispatcher_is_retried_though_it_swallows_the_503(make, sink):
    from optimizely.event_dispatcher import EventDispatcher

    outbox = make(EventDispatcher)
    outbox.dispatch_event(event(f"{sink.url}/flaky/2/503", PAYLOAD))
    assert outbox.flush(5.0).empty
    assert [received.body for received in sink.requests] == [json.dumps(PAYLOAD).encode()] * 3
    assert counts(outbox) == {Outcome.DELIVERED: 1}


def test_a_witnessed_inner_dispatcher_counts_nothing_twice(make, sink):
    @witness(name="inner of an outbox")
    def inner(http_verb, url, params):
        requests.post(url, json.dumps(params), timeout=5)

    outbox = make(inner)
    outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
    outbox.flush(5.0)
    assert inner.ledger.book().accepted == 0
    assert counts(outbox) == {Outcome.DELIVERED: 1}


def test_an_answer_that_no_retry_helps_makes_a_dead_letter(make, sink):
    outbox = make()
    outbox.dispatch_event(event(f"{sink.url}/status/413", PAYLOAD))
    remains = outbox.flush(5.0)
    assert (remains.empty, remains.dead) == (True, 1)
    (letter,) = outbox.spool.dead_letters()
    assert (letter.reason, letter.message.body) == ("status_4xx", json.dumps(PAYLOAD).encode())
    assert counts(outbox) == {Outcome.REJECTED: 1}
    assert len(sink.requests) == 1


def test_a_server_that_answers_500_for_ever_gets_as_many_attempts_as_the_policy_has(make, sink):
    outbox = make()
    outbox.dispatch_event(event(f"{sink.url}/status/500", PAYLOAD))
    assert outbox.flush(5.0).dead == 1
    assert len(sink.requests) == FAST.attempts
    assert counts(outbox) == {Outcome.REJECTED: 1}
    assert outbox.ledger.book().settled[Outcome.REJECTED, Reason.STATUS_5XX] == 1


def test_a_redirect_is_not_followed(make, sink):
    outbox = make()
    outbox.dispatch_event(event(f"{sink.url}/redirect/302", PAYLOAD))
    assert outbox.flush(5.0).dead == 1
    assert len(sink.requests) == 1
    assert counts(outbox) == {Outcome.REJECTED: 1}


def test_nobody_listening_is_retried_for_a_lifetime_and_then_given_up(make, unused_port):
    outbox = make(retry=replace(FAST, lifetime=1.0), breakers=Breakers(cooldown=0.01, ceiling=0.02))
    outbox("POST", f"http://127.0.0.1:{unused_port}/", PAYLOAD)
    assert outbox.flush(10.0).dead == 1
    book = outbox.ledger.book()
    assert book.settled[Outcome.FAILED, Reason.REFUSED] == 1
    # A server that is away costs the message none of its attempts.
    assert book.exchanges > FAST.attempts


def test_a_reset_before_the_response_sends_the_payload_again(make, sink):
    sink.script("/v1/events", [204])
    outbox = make()
    outbox("POST", f"{sink.url}/reset/after", PAYLOAD)
    assert outbox.flush(5.0).dead == 1
    assert {received.body for received in sink.requests} == {json.dumps(PAYLOAD).encode()}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda outbox, url: outbox("POST", url, {"a": {1, 2}}), Reason.UNSERIALIZABLE),
        (lambda outbox, url: outbox("POST", url, iter([1])), Reason.UNREADABLE),
        (lambda outbox, url: outbox("POST", "nowhere", {}), Reason.UNSENDABLE),
        (lambda outbox, url: outbox("POST", url), Reason.UNREADABLE),
        (lambda outbox, url: outbox(), Reason.UNREADABLE),
        (lambda outbox, url: outbox.dispatch_event(None), Reason.UNSENDABLE),
        (lambda outbox, url: outbox("POST", url, b"x" * 70_000), Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_sent_is_dropped_and_the_hook_told(make, sink, call, reason):
    dropped = []
    outbox = make(spool=MemorySpool(most=10, most_bytes=65_536), on_drop=lambda message, reason: dropped.append(reason))
    call(outbox, f"{sink.url}/v1/events")
    assert dropped == [reason]
    assert counts(outbox) == {Outcome.DROPPED: 1}
    assert outbox.ledger.book().settled[Outcome.DROPPED, reason] == 1
    assert sink.requests == []


class Held:
    """
    A dispatcher that sends nothing until it may.
    """

    def __init__(self):
        self.gate = threading.Event()
        self.begun = threading.Event()

    def dispatch_event(self, event):
        self.begun.set()
        self.gate.wait(10.0)
        requests.post(event.url, json.dumps(event.params), timeout=5)


@pytest.fixture
def held():
    inner = Held()
    yield inner
    inner.gate.set()


def fill(outbox, url, numbers):
    for number in numbers:
        outbox("POST", url, {"n": number})


def received_numbers(sink):
    return sorted(json.loads(received.body)["n"] for received in sink.requests)


def test_a_full_spool_drops_the_newest(make, sink, held):
    dropped = []
    outbox = make(
        held, spool=MemorySpool(most=3), on_drop=lambda message, reason: dropped.append((message.body, reason))
    )
    fill(outbox, f"{sink.url}/v1/events", range(4))
    held.gate.set()
    outbox.flush(5.0)
    assert dropped == [(b'{"n": 3}', Reason.QUEUE_FULL)]
    assert received_numbers(sink) == [0, 1, 2]
    assert counts(outbox) == {Outcome.DELIVERED: 3, Outcome.DROPPED: 1}


def test_a_full_spool_drops_the_oldest_that_nobody_sends(make, sink, held):
    dropped = []
    outbox = make(
        held,
        spool=MemorySpool(most=3),
        overflow="drop_oldest",
        on_drop=lambda message, reason: dropped.append((message.body, reason)),
    )
    fill(outbox, f"{sink.url}/v1/events", range(1))
    assert held.begun.wait(5.0)
    fill(outbox, f"{sink.url}/v1/events", range(1, 5))
    held.gate.set()
    outbox.flush(5.0)
    assert dropped == [(b'{"n": 1}', Reason.QUEUE_FULL), (b'{"n": 2}', Reason.QUEUE_FULL)]
    assert received_numbers(sink) == [0, 3, 4]
    assert counts(outbox) == {Outcome.DELIVERED: 3, Outcome.DROPPED: 2}


def test_a_full_spool_has_the_caller_wait_for_room(make, sink, held):
    outbox = make(held, spool=MemorySpool(most=1), overflow=Block(5.0))
    fill(outbox, f"{sink.url}/v1/events", [0])
    waiting = threading.Thread(target=fill, args=(outbox, f"{sink.url}/v1/events", [1]))
    waiting.start()
    held.gate.set()
    waiting.join(5.0)
    outbox.flush(5.0)
    assert received_numbers(sink) == [0, 1]


def test_a_caller_that_waited_long_enough_has_its_payload_dropped(make, sink, held):
    outbox = make(held, spool=MemorySpool(most=1), overflow=Block(0.01))
    fill(outbox, f"{sink.url}/v1/events", [0, 1])
    held.gate.set()
    outbox.flush(5.0)
    assert counts(outbox) == {Outcome.DELIVERED: 1, Outcome.DROPPED: 1}


def test_what_does_not_fit_spills_into_the_second_spool(make, sink, held):
    second = MemorySpool(most=100)
    outbox = make(held, spool=MemorySpool(most=2), overflow=Spill(second))
    fill(outbox, f"{sink.url}/v1/events", range(20))
    assert second.stats().size == 18
    held.gate.set()
    assert outbox.flush(10.0).empty
    assert received_numbers(sink) == list(range(20))
    assert counts(outbox) == {Outcome.DELIVERED: 20}


@pytest.mark.processes
def test_the_breaker_leaves_a_dead_origin_alone_and_serves_the_others(make, sink, unused_port):
    outbox = make(retry=RetryPolicy(attempts=None, base=0.01, ceiling=0.02), breakers=Breakers(cooldown=30.0))
    for number in range(20):
        outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": number})
    fill(outbox, f"{sink.url}/v1/events", range(5))
    assert sink.wait_for(5)
    remains = outbox.flush(1.0)
    assert (remains.remaining, outbox.gauges().circuit_state) == (20, 2)
    assert sum(remains.why.values()) == 20
    assert outbox.ledger.book().exchanges < 100
    assert outbox.ledger.book().closes


def test_nobody_can_say_what_became_of_a_payload_that_was_never_seen_on_the_wire(make):
    outbox = make(lambda http_verb, url, params: None, evidence_timeout=0.05)
    outbox("POST", "http://127.0.0.1:9/", PAYLOAD)
    assert outbox.flush(5.0).empty
    assert counts(outbox) == {Outcome.UNCONFIRMED: 1}


def test_an_inner_dispatcher_with_a_thread_of_its_own_is_judged_by_late_evidence(make, sink):
    threads = []

    def inner(http_verb, url, params):
        threads.append(threading.Thread(target=requests.post, args=(url, json.dumps(params)), kwargs={"timeout": 5}))
        threads[-1].start()

    outbox = make(inner)
    outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
    assert outbox.flush(5.0).empty
    assert counts(outbox) == {Outcome.DELIVERED: 1}
    for thread in threads:
        thread.join()


def test_duplicate_keys_cannot_be_given_to_an_inner_dispatcher_and_become_a_dead_letter(make, sink):
    outbox = make(lambda http_verb, url, params: requests.post(url, json.dumps(params), timeout=5))
    outbox("POST", f"{sink.url}/v1/events", {1: "a", "1": "b"})
    assert outbox.flush(5.0).dead == 1
    assert sink.requests == []
    assert outbox.ledger.book().settled[Outcome.DROPPED, Reason.UNSENDABLE] == 1


def test_an_inner_dispatcher_that_changes_its_event_changes_no_later_attempt(make, sink):
    def inner(event):
        requests.post(event.url, json.dumps(event.params), timeout=5)
        event.params.clear()

    outbox = make(inner)
    outbox.dispatch_event(event(f"{sink.url}/flaky/1/503", PAYLOAD))
    outbox.flush(5.0)
    assert [received.body for received in sink.requests] == [json.dumps(PAYLOAD).encode()] * 2


def test_a_payload_after_close_is_delivered_all_the_same(make, sink):
    outbox = make()
    outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
    assert outbox.close(5.0).empty
    for _ in range(20):
        outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
    assert until(lambda: counts(outbox) == {Outcome.DELIVERED: 21})
    assert outbox.close(5.0).empty
    assert len(sink.requests) == 21


def test_a_payload_after_close_that_cannot_be_sent_is_dropped_as_shutdown_after_a_while(make, sink, unused_port):
    dropped = []
    outbox = make(exit_timeout=0.2, retry=PATIENT, on_drop=lambda message, reason: dropped.append(reason))
    assert outbox.close(5.0).empty
    outbox("POST", f"http://127.0.0.1:{unused_port}/", PAYLOAD)
    assert until(lambda: outbox.ledger.book().open == 0)
    assert outbox.ledger.book().accepted == 1
    assert dropped == [Reason.SHUTDOWN]


def test_a_payload_after_close_is_kept_on_disk_where_it_cannot_be_sent(make, unused_port, tmp_path):
    outbox = make(exit_timeout=0.2, retry=PATIENT, spool=SqliteSpool(f"{tmp_path}/"))
    outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": 1})
    assert outbox.close(0.2).kept == 1
    for number in range(3):
        outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": number})
    assert outbox.close(0.5).kept == 4
    assert (outbox.ledger.book().accepted, outbox.ledger.book().open) == (4, 4)
    again = make(retry=PATIENT, spool=SqliteSpool(f"{tmp_path}/"))
    assert again.ledger.book().accepted == 4
    again.close(0.1)


class Forgetful:
    """
    A sender that takes messages, and never says a word of them.
    """

    threads = 1

    def __init__(self):
        self.has_one = threading.Event()

    def run(self, desk):
        while (messages := desk.take(1, None)) is not None:
            if messages:
                self.has_one.set()


def test_closing_reports_what_is_kept_on_disk_for_the_next_process(make, sink, tmp_path):
    sender = Forgetful()
    outbox = make(sender, spool=SqliteSpool(tmp_path / "spool"))
    outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
    assert sender.has_one.wait(5.0)
    remains = outbox.close(0.1)
    assert (remains.remaining, remains.kept, remains.lost) == (1, 1, 0)
    second = make(spool=SqliteSpool(tmp_path / "spool"))
    assert second.flush(10.0).empty
    assert sink.wait_for(1)


def test_closing_reports_what_was_lost_with_the_memory(make, unused_port):
    outbox = make(retry=RetryPolicy(attempts=None, base=30.0, ceiling=60.0))
    for number in range(3):
        outbox("POST", f"http://127.0.0.1:{unused_port}/", {"n": number})
    remains = outbox.close(0.3)
    assert (remains.lost, remains.remaining, remains.empty) == (3, 0, False)
    assert counts(outbox).keys() <= {Outcome.FAILED, Outcome.DROPPED}
    assert outbox.ledger.book().open == 0


def test_after_a_flush_every_end_was_told(make, sink):
    told = []

    def tell(dispatch):
        time.sleep(0.1)
        told.append(dispatch.outcome)

    outbox = make(on_settle=tell)
    outbox("POST", f"{sink.url}/status/400", PAYLOAD)
    assert outbox.flush(10.0).empty
    assert told == [Outcome.REJECTED]


def test_a_hook_may_flush(make, sink):
    outbox = make(on_settle=lambda _: remains.append(outbox.flush(30.0)))
    remains = []
    outbox("POST", f"{sink.url}/status/400", PAYLOAD)
    assert outbox.flush(60.0).empty
    assert [left.empty for left in remains] == [True]


def test_every_settled_payload_can_be_captured(make, sink):
    outbox = make()
    with testing.capture() as dispatches:
        outbox("POST", f"{sink.url}/v1/events", PAYLOAD)
        outbox("POST", f"{sink.url}/status/400", PAYLOAD)
        outbox("POST", "nowhere", PAYLOAD)
        outbox.flush(5.0)
    ended = {dispatch.outcome: dispatch for dispatch in dispatches}
    assert ended.keys() == {Outcome.DELIVERED, Outcome.REJECTED, Outcome.DROPPED}
    assert ended[Outcome.DELIVERED].payload.body == json.dumps(PAYLOAD).encode()
    assert ended[Outcome.REJECTED].exchanges[0].status == 400


def test_sixty_four_threads_lose_nothing(make, sink):
    outbox = make(HttpSender(threads=4), spool=MemorySpool(most=10_000))
    threads = [
        threading.Thread(target=fill, args=(outbox, f"{sink.url}/v1/events", range(at * 10, at * 10 + 10)))
        for at in range(64)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.flush(30.0).empty
    assert received_numbers(sink) == list(range(640))
    assert counts(outbox) == {Outcome.DELIVERED: 640}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"overflow": "explode"}, ["overflow=a str of 7 characters", "drop_oldest"]),
        ({"spool": 3}, ["spool=3", "MemorySpool"]),
        ({"workers": 0}, ["threads=0"]),
        ({"evidence_timeout": -1}, ["evidence_timeout=-1"]),
        ({"exit_timeout": float("nan")}, ["exit_timeout=nan"]),
        ({"on_drop": "no"}, ["on_drop=a str of 2 characters"]),
        ({"sender": object()}, ["no dispatcher"]),
        ({"sender": 7}, ["no dispatcher"]),
    ],
)
def test_what_cannot_work_is_refused_at_construction(options, names):
    options = {"sender": lambda event: None, **options}
    with pytest.raises(ConfigurationError) as refused:
        Outbox(**options)
    for name in names:
        assert name in str(refused.value)


@pytest.mark.parametrize(
    "make_it",
    [
        lambda: MemorySpool(most=0),
        lambda: MemorySpool(most_bytes="1"),
        lambda: HttpSender(threads=0),
        lambda: HttpSender(timeout=0),
        lambda: DispatcherSender(print, threads=True),
        lambda: Block(-1),
    ],
)
def test_nonsensical_limits_are_refused(make_it):
    with pytest.raises(ConfigurationError, match="must be"):
        make_it()


def test_an_async_dispatcher_is_refused():
    async def inner(event):
        pass

    with pytest.raises(ConfigurationError, match="async"):
        Outbox(inner)


@pytest.mark.parametrize("batched", [False, True])
def test_optimizelys_client_and_its_batch_event_processor_take_it(make, sink, monkeypatch, batched):
    from optimizely.event.event_factory import EventFactory
    from optimizely.event.event_processor import BatchEventProcessor, ForwardingEventProcessor
    from optimizely.helpers.sdk_settings import OptimizelySdkSettings
    from optimizely.optimizely import Optimizely

    monkeypatch.setattr(EventFactory, "EVENT_ENDPOINTS", {"US": f"{sink.url}/v1/events"})
    outbox = make()
    processor = BatchEventProcessor(outbox, start_on_init=True) if batched else ForwardingEventProcessor(outbox)
    client = Optimizely(
        DATAFILE, event_dispatcher=outbox, event_processor=processor, settings=OptimizelySdkSettings(odp_disabled=True)
    )
    for visitor in ("ada", "grace", "edith"):
        client.create_user_context(visitor, {"plan": "gold"}).track_event("order_placed", {"revenue": 4200})
    client.close()
    assert outbox.flush(5.0).empty
    payloads = [json.loads(received.body) for received in sink.requests]
    assert len(payloads) == (1 if batched else 3)
    visitors = [visitor["visitor_id"] for payload in payloads for visitor in payload["visitors"]]
    assert sorted(visitors) == ["ada", "edith", "grace"]
    assert counts(outbox) == {Outcome.DELIVERED: len(payloads)}


INTERRUPTED = """
import logging, random, signal, sys, threading, time
from wirewitness.outbox import *
# A handler of the logging module would swallow what interrupts it, as it always does.
logging.disable()
url, policy, kind, rounds, folder = sys.argv[1:]
class TimeUp(Exception): pass
def interrupt(*_): raise TimeUp
signal.signal(signal.SIGALRM, interrupt)
overflow = Block(0.05) if policy == "block" else policy
spool = MemorySpool(most=20) if kind == "memory" else SqliteSpool(folder, durability=kind, most=20)
outbox = Outbox(HttpSender(threads=2), spool=spool, overflow=overflow)
returned = reached = 0
rng = random.Random(7)
def work():
    # A function of its own: what is raised between two rounds of a loop is caught around a call for certain.
    global returned
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.006))
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        outbox("POST", url, {"n": returned})
        returned += 1
for _ in range(int(rounds)):
    try:
        work()
    except TimeUp:
        reached += 1
remains, book = outbox.flush(20), outbox.ledger.book()
outbox.close(20)
ends = outbox.ledger.book()
# A put that was interrupted is taken or not: at most one more than returned for each time.
print(reached, returned <= book.accepted <= returned + reached, book.closes, ends.closes, ends.open, remains.remaining)
"""


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("drop_newest", "memory"),
        ("drop_oldest", "memory"),
        ("block", "memory"),
        ("drop_oldest", "group"),
        ("block", "sync"),
        *(
            pytest.param(policy, kind, marks=pytest.mark.slow("the same with other pairs"))
            for policy, kind in (
                ("drop_newest", "group"),
                ("block", "group"),
                ("drop_newest", "sync"),
                ("drop_oldest", "sync"),
            )
        ),
    ],
)
def test_an_exception_of_a_signal_handler_reaches_the_caller_and_leaves_each_message_taken_or_not(
    sink, tmp_path, policy, kind
):
    rounds = 25
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, f"{sink.url}/v1/events", policy, kind, str(rounds), f"{tmp_path}/spool/"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == [str(rounds), "True", "True", "True", "0", "0"], done.stderr
