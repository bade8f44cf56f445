"""
Dispatchers as people write them, each with one habit that the wire shows.
"""

from __future__ import annotations

import json
import threading
import time

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import requests

from optimizely.event_builder import Event

from wirewitness.cli.demo.datafile import REVENUE


TIMEOUT = 5.0
"""Seconds for which a sender waits for the endpoint."""


class DemoSender(Protocol):
    """
    What Optimizely's SDK asks of a dispatcher.
    """

    def dispatch_event(self, event: Event) -> object:
        """Send an event."""
        ...


def _post(event: Event, body: bytes) -> int:
    return requests.post(event.url, data=body, headers=event.headers, timeout=TIMEOUT).status_code


class ReserialisingSender:
    """
    Writes the same value with other bytes: without the spaces that ``json.dumps`` puts in.
    """

    def dispatch_event(self, event: Event) -> int:
        """
        Send an event.
        """
        return _post(event, json.dumps(event.params, separators=(",", ":")).encode())


class TamperingSender:
    """
    Makes the order worth a cent more: one byte in the middle.
    """

    def dispatch_event(self, event: Event) -> int:
        """
        Send an event.
        """
        more = b"%d" % (REVENUE + 1)
        return _post(event, json.dumps(event.params).encode().replace(b"%d" % REVENUE, more, 1))


class ThreadedSender:
    """
    Hands each event over to a thread of its own, which sends 10 ms after it's told to, and returns at once.
    """

    def __init__(self) -> None:
        self._told = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="threaded-sender")

    def dispatch_event(self, event: Event) -> None:
        """
        Have an event sent.
        """
        self._threads.submit(self._send, event, json.dumps(event.params).encode())

    def _send(self, event: Event, body: bytes) -> None:
        self._told.wait(TIMEOUT)
        time.sleep(0.01)
        _post(event, body)

    def close(self) -> None:
        """
        Have everything sent, and wait for that.
        """
        self._told.set()
        self._threads.shutdown()
