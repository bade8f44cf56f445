"""
What a call with a verb, a URL and parameters asks for, however they are given.
"""

from __future__ import annotations

import pytest

from wirewitness.shapes import read_classic
from wirewitness.typing import Intent


URL = "http://host/events"
PARAMS = {"visitor": "v1"}
INTENT = Intent("POST", URL, PARAMS)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("POST", URL, PARAMS), {}),
        (("POST", URL), {"params": PARAMS}),
        (("POST",), {"params": PARAMS, "url": URL}),
        ((), {"params": PARAMS, "url": URL, "http_verb": "post"}),
        (("post", URL, PARAMS, "more"), {"timeout": 3}),
    ],
)
def test_positions_and_keywords_mix(args, kwargs):
    before = dict(kwargs)
    intent = read_classic()(args, kwargs)
    assert intent == INTENT
    assert intent.params is PARAMS
    assert kwargs == before


def test_parameters_can_have_other_names():
    adapter = read_classic(["method", "endpoint", "body"])
    assert adapter((), {"body": PARAMS, "endpoint": URL, "method": "POST"}) == INTENT
    assert adapter(("POST", URL), {"body": PARAMS}) == INTENT


def test_a_missing_argument_is_an_error():
    with pytest.raises(KeyError):
        read_classic()(("POST", URL), {})
