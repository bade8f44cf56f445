"""
The types that wirewitness's callers and hooks meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Encode, Payload
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence


class Intent(NamedTuple):
    """
    What a call asks for, as an adapter reads it from the arguments.

    Attributes:
        method: The HTTP method, upper-case; empty where the call doesn't say.
        url: Where it's to go, or None where the call doesn't say.
        params: What is to be sent: the caller's own object, not a copy.
    """

    method: str
    url: str | None
    params: object

    def __repr__(self) -> str:
        return f"<Intent {self.method}>"


Adapter: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], Intent]"
"""Reads an :class:`Intent` from a call's positional and keyword arguments, and changes neither."""

Selector: TypeAlias = "str | Callable[..., Any]"
"""An argument's name, or a callable that gets the call's own arguments and returns the value."""

__all__ = ["Adapter", "Encode", "Evidence", "Exchange", "Intent", "Payload", "Reason", "Selector", "Settlement"]
