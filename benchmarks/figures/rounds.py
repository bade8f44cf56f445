"""
Interleaved measuring: every contender has its turn in every round, in an order that moves on.
"""

from __future__ import annotations

import gc
import time

from collections.abc import Callable
from dataclasses import dataclass

from figures.row import Tick


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Turn:
    """
    One contender.

    Attributes:
        name: Its name in the result.
        run: Makes all calls of one turn. This is what's timed.
        begin: Called before, untimed.
        end: Called after, untimed.
        warm: Called between ``begin`` and ``run``, untimed: a few calls, for the interpreter to adapt to the methods that
            ``begin`` has put into place.
    """

    name: str
    run: Callable[[], None]
    begin: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing
    warm: Callable[[], None] = _nothing


def interleaved(
    turns: list[Turn], *, calls: int, rounds: int, blocks: int = 5, tick: Tick = _nothing
) -> dict[str, list[float]]:
    """
    CPU time of this process (all of its threads) a call, in microseconds, by contender: one value a round.

    A round is several blocks, in each of which every contender has one turn; who comes first moves on from block to block,
    so that a change of the machine's speed falls on all. The garbage collector is on during the turns, as in production; it
    is run before each, so that no contender cleans up behind another, and what existed before the first is frozen.

    Args:
        turns: The contenders.
        calls: How many calls a turn makes.
        rounds: How many rounds.
        blocks: How many blocks a round has.
        tick: Called after every round.
    """
    for turn in turns:
        _timed(turn)
    gc.collect()
    gc.freeze()
    measured: dict[str, list[float]] = {turn.name: [] for turn in turns}
    for number in range(rounds):
        spent = dict.fromkeys(measured, 0)
        for block in range(blocks):
            first = (number * blocks + block) % len(turns)
            for turn in (*turns[first:], *turns[:first]):
                spent[turn.name] += _timed(turn)
        for name, nanoseconds in spent.items():
            measured[name].append(nanoseconds / 1000 / calls / blocks)
        tick()
    gc.unfreeze()
    return measured


def _timed(turn: Turn) -> int:
    turn.begin()
    turn.warm()
    gc.collect()
    started = time.process_time_ns()
    turn.run()
    spent = time.process_time_ns() - started
    turn.end()
    return spent
