"""
What a comparison costs grows as the body does, whatever the body is.

The two sizes are measured in one run, in CPU time of this thread, and only their ratio counts: 32 times the bytes may take 256
times as long, and would take 1024 times as long if the cost grew by the square.
"""

from __future__ import annotations

import gc
import itertools
import random
import time

import pytest

from bodies import MUTATIONS, PAYLOADS, compressed

from wirewitness.core.payload import freeze
from wirewitness.core.pieces import TooMuch, pieces_of
from wirewitness.core.verdict import compare


SMALL, FACTOR, MOST = 1 << 14, 32, 256
ALL = list(itertools.product(PAYLOADS, MUTATIONS))


def searched(payload, body):
    # As when hundreds of others wait, too.
    wanted = {payload, *(b'{"number": %d}' % number for number in range(300))} - {b""}
    try:
        return pieces_of(body, wanted)
    except TooMuch:
        return []


WAYS = {
    "compared": lambda payload, body: compare(freeze(payload), body),
    "compared when compressed": lambda payload, body: compare(freeze(payload), body, "gzip"),
    "searched": searched,
}


def seconds(way, payload, mutation, size):
    """The shortest of up to three turns, for what else the machine does only adds to it."""
    meant = PAYLOADS[payload](size)
    body = MUTATIONS[mutation](meant)
    if way == "compared when compressed":
        body = compressed(body)
    turns = []
    # Collecting garbage depends on what else lives in this process.
    gc.disable()
    try:
        while len(turns) < 3 and sum(turns) < 0.2:
            began = time.thread_time()
            WAYS[way](meant, body)
            turns.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(turns)


def grows_too_fast(way, payload, mutation):
    # A turn of less than 0.1 ms says more of the clock than of the code.
    small = max(1e-4, seconds(way, payload, mutation, SMALL))
    return seconds(way, payload, mutation, SMALL * FACTOR) > MOST * small


def too_fast(cases):
    # What seems to is looked at again: the machine may have been busy.
    return [case for case in cases if grows_too_fast(*case) and grows_too_fast(*case)]


@pytest.mark.processes
def test_what_a_comparison_costs_grows_as_the_body_does():
    chance = random.Random(7)
    assert too_fast([(chance.choice(list(WAYS)), *case) for case in chance.sample(ALL, 40)]) == []


@pytest.mark.soak
@pytest.mark.slow("all kinds of bodies")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_comparison_costs_grows_as_the_body_does_for_every_kind(way):
    assert too_fast([(way, *case) for case in ALL]) == []
