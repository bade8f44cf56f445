"""
What is to be done after an attempt.
"""

from __future__ import annotations

import math

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from time import asctime

import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core.outcome import REASONS, Outcome, Reason, reason_of_status
from wirewitness.core.retry import Action, Decision, RetryPolicy, away, decide, parse_retry_after, says_something
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.errors import ConfigurationError


NOW = 1_800_000_000.0
"""A Friday: 2027-01-15, 08:00 UTC."""

CHANCES = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0, 1e9)


def settlement(outcome, reason=Reason.NONE, verdict=Verdict.IDENTICAL):
    return Settlement(outcome, verdict, Evidence.RESPONSE, reason)


def after(outcome, reason=Reason.NONE, *, policy=None, **options):
    given = {"status": None, "attempts": 1, "age": 0.0, "retry_after": None, "now": NOW, "chance": 0.5}
    return decide(policy or RetryPolicy(), settlement(outcome, reason), **(given | options))


def rejected(status, **options):
    return after(Outcome.REJECTED, reason_of_status(status), status=status, **options)


# What an attempt says of the message.


@pytest.mark.parametrize(
    ("outcome", "evidence", "reason", "exchanges", "is_away"),
    [
        (Outcome.FAILED, Evidence.CALL, Reason.REFUSED, 1, True),
        (Outcome.FAILED, Evidence.CALL, Reason.TIMEOUT, 1, True),
        (Outcome.FAILED, Evidence.CALL, Reason.TLS, 1, True),
        # Nobody saw the request: its bytes may have left before it timed out.
        (Outcome.FAILED, Evidence.CALL, Reason.TIMEOUT, 0, False),
        (Outcome.FAILED, Evidence.CALL, Reason.DNS, 0, True),
        # A field that can't be sent, in a request that was begun or in none.
        (Outcome.FAILED, Evidence.CALL, Reason.ERROR, 1, False),
        (Outcome.FAILED, Evidence.CALL, Reason.ERROR, 0, False),
        (Outcome.FAILED, Evidence.SOCKET, Reason.RESET, 1, False),
        (Outcome.UNCONFIRMED, Evidence.CALL, Reason.NO_EVIDENCE, 0, False),
    ],
)
def test_a_server_is_away_where_it_could_not_be_reached_and_no_byte_left(outcome, evidence, reason, exchanges, is_away):
    ended = Settlement(outcome, Verdict.UNOBSERVED, evidence, reason)
    assert away(ended, exchanges) is is_away
    assert says_something(ended, None, exchanges) is not is_away


# What ends here.


@pytest.mark.parametrize("verdict", Verdict)
def test_what_was_delivered_is_acknowledged_whatever_was_done_to_it(verdict):
    delivered = settlement(Outcome.DELIVERED, verdict=verdict)
    decision = decide(RetryPolicy(), delivered, status=204, attempts=99, age=1e9, retry_after="7", now=NOW, chance=0.5)
    assert decision == Decision(Action.ACK)


@pytest.mark.parametrize("reason", REASONS[Outcome.UNCONFIRMED])
def test_what_nobody_knows_the_end_of_is_not_sent_again(reason):
    assert after(Outcome.UNCONFIRMED, reason) == Decision(Action.ACK)


@pytest.mark.parametrize("reason", REASONS[Outcome.DROPPED])
def test_what_was_dropped_is_buried_with_its_reason(reason):
    assert after(Outcome.DROPPED, reason) == Decision(Action.DEAD_LETTER, reason=reason.value)


@pytest.mark.parametrize(
    "status", [100, 199, 300, 302, 307, 399, 400, 401, 403, 404, 409, 413, 421, 426, 428, 431, 499]
)
def test_an_answer_that_would_be_the_same_again_is_buried_with_its_reason(status):
    assert rejected(status) == Decision(Action.DEAD_LETTER, reason=reason_of_status(status).value)


def test_a_rejection_whose_status_nobody_knows_is_buried():
    assert after(Outcome.REJECTED, Reason.STATUS_5XX) == Decision(Action.DEAD_LETTER, reason="status_5xx")


