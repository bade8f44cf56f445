"""
An adapter: it makes a dispatcher of one event from a client that takes its arguments in an order of its own.
"""

import json

from collections.abc import Mapping
from typing import Any, Protocol

import requests

from wirewitness.outbox import Unsendable


class Courier:
    """
    Stands for a client that you cannot change. It takes ready-made text, and repeats by itself if it is told to.
    """

    def ship(self, document: str, address: str, repeats: int = 3, labels: Mapping[str, str] | None = None) -> bool:
        for _ in range(1 + repeats):
            if requests.post(address, data=document.encode(), headers=labels, timeout=10).ok:
                return True
        return False


class Event(Protocol):
    """
    What an SDK or an Outbox gives a dispatcher.
    """

    @property
    def url(self) -> str: ...

    @property
    def params(self) -> Any: ...

    @property
    def http_verb(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class CourierDispatcher:
    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def dispatch_event(self, event: Event) -> None:
        if event.http_verb != "POST" or isinstance(event.params, bytes):
            raise Unsendable  # The client would send something else. An Outbox makes it a dead letter at once.
        # These bytes are the payload: json.dumps with its defaults, unless the witness or the Outbox has an ``encode``.
        document = event.params if isinstance(event.params, str) else json.dumps(event.params)
        # The Outbox repeats, by what went over the wire. It needs no answer from here.
        self._courier.ship(document, event.url, repeats=0, labels=event.headers)
