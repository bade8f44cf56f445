"""
What httpx and httpx2 send is seen in httpcore, below retries, redirects and authentication.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import socket
import subprocess
import sys
import threading

import httpcore
import httpx
import pytest

from httpx_kinds import KINDS, Kind, cancelled_in_the_middle, send
from seen import BODY, PAYLOAD, assert_agreement, assert_delivered, ending

from wirewitness import Outcome, Verdict, wire, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason
from wirewitness.wire import TapState, canary
from wirewitness.wire.httpcore import KEY, TAPS


DELIVERED = (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
NEVER = (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)
BRIEFLY = {"evidence_timeout": 0.05}

# httpx leaves a body that it stops sending to the garbage collection, which trio's event loop complains about.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning"
)

every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_async = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if kind.run], ids=[name for name, kind in KINDS.items() if kind.run]
)


@every
def test_a_post_is_delivered_with_the_very_bytes(sink, kind):
    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD)
    assert ending(dispatch) == DELIVERED
    assert dispatch.exchanges[0].body == BODY
    assert_delivered(sink, dispatch)


@every
def test_an_exchange_tells_method_address_status_and_times(sink, kind):
    (exchange,) = kind.one(f"{sink.url}/status/202", PAYLOAD).exchanges
    assert exchange.url == f"{sink.url}/status/202"
    assert (exchange.method, exchange.scheme, exchange.host, exchange.port) == ("POST", "http", sink.host, sink.port)
    assert (exchange.status, exchange.size, exchange.complete, exchange.truncated) == (202, len(BODY), True, False)
    assert (exchange.error_type, exchange.failure, exchange.resend_count) == (None, None, 0)
    assert exchange.duration > 0


@every
def test_a_changed_body_is_altered(sink, kind):
    async def script(client, http_verb, url, params):
        await send(client, http_verb, url, {**params, "revision": 4})

    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD, script=script)
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.DELIVERED,
        Verdict.ALTERED,
        Reason.BYTES_DIFFER,
    )
    assert_agreement(sink, dispatch)


@every
def test_a_payload_in_an_envelope_is_embedded(sink, kind):
    async def script(client, http_verb, url, params):
        await send(client, http_verb, url, {"events": [params]})

    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD, script=script)
    assert_delivered(sink, dispatch, Verdict.EMBEDDED)


@every
@pytest.mark.parametrize(("status", "reason"), [(404, Reason.STATUS_4XX), (503, Reason.STATUS_5XX)])
def test_a_swallowed_refusal_is_rejected(sink, kind, status, reason):
    dispatch = kind.one(f"{sink.url}/status/{status}", PAYLOAD)
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, reason)
    assert_agreement(sink, dispatch)


@every
def test_the_payload_of_a_get_is_its_query(sink, kind):
    dispatch = kind.one(f"{sink.url}/v1/events", {"a": "1", "b": "2"}, "GET")
    assert_delivered(sink, dispatch)


@every
def test_a_payload_without_bytes_is_delivered(sink, kind):
    assert_delivered(sink, kind.one(f"{sink.url}/v1/events", b""))


@every
def test_a_body_that_is_made_while_it_is_sent_is_seen_without_its_chunks(sink, kind):
    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=kind.pieces(BODY[:7], BODY[7:]))

    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD, script=script)
    assert sink.requests[0].header("Transfer-Encoding") == "chunked"
    assert_delivered(sink, dispatch)


@every
def test_a_large_body_is_seen_whole(sink, kind):
    body = bytes(range(256)) * 8192
    assert_delivered(sink, kind.one(f"{sink.url}/v1/events", body))


@every
def test_the_receiver_s_digest_is_the_strongest_evidence(sink, kind):
    dispatch = kind.one(f"{sink.url}/echo-digest", PAYLOAD, observe={"receiver_origins": [sink.url]})
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RECEIVER, Reason.NONE)


# Redirects, retries, authentication.


@every
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_turns_the_post_into_a_get_loses_the_body_and_is_rejected(sink, kind, status):
    dispatch = kind.one(f"{sink.url}/redirect/{status}/v1/events", PAYLOAD)
    assert [(exchange.method, exchange.status) for exchange in dispatch.exchanges] == [("POST", status), ("GET", 204)]
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)
    assert_agreement(sink, dispatch)


@every
def test_a_redirect_that_keeps_the_post_is_delivered(sink, kind):
    dispatch = kind.one(f"{sink.url}/redirect/307/redirect/308/v1/events", PAYLOAD)
    assert [exchange.status for exchange in dispatch.exchanges] == [307, 308, 204]
    assert_delivered(sink, dispatch)


@every
def test_a_redirect_that_is_not_followed_is_rejected(sink, kind):
    dispatch = kind.one(f"{sink.url}/redirect/307/v1/events", PAYLOAD, follow_redirects=False)
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_3XX)


@every_async
def test_a_stream_that_a_redirect_finds_consumed_is_no_delivery(sink, kind):
    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=kind.pieces(BODY))

    dispatch = kind.one(f"{sink.url}/redirect/307/v1/events", PAYLOAD, script=script)
    assert dispatch.outcome in {Outcome.FAILED, Outcome.REJECTED}
    assert dispatch.exchanges[0].status == 307


@every
def test_every_retry_is_an_exchange_with_its_resend_count(sink, kind):
    async def script(client, http_verb, url, params):
        while (await send(client, http_verb, url, params)).status_code == 503:
            pass

    dispatch = kind.one(f"{sink.url}/flaky/2/503", PAYLOAD, script=script)
    seen = [(exchange.status, exchange.resend_count) for exchange in dispatch.exchanges]
    assert seen == [(503, 0), (503, 1), (204, 2)]
    assert_delivered(sink, dispatch)


@every
def test_a_request_that_is_sent_again_with_credentials_is_two_exchanges(sink, kind):
    class Twice(kind.library.Auth):
        def auth_flow(self, request):
            yield request
            request.headers["Authorization"] = "Bearer token"
            yield request

    dispatch = kind.one(f"{sink.url}/flaky/1/401", PAYLOAD, auth=Twice())
    assert [exchange.status for exchange in dispatch.exchanges] == [401, 204]
    assert_delivered(sink, dispatch)


# Connections.


@every
def test_a_kept_alive_connection_gives_each_dispatch_its_own_exchange(sink, kind):
    async def script(client, http_verb, url, params):
        for number in range(3):
            inner = witness(kind.dispatcher(client=client))
            awaited = inner("POST", url, {"number": number})
            if awaited is not None:
                await awaited

    async def all_of_them():
        async with kind.client() as client:
            await script(client, "POST", f"{sink.url}/v1/events", None)

    with capture() as dispatches:
        if kind.run:
            kind.run(all_of_them)
        else:
            with contextlib.suppress(StopIteration):
                all_of_them().send(None)
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 3
    assert {received.connection for received in sink.requests} == {0}
    assert_agreement(sink, *dispatches)


def connections(pool):
    return [connection._connection for connection in pool.connections]


def test_a_connection_keeps_nothing_after_its_answer_and_has_its_own_stream_again(sink):
    held = []

    def inner(http_verb, url, params):
        pool.request(http_verb, url, content=json.dumps(params).encode(), headers={"Host": "sink"})
        held.extend(connections(pool))

    with httpcore.ConnectionPool() as pool, capture() as dispatches:
        witness(inner)("POST", f"{sink.url}/v1/events", PAYLOAD)
        (connection,) = held
        assert connection.__dict__[KEY] == {}
        assert type(connection._network_stream).__module__ == "httpcore._backends.sync"
    assert ending(dispatches[0]) == DELIVERED


def test_requests_outside_of_any_dispatch_are_not_recorded(sink):
    witness(lambda http_verb, url, params: None)
    with httpcore.ConnectionPool() as pool:
        pool.request("POST", f"{sink.url}/v1/events", content=BODY, headers={"Host": "sink"})
        assert KEY not in connections(pool)[0].__dict__


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_many_tasks_on_one_client_are_not_mixed_up(sink, library):
    kind = KINDS[f"{library}-asyncio"]
    async with kind.client() as client:
        dispatcher = witness(kind.dispatcher(client=client))
        with capture() as dispatches:
            await asyncio.gather(*[dispatcher("POST", f"{sink.url}/v1/events", {"n": n}) for n in range(40)])
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 40
    assert all(dispatch.exchanges[0].body == dispatch.payload.body for dispatch in dispatches)
    assert {dispatch.payload.body for dispatch in dispatches} == {received.body for received in sink.requests}


@every
def test_a_unix_socket_is_a_wire(tmp_path, kind):
    path = str(tmp_path / "socket")
    got = []

    def serve():
        peer, _ = listener.accept()
        with peer:
            while BODY not in b"".join(got):
                got.append(peer.recv(65536))
            peer.sendall(canary.ANSWER)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        dispatch = kind.one("http://service/v1/events", PAYLOAD, transport=kind.transport(uds=path))
        thread.join()
    assert ending(dispatch) == DELIVERED


# Faults.


@every
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_reset_is_failed(sink, kind, moment):
    dispatch = kind.one(f"{sink.url}/reset/{moment}", b"x" * (4 << 20))
    assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.RESET)
    (exchange,) = dispatch.exchanges
    assert (exchange.status, exchange.failure) == (None, Reason.RESET)
    if moment == "after":
        assert (dispatch.verdict, dispatch.evidence) == (Verdict.IDENTICAL, Evidence.SOCKET)
    else:
        assert dispatch.verdict is not Verdict.ALTERED


@every
def test_an_early_413_is_rejected(sink, kind):
    dispatch = kind.one(f"{sink.url}/early/413", b"x" * (8 << 20))
    assert dispatch.verdict in {Verdict.UNOBSERVED, Verdict.IDENTICAL}
    if dispatch.exchanges[0].status is None:
        assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.RESET)
    else:
        assert (dispatch.outcome, dispatch.reason) == (Outcome.REJECTED, Reason.STATUS_4XX)


@every
def test_a_refused_connection_is_failed(kind):
    with Sink() as gone:
        url = f"{gone.url}/v1/events"
    dispatch = kind.one(url, PAYLOAD)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
    (exchange,) = dispatch.exchanges
    assert (exchange.status, exchange.body, exchange.port) == (None, b"", gone.port)


@every
def test_a_name_that_does_not_exist_is_failed(kind):
    dispatch = kind.one("http://dispatch.invalid:80/v1/events", PAYLOAD)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.DNS)
    assert dispatch.exchanges[0].host == "dispatch.invalid"


@every
def test_a_timeout_is_failed_though_the_body_was_sent(sink, kind):
    dispatch = kind.one(f"{sink.url}/slow/60000", PAYLOAD, timeout=0.2)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.TIMEOUT)
    assert sink.wait_for(1)
    assert_agreement(sink, dispatch)


@every
def test_a_pool_without_a_free_connection_is_failed(sink, kind):
    limits = kind.library.Limits(max_connections=0)
    timeout = kind.library.Timeout(10, pool=0.05)
    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD, timeout=timeout, limits=limits)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TIMEOUT)
    assert sink.requests == []


@every
def test_a_request_that_the_library_refuses_to_send_is_failed(sink, kind):
    async def script(client, http_verb, url, params):
        await client.request(http_verb, url, content=b"more than that", headers={"Content-Length": "3"})

    dispatch = kind.one(f"{sink.url}/v1/events", b"more than that", script=script)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.FAILED, Verdict.UNOBSERVED)


@every
def test_the_last_of_several_connect_attempts_is_the_exchange(kind):
    with Sink() as gone:
        url = f"{gone.url}/v1/events"
    dispatch = kind.one(url, PAYLOAD, transport=kind.transport(retries=1))
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_a_task_cancelled_in_the_middle_of_a_body_is_failed(sink, library):
    dispatch = await cancelled_in_the_middle(KINDS[f"{library}-asyncio"], f"{sink.url}/v1/events")
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.FAILED, Verdict.UNOBSERVED)
    assert dispatch.exchanges[0].failure is Reason.CANCELLED
    assert not dispatch.exchanges[0].complete


@every
def test_a_body_that_the_peer_does_not_take_is_not_claimed_as_sent(kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/events"
        dispatch = kind.one(url, b"x" * (32 << 20), timeout=0.3)
    assert (dispatch.outcome, dispatch.verdict, dispatch.reason) == (
        Outcome.FAILED,
        Verdict.UNOBSERVED,
        Reason.TIMEOUT,
    )


# TLS and proxies.


@every
def test_what_goes_through_tls_is_seen(secure_sink, kind, trusting):
    dispatch = kind.one(f"{secure_sink.url}/v1/events", PAYLOAD, verify=trusting)
    assert dispatch.exchanges[0].scheme == "https"
    assert_delivered(secure_sink, dispatch)


@every
def test_a_certificate_that_is_not_trusted_is_failed(secure_sink, kind):
    dispatch = kind.one(f"{secure_sink.url}/v1/events", PAYLOAD)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TLS)


@every
def test_through_a_proxy_the_exchange_names_the_server_asked(sink, kind, proxy):
    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD, proxy=proxy.url)
    assert proxy.asked == [f"POST {sink.url}/v1/events HTTP/1.1"]
    assert_delivered(sink, dispatch)


@every
def test_through_a_tunnel_the_exchange_is_the_payload_s_own(secure_sink, kind, proxy, trusting):
    dispatch = kind.one(f"{secure_sink.url}/v1/events", PAYLOAD, proxy=proxy.url, verify=trusting)
    assert proxy.asked == [f"CONNECT 127.0.0.1:{secure_sink.port} HTTP/1.1"]
    assert_delivered(secure_sink, dispatch)


@every
def test_a_tunnel_that_is_refused_is_failed(secure_sink, kind, proxy, trusting):
    proxy.refuse_with = "407 Proxy Authentication Required"
    dispatch = kind.one(f"{secure_sink.url}/v1/events", PAYLOAD, proxy=proxy.url, verify=trusting)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.PROXY)
    (exchange,) = dispatch.exchanges
    assert (exchange.port, exchange.status) == (secure_sink.port, None)


# Late evidence.


@every
def test_a_payload_that_another_context_sends_later_is_found(sink, kind):
    params = {"sent": f"later, by {id(kind)}"}
    kept = []
    with capture() as dispatches:
        witness(lambda *call: kept.append(call), payload=lambda *call: call[2])("POST", f"{sink.url}/v1/events", params)
        assert dispatches == []
        later = kind.dispatcher()
        thread = threading.Thread(
            target=later if kind.run is None else lambda *call: kind.run(later, *call), args=kept[0]
        )
        thread.start()
        thread.join()
    assert_delivered(sink, *dispatches)


# What is no wire.


def answering(library):
    def answer(request):
        return library.Response(204)

    return library.MockTransport(answer)


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@every
def test_a_mock_transport_is_no_wire(kind):
    dispatch = kind.one("http://service/v1/events", PAYLOAD, transport=answering(kind.library), observe=BRIEFLY)
    assert ending(dispatch) == NEVER


@pytest.mark.parametrize("name", ["httpx-asyncio", "httpx2-asyncio"])
def test_an_asgi_application_in_the_process_is_no_wire(name):
    kind = KINDS[name]
    transport = kind.library.ASGITransport(app=application)
    assert ending(kind.one("http://service/v1/events", PAYLOAD, transport=transport, observe=BRIEFLY)) == NEVER


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_wsgi_application_in_the_process_is_no_wire(name):
    def application(environ, start):
        start("204 No Content", [])
        return [b""]

    kind = KINDS[name]
    transport = kind.library.WSGITransport(app=application)
    assert ending(kind.one("http://service/v1/events", PAYLOAD, transport=transport, observe=BRIEFLY)) == NEVER


# The tap itself.


@pytest.mark.parametrize("tap", TAPS, ids=[tap.name for tap in TAPS])
def test_the_installed_version_sends_through_the_methods_that_are_wrapped(tap):
    witness(lambda http_verb, url, params: None)
    importlib.import_module(tap.name)
    assert wire.states()[tap.name] is TapState.INTACT
    assert [canary.sees(request) for request in tap.canaries] == [True, True]
    tap.uninstall()
    try:
        assert [canary.sees(request) for request in tap.canaries] == [False, False]
    finally:
        tap.install()


def test_a_tap_that_another_tool_took_away_is_put_back(sink):
    kind = Kind(httpx)
    assert ending(kind.one(f"{sink.url}/v1/events", PAYLOAD)) == DELIVERED
    cls = httpcore.HTTP11Connection
    ours = cls._send_request_headers
    theirs = ours.__closure__
    original = next(
        cell.cell_contents for cell in theirs if getattr(cell.cell_contents, "__name__", "") == ours.__name__
    )
    cls._send_request_headers = original
    assert ending(kind.one(f"{sink.url}/v1/events", PAYLOAD)) == DELIVERED
    assert cls._send_request_headers is not original


@pytest.mark.parametrize("name", ["httpx", "httpx-asyncio"])
def test_a_tool_between_two_of_our_wrappers_makes_no_second_exchange(sink, name, monkeypatch):
    kind = KINDS[name]
    prefix, method = ("Async", "handle_async_request") if kind.run else ("", "handle_request")
    witness(kind.dispatcher())
    for cls, attribute in (
        (getattr(httpcore, f"{prefix}HTTP11Connection"), "_send_request_headers"),
        (getattr(httpcore, f"{prefix}HTTP11Connection"), "_receive_response_headers"),
        (getattr(httpcore, f"{prefix}HTTP11Connection"), method),
        (getattr(httpcore, f"{prefix}ConnectionPool"), method),
    ):
        point = next(point for point in TAPS[0]._points if (point.cls, point.name) == (cls.__name__, attribute))
        monkeypatch.setattr(cls, attribute, point.wrap(cls.__dict__[attribute]))
    dispatch = kind.one(f"{sink.url}/v1/events", PAYLOAD)
    assert_delivered(sink, dispatch)
    with Sink() as gone:
        url = f"{gone.url}/v1/events"
    assert len(kind.one(url, PAYLOAD).exchanges) == 1


ALIASED = """
import httpx2
httpx2.alias_httpx()
import httpx, httpcore
from wirewitness import wire, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture

def send(http_verb, url, params):
    httpx.post(url, json=params)

with Sink() as sink, capture() as seen:
    witness(send)("POST", sink.url + "/v1/events", {"n": 1})
print(seen[0].outcome.value, len(seen[0].exchanges), *sorted(wire.states()))
"""

LAZILY = """
import sys
from wirewitness import witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture

def send(http_verb, url, params):
    import httpx
    httpx.post(url, content=b'{"n": 1}')

with Sink() as sink, capture() as seen:
    dispatcher = witness(send)
    before = "httpcore" in sys.modules
    dispatcher("POST", sink.url + "/v1/events", {"n": 1})
print(before, seen[0].outcome.value, seen[0].verdict.value)
"""


def printed_by(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.processes
def test_one_library_under_two_names_makes_one_exchange():
    assert printed_by(ALIASED) == ["delivered", "1", "http.client", "httpcore2"]


@pytest.mark.processes
def test_a_library_that_the_first_dispatch_imports_is_seen_in_that_dispatch():
    assert printed_by(LAZILY) == ["False", "delivered", "identical"]
