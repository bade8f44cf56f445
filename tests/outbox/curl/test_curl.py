"""
What CurlSender needs, and which options it takes.
"""

from __future__ import annotations

import re
import sys

import pytest

from wirewitness import ConfigurationError
from wirewitness.errors import shown
from wirewitness.outbox.curl import CurlSender


def test_without_pycurl_it_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycurl", None)
    monkeypatch.delitem(sys.modules, "wirewitness.outbox.curl_multi", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'wirewitness\[curl\]'"):
        CurlSender()


def test_with_a_pycurl_that_is_too_old_it_names_what_to_install(monkeypatch):
    import pycurl

    monkeypatch.delattr(pycurl, "RETRY_AFTER")
    monkeypatch.delitem(sys.modules, "wirewitness.outbox.curl_multi", raising=False)
    with pytest.raises(ConfigurationError, match=r"7\.48 .*pip install"):
        CurlSender()


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"connections": 1.5},
        {"connections": True},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"connect_timeout": -1},
        {"verify": "/nowhere/at/all.pem"},
        {"verify": 3},
        {"audit": -0.1},
        {"audit": 2},
        {"audit": "all"},
        {"audit": True},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"{name}={re.escape(shown(value))}"):
        CurlSender(**options)


def test_it_wants_one_thread_and_shows_its_connections():
    assert CurlSender.threads == 1
    assert repr(CurlSender(connections=3)) == "<CurlSender 3 connections>"
