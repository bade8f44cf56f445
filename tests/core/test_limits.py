"""
What somebody sets is checked where it is set.
"""

from __future__ import annotations

import pytest

from wirewitness.core.limits import origins, positive, seconds
from wirewitness.errors import ConfigurationError


def test_origins_are_read_in_every_spelling():
    named = ["https://events.example", "HTTP://Events.Example:8080/", "http://[::1]:81", "https://events.example.:443"]
    assert origins("o", named) == {
        ("https", "events.example", 443),
        ("http", "events.example", 8080),
        ("http", "::1", 81),
    }
    assert origins("o", ()) == frozenset()


@pytest.mark.parametrize(
    "wrong",
    [
        "https://events.example",
        None,
        5,
        [None],
        ["events.example"],
        ["https://events.example/path"],
        ["https://events.example?key=s3cret"],
        ["https://user:s3cret@events.example"],
        ["https://events.example#s3cret"],
        ["ftp://events.example"],
        ["https://"],
    ],
)
def test_what_is_no_origin_is_refused_without_being_told(wrong):
    with pytest.raises(ConfigurationError, match="collection of origins") as refused:
        origins("o", wrong)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "1", None])
def test_what_is_no_number_of_things_is_refused(wrong):
    assert positive("n", 1) == 1
    with pytest.raises(ConfigurationError, match="whole number"):
        positive("n", wrong)


@pytest.mark.parametrize("wrong", [0, -1, True, float("inf"), float("nan"), "1", None])
def test_what_is_no_time_is_refused(wrong):
    assert seconds("s", 1) == 1.0
    with pytest.raises(ConfigurationError, match="number of seconds"):
        seconds("s", wrong)
