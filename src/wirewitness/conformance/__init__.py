"""
The conformance kit: whether a dispatcher keeps the contract, scenario by scenario, against a loopback endpoint that
records what really arrived, and misbehaves on request.
"""

from typing import TYPE_CHECKING, Any

from wirewitness.conformance.sink import Received, Sink


if TYPE_CHECKING:
    from wirewitness.conformance.contract import DispatcherContract


__all__ = ["DispatcherContract", "Received", "Sink"]


def __getattr__(name: str) -> Any:
    # It needs pytest, and the sink does not.
    if name != "DispatcherContract":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from wirewitness.conformance.contract import DispatcherContract  # noqa: PLC0415

    return DispatcherContract
