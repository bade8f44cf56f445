"""
launchdarkly-server-sdk: ``LDClient(Config(events_uri=...))``, ``track(data=...)``, without flags (``use_ldd``).

Worker threads send arrays of events, the context's among them, as compact JSON, so the verdict is ``unobserved``; the
array is serialised once before its one repetition, so attempts are identical. All scenarios apply but those of
:data:`conformance.targets.envelope.SILENT`. Nothing but a log tells of a failure.
"""

from __future__ import annotations

from typing import Any

from conformance.targets.envelope import KEY, Clients, cut_out, host
from ldclient import Context, LDClient
from ldclient.config import Config


carried = cut_out


def _client(url: str) -> LDClient:
    return LDClient(Config("key", events_uri=host(url), use_ldd=True, diagnostic_opt_out=True))


class Dispatcher:
    """
    One client for each URL.
    """

    def __init__(self) -> None:
        self._clients = Clients(_client)

    def dispatch_event(self, event: Any) -> None:
        """
        Hand one event over.
        """
        self._clients[event.url].track("event", Context.create("v-1"), {KEY: event.params})

    def flush(self) -> None:
        """
        Ask for everything to be sent soon: the SDK doesn't wait.
        """
        for client in self._clients:
            client.flush()

    def close(self) -> None:
        """
        Close the clients.
        """
        for client in self._clients:
            client.close()
