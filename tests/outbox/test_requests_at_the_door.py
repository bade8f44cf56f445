"""
What no request can be made of is dropped at the door, whoever sends; what can is sent as it was given.
"""

from __future__ import annotations

import contextlib
import logging

from types import SimpleNamespace

import pytest

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wirewitness import Outcome
from wirewitness.outbox import CurlSender, Form, HttpSender, MemorySpool, Message, Outbox, RetryPolicy, request
from wirewitness.outbox.request import message_of, read
from wirewitness.typing import Reason


PATIENCE = 20.0

SENDERS = {
    "http": lambda calls: HttpSender(threads=1),
    "curl": lambda calls: CurlSender(connections=4),
    "inner": lambda calls: lambda http_verb, url, params: calls.append(http_verb),
    "strangers": lambda calls: Stranger(calls),  # noqa: PLW0108 -- it stands below
}


class Stranger:
    """Somebody else's sender; it sees what comes through the door."""

    threads = 1

    def __init__(self, calls):
        self._calls = calls

    def send(self, message):
        self._calls.append(message.method)

    def run(self, desk):
        while (messages := desk.take(1, None)) is not None:
            for message in messages:
                self._calls.append(message.method)
                desk.done([])


@pytest.fixture(params=sorted(SENDERS))
def made(request, make):
    calls = []
    return make(SENDERS[request.param](calls), evidence_timeout=0.1), calls


def event(url, headers=None, verb="POST", params=b"abc"):
    return SimpleNamespace(url=url, http_verb=verb, params=params, headers=headers)


BAD = {
    "method with a header": lambda url: event(url, verb="GET /admin HTTP/1.1\r\nX-Injected: 1\r\nX:"),
    "method with a line end": lambda url: event(url, verb="POST\r\nX-Injected: 1"),
    "method with a blank": lambda url: event(url, verb="PO ST"),
    "method with NUL": lambda url: event(url, verb="POST\0X"),
    "CONNECT": lambda url: event(url, verb="connect"),
    "TRACE": lambda url: event(url, verb="TRACE"),
    "value with a line end": lambda url: event(url, {"X-A": "b\r\nX-Injected: 1"}),
    "name with a line end": lambda url: event(url, {"X-A: b\r\nX-Injected": "1"}),
    "value of an object": lambda url: event(url, {"X-A": object()}),
    "two hosts": lambda url: event(url, [("Host", "a"), ("host", "b")]),
    "another coding": lambda url: event(url, {"Transfer-Encoding": "gzip"}),
    "URL with a line end": lambda url: event(url + "\r\nX-Injected: 1"),
    "URL with a blank": lambda url: event(url + "/a HTTP/1.1"),
    "query with a line end": lambda url: event(url + "?b=c\r\nX-Injected: 1", verb="GET", params={"x": "y"}),
    "user info with a line end": lambda url: event(url.replace("//", "//us%0d%0aer:pw@")),
    "another scheme": lambda url: event(url.replace("http:", "ftp:")),
    "no URL": lambda url: event("/v1/events"),
    "URL of 100 kB": lambda url: event(url + "x" * 100_000),
    "query of 100 kB": lambda url: event(url, verb="GET", params={"x": "y" * 100_000}),
    "fields of 100 kB": lambda url: event(url, {"X-A": "b" * 100_000}),
}


def test_what_cannot_be_sent_is_dropped_at_the_door_for_every_sender(sink, made):
    outbox, calls = made
    for bad in BAD.values():
        outbox.dispatch_event(bad(f"{sink.url}/v1/events"))
    book = outbox.ledger.book()
    assert (book.accepted, book.count(Outcome.DROPPED), book.open) == (len(BAD), len(BAD), 0)
    assert (sink.requests, calls) == ([], [])


@pytest.mark.parametrize("make_bad", BAD.values(), ids=list(BAD))
def test_each_of_them_is_unsendable(make_bad):
    with pytest.raises(request.UnsupportedPayload) as raised:
        message_of(*read((make_bad("http://h/v1/events"),), {}))
    assert raised.value.reason is Reason.UNSENDABLE


def test_poison_at_the_door_opens_no_circuit_and_holds_nobody_up(sink, make):
    outbox = make()
    for _ in range(20):
        outbox.dispatch_event(event(f"{sink.url}/v1/events", {"X-A": "b\r\nc"}))
    for number in range(3):
        outbox("POST", f"{sink.url}/v1/events", {"i": number})
    assert not outbox.flush(PATIENCE).remaining
    assert outbox.gauges().circuit_state == 0
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 3


@pytest.mark.parametrize("sender", [HttpSender, CurlSender])
def test_fields_arrive_as_sdks_give_them_and_none_is_left_out(sink, make, sender):
    outbox = make(sender())
    headers = {"Content-Type": "application/json", "Authorization": b"Basic a2V5Og==", b"X-Api-Key": "k"}
    outbox.dispatch_event(event(f"{sink.url}/v1/events", headers | {"X-Trace": None, "X-Number": 7}))
    assert not outbox.flush(PATIENCE).remaining
    (received,) = sink.requests
    named = {
        name: value for name, value in received.headers if name.startswith(("x-", "authorization", "content-type"))
    }
    assert named == {
        "content-type": "application/json",
        "authorization": "Basic a2V5Og==",
        "x-api-key": "k",
        "x-number": "7",
    }


