"""
The production dispatcher: never blocks, queues, retries by what the wire says, and survives.
"""

from typing import TYPE_CHECKING

from wirewitness._lazy import lazy_names
from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox.breaker import Breakers
from wirewitness.outbox.dispatcher import DispatcherSender
from wirewitness.outbox.flush_result import FlushResult
from wirewitness.outbox.lifetime import close_on_sigterm
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.outbox import Outbox
from wirewitness.outbox.overflow import Block, DropNewest, DropOldest, Overflow, Spill
from wirewitness.outbox.sender import Answer, Attempt, Lane, MultiplexingSender, Sender, Unsendable
from wirewitness.outbox.spool import DeadLetter, MemorySpool, Spool, SpoolStats


if TYPE_CHECKING:
    from wirewitness.outbox.curl import CurlSender
    from wirewitness.outbox.senders import HttpSender
    from wirewitness.outbox.sqlite import SqliteSpool


__all__ = [
    "Answer",
    "Attempt",
    "Block",
    "Breakers",
    "CurlSender",
    "DeadLetter",
    "DispatcherSender",
    "DropNewest",
    "DropOldest",
    "FlushResult",
    "Form",
    "HttpSender",
    "Lane",
    "MemorySpool",
    "Message",
    "MultiplexingSender",
    "Outbox",
    "Overflow",
    "RetryPolicy",
    "Sender",
    "Spill",
    "Spool",
    "SpoolStats",
    "SqliteSpool",
    "Unsendable",
    "close_on_sigterm",
]

_HOMES = {"CurlSender": "curl", "HttpSender": "senders", "SqliteSpool": "sqlite"}
"""By name, the module that is loaded when the name is used: these load requests, certificates and sqlite3."""

if not TYPE_CHECKING:  # Type checkers would take any name for one of this module's.
    __getattr__ = lazy_names(__name__, _HOMES)
