"""
A real Optimizely client that decides and tracks, its dispatcher under observation.
"""

from pathlib import Path

from optimizely.event.event_processor import BatchEventProcessor
from optimizely.event_builder import Event
from optimizely.event_dispatcher import EventDispatcher
from optimizely.helpers.sdk_settings import OptimizelySdkSettings
from optimizely.optimizely import Optimizely

from wirewitness import witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture


DATAFILE = Path(__file__).with_name("datafile.json").read_text(encoding="utf-8")

with Sink() as endpoint:

    class ToLoopback:
        """
        The SDK's own dispatcher, with an endpoint on loopback in place of Optimizely's. In production, wrap
        ``EventDispatcher`` itself, or the dispatcher that you have.
        """

        @staticmethod
        def dispatch_event(event: Event) -> None:
            event.url = f"{endpoint.url}/v1/events"
            EventDispatcher.dispatch_event(event)

    dispatcher = witness(ToLoopback, name="optimizely")
    client = Optimizely(
        DATAFILE,
        event_dispatcher=dispatcher,
        event_processor=BatchEventProcessor(dispatcher, start_on_init=True),
        settings=OptimizelySdkSettings(odp_disabled=True),
    )
    with capture() as dispatches:
        for visitor in ("ada", "grace", "edith"):
            user = client.create_user_context(visitor, {"plan": "gold"})
            print(f"{visitor} sees {user.decide('new_checkout').variation_key}")
            user.track_event("order_placed", {"revenue": 4200})
        client.close()  # the batch goes out

for dispatch in dispatches:
    print(f"{len(dispatch.body)} bytes: {dispatch.outcome.name}, {dispatch.verdict.name}, {dispatch.evidence.name}")
print(dispatcher.ledger.book())
