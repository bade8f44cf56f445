"""
A sender that counts and one that audits.
"""

from __future__ import annotations

import pytest

from curling import PATIENCE

from wirewitness.outbox.curl import CurlSender


@pytest.fixture(autouse=True)
def _without_the_machine_s_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[0, 1], ids=["counted", "audited"])
def sender(request):
    return CurlSender(timeout=PATIENCE, audit=request.param)
