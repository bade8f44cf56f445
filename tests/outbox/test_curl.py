"""
CurlSender against the sink: what it says of a message is what arrived of it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import socket
import ssl
import sys
import threading

from collections import Counter, deque

import pytest
import trustme

from lanes import Tray

from wirewitness import ConfigurationError, Evidence, Outcome, Reason, Verdict, __version__
from wirewitness.conformance import Sink
from wirewitness.core.payload import freeze_query
from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox import Outbox
from wirewitness.outbox.curl import CurlSender
from wirewitness.outbox.curl_evidence import (
    BROKEN,
    DELIVERED,
    Transcript,
    Transferred,
    attempt_of,
    exchange_of,
    failure_of,
)
from wirewitness.outbox.message import Form, Message
from wirewitness.testing import capture


JSON = (("Content-Type", "application/json"),)
BODY = json.dumps({"visitor": "Zoë", "value": 1.10}).encode()
PATIENCE = 20.0
SOON = RetryPolicy(base=0.01, ceiling=0.02)


@pytest.fixture(autouse=True)
def _without_the_machine_s_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[0, 1], ids=["counted", "audited"])
def sender(request):
    return CurlSender(timeout=PATIENCE, audit=request.param)


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def authority_file(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def secure_sink(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Sink(tls=context) as endpoint:
        yield endpoint


class Endpoint:
    """Answers with bytes that no sink would; keeps what it was sent."""

    def __init__(self, *answers, close=True):
        self.answers = deque(answers)
        self.heads = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._close = close
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        while self.answers:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(1 << 16)
                self.heads.append(received.partition(b"\r\n\r\n")[0])
                self.begun.set()
                answer = self.answers.popleft()
                if answer is None:
                    self.go_on.wait(PATIENCE)
                    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while not self._close and connection.recv(1 << 16):
                    pass

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(PATIENCE)
        self._listener.close()


def message(url, body=BODY, method="POST", headers=JSON, **more):
    return Message(method, url, headers, body, Form.VALUE, 1, **more)


def query(url, params, method="GET"):
    return Message(method, url, (), freeze_query(url, params).body, Form.QUERY, 1)


def sent(sender, *messages, **options):
    """Every message's attempt, in the order of the messages."""
    tray = Tray(messages, **options)
    sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    by_message = {id(attempt.message): attempt for attempt in tray.attempts}
    return [by_message[id(each)] for each in messages]


def one_by_one(sender, *messages, **options):
    return sent(sender, *messages, at_once=1, **options)


def ending(attempt):
    settled = attempt.settlement
    return (settled.outcome, settled.verdict, settled.evidence, settled.reason)


def rejected(reason):
    return (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, reason)


