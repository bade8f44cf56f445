"""
Events as Optimizely's Python SDK makes them: decisions and conversions of visitors, in batches.
"""

from __future__ import annotations

import json
import random
import uuid

from dataclasses import dataclass, field
from typing import Any


SIZES = {"0.7 kB": 700, "10 kB": 10_000, "1 MB": 1_000_000}
"""Bytes of the payloads measured, by name."""


@dataclass(frozen=True)
class Event:
    """
    What a dispatcher's ``dispatch_event`` gets: ``optimizely/event/log_event.py``, class ``LogEvent``.
    """

    url: str
    params: dict[str, Any]
    http_verb: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def events(count: int, size: int, url: str = "http://127.0.0.1:9/v1/events") -> list[Event]:
    """
    Events of no fewer than ``size`` bytes of JSON each, no two of them alike, the same in every run.
    """
    chance = random.Random(size)
    return [Event(url, _batch(size, chance)) for _ in range(count)]


def _batch(size: int, chance: random.Random) -> dict[str, Any]:
    visitor = _visitor(chance)
    # What stands round the visitors takes some 250 bytes.
    visitors = max(1, round((size - 250) / (len(json.dumps(visitor)) + 2)))
    return {
        "account_id": "12001",
        "project_id": "111001",
        "revision": "42",
        "client_name": "python-sdk",
        "client_version": "5.7.0",
        "anonymize_ip": True,
        "enrich_decisions": True,
        "visitors": [visitor, *(_visitor(chance) for _ in range(visitors - 1))],
    }


def _visitor(chance: random.Random) -> dict[str, Any]:
    identity = uuid.UUID(int=chance.getrandbits(128))
    moment = 1_790_000_000_000 + chance.randrange(10**9)
    decision = {
        "campaign_id": "111182",
        "experiment_id": "111127",
        "variation_id": "111129",
        "metadata": {"flag_key": "checkout_button", "rule_key": "test_experiment", "enabled": True},
    }
    shown = {"entity_id": "111182", "uuid": str(identity), "key": "campaign_activated", "timestamp": moment}
    return {
        "visitor_id": f"visitor-{chance.randrange(10**8)}",
        "attributes": [{"entity_id": "111094", "key": "plan", "type": "custom", "value": "gold"}],
        "snapshots": [{"decisions": [decision], "events": [shown]}],
    }
