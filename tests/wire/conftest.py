"""
Running a dispatcher under observation, and holding what the tap saw against what the sink received.
"""

from __future__ import annotations

import contextlib
import ssl

import pytest
import trustme

from seen import Proxy

from wirewitness.conformance import Sink


@pytest.fixture(autouse=True)
def _without_proxies_of_the_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def authority_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def secure_sink(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with Sink(tls=context) as endpoint:
        yield endpoint


@pytest.fixture
def proxy():
    with contextlib.closing(Proxy()) as between:
        yield between