def refused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_message_is_delivered_with_the_fields_asked_for(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    (received,) = sink.requests
    assert (received.method, received.target, received.body) == ("POST", "/v1/events", BODY)
    assert dict(received.headers) == {
        "host": f"127.0.0.1:{sink.port}",
        "user-agent": f"wirewitness/{__version__}",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": str(len(BODY)),
    }
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    assert (attempt.exchanges, attempt.status, attempt.retry_after) == (1, 204, None)
    assert attempt.duration > 0
    assert attempt.ended_ns > 1


def test_a_plain_success_keeps_no_record(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    assert attempt.dispatch is None
    assert attempt.settlement is DELIVERED


def test_a_desk_that_records_gets_every_record_with_the_very_bytes(sink):
    (attempt,) = sent(
        CurlSender(audit=0, receiver_origins=[sink.url]), message(f"{sink.url}/echo-digest"), recording=True
    )
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.method, exchange.url, exchange.status) == ("POST", f"{sink.url}/echo-digest", 204)
    assert exchange.body == BODY
    assert exchange.received_digest == sink.requests[0].digest
    assert attempt.dispatch.settlement is attempt.settlement
    assert attempt.settlement.evidence is Evidence.RECEIVER


def test_a_traced_message_keeps_its_record(sink, sender):
    traced = message(f"{sink.url}/v1/events")
    traced.traced = True
    first, second = sent(sender, traced, message(f"{sink.url}/v1/events"))
    assert first.dispatch.exchanges[0].body == BODY
    assert first.dispatch.duration == first.duration
    assert second.dispatch is None


def test_a_message_that_was_tried_before_is_audited(sink):
    sender = CurlSender(audit=0, receiver_origins=[sink.url])
    first, again = one_by_one(
        sender, message(f"{sink.url}/echo-digest"), message(f"{sink.url}/echo-digest", attempts=1)
    )
    assert [first.settlement.evidence, again.settlement.evidence] == [Evidence.RESPONSE, Evidence.RECEIVER]


def test_one_message_in_so_many_is_audited(sink):
    messages = [message(f"{sink.url}/echo-digest") for _ in range(9)]
    attempts = one_by_one(CurlSender(audit=0.25, receiver_origins=[sink.url]), *messages)
    evidence = [attempt.settlement.evidence for attempt in attempts]
    assert [index for index, seen in enumerate(evidence) if seen is Evidence.RECEIVER] == [0, 4, 8]
    assert set(evidence) == {Evidence.RECEIVER, Evidence.RESPONSE}


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\r\n\r\n\xff\xfe0\r\n\r\n",
        "жук, 虫, \u2028".encode(),
        b"%s&=?#",
        b"@/etc/hosts",
        bytes(range(256)) * 300,
        os.urandom(10_000_000),
    ],
    ids=["framing", "unicode", "query", "file", "77 kB", "10 MB"],
)
def test_a_body_arrives_as_it_is(sink, sender, body):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", body))
    assert sink.requests[0].body == body
    assert sink.requests[0].complete
    assert attempt.settlement == DELIVERED


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "REPORT"])
def test_other_methods_are_kept(sink, sender, method):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", method=method))
    assert (sink.requests[0].method, sink.requests[0].body) == (method, BODY)
    assert attempt.settlement == DELIVERED


def test_an_empty_payload_is_sent_as_such(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", b""), recording=True)
    (received,) = sink.requests
    assert (received.method, received.body, received.header("Content-Length")) == ("POST", b"", "0")
    assert (attempt.settlement.outcome, attempt.status) == (Outcome.DELIVERED, 204)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("params", [{"a": "ä b", "c": [1, 2]}, {}, "x=1&y=2"], ids=["pairs", "none", "ready"])
def test_a_query_is_sent_once_behind_the_url_s_own(sink, sender, method, params):
    asked = query(f"{sink.url}/v1/events?own=1", params, method)
    (attempt,) = sent(sender, asked)
    (received,) = sink.requests
    assert (received.method, received.body) == (method, b"")
    assert received.target == f"/v1/events?{asked.body.decode()}"
    assert received.header("Content-Length") is received.header("Content-Type") is None
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)


@pytest.mark.parametrize("asked", [b"a=%2f%c3%a4&b=%zz&%", b"a=\"<>`{}|\\^[]'~", b"&&=&", b"a=?/../x"])
def test_a_query_s_bytes_are_kept(sink, sender, asked):
    (attempt,) = sent(sender, query(f"{sink.url}/v1/events", asked))
    assert sink.requests[0].target == f"/v1/events?{asked.decode()}"
    assert attempt.settlement == DELIVERED


def test_what_cannot_stand_in_a_request_line_is_quoted_and_said_to_be(sink, sender):
    (attempt,) = sent(sender, query(f"{sink.url}/v1/events", b"a=b c#d\r\nX: y\xff"))
    assert sink.requests[0].target == "/v1/events?a=b%20c%23d%0D%0AX:%20y%FF"
    assert ending(attempt)[:2] == (Outcome.DELIVERED, Verdict.EQUIVALENT)


