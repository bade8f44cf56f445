"""
``urllib3`` with ``json=``, its default retries, and the status returned.
"""

from __future__ import annotations

import urllib.parse

from typing import Any

import urllib3


class Dispatcher:
    """
    One pool. The default ``Retry(3)`` repeats failed connections; after that a POST is not repeated.
    """

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(timeout=10)

    def dispatch_event(self, event: Any) -> int:
        """
        Send one event.

        Returns:
            The status code.
        """
        if event.http_verb == "GET":
            url = event.url + ("&" if "?" in event.url else "?") + urllib.parse.urlencode(event.params)
            return self._pool.request("GET", url, headers=event.headers).status
        return self._pool.request(event.http_verb, event.url, json=event.params, headers=event.headers).status

    def close(self) -> None:
        """
        Close the connections.
        """
        self._pool.clear()
