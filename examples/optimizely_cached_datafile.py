"""
What the Ruby gem optimizely_server_side's README shows, in Python: a datafile that is cached, with a fallback; an experiment
with a primary; and a dispatcher of Ruby's three arguments, ``dispatchEvent(httpVerb, url, params)``, under observation.
"""

from pathlib import Path
from typing import Any

import requests

from wirewitness import witness
from wirewitness.conformance import Sink
from wirewitness.optimizely import CachedConfigManager, Fetch, experiment, visitor


FALLBACK = Path(__file__).with_name("datafile.json")

with Sink() as endpoint:

    @witness(name="events")
    class MyEventDispatcher:
        # Ruby's names. Optimizely's own endpoint is in `url`; the example's is on loopback.
        def dispatchEvent(self, httpVerb: str, url: str, params: Any) -> None:  # noqa: ARG002, N802, N803
            requests.request(httpVerb, f"{endpoint.url}/v1/events", json=params, timeout=10)

    # The initializer: config_endpoint, cache_expiry (here in seconds) and event_dispatcher. The endpoint is down today.
    fetches: list[Fetch] = []
    datafile = CachedConfigManager(
        url=f"{endpoint.url}/status/503",
        expires=15 * 60,
        fallback=FALLBACK,
        on_fetch=fetches.append,
    )
    client = datafile.client(event_dispatcher=MyEventDispatcher())

    checkout = experiment(client, "checkout_in_one_page")

    @checkout.variation("three_pages", primary=True)
    def three_pages(cart: str) -> str:
        return f"{cart} on three pages"

    @checkout.variation("one_page")
    def one_page(cart: str) -> str:
        return f"{cart} on one page"

    # The before_action: whom this request is for. In a web framework, a middleware does it.
    for user in ("ada", "grace", "edith"):
        with visitor(user, {"device_type": "iPhone"}):
            print(f"{user} sees {checkout('the cart')}: {checkout.tag(evar=7)}")

    # A paused or unknown experiment: the primary is served.
    paused = experiment(client, "no_such_experiment")
    paused.variation("one_page", lambda: "the experiment")
    paused.variation("three_pages", lambda: "the primary", primary=True)
    with visitor("ada"):
        print(f"ada sees {paused()}")

    client.close()

for fetch in fetches:
    print(f"GET datafile: {fetch.outcome.value} with {fetch.status} in {fetch.duration * 1000:.0f} ms")
print(f"decided by the {datafile.source.value}")
print(MyEventDispatcher.ledger.book())  # type: ignore[attr-defined]
