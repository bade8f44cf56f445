"""
Optimizely's ODP events: ``OdpEventApiManager().send_odp_events(key, host, [OdpEvent(data=...)])``, as its queue calls it.

Sent in the call as ``[{"type": ..., "data": {...}}]``, so the verdict is ``embedded``. All scenarios apply but those
of :data:`conformance.targets.envelope.SILENT`. True means that it should be sent again, which is what the caller is told.
The SDK's own validation of ``data``, in ``OdpEventManager``, is not passed through.
"""

from __future__ import annotations

from typing import Any

from conformance.targets.envelope import KEY, cut_out, host
from optimizely.odp.odp_event import OdpEvent
from optimizely.odp.odp_event_api_manager import OdpEventApiManager


carried = cut_out


class Dispatcher:
    """
    One API manager.
    """

    def __init__(self) -> None:
        self._api = OdpEventApiManager()

    def dispatch_event(self, event: Any) -> bool:
        """
        Send one event.

        Returns:
            Whether the SDK would have it sent again.
        """
        odp_event = OdpEvent("fullstack", "event", {"fs_user_id": "v-1"}, {KEY: event.params})
        return self._api.send_odp_events("key", host(event.url), [odp_event])
