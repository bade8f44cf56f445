"""
What HttpSender and CurlSender have in common: one request an attempt, nothing remembered, and an end to every wait.
"""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import threading
import tracemalloc

import pytest
import requests

from lanes import Tray
from raw_server import RawServer, always

from wirewitness import ConfigurationError, Outcome
from wirewitness.conformance import Sink
from wirewitness.core.outcome import reason_of_error
from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox import CurlSender, Form, HttpSender, Message
from wirewitness.typing import Reason


PATIENCE = 20.0
ONCE = RetryPolicy(attempts=1)
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
both = pytest.mark.parametrize("sender", [HttpSender, CurlSender])


def attempted(make, sender, url, params=b"abc"):
    """How one payload ended, given one attempt."""
    settled = queue.Queue()
    make(sender, retry=ONCE, on_settle=settled.put)("POST", url, params)
    return settled.get(timeout=PATIENCE)


def why_it_failed(sender, url, params=b"abc"):
    """The reason of one attempt that failed before its request was with a server: an Outbox would try again for a day."""
    message = Message("POST", url, (), params, Form.BYTES, 1)
    if isinstance(sender, HttpSender):
        with pytest.raises(Exception) as raised:  # noqa: PT011 -- its reason is what is asked for
            sender.send(message)
        return reason_of_error(raised.value)
    tray = Tray([message])
    sender.run(tray)
    (attempt,) = tray.attempts
    assert attempt.settlement.outcome is Outcome.FAILED
    return attempt.settlement.reason


@both
def test_no_cookie_of_an_answer_goes_out_with_a_later_payload(make, sender):
    def answer(connection, number):
        cookies = b"Set-Cookie: sid%d=%s; Path=/\r\nSet-Cookie2: a%d=b; Version=1\r\n" % (number, b"x" * 1000, number)
        connection.sendall(b"HTTP/1.1 %d No\r\n%sContent-Length: 0\r\n\r\n" % (503 if number == 1 else 200, cookies))

    with RawServer(answer) as server:
        outbox = make(sender())
        for number in range(10):
            outbox("POST", f"{server.url}/e", {"i": number})
        assert not outbox.flush(PATIENCE).remaining
    assert len(server.heads) == 11
    assert not any(b"cookie" in head.lower() for head in server.heads)
    assert len({len(head) for head in server.heads}) == 1


@both
@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Other"])
def test_an_interim_answer_is_not_the_final_one(make, sender, interim):
    hint = b"HTTP/1.1 %s\r\nLink: </a>; rel=preload\r\n\r\n" % interim
    with RawServer(always(hint + hint + NO_CONTENT)) as server:
        outbox = make(sender())
        for number in range(3):
            outbox("POST", f"{server.url}/e", {"i": number})
        assert not outbox.flush(PATIENCE).remaining
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 3
    assert len(server.heads) == 3


@both
def test_a_server_with_interim_answers_only_has_given_none(make, sender):
    def answer(connection, number):
        for _ in range(300):
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        connection.close()

    with RawServer(answer) as server:
        dispatch = attempted(make, sender(timeout=2.0), f"{server.url}/e")
    assert dispatch.outcome is Outcome.FAILED
    assert len(server.heads) == 1


