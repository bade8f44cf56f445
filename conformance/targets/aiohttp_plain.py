"""
``aiohttp`` with ``json=``, which is ``json.dumps``, behind a synchronous door: an event loop and a session an event. No tap sees its sockets.
"""

from __future__ import annotations

import asyncio

from typing import Any

import aiohttp


class Dispatcher:
    """
    ``raise_for_status`` is on, as aiohttp's documentation shows.
    """

    def dispatch_event(self, event: Any) -> None:
        """
        Send one event.
        """
        asyncio.run(_send(event))


async def _send(event: Any) -> None:
    content = {"params" if event.http_verb == "GET" else "json": event.params}
    timeout = aiohttp.ClientTimeout(10)
    async with (
        aiohttp.ClientSession(raise_for_status=True, timeout=timeout) as session,
        session.request(event.http_verb, event.url, headers=event.headers, **content),
    ):
        pass
