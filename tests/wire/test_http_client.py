"""
What the tap sees beneath requests, urllib3, urllib and http.client, held against what the sink received.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

import pytest
import requests
import urllib3

from opentelemetry.instrumentation.utils import suppress_instrumentation
from requests.adapters import HTTPAdapter
from seen import (
    BODY,
    CLIENTS,
    PATIENCE,
    PAYLOAD,
    assert_agreement,
    assert_delivered,
    by_http_client,
    by_requests,
    by_urllib,
    by_urllib3,
    ending,
    one,
    settled,
)

from wirewitness import Outcome, Verdict, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


DELIVERED = (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)

client = pytest.mark.parametrize("inner", CLIENTS.values(), ids=CLIENTS)


@client
def test_a_post_is_delivered_with_the_very_bytes(sink, inner):
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == DELIVERED
    assert dispatch.exchanges[0].body == BODY
    assert_delivered(sink, dispatch)


@client
def test_an_exchange_tells_method_address_status_and_times(sink, inner):
    (exchange,) = one(inner, f"{sink.url}/status/202").exchanges
    assert exchange.url == f"{sink.url}/status/202"
    assert (exchange.method, exchange.scheme, exchange.host, exchange.port) == ("POST", "http", sink.host, sink.port)
    assert (exchange.status, exchange.size, exchange.complete, exchange.truncated) == (202, len(BODY), True, False)
    assert (exchange.error_type, exchange.failure, exchange.resend_count) == (None, None, 0)
    assert exchange.started_ns > 0
    assert exchange.duration > 0


@client
@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, Reason.STATUS_4XX), (404, Reason.STATUS_4XX), (503, Reason.STATUS_5XX), (304, Reason.STATUS_3XX)],
)
def test_a_swallowed_refusal_is_rejected(sink, inner, status, reason):
    dispatch = one(inner, f"{sink.url}/status/{status}")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, reason)
    assert dispatch.settlement.error_type == str(status)
    assert_agreement(sink, dispatch)


@client
@pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE"])
def test_other_methods_with_content_are_delivered(sink, inner, verb):
    assert_delivered(sink, one(inner, f"{sink.url}/v1/events", verb=verb))


@client
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_the_payload_of_a_get_or_head_is_its_query(sink, inner, verb):
    dispatch = one(inner, f"{sink.url}/v1/events", {"a": "1 2", "b": "ü"}, verb)
    assert dispatch.payload.body == b"a=1+2&b=%C3%BC"
    assert_delivered(sink, dispatch)


@client
def test_a_payload_without_bytes_is_delivered(sink, inner):
    assert_delivered(sink, one(inner, f"{sink.url}/v1/events", b""))


def test_another_encoding_of_the_same_query_is_equivalent(sink):
    def inner(http_verb, url, params):
        requests.get(f"{url}?a=1%202&b=%c3%bc", timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/v1/events", {"a": "1 2", "b": "ü"}, "GET")
    assert dispatch.exchanges[0].query == sink.requests[0].target.partition("?")[2]
    assert_delivered(sink, dispatch, Verdict.EQUIVALENT)


def test_a_changed_query_is_altered_at_its_first_difference(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, {**params, "b": "3"})

    dispatch = one(inner, f"{sink.url}/v1/events", {"a": "1", "b": "2"}, "GET")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BYTES_DIFFER)
    assert dispatch.offset == len("a=1&b=")
    assert_agreement(sink, dispatch)


def test_a_query_lost_on_a_redirect_is_altered_and_rejected(sink):
    dispatch = one(by_requests, f"{sink.url}/redirect/302", {"a": "1"}, "GET")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)
    assert_agreement(sink, dispatch)


def test_a_query_kept_on_a_redirect_is_delivered(sink):
    dispatch = one(by_requests, f"{sink.url}/redirect/302/v1/events", {"a": "1"}, "GET")
    assert [exchange.status for exchange in dispatch.exchanges] == [302, 204]
    assert_delivered(sink, dispatch)


# Redirects.


@pytest.mark.parametrize("inner", [by_requests, by_urllib], ids=["requests", "urllib"])
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_turns_the_post_into_a_get_loses_the_body_and_is_rejected(sink, inner, status):
    dispatch = one(inner, f"{sink.url}/redirect/{status}/v1/events")
    assert [(exchange.method, exchange.status) for exchange in dispatch.exchanges] == [("POST", status), ("GET", 204)]
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)
    assert dispatch.settlement.error_type == str(status)
    assert_agreement(sink, dispatch)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_post_is_delivered_by_requests(sink, status):
    dispatch = one(by_requests, f"{sink.url}/redirect/{status}/v1/events")
    assert [exchange.status for exchange in dispatch.exchanges] == [status, 204]
    assert_delivered(sink, dispatch)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_urllib3_keeps_the_post_on_every_redirect_but_303(sink, status):
    dispatch = one(by_urllib3, f"{sink.url}/redirect/{status}/v1/events")
    assert [(exchange.method, exchange.status) for exchange in dispatch.exchanges] == [("POST", status), ("POST", 204)]
    assert_delivered(sink, dispatch)


def test_urllib3_loses_the_body_on_a_303(sink):
    dispatch = one(by_urllib3, f"{sink.url}/redirect/303/v1/events")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)
    assert_agreement(sink, dispatch)


@pytest.mark.parametrize("inner", [by_urllib, by_http_client], ids=["urllib", "http.client"])
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_is_not_followed_is_rejected(sink, inner, status):
    dispatch = one(inner, f"{sink.url}/redirect/{status}/v1/events")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_3XX)
    assert_agreement(sink, dispatch)


def test_a_chain_of_redirects_is_an_exchange_each(sink):
    dispatch = one(by_requests, f"{sink.url}/redirect/307/redirect/308/v1/events")
    assert [exchange.status for exchange in dispatch.exchanges] == [307, 308, 204]
    assert_delivered(sink, dispatch)


def test_a_server_that_no_redirect_pointed_to_delivers_nothing(sink):
    def inner(http_verb, url, params):
        with requests.Session() as session:
            first = session.post(url, json.dumps(params), allow_redirects=False, timeout=PATIENCE)
            session.post(f"{other.url}{first.headers['Location']}", json.dumps(params), timeout=PATIENCE)

    with Sink() as other:
        dispatch = one(inner, f"{sink.url}/redirect/307/v1/events")
        assert [exchange.port for exchange in dispatch.exchanges] == [sink.port, other.port]
        assert [sink.requests[0].body, other.requests[0].body] == [BODY, BODY]
    assert (dispatch.outcome, dispatch.reason) == (Outcome.REJECTED, Reason.STATUS_3XX)


# Retries.


@contextlib.contextmanager
def retrying(**options):
    retry = urllib3.Retry(**{"total": 3, "allowed_methods": None, "backoff_factor": 0, **options})
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        yield session


def by_retrying(http_verb, url, params):
    with retrying(status_forcelist=[503]) as session:
        session.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE)


def test_every_retry_is_an_exchange_with_its_resend_count(sink):
    dispatch = one(by_retrying, f"{sink.url}/flaky/2/503")
    seen = [(exchange.status, exchange.resend_count) for exchange in dispatch.exchanges]
    assert seen == [(503, 0), (503, 1), (204, 2)]
    assert_delivered(sink, dispatch)


def test_retries_that_are_used_up_are_rejected(sink):
    dispatch = one(by_retrying, f"{sink.url}/status/503")
    assert len(dispatch.exchanges) == 4
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_5XX)
    assert_agreement(sink, dispatch)


def test_a_post_answered_503_is_sent_once_by_urllib3_s_default_methods(sink):
    def inner(http_verb, url, params):
        with retrying(status_forcelist=[503], allowed_methods=urllib3.Retry.DEFAULT_ALLOWED_METHODS) as session:
            session.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/flaky/1/503")
    assert len(dispatch.exchanges) == 1
    assert dispatch.outcome is Outcome.REJECTED
    assert_agreement(sink, dispatch)


def test_a_retry_after_a_reset_is_delivered_by_the_second_exchange(sink):
    def inner(http_verb, url, params):
        with urllib3.PoolManager(timeout=PATIENCE) as pool:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                pool.request(http_verb, f"{sink.url}/reset/after", body=json.dumps(params), retries=False)
            pool.request(http_verb, url, body=json.dumps(params))

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert [exchange.failure for exchange in dispatch.exchanges] == [Reason.RESET, None]
    assert [exchange.status for exchange in dispatch.exchanges] == [None, 204]
    assert_delivered(sink, dispatch)


def test_every_reset_attempt_of_urllib3_s_retry_is_an_exchange(sink):
    def inner(http_verb, url, params):
        with retrying(total=2) as session:
            session.post(url, json.dumps(params), timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/reset/after")
    assert [exchange.failure for exchange in dispatch.exchanges] == [Reason.RESET] * 3
    assert dispatch.outcome is Outcome.FAILED
    assert_agreement(sink, dispatch)


# Connections.


def test_a_kept_alive_connection_gives_each_dispatch_its_own_exchange(sink):
    with requests.Session() as session, capture() as dispatches:

        @witness
        def inner(http_verb, url, params):
            session.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE)

        for number in range(3):
            inner("POST", f"{sink.url}/v1/events", {"number": number})
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 3
    assert {received.connection for received in sink.requests} == {0}
    assert_agreement(sink, *dispatches)


def test_a_connection_that_the_server_closes_is_opened_anew(sink):
    with requests.Session() as session, capture() as dispatches:

        @witness
        def inner(http_verb, url, params):
            session.request(http_verb, url, data=json.dumps(params), timeout=PATIENCE)

        for number in range(2):
            inner("POST", f"{sink.url}/close/200", {"number": number})
    assert [received.connection for received in sink.requests] == [0, 1]
    assert_agreement(sink, *dispatches)


def test_an_idle_connection_keeps_no_recorder(sink):
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:

        def inner(http_verb, url, params):
            connection.request(http_verb, "/v1/events", json.dumps(params))
            held.append(set(connection.__dict__) - usual)
            connection.getresponse().read()

        held, usual = [], set(connection.__dict__)
        assert one(inner, f"{sink.url}/v1/events").outcome is Outcome.DELIVERED
        assert held == [{"_wirewitness"}]
        assert "_wirewitness" not in connection.__dict__


def test_a_connection_whose_answer_failed_keeps_no_recorder(sink):
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:

        def inner(http_verb, url, params):
            connection.request(http_verb, "/reset/after", json.dumps(params))
            connection.getresponse()

        assert one(inner, f"{sink.url}/reset/after").reason is Reason.RESET
        assert "_wirewitness" not in connection.__dict__


def test_a_request_begun_within_a_dispatch_and_left_is_forgotten_by_the_next_one(sink):
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:

        def inner(http_verb, url, params):
            connection.request(http_verb, "/v1/events", json.dumps(params))

        one(inner, f"{sink.url}/v1/events", evidence_timeout=0.01)
        assert "_wirewitness" in connection.__dict__
        connection.close()
        connection.request("GET", "/status/200")
        assert "_wirewitness" not in connection.__dict__
        assert connection.getresponse().status == 200


def test_requests_outside_of_any_dispatch_are_not_recorded(sink):
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
        connection.request("POST", "/v1/events", BODY)
        assert "_wirewitness" not in connection.__dict__
        connection.getresponse().read()


def test_another_request_within_a_dispatch_is_an_exchange_and_not_the_payload(sink):
    def inner(http_verb, url, params):
        token = requests.post(f"{sink.url}/status/200", data={"grant_type": "client_credentials"}, timeout=PATIENCE)
        assert token.ok
        by_requests(http_verb, url, params)

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == DELIVERED
    assert_agreement(sink, dispatch)


def test_a_failed_request_besides_the_payload_s_does_not_fail_the_dispatch(sink):
    def inner(http_verb, url, params):
        by_requests(http_verb, url, params)
        requests.post(f"{sink.url}/status/500", data="done", timeout=PATIENCE)

    assert ending(one(inner, f"{sink.url}/v1/events")) == DELIVERED


def test_requests_under_suppressed_instrumentation_are_not_counted(sink):
    def inner(http_verb, url, params):
        with suppress_instrumentation():
            by_requests("POST", f"{sink.url}/status/200", {"resourceSpans": []})
            with pytest.raises(requests.ConnectionError):
                requests.post("https://127.0.0.1:1", timeout=PATIENCE)
        by_requests(http_verb, url, params)

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == DELIVERED
    assert [exchange.path for exchange in dispatch.exchanges] == ["/v1/events"]


def test_a_dispatch_under_suppressed_instrumentation_is_observed_all_the_same(sink):
    with suppress_instrumentation():
        dispatch = one(by_requests, f"{sink.url}/v1/events")
    assert ending(dispatch) == DELIVERED


def test_dispatches_of_many_threads_are_not_mixed_up(sink):
    def run(number):
        for turn in range(5):
            dispatcher("POST", f"{sink.url}/v1/events", {"thread": number, "turn": turn})

    dispatcher = witness(by_http_client)
    with capture() as dispatches:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [ending(dispatch) for dispatch in dispatches] == [DELIVERED] * 40
    assert all(dispatch.exchanges[0].body == dispatch.payload.body for dispatch in dispatches)
    assert {dispatch.payload.body for dispatch in dispatches} == {received.body for received in sink.requests}


# Faults.


@client
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_reset_is_failed(sink, inner, moment):
    large = b"x" * (4 << 20)
    dispatch = one(inner, f"{sink.url}/reset/{moment}", large)
    assert dispatch.outcome is Outcome.FAILED
    assert dispatch.reason is Reason.RESET
    (exchange,) = dispatch.exchanges
    assert (exchange.status, exchange.failure) == (None, Reason.RESET)
    assert sink.wait_for(1)
    if moment == "after":
        assert (dispatch.verdict, dispatch.evidence) == (Verdict.IDENTICAL, Evidence.SOCKET)
        assert sink.requests[0].digest == exchange.digest
    else:
        assert dispatch.verdict is not Verdict.ALTERED


@client
def test_an_early_413_is_rejected(sink, inner):
    dispatch = one(inner, f"{sink.url}/early/413", b"x" * (8 << 20))
    assert sink.requests[0].body == b""
    assert dispatch.verdict in {Verdict.UNOBSERVED, Verdict.IDENTICAL}
    if dispatch.exchanges[0].status is None:  # http.client raises, and urllib with it, before the answer is read
        assert inner in {by_urllib, by_http_client}
        assert (dispatch.outcome, dispatch.reason) == (Outcome.FAILED, Reason.RESET)
    else:
        assert (dispatch.outcome, dispatch.reason) == (Outcome.REJECTED, Reason.STATUS_4XX)
        assert dispatch.evidence is Evidence.RESPONSE


def test_an_early_413_to_a_small_body_is_rejected(sink):
    dispatch = one(by_http_client, f"{sink.url}/early/413")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_4XX)


def test_an_early_answer_read_after_a_broken_pipe_is_the_answer(sink):
    def inner(http_verb, url, params):
        connection = http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            with contextlib.suppress(ConnectionError):
                connection.request(http_verb, "/early/413", params)
            assert connection.getresponse().status == 413

    dispatch = one(inner, f"{sink.url}/early/413", b"x" * (8 << 20))
    assert (dispatch.outcome, dispatch.reason) == (Outcome.REJECTED, Reason.STATUS_4XX)


@client
def test_a_refused_connection_is_failed(inner):
    with Sink() as gone:
        url = f"{gone.url}/v1/events"
    dispatch = one(inner, url)
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
    (exchange,) = dispatch.exchanges
    assert (exchange.status, exchange.body, exchange.port) == (None, b"", gone.port)


@client
def test_a_name_that_does_not_exist_is_failed(inner):
    dispatch = one(inner, "http://dispatch.invalid:80/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.DNS)
    assert dispatch.exchanges[0].host == "dispatch.invalid"


IMPATIENCE = 0.05


def impatient_requests(http_verb, url, params):
    requests.request(http_verb, url, data=json.dumps(params), timeout=IMPATIENCE)


def impatient_urllib3(http_verb, url, params):
    with urllib3.PoolManager(timeout=IMPATIENCE, retries=False) as pool:
        pool.request(http_verb, url, body=json.dumps(params))


def impatient_http_client(http_verb, url, params):
    host, _, path = url.removeprefix("http://").partition("/")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=IMPATIENCE)) as connection:
        connection.request(http_verb, f"/{path}", json.dumps(params))
        connection.getresponse()


@pytest.mark.parametrize("inner", [impatient_requests, impatient_urllib3, impatient_http_client])
def test_a_timeout_is_failed_though_the_body_was_sent(sink, inner):
    dispatch = one(inner, f"{sink.url}/slow/60000")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.TIMEOUT)
    assert sink.wait_for(1)
    assert_agreement(sink, dispatch)


@client
def test_a_slow_answer_is_delivered(sink, inner):
    dispatch = one(inner, f"{sink.url}/slow/50")
    assert_delivered(sink, dispatch)


def test_an_answer_that_is_never_read_is_unconfirmed(sink):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port)) as connection:
            connection.request(http_verb, "/v1/events", json.dumps(params))

    dispatch = one(inner, f"{sink.url}/v1/events", evidence_timeout=0.01)
    assert ending(dispatch) == (Outcome.UNCONFIRMED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.RESPONSE_UNREAD)
    assert sink.wait_for(1)
    assert_agreement(sink, dispatch)


def test_a_dispatcher_that_sends_nothing_is_unconfirmed(sink):
    dispatch = one(lambda http_verb, url, params: None, f"{sink.url}/v1/events", evidence_timeout=0.01)
    assert ending(dispatch) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)
    assert sink.requests == []


def test_an_error_before_anything_was_sent_is_failed():
    def inner(http_verb, url, params):
        raise LookupError

    dispatch = one(inner, "http://127.0.0.1:1/v1/events")
    assert ending(dispatch) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR)
    assert dispatch.settlement.error_type == "LookupError"


def test_what_follows_content_left_behind_by_an_abandoned_request_is_seen_as_sent(sink):
    # http.client keeps the head of a request whose text it couldn't encode, and sends it before the next one's.
    with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:

        def inner(http_verb, url, params):
            try:
                connection.request(http_verb, "/v1/events", params)
                connection.getresponse().read()
            except UnicodeEncodeError:
                connection.close()
                raise

        broken = one(inner, f"{sink.url}/v1/events", "\u20ac")
        spoilt = one(inner, f"{sink.url}/v1/events", "abc")
    assert broken.outcome is Outcome.FAILED
    assert broken.evidence is Evidence.CALL
    assert (spoilt.outcome, spoilt.reason) == (Outcome.REJECTED, Reason.STATUS_4XX)
    assert sink.requests == []


# The receiver's own word.


@pytest.mark.parametrize("named", [[], ["http://127.0.0.1"], ["https://127.0.0.1:{port}"]])
def test_a_stranger_s_digest_field_neither_alters_nor_proves_nor_raises(sink, named):
    origins = [origin.format(port=sink.port) for origin in named]
    dispatch = one(by_http_client, f"{sink.url}/echo-digest", receiver_origins=origins, strict=True)
    assert ending(dispatch) == DELIVERED


@client
def test_the_receiver_s_digest_is_the_strongest_evidence(sink, inner):
    dispatch = one(inner, f"{sink.url}/echo-digest")
    assert ending(dispatch) == (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RECEIVER, Reason.NONE)
    assert dispatch.exchanges[0].received_digest == sink.requests[0].digest == dispatch.payload.digest


def test_an_expected_continue_is_no_status(sink):
    def inner(http_verb, url, params):
        requests.post(url, json.dumps(params), headers={"Expect": "100-continue"}, timeout=PATIENCE)

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert sink.requests[0].header("Expect") == "100-continue"
    assert [exchange.status for exchange in dispatch.exchanges] == [204]
    assert_delivered(sink, dispatch)


def test_content_sent_only_after_the_continue_is_seen(sink):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
            connection.putrequest(http_verb, "/v1/events")
            connection.putheader("Content-Length", str(len(BODY)))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            assert connection.sock.recv(65536).startswith(b"HTTP/1.1 100 ")
            connection.send(BODY)
            assert connection.getresponse().status == 204

    assert_delivered(sink, one(inner, f"{sink.url}/v1/events"))


def test_a_nested_dispatcher_s_exchange_counts_for_both(sink):
    inner = witness(by_requests, name="inner")

    def outer(http_verb, url, params):
        inner(http_verb, url, {"wrapped": params})

    dispatches = settled(outer, f"{sink.url}/v1/events", name="outer")
    assert {dispatch.name: dispatch.verdict for dispatch in dispatches} == {
        "inner": Verdict.IDENTICAL,
        "outer": Verdict.EMBEDDED,
    }
    assert [dispatch.exchanges[0].body for dispatch in dispatches] == [sink.requests[0].body] * 2


def test_the_payload_is_the_one_that_was_handed_over(sink):
    assert one(by_requests, f"{sink.url}/v1/events").payload.body == json.dumps(PAYLOAD).encode("ascii")
