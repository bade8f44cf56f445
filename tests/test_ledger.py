"""
The book closes: at every instant, in every thread, and in every process.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import itertools
import json
import os
import signal
import threading

import pytest

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wirewitness import Outcome, Verdict, ledger_of, witness
from wirewitness.conformance import Sink
from wirewitness.core.outcome import REASONS
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence
from wirewitness.dispatch import Dispatch
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ledger, LedgerSnapshot, ProcessLedger, Stage, process_ledger
from wirewitness.typing import Reason


DELIVERED = Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE)
REJECTED = Settlement(Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)


def a_dispatch():
    return Dispatch("d", owner=None)


def settled(book):
    return {ending: number for ending, number in book.settled.items() if number}


@pytest.fixture
def process():
    return ProcessLedger()


@pytest.fixture
def ledger(process):
    return Ledger("d", process)


def test_a_new_book_is_empty_and_closes(ledger):
    book = ledger.book()
    assert (book.accepted, book.open, book.exchanges) == (0, 0, 0)
    assert book.closes


def test_every_outcome_reason_verdict_and_stage_is_counted_from_zero(ledger, process):
    for book in (ledger.book(), process.books()["d"]):
        assert set(book.settled) == {(outcome, reason) for outcome, reasons in REASONS.items() for reason in reasons}
        assert set(book.verdicts) == set(Verdict)
        assert set(book.pending) == set(Stage)
        assert {*book.settled.values(), *book.verdicts.values(), *book.pending.values()} == {0}


def test_a_payload_goes_from_in_flight_to_settled(ledger):
    dispatch = a_dispatch()
    ledger.accept(dispatch)
    assert ledger.book().pending == {Stage.QUEUED: 0, Stage.IN_FLIGHT: 1, Stage.AWAITING_EVIDENCE: 0}
    assert ledger.is_open(dispatch)
    assert ledger.settle(dispatch, REJECTED, exchanges=2)
    book = ledger.book()
    assert settled(book) == {(Outcome.REJECTED, Reason.BODY_LOST): 1}
    assert (book.accepted, book.open, book.exchanges, book.verdicts[Verdict.ALTERED]) == (1, 0, 2, 1)
    assert book.count(Outcome.REJECTED) == 1
    assert not ledger.is_open(dispatch)


def test_a_payload_waits_for_evidence_in_between(ledger):
    dispatch = a_dispatch()
    ledger.accept(dispatch)
    ledger.await_evidence(dispatch)
    assert ledger.book().pending == {Stage.QUEUED: 0, Stage.IN_FLIGHT: 0, Stage.AWAITING_EVIDENCE: 1}
    assert ledger.settle(dispatch, DELIVERED, exchanges=1)
    assert ledger.book().open == 0


def test_a_payload_is_settled_once(ledger):
    dispatch = a_dispatch()
    ledger.accept(dispatch)
    assert ledger.settle(dispatch, DELIVERED, exchanges=1)
    assert not ledger.settle(dispatch, REJECTED, exchanges=1)
    ledger.await_evidence(dispatch)
    assert settled(ledger.book()) == {(Outcome.DELIVERED, Reason.NONE): 1}
    assert ledger.book().open == 0


def test_a_payload_that_was_never_accepted_is_not_counted(ledger):
    ledger.await_evidence(a_dispatch())
    assert not ledger.settle(a_dispatch(), DELIVERED, exchanges=1)
    assert ledger.book() == ProcessLedger().book()


def test_a_book_is_of_one_instant_and_cannot_be_changed(ledger):
    book = ledger.book()
    ledger.accept(a_dispatch())
    assert (book.accepted, book.open) == (0, 0)
    for counts in (book.settled, book.pending, book.verdicts):
        with pytest.raises(TypeError):
            counts["x"] = 1


def test_a_book_reads_as_the_equation(ledger):
    ledger.accept(a_dispatch())
    equation = "accepted 1 = delivered 0 + rejected 0 + failed 0 + dropped 0 + unconfirmed 0 + pending 1"
    assert str(ledger.book()) == equation
    assert repr(ledger) == f"<Ledger d: {equation}>"


def test_a_book_in_which_something_is_missing_does_not_close():
    assert LedgerSnapshot().closes
    assert not LedgerSnapshot(accepted=1).closes
    assert not LedgerSnapshot(settled={(Outcome.DELIVERED, Reason.NONE): 1}).closes
    assert not LedgerSnapshot(accepted=1, pending={Stage.IN_FLIGHT: 2}).closes


def test_an_outcome_with_a_reason_of_its_own_is_counted_too(ledger):
    dispatch = a_dispatch()
    ledger.accept(dispatch)
    odd = Settlement(Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.SHUTDOWN)
    assert ledger.settle(dispatch, odd, exchanges=0)
    assert ledger.book().settled[Outcome.DROPPED, Reason.SHUTDOWN] == 1
    assert ledger.book().closes


def test_ledgers_of_one_name_add_up_in_the_process(process):
    one, other, another = Ledger("a", process), Ledger("a", process), Ledger("b", process)
    for ledger in (one, one, other, another):
        ledger.accept(a_dispatch())
    assert {name: book.accepted for name, book in process.books().items()} == {"a": 3, "b": 1}
    assert process.book().accepted == 4
    assert (one.book().accepted, other.book().accepted) == (2, 1)
    assert repr(process).startswith("<ProcessLedger: accepted 4 = ")


def test_what_a_ledger_counted_stays_in_the_process_when_it_is_gone(process):
    for _ in range(3):
        ledger = Ledger("a", process)
        dispatch = a_dispatch()
        ledger.accept(dispatch)
        ledger.settle(dispatch, REJECTED, exchanges=2)
        del ledger
    gc.collect()
    book = process.book()
    assert (book.accepted, book.exchanges, book.count(Outcome.REJECTED)) == (3, 6, 3)
    assert book.closes


def test_an_empty_process_has_an_empty_book(process):
    assert process.books() == {}
    assert process.book().closes


def test_clearing_the_process_clears_its_ledgers(process):
    ledger = Ledger("a", process)
    dispatch = a_dispatch()
    ledger.accept(dispatch)
    process.clear()
    assert (process.book().accepted, ledger.book().accepted) == (0, 0)
    assert list(process.books()) == ["a"]
    assert not ledger.settle(dispatch, DELIVERED, exchanges=1)
    assert ledger.book().closes


# With threads and real requests.


def send(url, body):
    host, _, path = url.removeprefix("http://").partition("/")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request("POST", f"/{path}", body)
        connection.getresponse().read()


class Gate:
    """A payload that somebody lets through, or not."""

    def __init__(self, number):
        self.body = json.dumps({"event": number, "long enough to be": "known anywhere"}).encode("ascii")
        self.entered = threading.Event()
        self.go = threading.Event()

    def pass_through(self):
        self.entered.set()
        assert self.go.wait(30)


class Reader(threading.Thread):
    """Reads all books without pause, and keeps what doesn't close."""

    def __init__(self, ledgers):
        super().__init__(daemon=True)
        self.ledgers = ledgers
        self.over = threading.Event()
        self.open = []
        self.reads = 0

    def run(self):
        while not self.over.is_set():
            for book in (
                process_ledger.book(),
                *process_ledger.books().values(),
                *(each.book() for each in self.ledgers),
            ):
                if not book.closes:
                    self.open.append(book)
            self.reads += 1

    def stop(self):
        self.over.set()
        self.join(10)


