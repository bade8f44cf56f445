"""
A client that exists is observed whole: what it decides, what its event processor takes and loses, and what its dispatcher does.
Without a line of code, it's `opentelemetry-instrument python app.py`.
"""

from pathlib import Path
from typing import Any

import requests

from optimizely.event.event_processor import BatchEventProcessor
from optimizely.optimizely import Optimizely

from wirewitness import ledger_of
from wirewitness.conformance import Sink
from wirewitness.optimizely import book_of, instrument, uninstrument


class Shop:
    # Optimizely's own endpoint is in `event.url`; the example's is on loopback.
    def dispatch_event(self, event: Any) -> None:
        requests.post(f"{endpoint.url}/v1/events", json=event.params, timeout=10)


with Sink() as endpoint:
    shop = Shop()
    client = Optimizely(
        Path(__file__).with_name("datafile.json").read_text(),
        event_dispatcher=shop,
        event_processor=BatchEventProcessor(shop, batch_size=10, start_on_init=True),
    )
    instrument(client)

    for user in ("ada", "grace", "edith"):
        decision = client.create_user_context(user).decide("new_checkout")
        print(f"{user} gets {decision.variation_key} by {decision.rule_key}")
    print(f"before close: {book_of(client)}")

    client.close()

    # Too late: the processor is stopped, and the SDK tells nobody.
    client.create_user_context("late").decide("new_checkout")
    print(f"events: {book_of(client)}")
    print(f"payloads: {ledger_of(client.event_dispatcher).book()}")
    uninstrument(client)
