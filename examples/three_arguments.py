"""
The classic dispatcher, a function of (http_verb, url, params), under observation.
"""

import contextlib

import requests

from wirewitness import witness
from wirewitness.conformance import Sink


@witness
def dispatch(http_verb: str, url: str, params: dict[str, str]) -> None:
    # Like many a dispatcher, this one lets no error out.
    with contextlib.suppress(requests.RequestException):
        requests.request(http_verb, url, json=params, timeout=10)


with Sink() as endpoint:
    dispatch("POST", f"{endpoint.url}/v1/events", {"visitor": "a"})
    dispatch("POST", f"{endpoint.url}/status/503", {"visitor": "b"})

print(dispatch.ledger.book())  # type: ignore[attr-defined]
