"""
A sender that counts and one that audits, and servers with certificates.
"""

from __future__ import annotations

import ssl

import pytest
import trustme

from curling import PATIENCE

from wirewitness.conformance import Sink
from wirewitness.outbox.curl import CurlSender


@pytest.fixture(autouse=True)
def _without_the_machine_s_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[0, 1], ids=["counted", "audited"])
def sender(request):
    return CurlSender(timeout=PATIENCE, audit=request.param)


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def authority_file(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def secure_sink(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Sink(tls=context) as endpoint:
        yield endpoint