def test_a_url_keeps_its_query_and_its_dots(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/a/../B%2F%C3%A4?q=%zz&r#fragment"))
    assert sink.requests[0].target == "/a/../B%2F%C3%A4?q=%zz&r"
    assert ending(attempt) == rejected(Reason.STATUS_4XX)


def test_fields_are_the_caller_s_but_for_the_framing(sink, sender):
    headers = (
        ("X-One", "1"),
        ("X-Empty", ""),
        ("x-one", "two"),
        ("X-Latin", "ö"),
        ("User-Agent", "mine/1"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    )
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events", headers=headers))
    received = sink.requests[0].headers
    named = {
        "x-one",
        "x-empty",
        "x-latin",
        "user-agent",
        "content-length",
        "transfer-encoding",
        "expect",
        "content-type",
    }
    assert sorted(field for field in received if field[0] in named) == [
        ("content-length", str(len(BODY))),
        ("user-agent", "mine/1"),
        ("x-empty", ""),
        ("x-latin", "ö"),
        ("x-one", "1"),
        ("x-one", "two"),
    ]
    assert attempt.settlement == DELIVERED


def test_a_large_body_is_not_announced_by_an_expect(sink, sender):
    sent(sender, message(f"{sink.url}/v1/events", b"x" * 2_000_000))
    assert sink.requests[0].header("Expect") is None


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("{sink}/v1/events", (("X-One", "1\r\nX-Two: 2"),)),
        ("{sink}/v1/events", (("X-One\r\nX-Two", "2"),)),
        ("{sink}/v1/events", (("X-One", "жук"),)),
        ("{sink}/v1/events", (("X-One", "1\x00"),)),
        ("ftp://127.0.0.1:9/v1/events", ()),
        ("127.0.0.1/v1/events", ()),
        ("http://[::1/v1/events", ()),
    ],
)
def test_what_cannot_be_sent_is_dropped_and_others_are_not(sink, sender, url, headers):
    bad = message(url.format(sink=sink.url), headers=headers)
    before, attempt, after = one_by_one(sender, message(f"{sink.url}/v1/events"), bad, message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSENDABLE)
    assert (attempt.exchanges, attempt.dispatch.exchanges) == (0, ())
    assert before.settlement == after.settlement == DELIVERED
    assert len(sink.requests) == 2


@pytest.mark.parametrize(
    ("status", "reason"), [(503, Reason.STATUS_5XX), (413, Reason.STATUS_4XX), (404, Reason.STATUS_4XX)]
)
def test_a_rejection_has_its_status_and_its_record(sink, sender, status, reason):
    (attempt,) = sent(sender, message(f"{sink.url}/status/{status}"))
    assert ending(attempt) == rejected(reason)
    assert (attempt.status, attempt.settlement.error_type) == (status, str(status))
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.digest, exchange.status) == (sink.requests[0].digest, status)
    assert len(sink.requests) == 1


def test_retry_after_is_reported(sink, sender):
    (attempt,) = sent(sender, message(f"{sink.url}/status/429?retry-after=7"))
    assert ending(attempt) == rejected(Reason.STATUS_4XX)
    assert (attempt.status, attempt.retry_after) == (429, "7")
    assert attempt.dispatch.exchanges[0].retry_after == "7"


def test_a_retry_after_date_is_reported_in_seconds(sender):
    date = b"HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec 2099 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
    with Endpoint(date) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert int(attempt.retry_after) > 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(sink, sender, status):
    (attempt,) = sent(sender, message(f"{sink.url}/redirect/{status}/v1/events"))
    assert ending(attempt) == rejected(Reason.STATUS_3XX)
    assert attempt.dispatch.exchanges[0].location == ("http", "127.0.0.1", sink.port, "/v1/events")
    assert [received.target for received in sink.requests] == [f"/redirect/{status}/v1/events"]


