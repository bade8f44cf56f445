"""
segment-analytics-python: ``Client(host=...)``, ``track(properties=...)``.

A daemon thread sends batches ``{"batch": [...], "sentAt": ..., "writeKey": ...}``, so the verdict is ``embedded``, and two
attempts differ in ``sentAt``. All scenarios apply but those of :data:`conformance.targets.envelope.SILENT`; events beyond
32 kB are refused by design. Failures come out at ``on_error``. ``max_retries`` is 3 in place of 10, so that a scenario ends;
attempts that are throttled aren't counted, and ``flush()`` waits for them up to ``max_rate_limit_duration``, half an hour.
"""

from __future__ import annotations

from typing import Any

from conformance.targets.envelope import KEY, Clients, Failures, cut_out, host
from segment.analytics.client import Client


carried = cut_out


class Dispatcher:
    """
    One client for each URL.
    """

    def __init__(self) -> None:
        self._failures = Failures()
        self._clients = Clients(self._client)

    def _client(self, url: str) -> Client:
        return Client("key", host=host(url), on_error=self._failures.add, max_retries=3)

    def dispatch_event(self, event: Any) -> Any:
        """
        Hand one event over.

        Returns:
            Whether the SDK says that it took it.
        """
        return self._clients[event.url].track("v-1", "event", {KEY: event.params})[0]

    def flush(self) -> Any:
        """
        Have everything sent.
        """
        for client in self._clients:
            client.flush()
        return self._failures.said()

    def close(self) -> Any:
        """
        Shut the clients down.
        """
        for client in self._clients:
            client.shutdown()
        return self._failures.said()
