"""
An event, where to send it, and a look that nothing is left behind.
"""

from __future__ import annotations

import socket
import uuid

import pytest

from dispatchers import PARAMS
from optimizely.event_builder import Event

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.evidence import EVIDENCE
from wirewitness.typing import Reason


@pytest.fixture
def url(sink):
    return f"{sink.url}/v1/events"


@pytest.fixture
def event(url):
    return Event(
        url, {**PARAMS, "uuid": str(uuid.uuid4())}, http_verb="POST", headers={"Content-Type": "application/json"}
    )


@pytest.fixture
def refusing():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unheard.getsockname()[1]}/v1/events"


@pytest.fixture(autouse=True)
def _nothing_left():
    """What waits for evidence is settled in its own test."""
    yield
    for dispatch in EVIDENCE.waiting():
        EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)


@pytest.fixture
def faults():
    """How many internal errors a test causes."""
    before = sum(INTERNAL_ERRORS.counts().values())
    return lambda: sum(INTERNAL_ERRORS.counts().values()) - before