def test_nobody_listening_is_refused(sender):
    (attempt,) = sent(sender, message(f"http://127.0.0.1:{refused_port()}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
    assert attempt.settlement.error_type == "pycurl.E_COULDNT_CONNECT"
    (exchange,) = attempt.dispatch.exchanges
    assert (exchange.body, exchange.complete, exchange.status) == (b"", False, None)


@pytest.mark.parametrize("body", [BODY, b"x" * 10_000_000], ids=["small", "10 MB"])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_reset_is_failed_with_what_was_handed_over(sink, sender, moment, body):
    (attempt,) = sent(sender, message(f"{sink.url}/reset/{moment}", body))
    settled = attempt.settlement
    assert (settled.outcome, settled.reason) == (Outcome.FAILED, Reason.RESET)
    (exchange,) = attempt.dispatch.exchanges
    assert body.startswith(exchange.body)
    assert exchange.complete is (exchange.body == body)
    assert settled.verdict is (Verdict.IDENTICAL if exchange.complete else Verdict.UNOBSERVED)
    if moment == "after":
        assert (exchange.digest, exchange.complete) == (sink.requests[0].digest, True)
        assert settled.evidence is Evidence.SOCKET
    assert len(sink.requests) == 1


@pytest.mark.parametrize(
    "again",
    [
        message,
        lambda url: message(url, b"x" * 1_000_000),
        lambda url: message(url, b""),
        lambda url: query(url, {"a": 1}),
    ],
    ids=["small", "1 MB", "empty", "query"],
)
def test_a_dead_kept_alive_connection_is_a_failure_and_not_a_second_request(sink, sender, again):
    first, second = one_by_one(sender, message(f"{sink.url}/v1/events"), again(f"{sink.url}/reset/after"))
    assert first.settlement == DELIVERED
    assert (second.settlement.outcome, second.settlement.reason) == (Outcome.FAILED, Reason.RESET)
    assert [received.connection for received in sink.requests] == [0, 0]
    assert second.dispatch.exchanges[0].complete


def test_an_answer_that_does_not_come_is_a_timeout(sink):
    (attempt,) = sent(CurlSender(timeout=0.2), message(f"{sink.url}/slow/60000"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.TIMEOUT)


def test_an_answer_before_the_whole_upload_is_no_identity(sender):
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Endpoint(early, close=False) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events", b"x" * 50_000_000))
    assert ending(attempt) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX)
    assert not attempt.dispatch.exchanges[0].complete


def test_a_success_before_the_whole_upload_is_no_delivery(sender):
    early = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Endpoint(early) as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events", b"x" * 50_000_000))
    assert attempt.settlement.outcome is not Outcome.DELIVERED
    assert attempt.settlement.verdict is Verdict.UNOBSERVED
    assert not attempt.dispatch.exchanges[0].complete


def test_an_interim_answer_is_none(sender):
    with Endpoint(b"HTTP/1.1 103 Early Hints\r\n\r\n") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.RESET)
    assert attempt.status is None


def test_an_answer_that_is_no_http_is_failed(sender):
    with Endpoint(b"220 smtp\r\n") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.ERROR)


def test_an_answer_s_content_goes_nowhere(sender, capfd):
    with Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert attempt.settlement == DELIVERED
    assert capfd.readouterr() == ("", "")


def test_a_status_line_counts_though_the_content_breaks_off(sender):
    with Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe") as endpoint:
        (attempt,) = sent(sender, message(f"{endpoint.url}/v1/events"))
    assert (attempt.settlement, attempt.status) == (DELIVERED, 200)


def test_connections_are_kept_and_used_again(sink, sender):
    attempts = one_by_one(sender, *[message(f"{sink.url}/v1/events", b"%d" % number) for number in range(1, 6)])
    assert {attempt.settlement for attempt in attempts} == {DELIVERED}
    assert [(received.connection, received.body) for received in sink.requests] == [
        (0, b"%d" % number) for number in range(1, 6)
    ]


