"""
``requests`` as most people write it: a call an event, and an exception for what isn't 2xx.
"""

from __future__ import annotations

import json

from typing import Any

import requests


class SendJson:
    """
    With ``json=``: requests serialises.
    """

    @staticmethod
    def dispatch_event(event: Any) -> None:
        """
        Send one event.
        """
        content = {"params" if event.http_verb == "GET" else "json": event.params}
        requests.request(event.http_verb, event.url, headers=event.headers, timeout=10, **content).raise_for_status()


class SendData:
    """
    With ``data=json.dumps(...)``.
    """

    @staticmethod
    def dispatch_event(event: Any) -> None:
        """
        Send one event.
        """
        content = {"params": event.params} if event.http_verb == "GET" else {"data": json.dumps(event.params)}
        requests.request(event.http_verb, event.url, headers=event.headers, timeout=10, **content).raise_for_status()