@pytest.mark.parametrize("sender", [HttpSender, CurlSender])
def test_the_framing_is_the_senders_and_a_field_that_is_left_out_is_said_so_once(
    sink, make, sender, caplog, monkeypatch
):
    monkeypatch.setattr(request, "_SAID", set())
    outbox = make(sender())
    asked = {"Transfer-Encoding": "chunked", "Content-Length": "1", "Connection": "close, X-One", "X-One": "1"}
    with caplog.at_level(logging.WARNING, "wirewitness"):
        for _ in range(2):
            outbox.dispatch_event(event(f"{sink.url}/v1/events", asked | {"Expect": "100-continue", "TE": "gzip"}))
    assert not outbox.flush(PATIENCE).remaining
    for received in sink.requests:
        assert (received.body, received.header("Content-Length"), received.header("X-One")) == (b"abc", "3", "1")
        assert received.header("Transfer-Encoding") is received.header("Expect") is received.header("TE") is None
        assert received.header("Connection") in {None, "keep-alive"}
    said = [record.args[0] for record in caplog.records if "is left out" in record.msg]
    assert sorted(said) == ["connection", "content-length", "expect", "te", "transfer-encoding"]


visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
values = st.text(visible, max_size=12)
requests = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(["POST", "PUT", "DELETE", "REPORT", "X-!#"]),
        "path": st.text(visible, max_size=16).filter(lambda path: not {"?", "#"} & set(path)).map("/{}".format),
        "query": st.just("") | values.filter(lambda query: "#" not in query).map("?{}".format),
        "headers": st.dictionaries(st.text("abz09!#$%&'*+.^_`|~-", max_size=8).map("x-{}".format), values, max_size=3),
        "params": st.binary(max_size=20),
    }
)


@pytest.mark.parametrize("sender", [HttpSender, CurlSender])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests, min_size=10, max_size=20))
@example([{"verb": "PUT", "path": "/%a0/../%zz", "query": "?%c3%A4", "headers": {}, "params": b""}])
def test_what_is_accepted_arrives_as_given(sink, sender, wanted):
    before = len(sink.requests)
    with contextlib.closing(Outbox(sender(), retry=RetryPolicy(attempts=1))) as outbox:
        for number, one in enumerate(wanted):
            url = f"{sink.url}{one['path']}{one['query']}"
            outbox.dispatch_event(event(url, one["headers"] | {"number": number}, one["verb"], one["params"]))
        assert outbox.flush(PATIENCE).remaining == 0
    received = sorted(sink.requests[before:], key=lambda request: int(request.header("number")))
    assert [(one.method, one.target, one.body) for one in received] == [
        (one["verb"], one["path"] + one["query"], one["params"]) for one in wanted
    ]
    for one, asked in zip(received, wanted, strict=True):
        assert {name: value for name, value in one.headers if name.startswith("x-")} == asked["headers"]


@pytest.mark.parametrize("sender", [HttpSender, CurlSender])
def test_the_same_fields_twice_are_sent_twice(sink, make, sender):
    outbox = make(sender())
    outbox.dispatch_event(event(f"{sink.url}/v1/events", [("X-One", "1"), ("x-one", "two"), ("X-Two", "2")]))
    assert not outbox.flush(PATIENCE).remaining
    assert [value for name, value in sink.requests[0].headers if name == "x-one"] == ["1", "two"]


@pytest.mark.parametrize("sender", [HttpSender, CurlSender])
def test_user_info_of_a_url_is_sent_as_a_field_and_nowhere_else(sink, make, sender):
    outbox = make(sender())
    url = f"{sink.url}/v1/events".replace("//", "//kim:hunter2%40@", 1)
    outbox.dispatch_event(event(url, {"Authorization": "given"}))
    assert not outbox.flush(PATIENCE).remaining
    (received,) = sink.requests
    assert [value for name, value in received.headers if name == "authorization"] == ["Basic a2ltOmh1bnRlcjJA"]
    assert (received.target, received.header("Host")) == ("/v1/events", f"127.0.0.1:{sink.port}")


def test_the_bounds_count_urls_and_fields():
    spool = MemorySpool(most_bytes=10_000_000)
    taken = 0
    while (
        spool.put(Message("POST", f"http://h/{taken}" + "u" * 500_000, (("X", "h" * 500_000),), b"", Form.VALUE, 1))
        is None
    ):
        taken += 1
    assert taken == 9
    assert 9_000_000 < spool.stats().bytes <= 10_000_000
    spool.ack(spool.claim(20, 1.0))
    assert spool.stats().bytes == 0
