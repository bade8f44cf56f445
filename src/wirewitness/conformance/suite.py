"""
All scenarios, in order.
"""

from __future__ import annotations

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
    The scenarios of these names or groups, all of them without any.

    Raises:
        KeyError: With the pattern that names none.
    """
    for pattern in patterns:
        if not any(pattern in {scenario.name, scenario.group} for scenario in SCENARIOS):
            raise KeyError(pattern)
    return [each for each in SCENARIOS if not patterns or {each.name, each.group} & set(patterns)]
