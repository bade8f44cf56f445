"""
Events, and retries that a test can wait for.
"""

from __future__ import annotations

from types import SimpleNamespace

from wirewitness.outbox import RetryPolicy


FAST = RetryPolicy(attempts=4, base=0.01, ceiling=0.02, retry_after_ceiling=0.05)


def event(url, params, http_verb="POST"):
    return SimpleNamespace(url=url, params=params, http_verb=http_verb, headers={"Content-Type": "application/json"})
