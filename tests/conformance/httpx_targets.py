"""
Dispatchers over httpx and httpx2, for the conformance kit.
"""

from __future__ import annotations

import asyncio
import json

# Loaded now: the first request would load them, while the kit's signal is already on its way.
import anyio._backends._asyncio  # noqa: F401
import httpcore  # noqa: F401
import httpcore2  # noqa: F401
import httpx
import httpx2


def _arguments(event):
    content = {"params": event.params} if event.http_verb == "GET" else {"content": json.dumps(event.params)}
    return {"method": event.http_verb, "url": event.url, "headers": event.headers, **content}


class Httpx:
    """
    One kept client, which follows redirects.
    """

    library = httpx

    def __init__(self):
        self._client = self.library.Client(timeout=10, follow_redirects=True)

    def dispatch_event(self, event):
        self._client.request(**_arguments(event))


class Httpx2(Httpx):
    library = httpx2


class HttpxAsyncio:
    """
    A client and an event loop for each event.
    """

    library = httpx
    context = library.create_ssl_context()

    def dispatch_event(self, event):
        async def send():
            async with self.library.AsyncClient(timeout=10, follow_redirects=True, verify=self.context) as client:
                await client.request(**_arguments(event))

        asyncio.run(send())


class Httpx2Asyncio(HttpxAsyncio):
    library = httpx2
    context = library.create_ssl_context()
