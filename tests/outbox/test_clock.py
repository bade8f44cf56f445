"""
The clock of the Outbox.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.outbox import clock


DAY_NS = 86_400 * 10**9
YEARS_NS = 50 * 365 * DAY_NS


def test_a_clock_that_is_frozen_from_outside_goes_on(monkeypatch):
    for name in ("time", "time_ns", "monotonic", "monotonic_ns"):
        monkeypatch.setattr(time, name, lambda: 0)
    before = clock.monotonic(), clock.steady(), clock.steady_ns()
    while clock.monotonic() == before[0]:
        pass
    assert clock.steady() > before[1] > 1e9
    assert clock.steady_ns() > before[2]


@given(st.integers(-(2**63), 2**63), st.integers(0, YEARS_NS))
def test_the_age_of_another_process_s_message_is_what_processes_have_seen_of_it(accepted_ns, lived_ns):
    now = clock.steady_ns()
    age = now - clock.plausible_ns(accepted_ns, lived_ns, now)
    assert lived_ns <= age <= max(lived_ns, now - clock._BEGAN_NS)


def test_the_age_of_this_process_s_message_is_exact():
    now = clock.steady_ns()
    middle = (now + clock._BEGAN_NS) // 2
    assert clock.plausible_ns(middle, 0, now) == middle
