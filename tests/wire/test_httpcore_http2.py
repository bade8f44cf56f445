"""
HTTP/2 in httpcore: what is written to a connection is told apart by its streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

from httpx_kinds import KINDS, cancelled_in_the_middle, send
from seen import BODY, PAYLOAD, ending

from wirewitness import Outcome, Verdict, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason
from wirewitness.wire import httpcore as tap


HTTP2 = {"http1": False, "http2": True}

every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture
def server():
    """Answers each request by the status that its path names; 0 closes the connection. And the bodies of whole requests."""
    received = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(h2.exceptions.ProtocolError):
                    answer(peer)

    def answer(peer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        peer.sendall(connection.data_to_send())
        paths, bodies = {}, {}
        while data := peer.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[b":path"].decode().partition("?")[0]
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    received.append(bodies.get(event.stream_id, b""))
                    status = paths[event.stream_id].strip("/")
                    if status == "0":
                        return
                    connection.send_headers(event.stream_id, [(":status", status)], end_stream=True)
            peer.sendall(connection.data_to_send())

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@every
@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [(204, Outcome.DELIVERED, Reason.NONE), (503, Outcome.REJECTED, Reason.STATUS_5XX)],
)
def test_the_bytes_and_the_answer_of_a_stream_are_seen(server, kind, status, outcome, reason):
    url, received = server
    dispatch = kind.one(f"{url}/{status}", PAYLOAD, **HTTP2)
    assert ending(dispatch) == (outcome, Verdict.IDENTICAL, Evidence.RESPONSE, reason)
    (exchange,) = dispatch.exchanges
    assert (exchange.method, exchange.url, exchange.status, exchange.body) == ("POST", f"{url}/{status}", status, BODY)
    assert received == [BODY]


@every
def test_a_connection_that_ends_without_an_answer_is_failed(server, kind):
    url, _ = server
    dispatch = kind.one(f"{url}/0", PAYLOAD, **HTTP2)
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.FAILED,
        Verdict.IDENTICAL,
        Reason.RESET,
    )


@every
def test_a_changed_body_is_altered(server, kind):
    async def script(client, http_verb, url, params):
        await send(client, http_verb, url, {**params, "revision": 4})

    dispatch = kind.one(f"{server[0]}/204", PAYLOAD, script=script, **HTTP2)
    assert (dispatch.verdict, dispatch.reason) == (Verdict.ALTERED, Reason.BYTES_DIFFER)


@every
def test_a_get_has_no_content(server, kind):
    dispatch = kind.one(f"{server[0]}/204", {"a": "1"}, "GET", **HTTP2)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.DELIVERED, Verdict.IDENTICAL)
    assert (dispatch.exchanges[0].query, dispatch.exchanges[0].body) == ("a=1", b"")


@every
def test_a_body_larger_than_the_window_is_seen_whole(server, kind):
    url, received = server
    body = bytes(range(256)) * 2048
    dispatch = kind.one(f"{url}/204", body, **HTTP2)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.DELIVERED, Verdict.IDENTICAL)
    assert received == [body]


@every
def test_a_body_that_is_made_while_it_is_sent_is_seen(server, kind):
    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=kind.pieces(BODY[:7], b"", BODY[7:]))

    dispatch = kind.one(f"{server[0]}/204", PAYLOAD, script=script, **HTTP2)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.DELIVERED, Verdict.IDENTICAL)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_the_streams_of_one_connection_are_not_mixed_up(server, library):
    url, received = server
    kind = KINDS[f"{library}-asyncio"]
    async with kind.client(**HTTP2) as client:
        dispatcher = witness(kind.dispatcher(client=client))
        await dispatcher("POST", f"{url}/204", {"n": "first"})
        received.clear()
        with capture() as dispatches:
            # All of it fits into the connection's window of 65,535 bytes. With more, httpcore itself waits for ever now and then, for a
            # window that another task's read has taken in (13 of 360 runs under load, without a witness).
            await asyncio.gather(*[dispatcher("POST", f"{url}/204", {"n": n, "x": "x" * 2_500}) for n in range(20)])
    assert [(each.outcome, each.verdict) for each in dispatches] == [(Outcome.DELIVERED, Verdict.IDENTICAL)] * 20
    assert all(each.exchanges[0].body == each.payload.body for each in dispatches)
    assert sorted(received) == sorted(each.payload.body for each in dispatches)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_a_task_cancelled_in_the_middle_of_a_body_is_failed(server, library):
    dispatch = await cancelled_in_the_middle(KINDS[f"{library}-asyncio"], f"{server[0]}/204", **HTTP2)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.FAILED, Verdict.UNOBSERVED)
    assert (dispatch.exchanges[0].failure, dispatch.exchanges[0].complete) == (Reason.CANCELLED, False)


@every
def test_content_of_another_length_than_promised_is_not_claimed_as_whole(server, kind):
    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=b"four", headers={"Content-Length": "5"})

    dispatch = kind.one(f"{server[0]}/204", b"four", script=script, **HTTP2)
    assert dispatch.verdict is not Verdict.IDENTICAL


@every
def test_what_is_written_otherwise_than_in_whole_frames_is_unobserved(server, kind, monkeypatch):
    def confused(written):
        raise ValueError

    monkeypatch.setattr(tap, "stream_parts", confused)
    dispatch = kind.one(f"{server[0]}/204", PAYLOAD, **HTTP2)
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)


@every
def test_an_answer_to_a_request_that_was_never_seen_to_be_written_leaves_it_unobserved(server, kind, monkeypatch):
    monkeypatch.setattr(tap, "stream_parts", lambda written: [])
    dispatch = kind.one(f"{server[0]}/204", PAYLOAD, **HTTP2)
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.NONE)
