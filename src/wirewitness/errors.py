"""
What wirewitness raises, and how its error texts name a value.
"""

from __future__ import annotations

from typing import Any


def shown(value: Any) -> str:
    """
    A value as an error text may name it: what it is and how long it is, never what stands in it.

    Whatever a caller gives to the wrong argument can be a key, a token or a whole datafile, and error texts end in logs. Only
    numbers, booleans and None are shown as they are.
    """
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**15):
        return repr(value)
    kind = value.__qualname__ if isinstance(value, type) else type(value).__qualname__
    if isinstance(value, type):
        return f"the class {kind}"
    if isinstance(value, (str, bytes, bytearray)):
        return f"a {kind} of {len(value)} {'characters' if isinstance(value, str) else 'bytes'}"
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        return f"a {kind} of {len(value)}"
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


class WireWitnessError(Exception):
    """
    Everything that wirewitness raises of its own.
    """


class ConfigurationError(WireWitnessError, ValueError):
    """
    Something was set up in a way that can't work; raised when wrapping, never when dispatching.
    """


class UnsupportedPayload(WireWitnessError):  # noqa: N818 -- named for what it says of the payload
    """
    The parameters of a dispatch have no bytes that could be known before the dispatcher sends them.

    Attributes:
        reason: Why: ``unserializable`` or ``unreadable``.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class IntegrityError(WireWitnessError):
    """
    The wire carried other bytes than the payload's; raised in strict mode only.
    """
