"""
Limits that somebody sets, checked where they're set.
"""

from __future__ import annotations

import math

from typing import Any

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
