"""
Wrap any event dispatcher and know, from the bytes on the socket, what it really did.
"""

from wirewitness._current import Dispatch
from wirewitness._version import __version__
from wirewitness._witness import ledger_of, witness
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import Payload
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.errors import ConfigurationError, IntegrityError, UnsupportedPayload, WireWitnessError
from wirewitness.ledger import PROCESS as process_ledger  # noqa: N811 -- constant inside, a name to use outside
from wirewitness.ledger import Book, Ledger
from wirewitness.outbox import CurlSender, HttpSender, MemorySpool, Outbox, RetryPolicy, SqliteSpool
from wirewitness.telemetry import configure_telemetry


__all__ = [
    "Book",
    "ConfigurationError",
    "CurlSender",
    "Dispatch",
    "Evidence",
    "Exchange",
    "HttpSender",
    "IntegrityError",
    "Ledger",
    "MemorySpool",
    "Outbox",
    "Outcome",
    "Payload",
    "Reason",
    "RetryPolicy",
    "Settlement",
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
