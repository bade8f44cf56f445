"""
Clocks that are wrong: what was accepted under one is not expired under another, nor postponed.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pathlib import Path

import pytest

from sqlite_messages import numbers

from wirewitness.outbox import SqliteSpool
from wirewitness.outbox.clock import steady, steady_ns


pytestmark = pytest.mark.usefixtures("unmeasured")

HOUR = 3600.0
YEAR = 365 * 86_400.0

# Accepts ten messages under a clock that is off, sets it right or not, and ends or is killed.
PUT = """
import os, sys, time
shift, set_right, ending = float(sys.argv[3]), sys.argv[4] == "True", sys.argv[5]
real, real_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: real() + shift, lambda: real_ns() + int(shift * 1e9)
sys.path.insert(0, sys.argv[2])
from sqlite_messages import message, steady
from wirewitness.outbox import SqliteSpool
if set_right:
    time.time, time.time_ns = real, real_ns
spool = SqliteSpool(sys.argv[1])
spool.start()
for number in range(10):
    assert spool.put(message(number)) is None
for one in spool.claim(3, steady()):
    one.attempts = 2
    spool.retry_at(one, steady() + 60.0)
assert spool.sync(20.0)
if ending == "close":
    spool.close()
os._exit(0)
"""


@pytest.mark.processes
@pytest.mark.parametrize("ending", ["close", "kill"])
@pytest.mark.parametrize("set_right", [True, False])
@pytest.mark.parametrize("shift", [-56 * YEAR, -2 * 86_400.0, 2 * 86_400.0, 14 * YEAR])
def test_a_wrong_clock_at_acceptance_expires_nothing(tmp_path, shift, set_right, ending):
    folder = f"{tmp_path}/spool/"
    program = [sys.executable, "-W", "error", "-c", PUT, folder, os.fspath(Path(__file__).parent)]
    subprocess.run([*program, str(shift), str(set_right), ending], check=True, timeout=60)
    spool = SqliteSpool(folder)
    assert spool.start() == 10
    now = steady_ns()
    assert 0 <= now - spool.stats().oldest_ns < HOUR * 1e9
    got = spool.claim(20, steady())
    # Those that are due later come within the hour, whatever the clocks say.
    got += spool.claim(20, steady() + HOUR)
    assert sorted(numbers(got)) == list(range(10))
    for one in got:
        assert 0 <= now - one.accepted_ns < HOUR * 1e9
        assert one.attempts == (2 if int(one.body) < 3 else 0)
    spool.close()
