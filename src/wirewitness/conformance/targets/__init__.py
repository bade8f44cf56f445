"""
Dispatchers to try the kit with: this project's, and plain ones over common HTTP clients.
"""

from __future__ import annotations

import json
import urllib.request

from typing import Any

import requests
import urllib3

from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox import HttpSender, Outbox


TIMEOUT = 10.0
"""Seconds, of the plain dispatchers."""


def outbox() -> Outbox:
    """
    The Outbox over requests, with backoffs short enough for a test.
    """
    return Outbox(HttpSender(), name="conformance", retry=RetryPolicy(attempts=4, base=0.02, ceiling=0.1))


def plain_requests(event: Any) -> None:
    """
    What most people write first: it raises.
    """
    if event.http_verb == "GET":
        response = requests.get(event.url, params=event.params, headers=event.headers, timeout=TIMEOUT)
    else:
        response = requests.request(
            event.http_verb, event.url, data=json.dumps(event.params), headers=event.headers, timeout=TIMEOUT
        )
    response.raise_for_status()


def swallowing_requests(event: Any) -> None:
    """
    What most people write second: it never raises.
    """
    try:
        plain_requests(event)
    except requests.RequestException:
        return


def plain_urllib(event: Any) -> None:
    """
    The standard library's.
    """
    body = json.dumps(event.params).encode("utf-8")
    request = urllib.request.Request(event.url, body, event.headers, method=event.http_verb)  # noqa: S310 -- the kit's URL
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        response.read()


def plain_urllib3(event: Any) -> int:
    """
    A pool of kept connections; the status is returned.
    """
    body = json.dumps(event.params).encode("utf-8")
    response = _POOL.request(event.http_verb, event.url, body=body, headers=event.headers, timeout=TIMEOUT)
    return response.status


_POOL = urllib3.PoolManager()


def three_arguments(http_verb: str, url: str, params: Any) -> int:
    """
    The classic shape, ``(http_verb, url, params)``; the status is returned.
    """
    headers = {"Content-Type": "application/json"}
    return requests.request(http_verb, url, data=json.dumps(params), headers=headers, timeout=TIMEOUT).status_code
