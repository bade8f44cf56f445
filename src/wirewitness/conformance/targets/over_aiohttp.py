"""
A plain dispatcher over aiohttp, which the witness has no tap in: the sink alone sees its bytes.
"""

from __future__ import annotations

import json

from typing import Any

import aiohttp  # type: ignore[import-not-found, unused-ignore]

from wirewitness.conformance.targets import TIMEOUT


async def dispatch(event: Any) -> None:
    """
    One request on a session of its own; an answer that is no success raises.
    """
    body = json.dumps(event.params).encode("utf-8")
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    async with (
        aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
        session.request(event.http_verb, event.url, data=body, headers=event.headers),
    ):
        return