class Dispatching(RuleBasedStateMachine):
    """
    Dispatches begin, end, fail, wait and are given up in threads of their own, while the books are read without pause.
    """

    def __init__(self):
        super().__init__()
        self.numbers = itertools.count()
        self.stack = contextlib.ExitStack()
        self.running = []
        self.waiting = []
        self.expected = 0

    @initialize()
    def begin(self):
        self.sink = self.stack.enter_context(Sink())
        self.dispatchers = [
            witness(self.deliver, name="delivering", payload="body"),
            witness(self.fail, name="failing", payload="body"),
            witness(self.keep, name="keeping", payload="body"),
        ]
        self.before = process_ledger.book()
        self.reader = Reader([ledger_of(dispatcher) for dispatcher in self.dispatchers])
        self.reader.start()

    def deliver(self, gate, body):
        gate.pass_through()
        send(f"{self.sink.url}/v1/events", body)

    def fail(self, gate, body):
        gate.pass_through()
        raise ConnectionResetError

    def keep(self, gate, body):
        gate.pass_through()

    @rule(kind=st.integers(0, 2))
    def accept(self, kind):
        gate = Gate(next(self.numbers))

        def run():
            with contextlib.suppress(ConnectionResetError):
                self.dispatchers[kind](gate, gate.body)

        thread = threading.Thread(target=run)
        thread.start()
        assert gate.entered.wait(30)
        self.running.append((kind, gate, thread))
        self.expected += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        kind, gate, thread = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        gate.go.set()
        thread.join(30)
        if kind == 2:
            self.waiting.append(gate)

    @precondition(lambda self: len(self.running) > 1)
    @rule()
    def end_all_at_once(self):
        for _, gate, _ in self.running:
            gate.go.set()
        for kind, gate, thread in self.running:
            thread.join(30)
            self.waiting += [gate] if kind == 2 else []
        self.running.clear()

    @precondition(lambda self: self.waiting)
    @rule()
    def send_late(self):
        send(f"{self.sink.url}/v1/events", self.waiting.pop().body)

    @precondition(lambda self: self.waiting)
    @rule()
    def give_up(self):
        body = self.waiting.pop().body
        for dispatch in EVIDENCE.waiting():
            if dispatch.body == body:
                EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)

    @invariant()
    def the_books_close_and_count_all(self):
        books = [ledger_of(dispatcher).book() for dispatcher in self.dispatchers]
        assert all(book.closes for book in books)
        assert sum(book.accepted for book in books) == self.expected
        assert sum(book.pending[Stage.IN_FLIGHT] for book in books) == len(self.running)
        assert sum(book.pending[Stage.AWAITING_EVIDENCE] for book in books) == len(self.waiting)
        assert process_ledger.book().accepted - self.before.accepted == self.expected

    def teardown(self):
        if not hasattr(self, "reader"):
            return
        for _, gate, thread in self.running:
            gate.go.set()
            thread.join(30)
        for dispatch in EVIDENCE.waiting():
            EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)
        self.reader.stop()
        self.stack.close()
        assert self.reader.open == []
        assert self.reader.reads > 0
        assert [ledger_of(dispatcher).book().open for dispatcher in self.dispatchers] == [0, 0, 0]


