"""
HTTP/2 in httpcore: the answer is known, and the content is not told apart from other requests'.
"""

from __future__ import annotations

import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.events
import pytest

from httpx_kinds import KINDS
from seen import BODY, PAYLOAD, ending

from wirewitness import Outcome, Verdict
from wirewitness.typing import Evidence, Reason


every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture
def server():
    """Answers each request on one connection by the status that its path names; 0 closes the connection."""
    received = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    answer(peer)

    def answer(peer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        peer.sendall(connection.data_to_send())
        paths = {}
        while data := peer.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[b":path"].decode()
                elif isinstance(event, h2.events.DataReceived):
                    received.append(event.data)
                elif isinstance(event, h2.events.StreamEnded):
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
def test_the_answer_counts_and_nothing_is_claimed_of_the_content(server, kind, status, outcome, reason):
    url, received = server
    dispatch = kind.one(f"{url}/{status}", PAYLOAD, http1=False, http2=True)
    assert ending(dispatch) == (outcome, Verdict.UNOBSERVED, Evidence.RESPONSE, reason)
    (exchange,) = dispatch.exchanges
    assert (exchange.method, exchange.url, exchange.status, exchange.body) == ("POST", f"{url}/{status}", status, None)
    assert b"".join(received) == BODY


@every
def test_a_connection_that_ends_without_an_answer_is_failed(server, kind):
    url, _ = server
    dispatch = kind.one(f"{url}/0", PAYLOAD, http1=False, http2=True)
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.FAILED,
        Verdict.UNOBSERVED,
        Reason.RESET,
    )
