"""
Limits that somebody sets, checked where they're set.
"""

from __future__ import annotations

import math

from collections.abc import Iterable
from typing import Any

from wirewitness.core.exchange import Origin, address_of
from wirewitness.errors import ConfigurationError, shown


def positive(name: str, value: Any) -> int:
    """
    A whole number greater than 0.

    Raises:
        ConfigurationError: If it's none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{name}={shown(value)}: must be a whole number greater than 0"
        raise ConfigurationError(msg)
    return int(value)


def seconds(name: str, value: Any) -> float:
    """
    A time greater than 0, in seconds.

    Raises:
        ConfigurationError: If it's none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        msg = f"{name}={shown(value)}: must be a number of seconds greater than 0"
        raise ConfigurationError(msg)
    return float(value)


def origins(name: str, value: Any) -> frozenset[Origin]:
    """
    Origins, each as ``https://host`` or ``https://host:port``, in a set or another collection.

    Raises:
        ConfigurationError: If it's no collection, or something in it is no origin.
    """
    wrong = f"{name}=: must be a collection of origins, each as 'https://host' or 'https://host:port'"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigurationError(wrong)
    found: set[Origin] = set()
    for each in value:
        address = address_of(each) if isinstance(each, str) and not set(each) & set("@?#") else None
        if address is None or address[3] != "/":
            raise ConfigurationError(wrong)
        found.add(address[:3])
    return frozenset(found)
