"""
The sink records what arrived and misbehaves as asked, seen from raw sockets and from http.client.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import socket
import ssl
import threading

from contextlib import closing

import pytest

from wirewitness.conformance import Received, Sink
from wirewitness.core.payload import repr_digest


BODY = b'{"visitor": "v1"}'
LARGE = b"x" * (4 << 20)


def ask(sink, path, body=BODY, method="POST"):
    with closing(http.client.HTTPConnection(sink.host, sink.port, timeout=10)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response


def post(path, body=BODY, *fields, length=None):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: sink",
        f"Content-Length: {len(body) if length is None else length}",
        *fields,
    ]
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


def talk(sink, *pieces):
    """Send the pieces, and read until the sink closes."""
    with socket.create_connection((sink.host, sink.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def statuses(answer):
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def test_it_records_the_request_as_it_arrived(sink):
    ask(sink, "/v1/events?a=1")
    (received,) = sink.requests
    assert (received.method, received.target, received.body) == ("POST", "/v1/events?a=1", BODY)
    assert received.digest == hashlib.sha256(BODY).digest()
    assert received.header("Content-Length") == str(len(BODY))
    assert received.header("X-Absent") is None
    assert received.connection == 0
    assert received.complete


def test_a_request_s_content_is_in_no_repr(sink):
    ask(sink, "/v1/events", b"secret")
    assert "secret" not in repr(sink.requests)
    assert repr(sink) == f"<Sink {sink.url}: 1 requests>"


def test_received_requests_are_frozen():
    received = Received("POST", "/", (), b"", 0)
    with pytest.raises(AttributeError):
        received.body = b"other"


def test_the_url_names_scheme_host_and_port(sink):
    assert sink.url == f"http://127.0.0.1:{sink.port}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/events", 204),
        ("/status/200", 200),
        ("/status/503", 503),
        ("/redirect/302", 302),
        ("/slow/1", 204),
        ("/echo-digest", 204),
        ("/early/413", 413),
        ("/close/202", 202),
        ("/", 404),
        ("/status/700", 404),
        ("/status/199", 404),
        ("/v1/eventsx", 404),
    ],
)
def test_the_path_asks_for_the_status(sink, path, status):
    assert ask(sink, path).status == status


def test_a_retry_after_in_the_query_is_answered(sink):
    assert ask(sink, "/status/429?retry-after=2").headers["Retry-After"] == "2"
    assert ask(sink, "/status/429").headers["Retry-After"] is None


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/redirect/302", "/status/200"),
        ("/redirect/302?a=1", "/status/200"),
        ("/redirect/307/v1/events", "/v1/events"),
        ("/redirect/307/v1/events?a=1", "/v1/events?a=1"),
        ("/redirect/301/redirect/302", "/redirect/302"),
    ],
)
def test_a_redirect_leads_to_another_path_of_the_sink(sink, path, location):
    assert ask(sink, path).headers["Location"] == location


def test_the_received_digest_is_reported(sink):
    assert ask(sink, "/echo-digest").headers["Wirewitness-Received-Digest"] == repr_digest(
        hashlib.sha256(BODY).digest()
    )


def test_a_flaky_path_fails_its_first_times_and_again_after_a_clear(sink):
    assert [ask(sink, "/flaky/2/503").status for _ in range(4)] == [503, 503, 204, 204]
    assert ask(sink, "/flaky/1/500").status == 500
    sink.clear()
    assert sink.requests == []
    assert ask(sink, "/flaky/2/503").status == 503


def test_a_script_is_followed_and_forgotten_by_a_clear(sink):
    sink.script("/any", [500, 301])
    assert [ask(sink, "/any?q").status for _ in range(4)] == [500, 301, 204, 204]
    sink.clear()
    assert ask(sink, "/any").status == 404


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_reset_ends_the_connection_without_an_answer(sink, moment):
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(sink, f"/reset/{moment}", LARGE)
    assert sink.wait_for(1)
    (received,) = sink.requests
    assert received.complete is (moment == "after")
    if moment == "before":
        assert received.body == b""
    if moment == "during":
        assert 0 < len(received.body) < len(LARGE)
    if moment == "after":
        assert received.body == LARGE


def test_a_reset_is_a_reset_and_no_orderly_end(sink):
    with socket.create_connection((sink.host, sink.port), timeout=10) as connection:
        connection.sendall(post("/reset/after"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_an_early_answer_does_not_wait_for_the_content(sink):
    answer = talk(sink, post("/early/413", b"", length=1000))
    assert statuses(answer) == [413]
    assert b"Connection: close" in answer
    assert sink.requests[0].body == b""
    assert not sink.requests[0].complete


def test_an_announced_close_is_kept(sink):
    with closing(http.client.HTTPConnection(sink.host, sink.port, timeout=10)) as connection:
        connection.request("POST", "/close/200", BODY)
        assert connection.getresponse().headers["Connection"] == "close"
        assert connection.sock is None


def test_a_kept_alive_connection_carries_many_requests(sink):
    with closing(http.client.HTTPConnection(sink.host, sink.port, timeout=10)) as connection:
        for path in ("/v1/events", "/status/500", "/redirect/302", "/v1/events"):
            connection.request("POST", path, BODY)
            connection.getresponse().read()
    ask(sink, "/v1/events")
    assert [received.connection for received in sink.requests] == [0, 0, 0, 0, 1]


def test_pipelined_requests_are_answered_in_order(sink):
    answer = talk(sink, post("/status/500") + post("/status/501", b"") + post("/status/502"))
    assert statuses(answer) == [500, 501, 502]
    assert [received.body for received in sink.requests] == [BODY, b"", BODY]


def test_a_request_in_single_bytes_is_read(sink):
    whole = post("/v1/events")
    answer = talk(sink, *(whole[i : i + 1] for i in range(len(whole))))
    assert statuses(answer) == [204]
    assert sink.requests[0].body == BODY


def test_chunks_are_decoded(sink):
    head = b"POST /v1/events HTTP/1.1\r\nHost: sink\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(sink, head, b"3;x=y\r\nabc\r\n", b"2\r\nde\r\n0\r\nTrailer: t\r\n\r\n")
    assert statuses(answer) == [204]
    assert sink.requests[0].body == b"abcde"


def test_an_expected_continue_is_sent_before_the_content(sink):
    with socket.create_connection((sink.host, sink.port), timeout=10) as connection:
        connection.sendall(post("/v1/events", b"", "Expect: 100-continue", length=len(BODY)))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")
    assert sink.requests[0].body == BODY


def test_an_early_answer_replaces_the_expected_continue(sink):
    assert statuses(talk(sink, post("/early/417", b"", "Expect: 100-continue", length=3))) == [417]


def test_the_absolute_form_of_a_target_is_understood(sink):
    assert statuses(talk(sink, post(f"{sink.url}/status/202"))) == [202]
    assert statuses(talk(sink, post("https://elsewhere/status/203"))) == [203]
    assert sink.requests[0].target == f"{sink.url}/status/202"


def test_content_behind_its_length_is_answered_400_and_the_connection_ends(sink):
    answer = talk(sink, post("/v1/events", b"abcdef", length=3))
    assert statuses(answer) == [204, 400]
    assert [received.body for received in sink.requests] == [b"abc"]
    assert ask(sink, "/v1/events").status == 204


def test_content_behind_its_length_spoils_the_next_request_as_in_any_server(sink):
    answer = talk(sink, post("/v1/events", b"abcDEF", length=3), post("/v1/events"))
    assert statuses(answer)[0] == 204
    assert [received.method for received in sink.requests] == ["POST", "DEFPOST"]


@pytest.mark.parametrize("sent", [b"no http\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x00\r\n\r\n"])
def test_what_is_no_request_is_answered_400(sink, sent):
    assert statuses(talk(sink, sent)) == [400]
    assert sink.requests == []


def test_content_that_ends_too_soon_is_recorded_as_incomplete(sink):
    assert statuses(talk(sink, post("/v1/events", b"abc", length=5))) == [400]
    (received,) = sink.requests
    assert received.body == b"abc"
    assert not received.complete


def test_a_connection_without_a_request_is_no_request(sink):
    assert talk(sink) == b""
    assert sink.requests == []


def test_a_head_request_has_no_content_in_its_answer(sink):
    response = ask(sink, "/status/200", None, "HEAD")
    assert (response.status, sink.requests[0].method) == (200, "HEAD")


def test_waiting_ends_with_the_arrival(sink):
    assert not sink.wait_for(1, timeout=0.01)
    waiter = threading.Thread(target=ask, args=(sink, "/v1/events"))
    waiter.start()
    assert sink.wait_for(1)
    waiter.join()


def test_requests_of_many_threads_are_all_recorded(sink):
    threads = [threading.Thread(target=ask, args=(sink, "/v1/events", str(i).encode())) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(received.body) for received in sink.requests) == list(range(16))
    assert len({received.connection for received in sink.requests}) == 16


def test_close_ends_idle_and_slow_connections_and_their_threads():
    before = set(threading.enumerate())
    sink = Sink().start()
    with (
        socket.create_connection((sink.host, sink.port), timeout=10) as idle,
        socket.create_connection((sink.host, sink.port), timeout=10) as slow,
    ):
        idle.sendall(b"POST /v1")
        slow.sendall(post("/slow/600000"))
        assert sink.wait_for(1)
        sink.close()
        assert set(threading.enumerate()) == before
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((sink.host, sink.port), timeout=10)
    sink.close()


def test_a_closed_sink_starts_again_on_its_port():
    with Sink() as sink:
        port = sink.port
    with sink:
        assert sink.port == port
        assert ask(sink, "/v1/events").status == 204


def test_a_taken_port_is_refused(sink):
    with pytest.raises(OSError, match="in use"):
        Sink(port=sink.port).start()


def ask_securely(sink, context, path="/v1/events"):
    with closing(http.client.HTTPSConnection(sink.host, sink.port, context=context, timeout=10)) as connection:
        connection.request("POST", path, BODY)
        return connection.getresponse().status


def test_it_speaks_tls(trusting, secure_sink):
    assert ask_securely(secure_sink, trusting, "/status/201") == 201
    assert secure_sink.url == f"https://127.0.0.1:{secure_sink.port}"
    assert secure_sink.requests[0].body == BODY


def test_a_failed_handshake_leaves_the_sink_listening(trusting, secure_sink):
    with pytest.raises(ssl.SSLError):
        ask_securely(secure_sink, ssl.create_default_context())
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(secure_sink, "/v1/events")
    assert ask_securely(secure_sink, trusting) == 204


def test_a_reset_works_over_tls(trusting, secure_sink):
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        ask_securely(secure_sink, trusting, "/reset/after")
    assert secure_sink.requests[0].body == BODY


def test_close_ends_tls_connections(tls, trusting):
    sink = Sink(tls=tls).start()
    with (
        closing(http.client.HTTPSConnection(sink.host, sink.port, context=trusting)) as idle,
        socket.create_connection((sink.host, sink.port)),
    ):
        idle.request("POST", "/v1/events", BODY)
        idle.getresponse().read()
        sink.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("sink")]


def test_a_header_field_can_ask_for_the_fault_of_another_path(sink):
    assert talk(sink, post("/v1/events", BODY, "X-Sink: /close/503")).startswith(b"HTTP/1.1 503")


def test_what_was_answered_is_recorded(sink):
    ask(sink, "/status/503")
    ask(sink, "/v1/events")
    assert [received.status for received in sink.requests] == [503, 204]


def test_it_ends_a_connection_in_good_order_in_place_of_an_answer(sink):
    assert talk(sink, post("/half-close")) == b""
    assert sink.requests[0].complete


def test_it_hangs_up_behind_an_answer_without_a_word(sink):
    with socket.create_connection((sink.host, sink.port), timeout=10) as connection:
        connection.sendall(post("/hang-up/204"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # to its end, which nobody has asked for
    assert statuses(answer) == [204]
    assert b"close" not in answer.lower()


def test_a_slow_reader_gets_all_of_it(sink):
    assert ask(sink, "/slow-read/1", LARGE).status == 204
    assert sink.requests[0].body == LARGE


ODD_TARGETS = {
    "an asterisk": "*",
    "two slashes": "//x",
    "absolute": "http://other.example/v1/events",
    "absolute in capitals": "HTTP://other.example/v1/events",
    "absolute without a path": "http://other.example",
    "percent garbage": "/%zz%",
    "percent controls": "/redirect/302/%0d%0aX:%20b",
    "a fragment": "/v1/events#x",
    "no slash": "v1/events",
    "only a query": "?a",
    "non-ASCII": "/ü",
    "a control": "/\x01",
    "a space": "/a b",
    "nothing": "",
    "more milliseconds than a timer takes": "/slow/99999999999999999999",
    "more digits than a number has": "/slow-read/" + "9" * 5000,
    "more times than a number has digits": "/flaky/" + "9" * 5000 + "/503",
    "long": "/" + "a" * 500_000,
    "longer than is read": "/" + "a" * 3_000_000,
    "an empty number": "/slow/",
    "a redirect to what is no path": '/redirect/302/"<>^`{|}',
    "a wait that is none": "/status/429?retry-after=%20%00,;",
}


@pytest.mark.parametrize("target", ODD_TARGETS.values(), ids=ODD_TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST", "CONNECT", "OPTIONS"])
def test_every_odd_target_is_answered(sink, method, target):
    request = f"{method} {target} HTTP/1.1\r\nHost: sink\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    (status,) = statuses(talk(sink, request.encode("latin-1")))
    assert 200 <= status < 500
    assert ask(sink, "/v1/events").status == 204


ODD_FAULTS = [
    b"/redirect/302/\xfc\xff",
    b"/redirect/302/a  b",
    b"/status/503?retry-after= 2",
    b"/status/503?retry-after=\xff",
    b"\xff\xfe",
    b"*",
    b"/slow/\xb2",
    b"/status/2\xb2\xb3",
]


@pytest.mark.parametrize("fault", ODD_FAULTS)
@pytest.mark.parametrize("method", ["POST", "CONNECT"])
def test_every_odd_fault_that_is_asked_for_is_answered(sink, method, fault):
    request = f"{method} / HTTP/1.1\r\nHost: sink\r\nConnection: close\r\nX-Sink: ".encode("ascii") + fault
    (status,) = statuses(talk(sink, request + b"\r\n\r\n"))
    assert 200 <= status < 600


NO_HTTP = [
    b"\r\n\r\n\r\n",
    b"GET /\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (4 << 20) + b"\r\n\r\n",
]


@pytest.mark.parametrize("sent", NO_HTTP, ids=range(len(NO_HTTP)))
def test_what_is_no_http_is_refused_with_an_answer(sink, sent):
    answered = statuses(talk(sink, sent))
    assert answered
    assert all(400 <= status < 600 for status in answered)


def test_a_fault_of_the_sink_s_own_is_an_answer(sink, monkeypatch):
    sink.script("/v1/events", ["no status"])
    (status,) = statuses(talk(sink, post("/v1/events")))
    assert status == 500


def test_an_upgrade_that_is_asked_for_and_not_given_is_a_whole_request(sink):
    talk(sink, post("/v1/events", BODY, "Upgrade: websocket", "Connection: upgrade"))
    (received,) = sink.requests
    assert (received.complete, received.body) == (True, BODY)


def test_without_a_descriptor_it_waits_and_goes_on(sink, monkeypatch):
    """As at EMFILE: accept() fails, and the connection stays in the backlog."""
    failing = threading.Event()
    failed = threading.Semaphore(0)
    accept = socket.socket.accept

    def no_descriptor(listener):
        if failing.is_set():
            failed.release()
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", no_descriptor)
    failing.set()
    with socket.create_connection((sink.host, sink.port), timeout=10) as connection:
        connection.sendall(post("/v1/events", BODY, "Connection: close"))
        for _ in range(3):
            assert failed.acquire(timeout=10)
        failing.clear()
        assert statuses(b"".join(iter(lambda: connection.recv(65536), b""))) == [204]


def test_it_closes_without_a_descriptor_too(monkeypatch):
    with Sink() as sink:

        def no_descriptor(*_args, **_options):
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(socket, "create_connection", no_descriptor)
        sink.close()
    assert not sink._acceptor.is_alive()


def test_without_a_thread_the_connection_is_ended_and_the_next_one_served(sink, monkeypatch):
    start = threading.Thread.start

    def no_thread(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with contextlib.suppress(ConnectionError):
        assert talk(sink, post("/v1/events")) == b""
    assert ask(sink, "/v1/events").status == 204


def test_queries_and_credentials_are_in_no_repr(sink):
    talk(sink, post("/v1/events?key=CANARY", BODY, "Authorization: Bearer CANARY"))
    assert sink.requests
    assert "CANARY" not in repr(sink.requests)
