"""
A shop behind gunicorn: a Flask app, an Optimizely client, and an Outbox that outlives both.

``gunicorn --preload --workers 2 --chdir examples/shop app:app``, with ``SPOOL`` naming a directory for the spool, and
``EVENTS_URL`` an endpoint in place of Optimizely's own.
"""

import os

from pathlib import Path

from flask import Flask
from optimizely.event.event_processor import ForwardingEventProcessor
from optimizely.event_builder import Event
from optimizely.helpers.sdk_settings import OptimizelySdkSettings
from optimizely.optimizely import Optimizely

from wirewitness import HttpSender, Outbox, RetryPolicy, SqliteSpool
from wirewitness.outbox import close_on_sigterm


# Every process keeps a file of its own in the folder, and sends what dead ones have left. A payload is on disk before
# ``dispatch_event`` returns.
outbox = Outbox(
    HttpSender(threads=4),
    name="shop",
    spool=SqliteSpool(os.environ["SPOOL"], durability="sync"),
    retry=RetryPolicy(attempts=None, base=0.1, ceiling=1.0),
)
close_on_sigterm()


class ToEndpoint:
    """
    The Outbox, with the endpoint of this example in place of Optimizely's. In production, give the Outbox itself.
    """

    @staticmethod
    def dispatch_event(event: Event) -> None:
        event.url = os.environ["EVENTS_URL"]
        outbox.dispatch_event(event)


optimizely = Optimizely(
    (Path(__file__).parents[1] / "datafile.json").read_text(encoding="utf-8"),
    event_dispatcher=ToEndpoint,
    event_processor=ForwardingEventProcessor(ToEndpoint),
    settings=OptimizelySdkSettings(odp_disabled=True),
)
app = Flask(__name__)


@app.post("/orders/<visitor>")
def order(visitor: str) -> dict[str, str]:
    """
    A visitor buys something.
    """
    user = optimizely.create_user_context(visitor, {"plan": "gold"})
    user.track_event("order_placed", {"revenue": 4200})
    return {"thanks": visitor}