def test_a_rejected_payload_that_was_altered_is_buried_as_such():
    decision = after(Outcome.REJECTED, Reason.BODY_LOST, status=411)
    assert decision == Decision(Action.DEAD_LETTER, reason="body_lost")


# What is tried again.


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 505, 507, 511, 599, 600, 999])
def test_an_answer_that_may_be_another_later_is_retried(status):
    assert rejected(status) == Decision(Action.RETRY, 0.25)


@pytest.mark.parametrize("reason", REASONS[Outcome.FAILED])
def test_what_failed_is_retried_whatever_ended_it_and_a_cancelled_attempt_too(reason):
    assert after(Outcome.FAILED, reason) == Decision(Action.RETRY, 0.25)


def test_the_statuses_below_500_are_the_user_s_choice():
    policy = RetryPolicy(statuses=frozenset({404}))
    actions = [rejected(status, policy=policy).action for status in (404, 429, 500)]
    assert actions == [Action.RETRY, Action.DEAD_LETTER, Action.RETRY]


@pytest.mark.parametrize(
    ("attempts", "action"), [(1, Action.RETRY), (2, Action.RETRY), (3, Action.DEAD_LETTER), (4, Action.DEAD_LETTER)]
)
def test_the_last_attempt_is_followed_by_none_and_leaves_its_reason(attempts, action):
    decision = rejected(503, policy=RetryPolicy(attempts=3), attempts=attempts)
    assert decision.action is action
    assert decision.reason == ("status_5xx" if action is Action.DEAD_LETTER else "")


def test_a_single_attempt_can_be_all():
    assert after(Outcome.FAILED, Reason.RESET, policy=RetryPolicy(attempts=1)) == Decision(
        Action.DEAD_LETTER, reason="reset"
    )


def test_without_limits_it_is_tried_for_ever():
    policy = RetryPolicy(attempts=None, lifetime=None)
    assert rejected(503, policy=policy, attempts=10**9, age=1e12).action is Action.RETRY


def test_what_could_not_be_tried_again_within_its_lifetime_is_expired_now():
    policy = RetryPolicy(lifetime=100.0, base=8.0)
    assert rejected(503, policy=policy, age=96.0) == Decision(Action.RETRY, 4.0)
    assert rejected(503, policy=policy, age=96.5) == Decision(Action.DEAD_LETTER, reason="expired")
    assert rejected(503, policy=policy, age=50.0, retry_after="60") == Decision(Action.DEAD_LETTER, reason="expired")


# How long is waited.


@pytest.mark.parametrize(("attempts", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (9, 60.0)])
def test_the_backoff_doubles_up_to_its_ceiling_and_any_part_of_it_can_come(attempts, longest):
    assert [RetryPolicy().delay(attempts, chance) for chance in (0.0, 0.5, 1.0)] == [0.0, longest / 2, longest]


@given(attempts=st.integers(1, 10**30), chance=CHANCES, base=st.floats(1e-6, 1e300), ceiling=st.floats(1e-6, 1e300))
def test_no_number_of_attempts_overflows_the_backoff(attempts, chance, base, ceiling):
    policy = RetryPolicy(base=min(base, ceiling), ceiling=max(base, ceiling))
    assert 0 <= policy.delay(attempts, chance) <= policy.ceiling


def test_a_retry_after_is_waited_for_and_a_little_more_so_that_not_all_come_back_at_once():
    assert rejected(429, retry_after="7").delay == 7.25
    assert rejected(503, retry_after="7", chance=0.0).delay == 7.0
    assert rejected(503, retry_after=format_datetime(at(NOW + 20), usegmt=True), chance=0.0).delay == 20.0


def test_a_long_retry_after_counts_as_its_ceiling():
    policy = RetryPolicy(retry_after_ceiling=30.0)
    assert rejected(503, policy=policy, retry_after="86400", chance=0.0).delay == 30.0
    assert rejected(503, policy=policy, retry_after="9" * 5000, chance=0.0).delay == 30.0