def test_one_handle_sends_whatever_comes(sink, sender):
    url = f"{sink.url}/v1/events"
    messages = [
        message(url),
        query(url, {"a": 1}),
        message(url, b"", "PUT"),
        query(url, {"a": 2}, "HEAD"),
        message(url, b"2", headers=(("X-One", "1"),)),
        message(f"{sink.url}/status/503"),
        message(url, b"3", "DELETE"),
        message(url, b"4"),
    ]
    attempts = one_by_one(sender, *messages)
    assert [(received.method, received.body) for received in sink.requests] == [
        ("POST", BODY), ("GET", b""), ("PUT", b""), ("HEAD", b""), ("POST", b"2"), ("POST", BODY), ("DELETE", b"3"), ("POST", b"4"),
    ]  # fmt: skip
    assert sink.requests[4].header("Content-Type") is None
    assert {received.connection for received in sink.requests} == {0}
    assert [attempt.status for attempt in attempts] == [204] * 5 + [503] + [204] * 2


def test_many_are_under_way_at_once_and_no_more_than_there_are_connections(sink):
    messages = [message(f"{sink.url}/slow/20", b"%d" % number) for number in range(100)]
    tray = Tray(messages)
    take = tray.take

    def watched(most, timeout):
        taken = take(most, timeout)
        assert tray.out <= 16
        return taken

    tray.take = watched
    CurlSender(connections=16).run(tray)
    assert {attempt.settlement.outcome for attempt in tray.attempts} == {Outcome.DELIVERED}
    assert sorted(received.body for received in sink.requests) == sorted(each.body for each in messages)
    assert 1 < len({received.connection for received in sink.requests}) <= 16


def test_several_servers_are_served_together(sink, sender):
    with Sink() as other:
        messages = [message(f"{(sink, other)[number % 2].url}/v1/events", b"%d" % number) for number in range(40)]
        attempts = sent(sender, *messages)
        assert {attempt.settlement for attempt in attempts} == {DELIVERED}
        for number, endpoint in enumerate((sink, other)):
            expected = sorted(each.body for each in messages[number::2])
            assert sorted(received.body for received in endpoint.requests) == expected


class Later(Tray):
    """A second message comes only when the first is under way."""

    def __init__(self, first, second, begun):
        super().__init__([first])
        self._second = second
        self._begun = begun

    def take(self, most, timeout):
        if self.taken == 1 and self._begun.is_set():
            self.waiting.append(self._second)
        if self.waiting or self.taken == 2:
            return super().take(most, timeout)
        assert timeout == 0
        return []


def test_a_message_that_comes_later_does_not_wait_for_the_earlier(sink, sender):
    with Endpoint(None) as held:
        first, second = message(f"{held.url}/v1/events"), message(f"{sink.url}/v1/events")
        tray = Later(first, second, held.begun)
        done = tray.done

        def report(attempts):
            done(attempts)
            held.go_on.set()

        tray.done = report
        sender.run(tray)
    assert [attempt.message for attempt in tray.attempts] == [second, first]
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED, DELIVERED]


def test_told_to_stop_it_finishes_what_it_has(sink, sender):
    tray = Tray([message(f"{sink.url}/slow/50") for _ in range(5)])
    sender.run(tray)
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED] * 5


def test_told_to_stop_at_once_it_returns(sender):
    tray = Tray([])
    sender.run(tray)
    assert tray.attempts == []


class Breaking(Tray):
    """Its second take fails."""

    def take(self, most, timeout):
        if self.taken:
            raise RuntimeError
        return super().take(most, timeout)


def test_a_desk_that_breaks_down_has_had_a_report_of_all_it_gave(sink, sender):
    messages = [message(f"{sink.url}/slow/60000") for _ in range(5)]
    tray = Breaking(messages)
    with pytest.raises(RuntimeError):
        sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    assert [attempt.settlement for attempt in tray.attempts] == [BROKEN] * 5
    assert ending(tray.attempts[0]) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR)


class Unreadable(Message):
    """A message that a fault lies in."""

    __slots__ = ()

    @property
    def content(self):
        raise RuntimeError


def test_a_fault_in_the_middle_of_a_claim_loses_no_message(sink, sender):
    good = [message(f"{sink.url}/slow/60000") for _ in range(4)]
    bad = Unreadable("POST", f"{sink.url}/v1/events", JSON, BODY, Form.VALUE, 1)
    messages = [*good[:2], bad, *good[2:]]
    tray = Tray(messages)
    with pytest.raises(RuntimeError):
        sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    assert {attempt.settlement for attempt in tray.attempts} == {BROKEN}


