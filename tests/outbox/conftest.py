"""
What the Outbox's tests share.
"""

from __future__ import annotations

import socket

import pytest

from outbox_events import FAST

from wirewitness.outbox import HttpSender, MemorySpool, Outbox


@pytest.fixture
def make():
    """
    Makes Outboxes, and closes them at the end.
    """
    made = []

    def outbox(sender=None, **options):
        options.setdefault("retry", FAST)
        options.setdefault("spool", MemorySpool(most=1000))
        made.append(Outbox(HttpSender(threads=2, timeout=2.0) if sender is None else sender, **options))
        return made[-1]

    yield outbox
    for one in made:
        one.close(2.0)


@pytest.fixture
def unused_port_number():
    """
    A port that nobody listens on yet, for somebody who will.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