@pytest.mark.parametrize("value", ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_retry_after_that_is_over_makes_no_backoff_shorter(value):
    assert rejected(503, attempts=8, retry_after=value).delay == 30.0


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "120, 240"])
def test_a_retry_after_that_nobody_can_read_is_as_none(value):
    assert rejected(503, attempts=3, retry_after=value) == rejected(503, attempts=3)


@given(attempts=st.integers(1, 40), chance=CHANCES, asked=st.integers(0, 10**6), base=st.floats(0.001, 10))
def test_a_wait_is_as_long_as_the_backoff_and_as_what_was_asked_for_and_bounded(attempts, chance, asked, base):
    policy = RetryPolicy(attempts=None, lifetime=None, base=base)
    delay = rejected(503, policy=policy, attempts=attempts, chance=chance, retry_after=str(asked)).delay
    backoff, honoured = policy.delay(attempts, chance), min(asked, policy.retry_after_ceiling)
    assert max(backoff, honoured) <= delay <= max(backoff, honoured + base)


SETTLEMENTS = st.sampled_from([(outcome, reason) for outcome, reasons in REASONS.items() for reason in reasons])
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.none() | st.integers(1, 20),
    lifetime=st.none() | st.floats(1, 1e6),
    base=st.floats(0.001, 1),
    ceiling=st.floats(1, 600),
)


@given(
    policy=POLICIES,
    ended=SETTLEMENTS,
    status=st.none() | st.integers(100, 999),
    attempts=st.integers(1, 30),
    age=SECONDS,
    retry_after=st.none() | st.text(max_size=40) | st.integers(0).map(str),
    chance=CHANCES,
)
def test_whatever_happens_the_limits_hold_and_a_dead_letter_has_its_reason(  # noqa: PLR0913, PLR0917 -- all that has a say
    policy, ended, status, attempts, age, retry_after, chance
):
    decision = decide(
        policy,
        settlement(*ended),
        status=status,
        attempts=attempts,
        age=age,
        retry_after=retry_after,
        now=NOW,
        chance=chance,
    )
    assert (decision.action is Action.DEAD_LETTER) == bool(decision.reason)
    assert (decision.action is Action.ACK) == (ended[0] in {Outcome.DELIVERED, Outcome.UNCONFIRMED})
    if decision.action is Action.RETRY:
        assert ended[0] in {Outcome.FAILED, Outcome.REJECTED}
        assert attempts < (policy.attempts or math.inf)
        assert age + decision.delay <= (policy.lifetime or math.inf)
    else:
        assert decision.delay == 0.0