def test_it_can_run_again_after_a_breakdown(sink, sender):
    with pytest.raises(RuntimeError):
        sender.run(Breaking([message(f"{sink.url}/slow/60000")]))
    assert [attempt.settlement for attempt in sent(sender, message(f"{sink.url}/v1/events"))] == [DELIVERED]


def test_a_payload_sent_through_tls_is_identical(secure_sink, authority_file):
    sender = CurlSender(verify=authority_file, audit=1, receiver_origins=[secure_sink.url])
    first, second = one_by_one(
        sender, message(f"{secure_sink.url}/echo-digest"), message(f"{secure_sink.url}/echo-digest", b"2")
    )
    assert [received.body for received in secure_sink.requests] == [BODY, b"2"]
    assert {received.connection for received in secure_sink.requests} == {0}
    assert ending(first) == ending(second) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RECEIVER, Reason.NONE)


def test_a_folder_of_certificates_is_taken(secure_sink, authority_file):
    # OpenSSL finds no certificate in it by its hash: it was used, and nothing else.
    (attempt,) = sent(CurlSender(verify=authority_file.parent), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement.reason is Reason.TLS


def test_the_environment_names_certificates_as_for_requests(secure_sink, authority_file, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority_file))
    (attempt,) = sent(CurlSender(), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement == DELIVERED


def test_a_certificate_that_is_not_trusted_is_failed(secure_sink, sender):
    (attempt,) = sent(sender, message(f"{secure_sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)
    assert secure_sink.requests == []


def test_any_certificate_is_taken_if_asked_for(secure_sink):
    (attempt,) = sent(CurlSender(verify=False), message(f"{secure_sink.url}/v1/events"))
    assert attempt.settlement == DELIVERED


def test_a_certificate_for_another_name_is_failed(authority, authority_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with Sink(tls=context) as sink:
        (attempt,) = sent(CurlSender(verify=authority_file), message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)


def test_tls_spoken_to_a_server_without_it_is_failed(sink, sender):
    (attempt,) = sent(sender, message(f"https://127.0.0.1:{sink.port}/v1/events"))
    assert (attempt.settlement.outcome, attempt.settlement.reason) == (Outcome.FAILED, Reason.TLS)


def test_a_proxy_of_the_environment_is_used(sink, sender, monkeypatch):
    with Endpoint(b"HTTP/1.1 204 No Content\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        (attempt,) = sent(sender, message(f"{sink.url}/v1/events?a=1"), recording=True)
    assert proxy.heads[0].startswith(f"POST {sink.url}/v1/events?a=1 HTTP/1.1\r\n".encode())
    assert attempt.settlement == DELIVERED
    exchange = attempt.dispatch.exchanges[0]
    assert (exchange.port, exchange.path, exchange.query) == (sink.port, "/v1/events", "a=1")
    assert sink.requests == []


def test_no_proxy_is_used_for_what_the_environment_excepts(sink, sender, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert [attempt.settlement for attempt in sent(sender, message(f"{sink.url}/v1/events"))] == [DELIVERED]


def test_a_proxy_that_is_not_there_is_to_blame(sink, sender, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    (attempt,) = sent(sender, message(f"{sink.url}/v1/events"))
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)


@pytest.mark.parametrize("make", [message, lambda url: query(url, {"a": 1})], ids=["content", "query"])
def test_a_proxy_that_refuses_a_tunnel_is_to_blame(secure_sink, sender, monkeypatch, make):
    with Endpoint(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        (attempt,) = sent(sender, make(f"{secure_sink.url}/v1/events"))
    assert proxy.heads[0].startswith(b"CONNECT ")
    assert ending(attempt) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)
    assert attempt.status is None


def test_a_process_with_many_open_files_sends_too(sink, sender):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("no process may have so many here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        descriptor = 0
        # What select(2) can't wait for.
        while descriptor < 1024:
            descriptor = os.open(os.devnull, os.O_RDONLY)
            opened.callback(os.close, descriptor)
        (attempt,) = sent(sender, message(f"{sink.url}/slow/20"))
    assert attempt.settlement == DELIVERED


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_sends_on_connections_of_its_own(secure_sink, authority_file):
    sender = CurlSender(verify=authority_file)
    url = f"{secure_sink.url}/v1/events"

    class Forking(Tray):
        child = None

        def take(self, most, timeout):
            if self.out == 0 and len(self.attempts) == 1 and self.child is None:
                self.child = _fork(sender, message(url, b"child"))
            return super().take(most, timeout)

    tray = Forking([message(url, b"before"), message(url, b"after")], at_once=1)
    sender.run(tray)
    assert tray.child == 0
    assert [attempt.settlement for attempt in tray.attempts] == [DELIVERED, DELIVERED]
    assert {received.body: received.connection for received in secure_sink.requests} == {
        b"before": 0,
        b"child": 1,
        b"after": 0,
    }


def _fork(sender, child_s):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        gc.collect()
        code = int([attempt.settlement for attempt in sent(sender, child_s)] != [DELIVERED])
    finally:
        os._exit(code)


def test_an_outbox_retries_by_what_it_says_and_shows_it_under_its_own_name(sink):
    with capture() as dispatches, contextlib.closing(Outbox(CurlSender(), name="events", retry=SOON)) as outbox:
        for path in ("v1/events", "status/404", "flaky/2/503"):
            outbox("POST", f"{sink.url}/{path}", {"path": path})
        assert not outbox.flush(PATIENCE).remaining
        book = outbox.ledger.book()
    assert (book.count(Outcome.DELIVERED), book.count(Outcome.REJECTED), book.exchanges) == (2, 1, 5)
    assert book.verdicts[Verdict.IDENTICAL] == 3
    assert len(sink.requests) == 5
    assert [dispatch.name for dispatch in dispatches] == ["events"] * 3
    assert {dispatch.exchanges[-1].body for dispatch in dispatches} == {received.body for received in sink.requests}


def test_without_pycurl_it_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycurl", None)
    monkeypatch.delitem(sys.modules, "wirewitness.outbox.curl_multi", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'wirewitness\[curl\]'"):
        CurlSender()


def test_with_a_pycurl_that_is_too_old_it_names_what_to_install(monkeypatch):
    import pycurl

    monkeypatch.delattr(pycurl, "RETRY_AFTER")
    monkeypatch.delitem(sys.modules, "wirewitness.outbox.curl_multi", raising=False)
    with pytest.raises(ConfigurationError, match=r"7\.48 .*pip install"):
        CurlSender()


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"connections": 1.5},
        {"connections": True},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"connect_timeout": -1},
        {"verify": "/nowhere/at/all.pem"},
        {"verify": 3},
        {"audit": -0.1},
        {"audit": 2},
        {"audit": "all"},
        {"audit": True},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        CurlSender(**options)


def test_it_wants_one_thread_and_shows_its_connections():
    assert CurlSender.threads == 1
    assert repr(CurlSender(connections=3)) == "<CurlSender 3 connections>"


HEAD = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def told(**more):
    known = {
        "url": b"http://127.0.0.1/v1/events",
        "code": 0,
        "errno": 0,
        "proxied": False,
        "tunnel": 0,
        "status": 204,
        "uploaded": len(BODY),
        "asked": True,
        "duration": 0.5,
        "redirect": None,
        "retry_after": 0,
        "transcript": None,
    }
    return Transferred(**(known | more))


MESSAGE = message("http://127.0.0.1/v1/events")


def test_other_bytes_on_the_wire_are_altered_whatever_was_counted():
    other = BODY.replace(b"1.1", b"1.2")
    transcript = Transcript(HEAD % len(other), other, b"HTTP/1.1 204 No Content\r\n\r\n")
    attempt = attempt_of(MESSAGE, told(transcript=transcript), 10**9)
    assert ending(attempt) == (Outcome.DELIVERED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BYTES_DIFFER)
    assert attempt.settlement.offset == BODY.index(b"1.1") + 2
    assert attempt.dispatch.started_ns == 5 * 10**8


def test_a_receiver_that_was_named_and_got_other_bytes_is_believed():
    received = b"HTTP/1.1 204 No Content\r\nwirewitness-received-digest: sha-256=:%s:\r\n\r\n" % (b"A" * 43 + b"=")
    transferred = told(transcript=Transcript(HEAD % len(BODY), BODY, received))
    stranger = attempt_of(MESSAGE, transferred, 10**9)
    assert ending(stranger) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
    attempt = attempt_of(MESSAGE, transferred, 10**9, frozenset({("http", "127.0.0.1", 80)}))
    assert ending(attempt)[1:] == (Verdict.ALTERED, Evidence.RECEIVER, Reason.ALTERED_IN_TRANSIT)


def test_more_than_the_framing_promised_is_truncated():
    transcript = Transcript(HEAD % (len(BODY) - 1), BODY, b"")
    assert ending(attempt_of(MESSAGE, told(transcript=transcript), 10**9))[3] is Reason.BODY_TRUNCATED


def test_what_went_to_a_proxy_before_the_request_is_not_the_request():
    connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
    answers = b"HTTP/1.1 200 OK\r\nWirewitness-Received-Digest: none\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    exchange = exchange_of(MESSAGE, told(transcript=Transcript(connect + HEAD % len(BODY), BODY, answers)), 0)
    assert (exchange.body, exchange.complete, exchange.received_digest) == (BODY, True, None)


def test_a_transcript_without_a_whole_head_is_incomplete():
    exchange = exchange_of(MESSAGE, told(transcript=Transcript(b"POST / HT", b"", b""), status=0, code=55), 0)
    assert (exchange.complete, exchange.body, exchange.query) == (False, b"", "")


@pytest.mark.parametrize("uploaded", [0, 1, len(BODY) - 1])
def test_less_than_the_payload_is_never_a_delivery(uploaded):
    attempt = attempt_of(MESSAGE, told(uploaded=uploaded), 10**9)
    assert attempt.settlement.outcome is not Outcome.DELIVERED
    assert attempt.settlement.verdict is Verdict.UNOBSERVED


@pytest.mark.parametrize(
    ("code", "error", "more", "reason"),
    [
        (5, 0, {}, Reason.PROXY),
        (6, 0, {}, Reason.DNS),
        (7, errno.ECONNREFUSED, {}, Reason.REFUSED),
        (7, errno.ETIMEDOUT, {}, Reason.TIMEOUT),
        (7, errno.ENETUNREACH, {}, Reason.ERROR),
        (7, errno.ECONNREFUSED, {"proxied": True}, Reason.PROXY),
        (28, 0, {}, Reason.TIMEOUT),
        (35, 0, {}, Reason.TLS),
        (35, errno.ECONNRESET, {}, Reason.RESET),
        (52, 0, {}, Reason.RESET),
        (56, 0, {"proxied": True, "tunnel": 407}, Reason.PROXY),
        (56, 0, {"proxied": True, "tunnel": 200}, Reason.RESET),
        (60, 0, {}, Reason.TLS),
        (97, 0, {"proxied": True}, Reason.PROXY),
        (2, 0, {}, Reason.ERROR),
    ],
)
def test_an_error_of_libcurl_s_is_a_reason(code, error, more, reason):
    error_type, found = failure_of(told(code=code, errno=error, status=0, **more))
    assert found is reason
    assert error_type.startswith("pycurl.E_")


def test_the_names_of_errors_are_libcurl_s():
    import pycurl

    from wirewitness.outbox.curl_evidence import FAILURES

    known = {name: getattr(pycurl, f"E_{name}", code) for code, (name, _) in FAILURES.items()}
    assert known == {name: code for code, (name, _) in FAILURES.items()}
