"""
How error texts name a value: what it is, never what stands in it.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core import limits
from wirewitness.errors import ConfigurationError, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (-1, "-1"),
        (0.5, "0.5"),
        pytest.param(10**5000, "an int", id="a huge number"),
        ("secret", "a str of 6 characters"),
        (b"secret", "a bytes of 6 bytes"),
        ({"key": "secret"}, "a dict of 1"),
        (["secret"], "a list of 1"),
        (dict, "the class dict"),
        (object(), "an object"),
    ],
)
def test_a_value_is_named_by_what_it_is(value, text):
    assert shown(value) == text


class Telling:
    def __init__(self, told):
        self.told = told

    def __repr__(self):
        return self.told


@given(st.text(st.characters(categories=["Lu"]), min_size=4).map(lambda text: f"CANARY{text}"))
def test_no_error_text_holds_what_was_given(secret):
    for value in (secret, secret.encode(), [secret], {secret: secret}, Telling(secret)):
        for check in (limits.positive, limits.seconds):
            with pytest.raises(ConfigurationError) as raised:
                check("most", value)
            assert "CANARY" not in str(raised.value)
