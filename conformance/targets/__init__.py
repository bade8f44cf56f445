"""
Real senders as dispatchers, to try ``wirewitness check`` with.

``python -m conformance.targets`` plays every scenario against each and writes ``docs/conformance-results.md``.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """
    A target.

    Attributes:
        spec: What ``wirewitness check`` takes.
        packages: The distributions whose versions make the difference; the first is the one that is tried.
        embeds: Whether the payload travels inside an envelope of the SDK's own.
        encodes: Whether the sender has an encoder of its own: other bytes than ``json.dumps`` for the same value.
    """

    spec: str
    packages: tuple[str, ...]
    embeds: bool = False
    encodes: bool = False

    @property
    def module(self) -> str:
        """
        The module's name.
        """
        return self.spec.partition(":")[0]


def _ours(spec: str, *packages: str, embeds: bool = False, encodes: bool = False) -> Entry:
    return Entry(f"{__name__}.{spec}", packages, embeds, encodes)


TARGETS: Final = {
    "outbox-http": _ours("outbox:http", "wirewitness", "requests"),
    "outbox-curl": _ours("outbox:curl", "wirewitness", "pycurl"),
    "outbox-sqlite": _ours("outbox:sqlite", "wirewitness", "requests"),
    "outbox-optimizely": _ours("outbox:optimizely", "wirewitness", "optimizely-sdk"),
    "optimizely": Entry("optimizely.event_dispatcher:EventDispatcher", ("optimizely-sdk", "requests")),
    "optimizely-odp": _ours("odp_events:Dispatcher", "optimizely-sdk", "requests", embeds=True),
    "requests-json": _ours("requests_plain:SendJson", "requests"),
    "requests-data": _ours("requests_plain:SendData", "requests"),
    "httpx": _ours("httpx_plain:Dispatcher", "httpx", encodes=True),
    "aiohttp": _ours("aiohttp_plain:Dispatcher", "aiohttp"),
    "urllib": _ours("urllib_plain:Dispatcher", "python"),
    "urllib3": _ours("urllib3_plain:Dispatcher", "urllib3", encodes=True),
    "posthog": _ours("posthog_sdk:Dispatcher", "posthog", "requests", embeds=True),
    "segment": _ours("segment_sdk:Dispatcher", "segment-analytics-python", "requests", embeds=True),
    "rudderstack": _ours("rudderstack_sdk:Dispatcher", "rudder-sdk-python", "requests", embeds=True),
    "mixpanel": _ours("mixpanel_sdk:Dispatcher", "mixpanel", "requests", embeds=True),
    "snowplow": _ours("snowplow_sdk:Dispatcher", "snowplow-tracker", "requests", embeds=True),
    "launchdarkly": _ours("launchdarkly_sdk:Dispatcher", "launchdarkly-server-sdk", "urllib3", embeds=True),
    "sentry": _ours("sentry_sdk_transport:Dispatcher", "sentry-sdk", "urllib3", embeds=True),
}
"""Every target, by the name that the results give it."""
