"""
snowplow-tracker: ``Tracker(Emitter(endpoint))``, ``track(SelfDescribing(...))``.

Sent in the call (``batch_size=1``) as ``{"schema": ..., "data": [{"ue_pr": "<JSON text>", "stm": ...}]}``: the payload is a
text in a text, so the verdict is ``altered``, and attempts differ in ``stm``. All scenarios apply but those of
:data:`conformance.targets.envelope.SILENT`. Failures come out at ``on_failure``; a timer repeats them later, which nothing
waits for.
"""

from __future__ import annotations

import json

from functools import partial
from typing import Any

from conformance.targets.envelope import KEY, Clients, Failures, cut_out, host
from snowplow_tracker import Emitter, SelfDescribing, SelfDescribingJson, Tracker


_SCHEMA = "iglu:org.wirewitness/event/jsonschema/1-0-0"


def _texts(body: bytes) -> list[str]:
    return [sent["ue_pr"] for sent in json.loads(body)["data"]]


carried = partial(cut_out, texts=_texts)


class Dispatcher:
    """
    One tracker for each URL.
    """

    def __init__(self) -> None:
        self._failures = Failures()
        self._trackers = Clients(self._tracker)

    def _tracker(self, url: str) -> Tracker:
        emitter = Emitter(host(url), batch_size=1, on_failure=self._failed, request_timeout=10)
        return Tracker("conformance", emitter, encode_base64=False)

    def _failed(self, _: int, unsent: list[Any]) -> None:
        for each in unsent:
            self._failures.add(each)

    def dispatch_event(self, event: Any) -> None:
        """
        Send one event.
        """
        self._trackers[event.url].track(SelfDescribing(SelfDescribingJson(_SCHEMA, {KEY: event.params})))

    def flush(self) -> Any:
        """
        Have everything sent.
        """
        for tracker in self._trackers:
            tracker.flush()
        return self._failures.said()
