"""
A recorder makes one exchange of the pieces that a socket has taken.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import http.client
import itertools

import pytest

from hypothesis import given
from hypothesis import strategies as st
from seen import BODY, PATIENCE, ending, one

from wirewitness import Outcome, Verdict
from wirewitness.core.payload import repr_digest
from wirewitness.dispatch import Dispatch
from wirewitness.typing import Evidence, Reason
from wirewitness.wire import recorder
from wirewitness.wire.recorder import Recorder


HEAD = b"POST /v1/events?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"


def recording(*pieces, **options):
    given = {"scheme": "http", "host": "h", "port": 80, "method": "POST", "target": "/", **options}
    recorded = Recorder(Dispatch("d", None), **given)
    for piece in pieces:
        recorded.sent(piece)
    return recorded


def exchange(*pieces, **options):
    return recording(*pieces, **options).exchange(0)


def test_the_exchange_is_what_the_bytes_say():
    made = exchange(HEAD, b"abcde", method="GET", target="/other")
    assert (made.method, made.path, made.query, made.body) == ("POST", "/v1/events", "a=1", b"abcde")
    assert (made.complete, made.truncated, made.status) == (True, False, None)


def test_before_any_bytes_it_is_what_the_library_was_asked_for():
    made = exchange(method="PUT", target="/asked?b=2")
    assert (made.method, made.path, made.query, made.body, made.complete) == ("PUT", "/asked", "b=2", b"", False)


def test_half_a_head_is_no_request_yet():
    assert not exchange(HEAD[:20]).complete


@given(cuts=st.lists(st.integers(0, len(HEAD) + 5), max_size=6))
def test_the_pieces_may_be_cut_anywhere(cuts):
    whole = HEAD + b"abcde"
    edges = [0, *sorted(cuts), len(whole)]
    made = exchange(*(whole[start:end] for start, end in itertools.pairwise(edges)))
    assert (made.method, made.path, made.body, made.complete) == ("POST", "/v1/events", b"abcde", True)


def test_content_that_is_not_all_there_is_incomplete():
    made = exchange(HEAD, b"abc")
    assert (made.body, made.complete, made.truncated) == (b"abc", False, False)


def test_content_behind_its_length_is_truncated():
    made = exchange(HEAD, b"abcdefg")
    assert (made.body, made.complete, made.truncated) == (b"abcde", True, True)


def test_what_is_known_grows_with_the_pieces():
    recorded = recording(HEAD, b"abc")
    assert recorded.exchange(0).body == b"abc"
    recorded.sent(b"de")
    assert recorded.exchange(0).body == b"abcde"


@pytest.mark.parametrize("piece", [bytearray(b"abcd"), memoryview(b"abcd"), array.array("I", [0x64636261])])
def test_every_buffer_is_read_as_its_bytes(piece):
    made = exchange(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n", piece)
    assert made.complete
    assert made.body == bytes(memoryview(piece))


def test_a_changeable_piece_is_copied():
    piece = bytearray(b"abcde")
    recorded = recording(HEAD, piece)
    piece[:] = b"other"
    assert recorded.exchange(0).body == b"abcde"


def test_what_is_no_buffer_leaves_the_content_unseen():
    made = exchange(HEAD, object())
    assert (made.body, made.size, made.digest, made.complete) == (None, None, None, True)


def test_an_absolute_target_names_the_server_behind_a_proxy():
    made = exchange(b"POST http://server.example:81/path?q HTTP/1.1\r\nHost: h\r\n\r\n", host="proxy", port=3128)
    assert (made.scheme, made.host, made.port, made.path) == ("http", "server.example", 81, "/path")
    assert made.query == "q"


def test_the_host_is_lower_case():
    assert exchange(HEAD, host="Server.Example").host == "server.example"


def test_an_answer_has_status_and_time():
    recorded = recording(HEAD, b"abcde")
    assert not recorded.over
    recorded.answered(204, None)
    made = recorded.exchange(3)
    assert recorded.over
    assert (made.status, made.resend_count, made.received_digest) == (204, 3, None)
    assert made.duration > 0


def test_a_receiver_s_digest_is_read_from_its_field():
    recorded = recording(HEAD, b"abcde")
    digest = hashlib.sha256(b"abcde").digest()
    recorded.answered(204, repr_digest(digest))
    assert recorded.exchange(0).received_digest == digest


@pytest.mark.parametrize("said", ["", "nonsense", "sha-256=:%%%:", "sha-512=:YWJj:"])
def test_a_field_that_holds_no_digest_is_no_digest(said):
    recorded = recording(HEAD, b"abcde")
    recorded.answered(204, said)
    assert recorded.exchange(0).received_digest is None


def test_a_failure_has_class_and_reason():
    recorded = recording(HEAD)
    recorded.failed(ConnectionResetError())
    made = recorded.exchange(0)
    assert (made.error_type, made.failure, made.status) == ("ConnectionResetError", Reason.RESET, None)


def test_an_answer_after_a_failure_counts():
    recorded = recording(HEAD)
    recorded.failed(BrokenPipeError())
    recorded.answered(413, None)
    made = recorded.exchange(0)
    assert (made.error_type, made.failure, made.status) == (None, None, 413)


def test_an_abandoned_request_is_over_and_keeps_its_time():
    recorded = recording(HEAD)
    recorded.failed(TimeoutError())
    lasted = recorded.exchange(0).duration
    recorded.abandoned()
    recorded.abandoned()
    assert recorded.over
    assert recorded.exchange(0).duration == lasted


def test_a_request_too_large_to_keep_is_unseen_and_not_kept(monkeypatch):
    monkeypatch.setattr(recorder, "MOST_RECORDED", 100)
    monkeypatch.setattr(recorder, "LEAST_RECORDED", 50)
    recorded = recording(HEAD[:-4] + b"\r\n\r\n", b"x" * 100, b"y")
    made = recorded.exchange(0)
    assert (made.body, made.complete, made.method) == (None, True, "POST")
    assert recorded._pieces == []


def test_a_request_of_just_the_most_that_is_kept_is_seen(monkeypatch):
    monkeypatch.setattr(recorder, "MOST_RECORDED", len(HEAD) + 5)
    monkeypatch.setattr(recorder, "LEAST_RECORDED", len(HEAD) + 5)
    assert exchange(HEAD, b"abcde").body == b"abcde"


def test_the_content_is_in_no_repr():
    assert "abcde" not in repr(exchange(HEAD, b"abcde"))


@pytest.mark.parametrize("length", ["abc", "-1", "5, 6", "1_0"])
def test_a_length_that_is_none_settles_all_the_same(sink, length):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
            connection.putrequest(http_verb, "/v1/events")
            connection.putheader("Content-Length", length)
            connection.endheaders(BODY)
            connection.getresponse()

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX)
    assert sink.requests == []


def test_what_is_no_http_settles_all_the_same(sink):
    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port, timeout=PATIENCE)) as connection:
            connection.putrequest(http_verb, "/v1/events")
            connection.send(b"no http\r\n\r\n")
            connection.endheaders()
            connection.getresponse()

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert ending(dispatch) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX)
