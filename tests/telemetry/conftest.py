from __future__ import annotations

import gc

import pytest

from wirewitness.ledger import process_ledger


class _Named(dict):
    """
    The names of one test, with those of all earlier ones behind them.
    """

    def __init__(self, earlier):
        super().__init__()
        self._earlier = earlier

    def __missing__(self, name):
        return self._earlier[name]


@pytest.fixture(autouse=True)
def _names_of_this_test_alone():
    # From 1.45.2 on the SDK merges label sets beyond 2000: a whole run of tests has more dispatchers than an application.
    # What earlier tests have left may only be taken over by the books that it stands in.
    gc.collect()
    process_ledger._take_over()
    earlier = process_ledger._named
    process_ledger._named = _Named(earlier)
    yield
    for name, counts in process_ledger._named.items():
        earlier.setdefault(name, []).extend(counts)
    process_ledger._named = earlier
