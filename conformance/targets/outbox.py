"""
The project's Outbox with each of its senders and spools. Backoffs are short enough for a scenario.
"""

from __future__ import annotations

import tempfile

from pathlib import Path
from typing import Any

from wirewitness import HttpSender, Outbox, RetryPolicy, SqliteSpool
from wirewitness.outbox import CurlSender


def http() -> Outbox:
    """
    Over requests, spooled in memory.
    """
    return _outbox(HttpSender(threads=2))


def curl() -> Outbox:
    """
    Over libcurl.
    """
    return _outbox(CurlSender())


def optimizely() -> Outbox:
    """
    Round the dispatcher of Optimizely's SDK.
    """
    from optimizely.event_dispatcher import EventDispatcher  # noqa: PLC0415 -- the other three need none

    return _outbox(EventDispatcher)


def sqlite() -> Outbox:
    """
    Over requests, spooled on disk.
    """
    folder = Path(tempfile.mkdtemp(prefix="wirewitness-spool-"))
    return _outbox(HttpSender(threads=2), spool=SqliteSpool(folder))


def _outbox(sender: Any, **options: Any) -> Outbox:
    retry = RetryPolicy(attempts=4, base=0.02, ceiling=0.1)
    return Outbox(sender, name="conformance", retry=retry, **options)
