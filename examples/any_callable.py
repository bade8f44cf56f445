"""
A callable with a signature of its own: say with ``payload=`` what it sends, and with ``url=`` where.
"""

import requests

from wirewitness import Dispatch, witness
from wirewitness.conformance import Sink


class Consumer:
    """
    Sends ready-made messages to the endpoints of an analytics service.
    """

    def __init__(self, host: str) -> None:
        self._host = host

    def send(self, endpoint: str, json_message: str) -> None:
        # The service wants an array of messages.
        requests.post(self._host + endpoint, data=f"[{json_message}]".encode(), timeout=10)


def tell(dispatch: Dispatch) -> None:
    print(f"the payload was {dispatch.verdict.value}, as far as the {dispatch.evidence.value} shows")


with Sink() as service:
    consumer = Consumer(service.url)
    send = witness(
        consumer.send,
        name="analytics",
        payload="json_message",
        url=lambda endpoint, _: service.url + endpoint,
        on_settle=tell,
    )
    send("/v1/events", '{"event": "signed up"}')