def test_an_answer_has_its_status_and_its_retry_after():
    with RawServer(always(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")) as server:
        message = Message("POST", f"{server.url}/e", (), b"abc", Form.BYTES, 1)
        assert HttpSender().send(message) == (429, "7")


def head_drips(server, connection):
    server.drip(connection, b"HTTP/1.1 204 No Content\r\nX-Long: " + b"x" * 5000)


def interim_answers_drip(server, connection):
    while not server.over.wait(0.02):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def nothing_comes(server, connection):
    server.over.wait(PATIENCE)


@pytest.mark.processes
@both
@pytest.mark.parametrize("how", [head_drips, interim_answers_drip, nothing_comes])
def test_an_attempt_ends_when_its_time_is_over_however_often_a_byte_comes(make, sender, how):
    with RawServer(lambda connection, _: how(server, connection)) as server:
        dispatch = attempted(make, sender(timeout=0.4, total_timeout=0.4), f"{server.url}/e")
        assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.TIMEOUT)


@both
def test_a_time_over_in_one_attempt_is_whole_again_in_the_next(make, sender):
    def answer(connection, number):
        if number == 1:
            head_drips(server, connection)
        else:
            connection.sendall(NO_CONTENT)

    with RawServer(answer) as server:
        outbox = make(sender(timeout=0.4, total_timeout=0.4))
        outbox("POST", f"{server.url}/e", b"abc")
        assert not outbox.flush(PATIENCE).remaining
    assert outbox.ledger.book().count(Outcome.DELIVERED) == 1
    assert len(server.heads) == 2


@pytest.mark.processes
@pytest.mark.parametrize(
    "content", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n", b"\r\n"]
)
def test_an_answer_whose_content_drips_is_an_answer_and_holds_no_thread(make, content):
    def answer(connection, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + content)
        server.drip_for_ever(connection)

    with RawServer(answer) as server:
        outbox = make(HttpSender(threads=1, timeout=PATIENCE))
        for number in range(2):
            outbox("POST", f"{server.url}/e", {"i": number})
        assert not outbox.flush(PATIENCE).remaining
        assert outbox.ledger.book().count(Outcome.DELIVERED) == 2


@both
def test_a_dripping_content_ends_with_the_attempt(make, sender):
    def answer(connection, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        server.drip_for_ever(connection)

    with RawServer(answer) as server:
        dispatch = attempted(make, sender(timeout=0.4, total_timeout=0.4), f"{server.url}/e")
        assert dispatch.exchanges[0].status == 200
        assert dispatch.outcome is Outcome.DELIVERED


def test_the_content_of_a_redirect_is_not_read_whole(make):
    def answer(connection, number):
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n")
        piece = b"x" * (1 << 20)
        while not server.over.is_set():
            connection.sendall(piece)

    tracemalloc.start()
    try:
        with RawServer(answer) as server:
            dispatch = attempted(make, HttpSender(threads=1, timeout=PATIENCE), f"{server.url}/e")
            assert dispatch.reason is Reason.STATUS_3XX
            assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    assert len(server.heads) == 1


@pytest.mark.processes
@both
def test_a_dripping_answer_through_tls_ends_with_the_attempt(make, sender, tls, authority_file):
    with RawServer(lambda connection, _: head_drips(server, connection), tls=tls) as server:
        dispatch = attempted(make, sender(timeout=0.6, total_timeout=0.6, verify=authority_file), f"{server.url}/e")
        assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.TIMEOUT)


@both
def test_a_handshake_of_tls_that_drips_ends_with_the_attempt(make, sender, authority_file):
    def handshake(connection):
        # A record of 16 kB is announced, and never whole.
        server.drip(connection, b"\x16\x03\x03\x40\x00" + b"\x02" * 5000)

    with RawServer(always(b""), handshake=handshake) as server:
        reason = why_it_failed(sender(timeout=0.4, total_timeout=0.4, verify=authority_file), f"{server.url}/e")
    assert reason in {Reason.TIMEOUT, Reason.TLS}


@both
def test_a_proxy_that_drips_its_answer_to_a_connect_ends_with_the_attempt(make, sender, monkeypatch):
    with RawServer(lambda connection, _: server.drip(connection, b"HTTP/1.1 200 " + b"x" * 5000)) as server:
        monkeypatch.setenv("https_proxy", server.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        reason = why_it_failed(sender(timeout=0.4, total_timeout=0.4), "https://localhost.invalid/e")
        assert reason in {Reason.TIMEOUT, Reason.PROXY}
        assert server.heads[0].startswith(b"CONNECT localhost.invalid:443 ")


@pytest.mark.processes
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@both
def test_a_receiver_that_takes_a_payload_slowly_ends_with_the_attempt(make, sender, secure, tls, authority_file):
    over = threading.Event()

    def sip(connection):
        with tls.wrap_socket(connection, server_side=True) if secure else connection as taken:
            while not over.wait(0.05) and taken.recv(4096):
                pass

    with RawServer(always(b""), handshake=sip) as server:
        url = f"{server.url}/e" if secure else f"http://127.0.0.1:{server.port}/e"
        sender = sender(timeout=0.6, total_timeout=0.6, verify=authority_file)
        assert why_it_failed(sender, url, b"x" * (32 << 20)) is Reason.TIMEOUT
        over.set()


def test_all_addresses_of_a_host_share_the_attempts_time(monkeypatch):
    tried, real = [], socket.getaddrinfo

    def many(host, *args, **kwargs):
        if host == "many.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 500
        tried.append(host)
        return real(host, *args, **kwargs)

    with contextlib.ExitStack() as opened:
        # A full backlog answers nobody.
        full = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 -- socket's
            waiting.connect_ex(full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", many)
        url = f"http://many.example:{full.getsockname()[1]}/e"
        assert why_it_failed(HttpSender(timeout=0.1, total_timeout=0.5), url) is Reason.TIMEOUT
    assert 1 < len(tried) <= 5


def test_the_second_address_of_a_host_is_tried_when_the_first_refuses(make, sink, monkeypatch):
    real = socket.getaddrinfo

    def two(host, port, *args, **kwargs):
        if host != "two.example":
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    dispatch = attempted(make, HttpSender(), f"http://two.example:{sink.port}/v1/events")
    assert dispatch.outcome is Outcome.DELIVERED
    assert sink.requests[0].header("Host") == f"two.example:{sink.port}"


def test_a_name_that_nobody_knows_is_dns():
    assert why_it_failed(HttpSender(), "http://nobody.invalid/e") is Reason.DNS


def test_a_large_payload_through_tls_arrives_whole(make, tls, authority_file):
    body = bytes(range(256)) * 1000
    with Sink(tls=tls) as sink:
        dispatch = attempted(make, HttpSender(verify=authority_file), f"{sink.url}/v1/events", params=body)
        assert sink.requests[0].body == body
    assert dispatch.verdict.value == "identical"


@both
def test_an_http_proxy_gets_the_target_as_it_was_accepted(make, sender, monkeypatch):
    with RawServer(always(NO_CONTENT)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        dispatch = attempted(make, sender(), 'http://kim:hunter2@other.invalid/a/../%7e?b="%zz')
    assert dispatch.outcome is Outcome.DELIVERED
    (head,) = proxy.heads
    assert head.startswith(b'POST http://other.invalid/a/../%7e?b="%zz HTTP/1.1\r\n')
    assert b"\r\nHost: other.invalid\r\n" in head
    assert b"\r\nAuthorization: Basic a2ltOmh1bnRlcjI=" in head
    assert b"hunter2" not in head


def test_a_tool_that_stands_in_for_http_is_asked(make, monkeypatch):
    def send(self, request, **kwargs):
        response = requests.Response()
        response.status_code, response.url, response.request = 204, request.url, request
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    message_sent = []
    monkeypatch.setattr(requests.Session, "send", _noting(requests.Session.send, message_sent))
    answer = HttpSender().send(Message("POST", "http://h.invalid/e?a=1", (("X", "1"),), b"abc", Form.BYTES, 1))
    assert answer.status == 204
    (request,) = message_sent
    assert (request.url, request.body, request.headers["x"]) == ("http://h.invalid/e?a=1", b"abc", "1")


def _noting(original, noted):
    def send(self, request, **kwargs):
        noted.append(request)
        return original(self, request, **kwargs)

    return send


def test_no_credential_of_a_netrc_is_added(make, sink, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login kim password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    attempted(make, HttpSender(), f"{sink.url}/v1/events")
    assert sink.requests[0].header("Authorization") is None


@pytest.mark.parametrize("options", [{"total_timeout": 0}, {"total_timeout": float("inf")}, {"total_timeout": True}])
@both
def test_a_total_timeout_that_cannot_work_is_refused(sender, options):
    with pytest.raises(ConfigurationError, match="total_timeout"):
        sender(**options)