# Retry-After, RFC 9110 section 10.2.3.


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("120", 120), (" 5\t", 5), ("007", 7), ("9" * 400, math.inf)])
def test_a_retry_after_in_seconds_is_read(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "date",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms_of_a_date_are_read(date):
    assert parse_retry_after(date, 784_111_777.0 - 90.5) == 90.5


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_a_date_is_the_time_from_now_until_then_and_never_less_than_none(now, then):
    assert parse_retry_after(format_datetime(at(then), usegmt=True), now) == max(0, then - now)
    assert parse_retry_after(asctime(at(then).timetuple()), now) == max(0, then - now)


def test_a_date_in_another_zone_is_read_all_the_same():
    then = at(NOW + 60).astimezone(timezone(timedelta(hours=-8)))
    assert parse_retry_after(format_datetime(then), NOW) == 60


@pytest.mark.parametrize(
    "value",
    ["", " ", "-1", "+5", "1.5", "1e3", "0x10", "5 s", "soon", "120, 240", "\u0661\u0662", "\u00b2", "2027-01-15T08:00:00Z",
     "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +9999", "Sun, 06 Nov 99999 08:49:37 GMT"],
)  # fmt: skip
def test_anything_else_cannot_be_read(value):
    assert parse_retry_after(value, NOW) is None


WORDS = st.sampled_from(
    ["Sun,", "06", "Nov", "1994", "08:49:37", "GMT", "-", "+", ":", ".", "", " ", "94", "9" * 30, "\0"]
)


@given(st.text() | st.lists(WORDS).map(" ".join) | st.lists(WORDS).map("".join), st.floats(-1e12, 1e12))
def test_no_value_raises_and_no_wait_is_negative(value, now):
    wait = parse_retry_after(value, now)
    assert wait is None or wait >= 0


# Bad input.


@pytest.mark.parametrize("attempts", [0, -1, 1.0, 1.5, True, False, "3", math.nan, math.inf])
def test_a_nonsensical_number_of_attempts_is_refused_by_name_and_with_the_remedy(attempts):
    with pytest.raises(ConfigurationError, match=r"attempts=.*whole number greater than 0, or None"):
        RetryPolicy(attempts=attempts)


@pytest.mark.parametrize("name", ["lifetime", "base", "ceiling", "retry_after_ceiling"])
@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, True, "60", b"1"])
def test_a_nonsensical_time_is_refused_by_name_and_with_the_remedy(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}=.*number of seconds greater than 0"):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("name", ["base", "ceiling", "retry_after_ceiling"])
def test_only_what_can_be_without_a_limit_can_be_none(name):
    with pytest.raises(ConfigurationError, match=f"^{name}=None"):
        RetryPolicy(**{name: None})


def test_a_ceiling_below_the_base_is_refused():
    with pytest.raises(ConfigurationError, match=r"ceiling=1.0: must not be less than base=2.0"):
        RetryPolicy(base=2.0, ceiling=1.0)


@pytest.mark.parametrize("statuses", [None, 429, "429", [429], {429}, (429,)])
def test_statuses_that_are_no_frozenset_are_refused(statuses):
    with pytest.raises(ConfigurationError, match=r"statuses=.*must be a frozenset"):
        RetryPolicy(statuses=statuses)


@pytest.mark.parametrize("status", [0, 200, 299, 500, 503, True, "429", 429.0])
def test_a_status_that_says_nothing_of_a_retry_is_refused(status):
    with pytest.raises(ConfigurationError, match=r"statuses with .*from 300 to 499"):
        RetryPolicy(statuses=frozenset({status}))


def test_whole_numbers_are_seconds_too_and_equal_policies_are_one():
    policy = RetryPolicy(lifetime=60, base=1, ceiling=2, retry_after_ceiling=3, statuses=frozenset())
    assert policy == RetryPolicy(lifetime=60.0, base=1.0, ceiling=2.0, retry_after_ceiling=3.0, statuses=frozenset())
    assert len({policy, RetryPolicy()}) == 2


# What counts against the attempts.


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_or_absent_server_says_nothing_of_a_message(status):
    assert not says_something(settlement(Outcome.REJECTED, reason_of_status(status)), status, 1)


@pytest.mark.parametrize("status", [408, 425, 500, 501, 505, 599])
def test_any_other_answer_says_something_of_a_message(status):
    assert says_something(settlement(Outcome.REJECTED, reason_of_status(status)), status, 1)


@pytest.mark.parametrize(
    ("evidence", "exchanges", "says"),
    [(Evidence.CALL, 1, False), (Evidence.SOCKET, 1, True), (Evidence.CALL, 0, True)],
    ids=["no byte left", "bytes left", "not even tried"],
)
def test_a_failure_says_something_of_a_message_unless_no_connection_came_about(evidence, exchanges, says):
    failed = Settlement(Outcome.FAILED, Verdict.UNOBSERVED, evidence, Reason.TIMEOUT)
    assert says_something(failed, None, exchanges) is says


def test_only_the_answers_that_say_something_use_the_attempts_up():
    policy = RetryPolicy(attempts=2)
    assert rejected(500, policy=policy, attempts=9, answers=1).action is Action.RETRY
    assert rejected(500, policy=policy, attempts=9, answers=2).action is Action.DEAD_LETTER
