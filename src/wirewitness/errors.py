"""
What wirewitness raises.
"""

from __future__ import annotations


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
