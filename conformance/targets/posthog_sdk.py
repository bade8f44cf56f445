"""
posthog: ``Client(host=...)``, ``capture(properties=...)``.

A daemon thread sends batches ``{"batch": [...], "sent_at": ..., "api_key": ...}``, so the verdict is ``embedded``, and
two attempts differ in ``sent_at``. All scenarios apply but those of :data:`conformance.targets.envelope.SILENT`.
Failures come out at ``on_error``. Any status but 200 is one, so the
adapter makes the sink's 204 a 200.
"""

from __future__ import annotations

import os

from typing import Any

import posthog
import posthog.request

from conformance.targets.envelope import KEY, AnswersAsTheVendor, Clients, Failures, cut_out, host


carried = cut_out


def _answers() -> None:
    AnswersAsTheVendor(posthog.request._session, b'{"status": 1}')  # noqa: SLF001


_answers()


class Dispatcher:
    """
    One client for each URL, with the SDK's own defaults.
    """

    def __init__(self) -> None:
        self._failures = Failures()
        self._clients = Clients(self._client)

    def _client(self, url: str) -> posthog.Client:
        client = posthog.Client("key", host=host(url), on_error=self._failures.add)
        # Behind the client's own handler, which makes the session anew.
        os.register_at_fork(after_in_child=_answers)
        return client

    def dispatch_event(self, event: Any) -> Any:
        """
        Hand one event over.
        """
        id_ = self._clients[event.url].capture("event", distinct_id="v-1", properties={KEY: event.params})
        # It's another one for every event.
        return "accepted" if id_ else None

    def flush(self) -> Any:
        """
        Have everything sent, as far as the SDK does it in its default time.
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
