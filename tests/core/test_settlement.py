"""
The judgement: what the wire saw decides, and it's claimed no better and no worse than it was.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json

import pytest

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wirewitness.core import settlement
from wirewitness.core.exchange import Exchange, address_of
from wirewitness.core.outcome import REASONS, Outcome, Reason
from wirewitness.core.payload import Payload, freeze_query
from wirewitness.core.settlement import ROLES, Role, Settlement, judge
from wirewitness.core.verdict import Evidence, Verdict


TARGET = address_of("http://host/events")
EVENT = {"visitor": "someone", "event": "clicked", "n": 1}
PAYLOAD = Payload(json.dumps(EVENT).encode("ascii"))
COMPACT = json.dumps(EVENT, separators=(",", ":")).encode("ascii")
TAMPERED = PAYLOAD.body.replace(b"clicked", b"cl1cked")
OFFSET = PAYLOAD.body.index(b"icked")
QUERY = freeze_query("http://host/events", {"visitor": "someone", "event": "clicked"})


def post(status=200, body=PAYLOAD.body, *, path="/events", method="POST", to=None, **known):
    return Exchange(method, host="host", path=path, body=body, status=status, location=at(to), **known)


def get(status=200, *, path="/events", query="", to=None, **known):
    return Exchange("GET", host="host", path=path, query=query, status=status, location=at(to), **known)


def at(path):
    return None if path is None else address_of(f"http://host{path}")


def refused(path="/events"):
    return post(None, b"", path=path, complete=False, error_type="ConnectionRefusedError", failure=Reason.REFUSED)


def reset(**known):
    return post(None, error_type="ConnectionResetError", failure=Reason.RESET, **known)


def partial(status=None, body=PAYLOAD.body[:20], **known):
    return post(status, body, complete=False, **known)


def judged(*exchanges, payload=PAYLOAD, target=TARGET, **known):
    return judge(payload, exchanges, target=target, **known)


def ending(settlement):
    return settlement.outcome, settlement.verdict, settlement.evidence, settlement.reason


DELIVERED = (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)


def lost(outcome, reason, evidence=Evidence.RESPONSE):
    return outcome, Verdict.ALTERED, evidence, reason


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_a_payload_answered_2xx_is_delivered(status):
    assert ending(judged(post(status))) == DELIVERED


@pytest.mark.parametrize(
    ("status", "reason"),
    [(101, Reason.STATUS_1XX), (302, Reason.STATUS_3XX), (413, Reason.STATUS_4XX), (503, Reason.STATUS_5XX)],
)
def test_a_payload_answered_anything_else_is_rejected(status, reason):
    settlement = judged(post(status))
    assert ending(settlement) == (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, reason)
    assert settlement.error_type == str(status)


def test_a_swallowed_503_is_rejected_whatever_the_dispatcher_raised_or_not():
    assert judged(post(503)).outcome is Outcome.REJECTED
    assert judged(post(503), error=TimeoutError()).outcome is Outcome.REJECTED


def test_a_delivery_stays_one_where_the_dispatcher_raised_afterwards():
    assert ending(judged(post(), error=ValueError())) == DELIVERED


def test_a_refused_connection_is_failed_with_no_more_than_the_call_as_evidence():
    settlement = judged(refused(), refused())
    assert ending(settlement) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
    assert settlement.error_type == "ConnectionRefusedError"


def test_a_connection_reset_behind_the_payload_is_failed_with_the_socket_as_evidence():
    assert ending(judged(reset())) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.RESET)


def test_an_error_of_the_dispatcher_ends_a_payload_whose_response_was_not_read():
    settlement = judged(post(None), error=TimeoutError())
    assert ending(settlement) == (Outcome.FAILED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.TIMEOUT)
    assert settlement.error_type == "TimeoutError"


def test_a_payload_whose_response_was_not_read_is_unconfirmed():
    settlement = judged(post(None))
    assert ending(settlement) == (Outcome.UNCONFIRMED, Verdict.IDENTICAL, Evidence.SOCKET, Reason.RESPONSE_UNREAD)
    assert not settlement.final


def test_a_call_without_exchanges_is_unconfirmed():
    assert ending(judged()) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)


def test_a_call_without_exchanges_that_raised_is_failed():
    settlement = judged(error=ValueError())
    assert ending(settlement) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR)
    assert settlement.error_type == "ValueError"
    assert settlement.final


def test_a_payload_that_could_not_be_serialised_by_the_dispatcher_either_is_dropped():
    settlement = judged(payload=None, error=TypeError(), unknown=Reason.UNSERIALIZABLE)
    assert ending(settlement) == (Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSERIALIZABLE)
    assert settlement.error_type == "TypeError"


@pytest.mark.parametrize("unknown", [Reason.UNSERIALIZABLE, Reason.UNREADABLE, Reason.UNKNOWN_PAYLOAD])
def test_a_payload_that_is_not_known_is_unconfirmed_for_that_reason(unknown):
    assert ending(judged(payload=None, unknown=unknown)) == (
        Outcome.UNCONFIRMED,
        Verdict.UNOBSERVED,
        Evidence.CALL,
        unknown,
    )


def test_an_unreadable_payload_whose_dispatcher_raised_is_failed():
    assert judged(payload=None, error=TypeError(), unknown=Reason.UNREADABLE).outcome is Outcome.FAILED


@pytest.mark.parametrize("target", [TARGET, None])
def test_content_of_an_unknown_payload_tells_the_outcome_and_no_verdict(target):
    settlement = judged(post(503, b"x"), payload=None, target=target)
    assert ending(settlement) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_5XX)


def test_a_redirect_that_loses_an_unknown_payload_is_rejected():
    assert judged(post(302, b"x", to="/other"), get(path="/other"), payload=None).outcome is Outcome.REJECTED


def test_a_first_request_without_content_may_be_an_unknown_payloads():
    assert judged(get(query="a=1"), payload=None).outcome is Outcome.DELIVERED
    assert judged(get(query="a=1"), payload=None, target=None).outcome is Outcome.DELIVERED


def test_a_first_request_without_content_to_another_url_is_not_an_unknown_payloads():
    assert judged(get(path="/config"), payload=None).outcome is Outcome.UNCONFIRMED


def test_a_failed_attempt_at_an_unknown_payload_is_failed():
    assert judged(refused(), payload=None).outcome is Outcome.FAILED


# What was done to the payload.


def test_a_302_whose_get_lost_the_body_is_rejected_though_the_get_was_answered_200():
    settlement = judged(post(302, to="/elsewhere"), get(path="/elsewhere"))
    assert ending(settlement) == lost(Outcome.REJECTED, Reason.BODY_LOST)
    assert settlement.error_type == "302"
    assert settlement.offset is None


def test_a_redirect_to_the_same_url_loses_the_body_too():
    assert ending(judged(post(303, to="/events"), get())) == lost(Outcome.REJECTED, Reason.BODY_LOST)


def test_a_chain_of_redirects_loses_the_body():
    assert ending(judged(post(301, to="/a"), get(302, path="/a", to="/b"), get(path="/b"))) == lost(
        Outcome.REJECTED, Reason.BODY_LOST
    )


def test_a_redirect_loses_the_body_where_the_first_url_was_not_known_either():
    assert ending(judged(post(302, to="/a"), get(path="/a"), target=None)) == lost(Outcome.REJECTED, Reason.BODY_LOST)


def test_a_redirect_that_loses_the_body_and_keeps_its_coding_loses_it():
    compressed = {"content_encoding": "gzip"}
    exchanges = (post(302, gzip.compress(PAYLOAD.body), to="/a", **compressed), get(path="/a", **compressed))
    assert ending(judged(*exchanges)) == lost(Outcome.REJECTED, Reason.BODY_LOST)


def test_a_307_resent_without_its_body_is_not_resent():
    assert ending(judged(post(307, to="/a"), post(200, b"", path="/a"))) == lost(
        Outcome.REJECTED, Reason.BODY_NOT_RESENT
    )


def test_a_307_with_its_body_is_delivered():
    assert ending(judged(post(307, to="/a"), post(200, path="/a"))) == DELIVERED
    assert ending(judged(post(307, to="/a"), post(307, path="/a", to="/b"), post(200, path="/b"))) == DELIVERED


def test_a_retry_without_its_body_is_not_resent():
    assert ending(judged(post(503), post(200, b""))) == lost(Outcome.REJECTED, Reason.BODY_NOT_RESENT)


def test_a_retry_without_its_body_behind_half_an_attempt_is_not_resent():
    assert ending(judged(partial(failure=Reason.RESET), post(200, b""))) == lost(
        Outcome.FAILED, Reason.BODY_NOT_RESENT, Evidence.SOCKET
    )


def test_a_post_without_the_body_is_failed():
    settlement = judged(post(200, b""))
    assert ending(settlement) == lost(Outcome.FAILED, Reason.BODY_LOST)
    assert settlement.error_type == "body_lost"


def test_a_retry_with_its_body_is_delivered():
    assert ending(judged(post(503), reset(), refused(), post())) == DELIVERED


def test_a_changed_byte_is_altered_with_its_offset():
    settlement = judged(post(200, TAMPERED))
    assert ending(settlement) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)
    assert settlement.offset == OFFSET


def test_something_else_altogether_at_the_target_is_altered():
    assert ending(judged(post(200, b"else"))) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)


def test_an_alteration_in_any_attempt_is_told():
    assert ending(judged(post(503, TAMPERED), post())) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)
    assert ending(judged(post(503), post(200, TAMPERED))) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)


def test_a_shorter_content_length_is_a_truncated_body():
    settlement = judged(post(200, PAYLOAD.body[:10], truncated=True))
    assert ending(settlement) == lost(Outcome.DELIVERED, Reason.BODY_TRUNCATED)
    assert settlement.offset == 10


def test_bytes_behind_a_whole_payload_do_not_change_what_the_receiver_reads():
    assert ending(judged(post(200, truncated=True))) == DELIVERED


RECEIVER = {("http", "host", 80)}


@pytest.mark.parametrize("said", [PAYLOAD.digest, hashlib.sha256(b"x").digest(), b""])
def test_a_digest_counts_only_from_an_origin_that_was_named(said):
    other = {("http", "other", 80), ("https", "host", 443), ("http", "host", 8080)}
    assert ending(judged(post(received_digest=said))) == DELIVERED
    assert ending(judged(post(received_digest=said), receivers=other)) == DELIVERED


def test_a_receiver_that_got_the_digest_is_the_best_evidence():
    assert ending(judged(post(received_digest=PAYLOAD.digest), receivers=RECEIVER)) == (
        Outcome.DELIVERED,
        Verdict.IDENTICAL,
        Evidence.RECEIVER,
        Reason.NONE,
    )


def test_a_receiver_that_got_another_digest_shows_an_alteration_in_transit():
    settlement = judged(post(received_digest=hashlib.sha256(b"x").digest()), receivers=RECEIVER)
    assert ending(settlement) == lost(Outcome.DELIVERED, Reason.ALTERED_IN_TRANSIT, Evidence.RECEIVER)
    assert settlement.offset is None


def test_a_receiver_of_a_reserialised_payload_reports_what_was_sent():
    settlement = judged(post(body=COMPACT, received_digest=hashlib.sha256(COMPACT).digest()), receivers=RECEIVER)
    assert (settlement.verdict, settlement.evidence) == (Verdict.EQUIVALENT, Evidence.RECEIVER)


@pytest.mark.parametrize(
    ("body", "coding", "verdict"),
    [
        (COMPACT, "", Verdict.EQUIVALENT),
        (gzip.compress(PAYLOAD.body, mtime=0), "gzip", Verdict.EQUIVALENT),
        (b"[" + PAYLOAD.body + b"]", "", Verdict.EMBEDDED),
        (b"?", "br", Verdict.UNOBSERVED),
        (None, "", Verdict.UNOBSERVED),
    ],
)
def test_a_payload_in_other_bytes_is_delivered_with_its_verdict(body, coding, verdict):
    settlement = judged(post(body=body, content_encoding=coding))
    assert ending(settlement) == (Outcome.DELIVERED, verdict, Evidence.RESPONSE, Reason.NONE)


def test_the_verdict_is_the_least_of_all_attempts():
    assert judged(post(503, COMPACT), post()).verdict is Verdict.EQUIVALENT
    assert judged(post(503), post(200, b"[" + PAYLOAD.body + b"]")).verdict is Verdict.EMBEDDED


def test_a_last_attempt_that_could_not_be_seen_is_unobserved():
    assert judged(post(503), post(200, None)).verdict is Verdict.UNOBSERVED


def test_an_attempt_that_could_not_be_seen_whole_does_not_count_against_a_later_one():
    assert ending(judged(partial(failure=Reason.RESET), post())) == DELIVERED


# Attempts that broke off.


def test_half_a_payload_is_failed_and_unobserved():
    settlement = judged(partial(failure=Reason.RESET, error_type="ConnectionResetError"))
    assert ending(settlement) == (Outcome.FAILED, Verdict.UNOBSERVED, Evidence.SOCKET, Reason.RESET)


def test_half_of_a_reserialised_payload_accuses_nobody():
    assert judged(partial(body=COMPACT[:20], failure=Reason.RESET)).verdict is Verdict.UNOBSERVED


def test_half_a_payload_is_never_delivered():
    assert judged(partial(200)).outcome is Outcome.UNCONFIRMED
    assert judged(partial(200), error=ValueError()).outcome is Outcome.FAILED
    assert judged(partial(200), payload=None).outcome is Outcome.UNCONFIRMED


@pytest.mark.parametrize("body", [b"", PAYLOAD.body[:20]])
def test_an_early_refusal_of_the_payload_is_rejected(body):
    settlement = judged(partial(413, body))
    assert ending(settlement) == (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX)


# Bystanders.


@pytest.mark.parametrize(
    "aside",
    [
        post(200, b"grant_type=client_credentials", path="/token"),
        post(500, b"grant_type=client_credentials", path="/token"),
        post(200, b"?", path="/telemetry", content_encoding="zstd"),
        post(500, None, path="/upload"),
        post(500, b"", path="/ping"),
        partial(None, b"half", path="/token", failure=Reason.RESET),
        refused("/token"),
        get(path="/config"),
        get(404),
        get(query="since=0"),
        Exchange("HEAD", host="host", path="/events", status=405),
        Exchange("OPTIONS", host="host", path="/events", status=204),
    ],
    ids=lambda exchange: f"{exchange.method} {exchange.path} {exchange.status}",
)
def test_another_request_beside_the_payload_is_a_bystander(aside):
    assert ending(judged(aside, post())) == DELIVERED
    assert ending(judged(post(), aside)) == DELIVERED
    assert ending(judged(aside, post(), aside)) == DELIVERED


def test_an_empty_request_before_the_payload_is_a_challenges_first_step():
    assert ending(judged(post(401, b""), post())) == DELIVERED


def test_other_bytes_that_a_redirect_was_followed_with_again_are_what_had_led_to_it():
    form = b"data=eyJ2aXNpdG9yIjog"
    settlement = judged(post(307, form, to="/elsewhere"), post(204, form, path="/elsewhere"))
    assert (settlement.outcome, settlement.verdict) == (Outcome.DELIVERED, Verdict.ALTERED)


def test_a_token_fetched_between_a_redirect_and_the_next_attempt_is_a_bystander():
    token = post(200, b"grant_type=client_credentials", path="/token")
    assert ending(judged(post(307), token, post())) == DELIVERED


@pytest.mark.parametrize("aside", [get(path="/config"), get(), post(200, b"grant_type=x", path="/token")])
def test_a_bystander_alone_is_no_evidence(aside):
    assert ending(judged(aside)) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)


def test_a_request_elsewhere_in_a_coding_that_is_not_known_is_no_evidence():
    assert judged(post(200, b"?", path="/other", content_encoding="zstd")).outcome is Outcome.UNCONFIRMED


def test_where_the_target_is_not_known_a_body_that_could_not_be_seen_may_be_the_payload():
    settlement = judged(post(200, None), target=None)
    assert (settlement.outcome, settlement.verdict) == (Outcome.DELIVERED, Verdict.UNOBSERVED)


ELSEWHERE = (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ELSEWHERE)


REPORT = b'{"error": "refused", "event": ' + PAYLOAD.body + b"}"


@pytest.mark.parametrize("status", [200, 302, 503, None])
def test_a_payload_in_an_envelope_elsewhere_is_unconfirmed(status):
    assert ending(judged(post(status, REPORT, path="/relay"))) == ELSEWHERE
    assert judged(post(status, REPORT, path="/relay"), error=ValueError()).outcome is Outcome.FAILED


def test_a_gateway_in_the_target_s_place_is_judged_as_the_target():
    assert ending(judged(post(path="/relay"))) == DELIVERED
    assert judged(post(body=COMPACT, path="/relay")).verdict is Verdict.EQUIVALENT
    assert judged(post(503, path="/relay")).outcome is Outcome.REJECTED
    assert ending(judged(post(503, path="/relay"), post(path="/relay"))) == DELIVERED
    assert ending(judged(post(200, b"grant", path="/token"), post(path="/relay"))) == DELIVERED
    assert ending(judged(post(307, path="/relay", to="/a"), post(path="/a"))) == DELIVERED
    assert ending(judged(post(302, path="/relay", to="/a"), get(path="/a"))) == lost(Outcome.REJECTED, Reason.BODY_LOST)
    assert judged(post(503, path="/relay"), post(200, TAMPERED, path="/relay")).verdict is Verdict.ALTERED


def test_two_other_addresses_are_no_gateway():
    assert ending(judged(post(503, path="/a"), post(path="/b"))) == ELSEWHERE


def test_where_anything_went_to_the_target_another_address_is_no_gateway():
    assert judged(refused(), post(path="/copy")).outcome is Outcome.FAILED
    assert judged(refused(""), post(path="/copy")).outcome is Outcome.FAILED
    assert judged(post(503, b""), post(path="/copy")).reason is Reason.BODY_LOST


def test_a_small_payload_proves_no_gateway():
    for body, outcome in ((b"x" * 31, Outcome.UNCONFIRMED), (b"x" * 32, Outcome.DELIVERED)):
        assert judged(post(body=body, path="/relay"), payload=Payload(body)).outcome is outcome


def test_other_bytes_elsewhere_are_no_evidence_at_all():
    assert ending(judged(post(body=TAMPERED, path="/relay"))) == (*ELSEWHERE[:3], Reason.NO_EVIDENCE)
    assert ending(judged(post(302, TAMPERED, path="/relay", to="/a"), get(path="/a"))) == (
        *ELSEWHERE[:3],
        Reason.NO_EVIDENCE,
    )


COPIES = {
    "the same": PAYLOAD.body,
    "masked": TAMPERED,
    "an error report": b'{"error": "refused", "event": ' + PAYLOAD.body + b"}",
    "re-serialised": COMPACT,
    "nothing": b"",
    "unseen": None,
}
PLACES = {
    "path": {"path": "/audit"},
    "path below": {"path": "/events/audit"},
    "host": {"host": "logs"},
    "port": {"port": 8080},
    "scheme": {"scheme": "https", "port": 443},
}


@pytest.mark.parametrize("end", [post(204), post(503), reset()], ids=["taken", "refused", "failed"])
@pytest.mark.parametrize("answer", [200, 500, 307, None])
@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("place", PLACES)
def test_a_copy_elsewhere_changes_nothing(end, copy, place, answer):
    aside = Exchange(
        **{"method": "POST", "host": "host", "path": "/events", "body": COPIES[copy], "status": answer, **PLACES[place]}
    )
    expected = judged(end)
    assert judged(end, aside) == expected
    assert judged(aside, end) == expected
    assert judged(aside, end, aside) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://host/events",
        "HTTP://HOST/events",
        "http://host:80/events",
        "http://host./events",
        "http://user:secret@host/events",
        "http://host/events?key=1",
        "http://host/events#here",
        "http://host/%65vents",
        "http://host/a/../events",
        "http://host/./events",
    ],
)
def test_the_target_is_known_by_whatever_spelling(url):
    assert ending(judged(post(), target=address_of(url))) == DELIVERED
    assert judged(post(200, TAMPERED), target=address_of(url)).verdict is Verdict.ALTERED


@pytest.mark.parametrize(
    "url",
    [
        "https://host/events",
        "http://host:8080/events",
        "http://host/events/",
        "http://host/Events",
        "http://host/event%2Fs",
        "http://sub.host/events",
        "http://host//events",
        "http://host/",
        "http://host",
    ],
)
def test_another_url_is_another_target(url):
    assert ending(judged(post(200, REPORT), target=address_of(url))) == ELSEWHERE


def test_a_connection_that_failed_before_any_path_was_asked_for_is_the_targets():
    assert ending(judged(refused(""))) == ending(judged(refused()))
    there = Exchange("POST", host="other", path="", complete=False, failure=Reason.REFUSED)
    assert ending(judged(there)) == (*ELSEWHERE[:3], Reason.NO_EVIDENCE)


# Where nobody named a target.


def nowhere(*exchanges, **known):
    return judged(*exchanges, target=None, **known)


def test_without_a_target_an_error_report_elsewhere_makes_no_delivery():
    report = b'{"event": ' + PAYLOAD.body + b"}"
    assert nowhere(post(503), post(200, report, path="/logs")).outcome is Outcome.REJECTED
    assert nowhere(post(200, report, path="/logs"), post(503)).outcome is Outcome.REJECTED


def test_without_a_target_a_masked_copy_elsewhere_makes_no_alteration():
    assert ending(nowhere(post(), post(200, TAMPERED, path="/audit"))) == DELIVERED


def test_without_a_target_a_copy_that_is_refused_elsewhere_makes_no_rejection():
    assert ending(nowhere(post(), post(500, path="/audit"))) == DELIVERED


def test_without_a_target_a_second_endpoint_takes_what_the_first_one_could_not():
    assert ending(nowhere(post(503), post(path="/second"))) == DELIVERED


def test_without_a_target_a_redirect_is_where_the_dispatch_began():
    assert ending(nowhere(post(307, to="/a"), post(path="/a"))) == DELIVERED
    assert nowhere(post(307, TAMPERED, to="/a"), post(path="/a")).verdict is Verdict.ALTERED


def test_without_payload_and_target_several_addresses_that_disagree_tell_nothing():
    token = post(200, b"grant", path="/token")
    for exchanges in ((token, post(503, b"x")), (post(503, b"x"), token)):
        assert nowhere(*exchanges, payload=None).outcome is Outcome.UNCONFIRMED
    assert nowhere(token, post(200, b"x"), payload=None).outcome is Outcome.DELIVERED
    assert nowhere(post(307, b"x", to="/a"), post(503, b"x", path="/a"), payload=None).outcome is Outcome.REJECTED


# Roles: a test for each row of the table.

ROLE_ROWS = {
    (Role.ELSEWHERE, Reason.NONE): ((post(200, REPORT, path="/other"),), PAYLOAD, ELSEWHERE),
    (Role.BROKEN_OFF, Reason.NONE): (
        (partial(413),),
        PAYLOAD,
        (Outcome.REJECTED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.STATUS_4XX),
    ),
    (Role.CARRIER, Reason.NONE): ((post(),), PAYLOAD, DELIVERED),
    (Role.CARRIER, Reason.BYTES_DIFFER): (
        (post(200, TAMPERED),),
        PAYLOAD,
        lost(Outcome.DELIVERED, Reason.BYTES_DIFFER),
    ),
    (Role.FOLLOW_UP, Reason.BODY_NOT_RESENT): (
        (post(307, to="/a"), post(200, b"", path="/a")),
        PAYLOAD,
        lost(Outcome.REJECTED, Reason.BODY_NOT_RESENT),
    ),
    (Role.FOLLOW_UP, Reason.BODY_LOST): (
        (post(302, to="/a"), get(path="/a")),
        PAYLOAD,
        lost(Outcome.REJECTED, Reason.BODY_LOST),
    ),
    (Role.RESEND, Reason.BODY_NOT_RESENT): (
        (post(503), post(200, b"")),
        PAYLOAD,
        lost(Outcome.REJECTED, Reason.BODY_NOT_RESENT),
    ),
    (Role.CHALLENGE, Reason.BODY_LOST): ((post(401, b""), post()), PAYLOAD, DELIVERED),
    (Role.CHALLENGE, Reason.BODY_LOST, "query"): ((get(), get(query=QUERY.body.decode())), QUERY, DELIVERED),
    (Role.BYSTANDER, Reason.NONE): ((get(404), post(), get(404)), PAYLOAD, DELIVERED),
}


@pytest.mark.parametrize("row", ROLE_ROWS, ids=lambda row: "-".join(map(str, row)))
def test_each_role_is_judged_as_its_row_says(row):
    made, payload, expected = ROLE_ROWS[row]
    assert ending(judged(*made, payload=payload)) == expected


def test_every_row_of_the_table_is_tested():
    assert len(ROLES) == len(ROLE_ROWS)
    assert [row.role for row in ROLES] == [key[0] for key in ROLE_ROWS]


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_answer_is_no_final_one(status):
    settlement = judged(post(status))
    assert ending(settlement) == (Outcome.UNCONFIRMED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.RESPONSE_UNREAD)
    assert judged(post(status), error=TimeoutError()).outcome is Outcome.FAILED
    assert judged(post(status), post()).outcome is Outcome.DELIVERED


def test_what_is_framed_oddly_and_answered_2xx_is_unconfirmed_for_good():
    odd = {"complete": False, "clear": False}
    settlement = judged(post(204, **odd))
    assert ending(settlement) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.RESPONSE, Reason.FRAMED_ODDLY)
    assert settlement.final
    assert judged(post(400, **odd)).outcome is Outcome.REJECTED
    assert ending(judged(post(204, **odd), post())) == DELIVERED


def test_what_a_lost_tap_could_not_see_is_unconfirmed_for_good():
    settlement = judged(unseen=Reason.TAP_LOST)
    assert ending(settlement) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TAP_LOST)
    assert settlement.final
    assert ending(judged(post(), unseen=Reason.TAP_LOST)) == DELIVERED
    assert judged(unseen=Reason.TAP_LOST, error=ValueError()).outcome is Outcome.FAILED


def test_where_the_target_is_not_known_tampering_is_altered_all_the_same():
    assert ending(judged(post(body=TAMPERED), target=None)) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)


def test_a_tiny_payload_does_not_make_another_urls_json_an_alteration():
    tiny = Payload(b"{}")
    token = post(200, b'{"grant": 1}', path="/token")
    assert ending(judged(token, post(body=b"{}"), payload=tiny)) == DELIVERED
    assert judged(post(body=b'{"grant": 1}'), payload=tiny).verdict is Verdict.ALTERED


def test_an_empty_payload_is_delivered_by_an_empty_request_to_its_target_only():
    empty = Payload(b"")
    assert ending(judged(post(body=b""), payload=empty)) == DELIVERED
    assert judged(post(body=b"", path="/ping"), payload=empty).outcome is Outcome.UNCONFIRMED
    assert ending(judged(post(200, b"x=1", path="/token"), post(body=b""), payload=empty)) == DELIVERED
    assert ending(judged(post(302, b"", to="/a"), get(path="/a"), payload=empty)) == DELIVERED


# Payloads in queries.


def query(*exchanges, **known):
    return judged(*exchanges, **{"payload": QUERY, **known})


SENT = QUERY.body.decode("ascii")


def test_a_query_is_judged_as_a_payload():
    assert ending(query(get(query=SENT))) == DELIVERED
    assert query(get(query=SENT.replace("=some", "=s%6Fme"))).verdict is Verdict.EQUIVALENT
    assert ending(query(get(query=f"{SENT}&more=1"))) == lost(Outcome.DELIVERED, Reason.BYTES_DIFFER)


def test_a_query_that_goes_to_two_other_addresses_is_unconfirmed():
    assert ending(query(get(path="/a", query=SENT), get(path="/b", query=SENT))) == ELSEWHERE
    assert ending(query(get(path="/relay", query=SENT), target=None)) == DELIVERED


def test_a_query_that_a_redirect_loses_is_lost():
    assert ending(query(get(302, query=SENT, to="/a"), get(path="/a"))) == lost(Outcome.REJECTED, Reason.BODY_LOST)


def test_a_query_that_was_not_sent_is_lost():
    assert ending(query(get())) == lost(Outcome.FAILED, Reason.BODY_LOST)
    assert ending(query(get(), get(query=SENT))) == DELIVERED


def test_a_receiver_that_got_no_content_says_nothing_of_a_query():
    settlement = query(get(query=SENT, received_digest=hashlib.sha256(b"").digest()), receivers=RECEIVER)
    assert settlement.evidence is Evidence.RESPONSE


# Laws.

bodies = st.sampled_from(
    [PAYLOAD.body, TAMPERED, COMPACT, b"[" + PAYLOAD.body + b"]", PAYLOAD.body[:9], b"", b"grant_type=x", b"{}", None]
)
failures = st.sampled_from([None, *(reason for reason in REASONS[Outcome.FAILED] if reason.value.isalpha())])
exchanges = st.builds(
    Exchange,
    method=st.sampled_from(["POST", "GET", "PUT", "HEAD"]),
    host=st.sampled_from(["host", "other"]),
    path=st.sampled_from(["/events", "/token"]),
    query=st.sampled_from(["", SENT, "a=1", "\ud800"]),
    body=bodies,
    content_encoding=st.sampled_from(["", "gzip", "br"]),
    complete=st.booleans(),
    truncated=st.booleans(),
    status=st.none() | st.sampled_from([101, 103, 200, 204, 301, 302, 307, 404, 503, 799]),
    location=st.none() | st.just(TARGET) | st.just(address_of("http://host/token")),
    clear=st.booleans(),
    received_digest=st.none() | st.sampled_from([PAYLOAD.digest, b"x"]),
    error_type=st.just("E"),
    failure=failures,
)
payloads = st.sampled_from([PAYLOAD, QUERY, Payload(b""), Payload(b"{}"), Payload(b"", in_query=True), None])
errors = st.sampled_from([None, ValueError(), TimeoutError(), ConnectionResetError(), KeyboardInterrupt()])
unknowns = st.sampled_from([Reason.UNSERIALIZABLE, Reason.UNREADABLE, Reason.UNKNOWN_PAYLOAD])
cases = st.fixed_dictionaries(
    {
        "payload": payloads,
        "exchanges": st.lists(exchanges, max_size=4),
        "target": st.sampled_from([None, TARGET]),
        "error": errors,
        "unknown": unknowns,
        "receivers": st.sampled_from([(), RECEIVER]),
    }
)


@settings(max_examples=250)
@given(cases)
def test_every_judgement_has_one_of_its_outcomes_reasons(case):
    settlement = judge(**case)
    assert settlement.reason in REASONS[settlement.outcome]


@settings(max_examples=250)
@given(cases)
def test_nothing_is_claimed_that_no_exchange_shows(case):
    settlement = judge(**case)
    statuses = [exchange.status for exchange in case["exchanges"]]
    answered = settlement.outcome in {Outcome.DELIVERED, Outcome.REJECTED}
    assert not answered or any(status is not None for status in statuses)
    assert settlement.outcome is not Outcome.DELIVERED or any(
        exchange.succeeded and exchange.complete for exchange in case["exchanges"]
    )
    assert settlement.verdict is Verdict.UNOBSERVED or any(exchange.complete for exchange in case["exchanges"])
    assert settlement.evidence in {Evidence.CALL, Evidence.SOCKET} or any(status is not None for status in statuses)


@settings(max_examples=250)
@given(cases)
def test_where_the_target_was_asked_without_redirects_only_that_counts(case):
    case["exchanges"] = [dataclasses.replace(each, location=None) for each in case["exchanges"]]
    here = [each for each in case["exchanges"] if each.address == TARGET]
    assume(here)
    one = judge(**{**case, "target": TARGET})
    other = judge(**{**case, "target": TARGET, "exchanges": here})
    assert dataclasses.replace(one, reason=Reason.NONE) == dataclasses.replace(other, reason=Reason.NONE)
    assert one.reason in {other.reason, Reason.ELSEWHERE}


@settings(max_examples=250)
@given(cases)
def test_a_good_verdict_is_shown_by_an_exchange(case):
    settlement, payload = judge(**case), case["payload"]
    if settlement.verdict is Verdict.IDENTICAL:
        asked = [exchange.query if payload.in_query else exchange.body for exchange in case["exchanges"]]
        assert (payload.body.decode() if payload.in_query else payload.body) in asked


@settings(max_examples=250)
@given(cases)
def test_an_offset_is_told_only_of_what_was_altered(case):
    settlement = judge(**case)
    assert settlement.offset is None or settlement.verdict is Verdict.ALTERED


@settings(max_examples=250)
@given(cases)
def test_the_order_of_evidence_is_that_of_what_was_seen(case):
    settlement = judge(**case)
    if settlement.evidence is Evidence.CALL:
        assert settlement.verdict is Verdict.UNOBSERVED
        assert settlement.outcome in {Outcome.FAILED, Outcome.DROPPED, Outcome.UNCONFIRMED}


OBSERVERS_OWN = {(Outcome.UNCONFIRMED, reason) for reason in (Reason.EVICTED, Reason.SEARCH_GIVEN_UP, Reason.SHUTDOWN)}
OUTBOXES_OWN = {(Outcome.DROPPED, reason) for reason in REASONS[Outcome.DROPPED] if reason is not Reason.UNSERIALIZABLE}
ALTERED = {
    Reason.BYTES_DIFFER: (post(503, TAMPERED),),
    Reason.BODY_LOST: (post(302, to="/events"), get()),
    Reason.BODY_NOT_RESENT: (post(503), post(503, b"")),
    Reason.BODY_TRUNCATED: (post(503, PAYLOAD.body[:9], truncated=True),),
    Reason.ALTERED_IN_TRANSIT: (post(503, received_digest=bytes(32)),),
}
ENDS = {
    Outcome.DELIVERED: post(),
    Outcome.REJECTED: post(503),
    Outcome.FAILED: reset(),
    Outcome.UNCONFIRMED: post(None),
}
WITHOUT_ALTERATION = {
    (Outcome.DELIVERED, Reason.NONE): judged(post()),
    **{
        (Outcome.REJECTED, reason): judged(post(status))
        for status, reason in {
            101: Reason.STATUS_1XX,
            302: Reason.STATUS_3XX,
            404: Reason.STATUS_4XX,
            503: Reason.STATUS_5XX,
        }.items()
    },
    **{
        (Outcome.FAILED, reason): judged(post(None, failure=reason))
        for reason in REASONS[Outcome.FAILED]
        if reason not in ALTERED
    },
    (Outcome.DROPPED, Reason.UNSERIALIZABLE): judged(payload=None, error=TypeError(), unknown=Reason.UNSERIALIZABLE),
    **{
        (Outcome.UNCONFIRMED, reason): judged(payload=None, unknown=reason)
        for reason in (Reason.UNSERIALIZABLE, Reason.UNREADABLE, Reason.UNKNOWN_PAYLOAD)
    },
    (Outcome.UNCONFIRMED, Reason.ELSEWHERE): judged(post(200, REPORT, path="/other")),
    (Outcome.UNCONFIRMED, Reason.FRAMED_ODDLY): judged(post(complete=False, clear=False)),
    (Outcome.UNCONFIRMED, Reason.NO_EVIDENCE): judged(),
    (Outcome.UNCONFIRMED, Reason.TAP_LOST): judged(unseen=Reason.TAP_LOST),
    (Outcome.UNCONFIRMED, Reason.RESPONSE_UNREAD): judged(post(None)),
}
REACHED = WITHOUT_ALTERATION | {
    (outcome, reason): judged(*exchanges, end, receivers=RECEIVER)
    for reason, exchanges in ALTERED.items()
    for outcome, end in ENDS.items()
}


def test_every_outcome_and_reason_that_is_counted_from_zero_can_be_reached():
    counted = {(outcome, reason) for outcome, reasons in REASONS.items() for reason in reasons}
    assert set(REACHED) | OBSERVERS_OWN | OUTBOXES_OWN == counted


@pytest.mark.parametrize("pair", REACHED, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_each_outcome_and_reason_is_reached_as_described(pair):
    settlement = REACHED[pair]
    assert isinstance(settlement, Settlement)
    assert (settlement.outcome, settlement.reason) == pair


@given(
    status=st.sampled_from([200, 204, 302, 400, 503, None]),
    body=st.sampled_from([PAYLOAD.body, TAMPERED, b""]),
    complete=st.booleans(),
    reported=st.sampled_from([None, PAYLOAD.digest, bytes(32)]),
    receivers=st.sampled_from([(), {("http", "a", 80)}]),
)
def test_the_plain_case_is_judged_as_any_other(status, body, complete, reported, receivers):
    exchange = Exchange("POST", host="a", body=body, complete=complete, status=status, received_digest=reported)
    quick = judge(PAYLOAD, [exchange], receivers=receivers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settlement, "_plainly_delivered", lambda *_: False)
        assert judge(PAYLOAD, [exchange], receivers=receivers) == quick


def test_a_request_to_elsewhere_than_the_redirect_pointed_is_another_one():
    sent = Exchange("POST", host="a", body=PAYLOAD.body, status=302, location=("http", "b", 80, "/"))
    strange = Exchange("GET", host="c", status=200)
    followed = Exchange("GET", host="b", status=200)
    target = ("http", "a", 80, "/")
    assert judge(PAYLOAD, [sent, strange], target=target).verdict is Verdict.IDENTICAL
    assert judge(PAYLOAD, [sent, followed], target=target).reason is Reason.BODY_LOST


def test_a_payload_that_is_known_to_stand_in_a_body_is_embedded_without_another_search():
    known = {"embeds": frozenset({PAYLOAD.body})}
    assert judged(post(body=b"not searched", **known)).verdict is Verdict.EMBEDDED
    assert judged(post(body=b"not searched", content_encoding="br", **known)).verdict is Verdict.UNOBSERVED
    assert judged(post(body=b"[%s]" % COMPACT, **known), payload=Payload(COMPACT)).verdict is Verdict.EMBEDDED
