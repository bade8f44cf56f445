"""
What tests of several rooms use.
"""

from __future__ import annotations

import pytest

from wirewitness.conformance import Sink


@pytest.fixture
def sink():
    with Sink() as endpoint:
        yield endpoint
