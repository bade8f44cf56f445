"""
Figure 1 again, with the log line written: both have it at level DEBUG.
"""

from __future__ import annotations

import logging

from collections.abc import Iterator

from figures.at_once import BLOCKS, CALLS, case, check_lines
from figures.row import Row, Scale, Tick
from figures.sdk import configure_structlog


TITLE = "1  the same, log line written"
SIZE = "0.7 kB"


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for the smallest size, in which the line weighs most.
    """
    void = configure_structlog(logging.DEBUG)
    yield case(SIZE, scale, tick, TITLE)
    turns = 1 + scale.rounds * BLOCKS[SIZE]
    check_lines(void, 2 * turns * scale.calls(CALLS[SIZE]))
