"""
mixpanel: ``Mixpanel(consumer=Consumer(events_url=...))``, ``track(properties=...)``.

Sent in the call, as a form with the JSON text in ``data``, so the verdict is ``altered``. All
scenarios apply but those of :data:`conformance.targets.envelope.SILENT`. It reads success from a JSON content, which the adapter puts in.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qs

from conformance.targets.envelope import KEY, AnswersAsTheVendor, Clients, cut_out
from mixpanel import Consumer, Mixpanel


def _forms(body: bytes) -> list[str]:
    return parse_qs(body.decode("ascii"))["data"]


carried = partial(cut_out, texts=_forms)


def _client(url: str) -> Mixpanel:
    consumer = Consumer(events_url=url, request_timeout=10)
    AnswersAsTheVendor(consumer._session, b'{"status": 1, "error": null}')  # noqa: SLF001
    return Mixpanel("key", consumer=consumer)


class Dispatcher:
    """
    One client for each URL.
    """

    def __init__(self) -> None:
        self._clients = Clients(_client)

    def dispatch_event(self, event: Any) -> None:
        """
        Send one event.
        """
        self._clients[event.url].track("v-1", "event", {KEY: event.params})
