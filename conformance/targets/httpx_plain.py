"""
``httpx`` with ``json=``: compact UTF-8, other bytes than ``json.dumps`` for the same value.
"""

from __future__ import annotations

from typing import Any

import httpx


class Dispatcher:
    """
    One kept client, as httpx recommends; it follows no redirects unless told to.
    """

    def __init__(self) -> None:
        self._client = httpx.Client(timeout=10)

    def dispatch_event(self, event: Any) -> None:
        """
        Send one event.
        """
        content = {"params" if event.http_verb == "GET" else "json": event.params}
        self._client.request(event.http_verb, event.url, headers=event.headers, **content).raise_for_status()

    def close(self) -> None:
        """
        Close the connections.
        """
        self._client.close()