TestTheBookClosesAtEveryInstant = Dispatching.TestCase
TestTheBookClosesAtEveryInstant.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_the_books_close_while_many_threads_dispatch(sink):
    def inner(url, body):
        send(url, body)

    dispatcher = witness(inner, name="busy", payload="body", url="url")
    reader = Reader([ledger_of(dispatcher)])
    reader.start()

    def run(name):
        for number in range(25):
            dispatcher(f"{sink.url}/v1/events", f"{name} {number}")
            dispatcher(f"{sink.url}/status/503", f"{name} {number}")

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.stop()
    assert reader.open == []
    book = ledger_of(dispatcher).book()
    assert (book.accepted, book.open, book.exchanges) == (200, 0, 200)
    assert settled(book) == {(Outcome.DELIVERED, Reason.NONE): 100, (Outcome.REJECTED, Reason.STATUS_5XX): 100}
    assert book.verdicts[Verdict.IDENTICAL] == 200


# Forks.


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(check):
    """Fork, and return the names of what the child found wrong."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        found = "died"
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            found = ",".join(name for name, right in check() if not right)
        os.write(writing, found.encode("utf-8"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found = answer.read().decode("utf-8")
    os.waitpid(child, 0)
    return found


@forking
def test_a_child_starts_with_an_empty_book_and_the_parents_stays(sink):
    dispatcher = witness(send, name="forking", payload="body", url="url")
    url = f"{sink.url}/v1/events"
    dispatcher(url, b"parent's")
    before = process_ledger.book()

    def check():
        yield "own empty", ledger_of(dispatcher).book().accepted == 0
        yield "process empty", process_ledger.book().accepted == 0
        yield "name known", "forking" in process_ledger.books()
        yield "nothing waits", EVIDENCE.waiting() == []
        dispatcher(url, b"child's")
        yield "counts", settled(ledger_of(dispatcher).book()) == {(Outcome.DELIVERED, Reason.NONE): 1}
        yield "process counts", process_ledger.book().accepted == 1

    assert in_child(check) == ""
    assert process_ledger.book() == before
    assert ledger_of(dispatcher).book().accepted == 1
    assert [received.body for received in sink.requests] == [b"parent's", b"child's"]


@forking
def test_a_dispatch_open_across_a_fork_is_settled_in_the_parent_only(sink):
    found = []

    def inner(url, body):
        found.append(in_child(lambda: check(url, body)))
        send(url, body)

    def check(url, body):
        yield "empty", ledger_of(dispatcher).book().accepted == 0
        send(url, body)
        yield "not current", process_ledger.book().exchanges == 0

    dispatcher = witness(inner, name="across", payload="body", url="url")
    dispatcher(f"{sink.url}/v1/events", b"across")
    assert found == [""]
    book = ledger_of(dispatcher).book()
    assert settled(book) == {(Outcome.DELIVERED, Reason.NONE): 1}
    assert (book.accepted, book.open, book.exchanges) == (1, 0, 1)
    assert len(sink.requests) == 2


class Child(BaseException):
    """Leaves the dispatcher in the child process only."""


@pytest.mark.processes
@pytest.mark.parametrize("leaving", ["returning", "raising"])
@forking
def test_a_child_that_leaves_the_parents_dispatch_settles_nothing_and_keeps_nothing(leaving):
    reading, writing = os.pipe()
    hooked, told = [], threading.Event()

    def hook(dispatch):
        hooked.append(dispatch)
        told.set()

    def inner(body):
        pid.append(os.fork())
        if not pid[0] and leaving == "raising":
            raise Child

    pid = []
    dispatcher = witness(inner, name="leaving", payload="body", evidence_timeout=0.001, on_settle=hook)
    try:
        dispatcher(b"leaving")
    except BaseException:
        if pid[0]:
            raise
    if not pid[0]:
        found = b"died"
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            for thread in threading.enumerate():
                if thread.name == "wirewitness-sweeper":
                    thread.join(10)
            state = (hooked, EVIDENCE.waiting(), dict(EVIDENCE.by_body), ledger_of(dispatcher).book().accepted)
            found = b"" if state == ([], [], {}, 0) else repr(state).encode()
        os.write(writing, found)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b""
    os.waitpid(pid[0], 0)
    assert told.wait(10)
    book = ledger_of(dispatcher).book()
    assert settled(book) == {(Outcome.UNCONFIRMED, Reason.NO_EVIDENCE): 1}
    assert (book.accepted, book.open, len(hooked)) == (1, 0, 1)


@forking
def test_a_fork_while_another_thread_holds_the_books_does_not_stop_the_child(sink):
    from wirewitness import ledger as module

    dispatcher = witness(send, name="locked", payload="body", url="url")
    held, done = threading.Event(), threading.Event()

    def hold():
        with module._lock, EVIDENCE._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)

    def check():
        dispatcher(f"{sink.url}/v1/events", b"child's")
        yield "counts", ledger_of(dispatcher).book().count(Outcome.DELIVERED) == 1

    try:
        assert in_child(check) == ""
    finally:
        done.set()
        holder.join()
