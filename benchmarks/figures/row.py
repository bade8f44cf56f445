"""
One line of the report.
"""

from __future__ import annotations

import statistics

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


Tick = Callable[[], None]
"""Called once for each step of a figure that is done."""


@dataclass(frozen=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Interleaved rounds a case.
        quick: Whether fewer calls are made in each.
    """

    rounds: int
    quick: bool

    def calls(self, count: int) -> int:
        """
        A number of calls, or fewer where it's to be quick.
        """
        return max(1, count // 5) if self.quick else count


@dataclass(frozen=True)
class Row:
    """
    One measured value.

    Attributes:
        figure: The figure's title.
        case: What was measured.
        unit: What ``values`` are: ``x`` (times the control), ``%`` or ``MB``.
        values: One a round; the median is what's reported.
        target: The most that meets the target; None where there's none.
        aim: The most that is hoped for.
        parts: What the value is made of, medians, by name; microseconds of CPU time a call unless the name says else.
        note: What else there is to say.
        at_least: Whether target and aim are the least that meets them, and not the most.
    """

    figure: str
    case: str
    unit: str
    values: list[float]
    target: float | None = None
    aim: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    note: str = ""
    at_least: bool = False

    @property
    def median(self) -> float:
        """The reported value."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there's none."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    def as_dict(self) -> dict[str, Any]:
        """
        The row as it's written to a file.
        """
        return {**vars(self), "median": self.median, "met": self.met}


def ratios(over: list[float], under: list[float]) -> list[float]:
    """
    The ratio in each round.
    """
    return [one / other for one, other in zip(over, under, strict=True)]


def added(turn: list[float], bare: list[float]) -> list[float]:
    """
    What a turn took beyond the bare one of the same round.
    """
    return [one - other for one, other in zip(turn, bare, strict=True)]
