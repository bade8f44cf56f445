"""
The examples of extension: the page shows exactly these files, and they do what the page says of them.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
import threading

from pathlib import Path
from types import SimpleNamespace

import pytest

from hypothesis import given
from hypothesis import strategies as st
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from wirewitness import MemorySpool, Outbox, Outcome, RetryPolicy, Verdict, ledger_of, witness
from wirewitness.conformance import Sink
from wirewitness.errors import ConfigurationError
from wirewitness.outbox import DropOldest, Form, Message, Unsendable
from wirewitness.typing import Evidence, Reason


ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "extending"
PAGE = ROOT / "docs" / "extending.md"

MOST_LINES = 60
FAST = RetryPolicy(attempts=4, base=0.01, ceiling=0.02, retry_after_ceiling=0.05)
LONG_AFTER = 1e12


def names_in(name):
    namespace = {"__name__": name}
    exec(compile((FOLDER / f"{name}.py").read_text(encoding="utf-8"), FOLDER / f"{name}.py", "exec"), namespace)
    return SimpleNamespace(**namespace)


PlainSender = names_in("sender").PlainSender
FolderSpool = names_in("spool").FolderSpool
Courier, CourierDispatcher = names_in("adapter").Courier, names_in("adapter").CourierDispatcher


# The page


def test_the_page_shows_exactly_the_files():
    shown = dict(
        re.findall(r"<!-- examples/extending/(\w+\.py) -->\n```python\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    )
    assert shown == {path.name: path.read_text() for path in FOLDER.glob("*.py")}


def test_every_example_of_extension_is_listed_with_the_examples():
    listed = (ROOT / "examples" / "README.md").read_text()
    assert all(f"(extending/{path.name})" in listed for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_an_example_of_extension_is_short_and_uses_public_names_only(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    imported = re.findall(r"^(?:from|import) (wirewitness\S*)", text, re.MULTILINE)
    assert set(imported) <= {"wirewitness", "wirewitness.outbox", "wirewitness.typing", "wirewitness.wire"}


def test_the_python_in_the_page_does_what_it_shows(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    document = Sybil([PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)]).parse(PAGE)
    examples = list(document.examples())
    assert len(examples) > 30
    for example in examples:
        example.evaluate()


# The sender


def test_the_sender_sends_each_attempt_byte_for_byte(sink):
    sink.script("/v1/events", [503, 204])
    dispatches = []
    outbox = Outbox(PlainSender(), retry=FAST, on_settle=dispatches.append)
    headers = [("X-One", "1"), ("X-One", "2")]
    outbox(SimpleNamespace(url=f"{sink.url}/v1/events?key=1", params={"a": "ü"}, http_verb="POST", headers=headers))
    assert outbox.close(30.0).empty
    first, second = sink.requests
    assert first.body == second.body == b'{"a": "\\u00fc"}'
    assert [each.target for each in sink.requests] == ["/v1/events?key=1"] * 2
    assert [value for name, value in second.headers if name == "x-one"] == ["1", "2"]
    assert [(each.verdict, each.evidence) for each in dispatches] == [(Verdict.IDENTICAL, Evidence.RESPONSE)]
    book = outbox.ledger.book()
    assert (book.accepted, book.count(Outcome.DELIVERED), book.open, book.exchanges) == (1, 1, 0, 2)


def test_the_sender_sends_queries_hosts_and_empty_contents_as_they_were_asked_for(sink):
    outbox = Outbox(PlainSender(), retry=FAST)
    outbox("GET", f"{sink.url}/v1/events", {"visitor": "a b"})
    outbox("POST", f"{sink.url}/v1/events?empty", b"", headers={"Host": "events.example"})
    assert outbox.close(30.0).empty
    asked = {each.target: each for each in sink.requests}
    assert set(asked) == {"/v1/events?visitor=a+b", "/v1/events?empty"}
    assert asked["/v1/events?visitor=a+b"].header("content-length") is None
    assert (asked["/v1/events?empty"].header("content-length"), asked["/v1/events?empty"].header("host")) == (
        "0",
        "events.example",
    )
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 2


def test_the_sender_tells_refusals_from_dead_letters(sink, unused_port):
    outbox = Outbox(PlainSender(), retry=FAST)
    outbox("POST", f"{sink.url}/status/400", {"a": 1})
    outbox("POST", f"http://127.0.0.1:{unused_port}/", {"b": 2})
    assert outbox.flush(0.5).remaining <= 1
    assert outbox.close(0.1).lost == 1
    book = outbox.ledger.book()
    assert (book.count(Outcome.REJECTED), book.count(Outcome.FAILED), book.open) == (1, 1, 0)
    assert len(sink.requests) == 1


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_the_sender_works_in_a_forked_child_as_in_its_parent(sink):
    outbox = Outbox(PlainSender(), retry=FAST)
    outbox("POST", f"{sink.url}/v1/events?parent", {"a": 1})
    assert outbox.flush(30.0).empty
    child = os.fork()
    if not child:
        outbox("POST", f"{sink.url}/v1/events?child", {"b": 2})
        os._exit(0 if outbox.close(30.0).empty else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.target for each in sink.requests] == ["/v1/events?parent", "/v1/events?child"]
    assert outbox.close(30.0).empty


# The spool


def message(body=b"{}", at=1):
    return Message("POST", "http://127.0.0.1:9/v1/events", (("X-One", "1"),), body, Form.VALUE, at)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_spool_delivers_after_a_restart_what_it_kept(sink, tmp_path, unused_port):
    before = Outbox(PlainSender(), spool=FolderSpool(tmp_path), retry=FAST)
    before("POST", f"http://127.0.0.1:{unused_port}/v1/events?key=1", {"a": 1}, headers={"X-One": "1"})
    remains = before.close(0.1)
    assert (remains.remaining, remains.kept, remains.lost) == (1, 1, 0)
    assert before.ledger.book().open == 1
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text().replace(str(unused_port), str(sink.port)))
    after = Outbox(PlainSender(), spool=FolderSpool(tmp_path), retry=FAST)
    assert after.ledger.book().accepted == 1
    assert after.close(30.0).empty
    (received,) = sink.requests
    assert (received.body, received.target, received.header("x-one")) == (b'{"a": 1}', "/v1/events?key=1", "1")
    assert after.ledger.book().count(Outcome.DELIVERED) == 1
    assert files(tmp_path) == []


KILLED = """
import os, runpy, signal, sys
from wirewitness import Outbox
folder, port = sys.argv[1:]
names = runpy.run_path("{spool}")
outbox = Outbox(runpy.run_path("{sender}")["PlainSender"](), spool=names["FolderSpool"](folder))
for number in range(25):
    outbox("POST", f"http://127.0.0.1:{{port}}/v1/events", {{"number": number}})
