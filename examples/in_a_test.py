"""
A test that proves what a dispatcher sends. Run it with pytest, or as it is.
"""

import requests

from wirewitness import Outcome, Verdict, witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture


@witness
class Dispatcher:
    """
    The dispatcher under test.
    """

    @staticmethod
    def dispatch_event(event: dict[str, object]) -> None:
        requests.post(str(event["url"]), json=event["params"], timeout=10)


def test_the_payload_arrives_byte_for_byte() -> None:
    with Sink() as endpoint, capture() as dispatches:
        Dispatcher.dispatch_event({"url": f"{endpoint.url}/v1/events", "params": {"visitor": "a"}, "http_verb": "POST"})

    (dispatch,) = dispatches
    assert dispatch.outcome is Outcome.DELIVERED
    assert dispatch.verdict is Verdict.IDENTICAL
    assert dispatch.payload is not None
    assert dispatch.payload.body == endpoint.requests[0].body


if __name__ == "__main__":
    test_the_payload_arrives_byte_for_byte()
    print("the payload arrived byte for byte")
