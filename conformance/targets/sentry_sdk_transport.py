"""
sentry-sdk: its ``HttpTransport`` as ``init(transport=...)`` makes it, given an ``Envelope``.

A worker thread sends envelopes: lines of compact JSON, compressed by default, so the verdict is ``unobserved``. All scenarios apply but those of :data:`conformance.targets.envelope.SILENT`. Losses are told to
``Transport.record_lost_event``, a method that an application may override, as the adapter does. Events are given to the
transport as they are: what ``capture_event`` cuts off is not tried
here, nor what it makes of values that JSON doesn't know.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import sentry_sdk

from conformance.targets.envelope import KEY, Clients, cut_out
from sentry_sdk.envelope import Envelope, Item, PayloadRef
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.transport import HttpTransport
from sentry_sdk.utils import Dsn


carried = cut_out
passed_by = frozenset(
    {"payload/nan", "payload/bytes", "payload/memoryview", "caller/changed_after", "caller/unserializable"}
)
"""The scenarios about what ``capture_event`` does in the caller's thread: copy, and replace what JSON doesn't know."""


class _Transport(HttpTransport):
    """
    Sends to a URL as it is, where a DSN would always append a path, and keeps what is lost.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.lost: Counter[str] = Counter()
        dsn = Dsn(options["dsn"])
        dsn.path = dsn.path.replace("%3F", "?").removesuffix("/") + "#"
        super().__init__({**options, "dsn": dsn})

    def record_lost_event(self, reason: str, *args: Any, **kwargs: Any) -> None:
        """
        Keep one.
        """
        self.lost[reason] += 1
        super().record_lost_event(reason, *args, **kwargs)


def _client(url: str) -> Any:
    parts = urlsplit(url)
    path = parts.path + (f"%3F{parts.query}" if parts.query else "")
    dsn = f"{parts.scheme}://key@{parts.netloc}{path}/1"
    # As init() does by default: the global client is flushed at exit.
    sentry_sdk.init(
        dsn,
        transport=_Transport,
        integrations=[AtexitIntegration(lambda *_: None)],
        default_integrations=False,
        send_client_reports=False,
    )
    return sentry_sdk.get_client()


class Dispatcher:
    """
    One client for each URL.
    """

    def __init__(self) -> None:
        self._clients = Clients(_client)

    def dispatch_event(self, event: Any) -> None:
        """
        Hand one envelope over.
        """
        item = Item(PayloadRef(json={KEY: event.params}), type="event")
        self._clients[event.url].transport.capture_envelope(Envelope(items=[item]))

    def flush(self) -> Any:
        """
        Have everything sent, as far as the SDK does it in its default time.
        """
        for client in self._clients:
            client.flush()
        return self._lost()

    def close(self) -> Any:
        """
        Close the clients.
        """
        lost = self._lost()
        for client in self._clients:
            client.close()
        return lost

    def _lost(self) -> Any:
        # A closed client has no transport.
        lost = [dict(client.transport.lost) for client in self._clients if client.transport]
        return lost if any(lost) else None