os.kill(os.getpid(), signal.SIGKILL)
""".format(spool=FOLDER / "spool.py", sender=FOLDER / "sender.py")


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_the_spool_survives_a_killed_process(tmp_path):
    with Sink() as sink:
        port = sink.port
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(port)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == 25
    with Sink(port=port) as sink:
        outbox = Outbox(PlainSender(), spool=FolderSpool(tmp_path), retry=FAST)
        assert outbox.close(30.0).empty
        assert {each.body for each in sink.requests} == {b'{"number": %d}' % number for number in range(25)}
    book = outbox.ledger.book()
    assert (book.accepted, book.count(Outcome.DELIVERED)) == (25, 25)
    assert files(tmp_path) == []


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_a_forked_child_does_not_send_what_the_parents_spool_holds(sink, tmp_path):
    release = threading.Event()

    class Held(PlainSender):
        def send(self, message):
            release.wait(30.0)
            return super().send(message)

    outbox = Outbox(Held(), spool=FolderSpool(tmp_path), retry=FAST)
    outbox("POST", f"{sink.url}/v1/events?parent", {"a": 1})
    child = os.fork()
    if not child:
        release.set()
        outbox("POST", f"{sink.url}/v1/events?child", {"b": 2})
        held = outbox.ledger.book().accepted
        os._exit(0 if outbox.close(30.0).empty and held == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()
    assert outbox.close(30.0).empty
    assert [each.target for each in sink.requests] == ["/v1/events?child", "/v1/events?parent"]
    assert files(tmp_path) == []


STEPS = st.lists(st.sampled_from(["put", "claim", "ack", "retry", "give up", "evict", "restart"]), max_size=30)


@given(steps=STEPS)
def test_the_spool_has_a_file_for_each_message_that_it_holds(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("spool")
    spool, claimed, at = FolderSpool(folder), [], 0
    assert spool.start() == 0
    for step in steps:
        match step:
            case "put":
                at += 1
                assert spool.put(message(b"%d" % at, at)) is None
            case "claim":
                claimed += spool.claim(2, LONG_AFTER)
            case "ack" if claimed:
                spool.ack([claimed.pop(0)])
            case "retry" if claimed:
                spool.retry_at(claimed.pop(0), 1.0)
            case "give up" if claimed:
                spool.dead_letter(claimed.pop(0), "status_4xx")
            case "evict":
                spool.evict()
            case "restart":
                held = spool.stats().size
                assert spool.close() == []
                spool, claimed = FolderSpool(folder), []
                assert spool.start() == held
        stats = spool.stats()
        assert len(files(folder)) == stats.size == stats.durable
    left = sorted(each.accepted_ns for each in spool.claim(100, LONG_AFTER) + claimed)
    assert left == [int(name.partition("-")[0]) for name in files(folder)]


def test_a_disk_that_takes_nothing_is_a_reason_and_no_error(sink, tmp_path):
    folder = tmp_path / "spool"
    outbox = Outbox(PlainSender(), spool=FolderSpool(folder), retry=FAST)
    folder.rmdir()
    outbox("POST", f"{sink.url}/v1/events", {"a": 1})
    assert outbox.close(30.0).empty
    assert outbox.ledger.book().settled[Outcome.DROPPED, Reason.SPOOL_FAILED] == 1
    assert sink.requests == []


def test_a_refused_message_leaves_no_file(tmp_path):
    spool = FolderSpool(tmp_path)
    spool.most = 1
    assert spool.put(message()) is None
    refused = message()
    assert spool.put(refused) is Reason.QUEUE_FULL
    assert refused.id == 0
    assert len(files(tmp_path)) == 1


def test_what_a_signal_handler_raises_into_a_put_leaves_no_file(tmp_path, monkeypatch):
    spool, interrupted = FolderSpool(tmp_path), message()

    def interrupt(path, text):
        with path.open("w") as half:
            half.write(text[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.put(interrupted)
    assert interrupted.id == 0
    assert files(tmp_path) == []


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_sent(tmp_path):
    spool = FolderSpool(tmp_path)
    spool.put(message(b"1", 1))
    spool.put(message(b"2", 2))
    first, _ = sorted(tmp_path.iterdir())
    first.write_text(first.read_text()[:10])
    again = FolderSpool(tmp_path)
    assert again.start() == 1
    (left,) = again.claim(9, LONG_AFTER)
    assert (left.body, left.headers, left.form) == (b"2", (("X-One", "1"),), Form.VALUE)
    assert first.exists()


def test_a_spool_made_from_the_one_in_memory_hears_of_each_message_that_leaves():
    class Noting(MemorySpool):
        def forget(self, messages):
            gone.extend(each.body for each in messages)

    gone, spool = [], Noting()
    for body in (b"acknowledged", b"dead", b"evicted", b"kept"):
        spool.put(message(body))
    acknowledged, dead = spool.claim(2, LONG_AFTER)
    spool.ack([acknowledged])
    spool.ack([acknowledged])
    spool.dead_letter(dead, "status_4xx")
    spool.evict()
    assert gone == [b"acknowledged", b"dead", b"evicted"]
    assert [each.body for each in spool.close()] == [b"kept"]


def test_the_spool_makes_room_by_its_oldest_message(tmp_path):
    spool = FolderSpool(tmp_path)
    spool.most = 2
    dropped = []
    assert [spool.put(message(b"%d" % at, at)) for at in (1, 2)] == [None, None]
    assert DropOldest()(spool, message(b"3", 3), dropped.append) is None
    assert [each.body for each in dropped] == [b"1"]
    assert [int(name.partition("-")[0]) for name in files(tmp_path)] == [2, 3]


# The adapter


def event(url, **changes):
    headers = {"Content-Type": "application/json", "X-One": "1"}
    return SimpleNamespace(**{"url": url, "params": {"a": 1}, "http_verb": "POST", "headers": headers} | changes)


def test_without_an_adapter_the_odd_shape_is_refused():
    for take in (witness, Outbox):
        with pytest.raises(ConfigurationError, match="event"):
            take(Courier().ship)


def test_a_witness_follows_the_adapted_client_to_the_wire(sink):
    dispatcher = witness(CourierDispatcher(Courier()))
    dispatcher.dispatch_event(event(f"{sink.url}/v1/events"))
    dispatcher.dispatch_event(event(f"{sink.url}/status/503"))
    with pytest.raises(Unsendable):
        dispatcher.dispatch_event(event(f"{sink.url}/v1/events", http_verb="GET"))
    assert [each.body for each in sink.requests] == [b'{"a": 1}'] * 2
    book = ledger_of(dispatcher).book()
    assert [book.count(each) for each in (Outcome.DELIVERED, Outcome.REJECTED, Outcome.FAILED)] == [1, 1, 1]
    assert book.verdicts[Verdict.IDENTICAL] == 2


def test_an_outbox_retries_through_the_adapted_client(sink):
    sink.script("/v1/events", [503, 503, 204])
    outbox = Outbox(CourierDispatcher(Courier()), retry=FAST)
    outbox.dispatch_event(event(f"{sink.url}/v1/events"))
    outbox.dispatch_event(event(f"{sink.url}/pixel", http_verb="GET"))
    assert outbox.close(30.0).empty
    assert [(each.target, each.body, each.header("x-one")) for each in sink.requests] == [
        ("/v1/events", b'{"a": 1}', "1")
    ] * 3
    book = outbox.ledger.book()
    assert (book.count(Outcome.DELIVERED), book.exchanges, book.open) == (1, 3, 0)
    assert book.settled[Outcome.DROPPED, Reason.UNSENDABLE] == 1
