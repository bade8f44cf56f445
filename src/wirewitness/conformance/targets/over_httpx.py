"""
A plain dispatcher over httpx, which the witness has no tap in: the sink alone sees its bytes.
"""

from __future__ import annotations

import json

from typing import Any

import httpx  # type: ignore[import-not-found, unused-ignore]

from wirewitness.conformance.targets import TIMEOUT


def dispatch(event: Any) -> None:
    """
    One request on a client of its own; an answer that is no success raises.
    """
    body = json.dumps(event.params).encode("utf-8")
    response = httpx.request(event.http_verb, event.url, content=body, headers=event.headers, timeout=TIMEOUT)
    response.raise_for_status()
