"""
Running a dispatcher under observation, and holding what the tap saw against what the sink received.
"""

from __future__ import annotations

import contextlib

import pytest

from seen import Proxy


@pytest.fixture(autouse=True)
def _without_proxies_of_the_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy():
    with contextlib.closing(Proxy()) as between:
        yield between
