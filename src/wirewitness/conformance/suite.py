"""
All scenarios, in order.
"""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.scenarios import behaviour, payload, status, transport


SCENARIOS: Final = (*payload.SCENARIOS, *status.SCENARIOS, *transport.SCENARIOS, *behaviour.SCENARIOS)
"""Every scenario, by groups."""

_BY_NAME: Final = MappingProxyType({scenario.name: scenario for scenario in SCENARIOS})

PLAIN: Final = SCENARIOS[0]
"""The one that tells what success looks like to the caller."""


def find(name: str) -> Scenario:
    """
    A scenario by its name.

    Raises:
        KeyError: If there's none of that name.
    """
    return _BY_NAME[name]


def choose(patterns: tuple[str, ...]) -> list[Scenario]:
    """
    The scenarios of these names, groups or patterns such as ``status/5*``; all of them without any.

    Raises:
        KeyError: With the pattern that names none.
    """
    for pattern in patterns:
        if not any(_named(scenario, pattern) for scenario in SCENARIOS):
            raise KeyError(pattern)
    return [each for each in SCENARIOS if not patterns or any(_named(each, pattern) for pattern in patterns)]


def _named(scenario: Scenario, pattern: str) -> bool:
    return scenario.group == pattern or fnmatchcase(scenario.name, pattern)


def near(name: str) -> list[str]:
    """
    Names and groups that someone may have meant who wrote this.
    """
    groups = sorted({scenario.group for scenario in SCENARIOS})
    short = {scenario.name.partition("/")[2]: scenario.name for scenario in SCENARIOS}
    found = get_close_matches(name, [*_BY_NAME, *groups, *short])
    return list(dict.fromkeys(short.get(each, each) for each in found))
