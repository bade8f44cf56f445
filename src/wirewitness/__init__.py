"""
Wrap any event dispatcher and know, from the bytes on the socket, what it really did.
"""

from typing import TYPE_CHECKING

# Now, and not at the first use: what ends the process calls last what was registered first.
from wirewitness import ending as _ending  # noqa: F401
from wirewitness._lazy import lazy_names
from wirewitness._version import __version__


if TYPE_CHECKING:
    from wirewitness._witness import ledger_of, witness
    from wirewitness.core.outcome import Outcome
    from wirewitness.core.retry import RetryPolicy
    from wirewitness.core.verdict import Verdict
    from wirewitness.dispatch import Dispatch
    from wirewitness.errors import ConfigurationError, IntegrityError, UnsupportedPayload, WireWitnessError
    from wirewitness.ledger import process_ledger
    from wirewitness.outbox.outbox import Outbox
    from wirewitness.outbox.senders import HttpSender
    from wirewitness.outbox.spool import MemorySpool
    from wirewitness.outbox.sqlite import SqliteSpool
    from wirewitness.telemetry.setup import configure_telemetry


__all__ = [
    "ConfigurationError",
    "Dispatch",
    "HttpSender",
    "IntegrityError",
    "MemorySpool",
    "Outbox",
    "Outcome",
    "RetryPolicy",
    "SqliteSpool",
    "UnsupportedPayload",
    "Verdict",
    "WireWitnessError",
    "__version__",
    "configure_telemetry",
    "ledger_of",
    "process_ledger",
    "witness",
]

_HOMES = {
    "ConfigurationError": "errors",
    "Dispatch": "dispatch",
    "HttpSender": "outbox.senders",
    "IntegrityError": "errors",
    "MemorySpool": "outbox.spool",
    "Outbox": "outbox.outbox",
    "Outcome": "core.outcome",
    "RetryPolicy": "core.retry",
    "SqliteSpool": "outbox.sqlite",
    "UnsupportedPayload": "errors",
    "Verdict": "core.verdict",
    "WireWitnessError": "errors",
    "configure_telemetry": "telemetry.setup",
    "ledger_of": "_witness",
    "process_ledger": "ledger",
    "witness": "_witness",
}
"""By name, the module that is loaded when the name is used: an application loads requests, sqlite3 or the SDK only if it uses them."""

if not TYPE_CHECKING:  # Type checkers would take any name for one of this module's.
    __getattr__ = lazy_names(__name__, _HOMES)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
