"""
What happens on the way.
"""

from __future__ import annotations

from typing import Final

from wirewitness.conformance.judges import arrives, broken, proxied, recovers, untrusting
from wirewitness.conformance.judges_headers import prompt
from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.payloads import BUILDERS, plain


_HANDED_BACK: Final = " The payload must be tried again, or handed back to the caller; a line in a log tells no caller."

SCENARIOS: Final = (
    Scenario(
        "transport/refused",
        "nobody listens",
        "The connection is refused." + _HANDED_BACK,
        broken,
        params=plain,
        endpoint="refused",
        expects=0,
    ),
    Scenario(
        "transport/dns",
        "the name doesn't resolve",
        "A name under .invalid (RFC 6761 section 6.4)." + _HANDED_BACK,
        broken,
        params=plain,
        endpoint="dns",
        expects=0,
    ),
    Scenario(
        "transport/tls_untrusted",
        "a certificate that nobody has signed for",
        "The connection must not be used, and the reason must not be swallowed." + _HANDED_BACK,
        untrusting,
        params=plain,
        endpoint="tls",
        expects=0,
    ),
    Scenario(
        "transport/proxy",
        "HTTP_PROXY is set",
        "Many networks let nobody out but through a proxy. urllib and requests read it from the environment.",
        proxied,
        params=plain,
        endpoint="proxy",
    ),
    Scenario(
        "transport/reset_before_body",
        "reset before the content is read",
        "The server dies, or a load balancer lets go." + _HANDED_BACK,
        broken,
        "/reset/before",
        plain,
    ),
    Scenario(
        "transport/reset_during_body",
        "reset while the content is read",
        "A part of it is there; what is sent again must be all of it." + _HANDED_BACK,
        broken,
        "/reset/during",
        BUILDERS["1_mb"],
    ),
    Scenario(
        "transport/reset_after_body",
        "reset in place of an answer",
        "All of it is there, and the caller can't know: sending it again may double it, not telling may lose it."
        + _HANDED_BACK,
        broken,
        "/reset/after",
        plain,
    ),
    Scenario(
        "transport/half_closed",
        "closed in place of an answer",
        "The server reads all of it, and ends the connection in good order without an answer." + _HANDED_BACK,
        broken,
        "/half-close",
        plain,
    ),
    Scenario(
        "transport/slow_response",
        "the answer takes 1.5 s",
        "Whoever waits for the answer in the caller's thread holds up a page or a request of the program that he's in.",
        prompt,
        "/slow/1500",
        plain,
    ),
    Scenario(
        "transport/slow_read",
        "the content is read slowly",
        "The socket's buffer fills up: a dispatcher that doesn't wait for it loses the rest.",
        arrives,
        "/slow-read/10",
        BUILDERS["1_mb"],
    ),
    Scenario(
        "transport/idle_closed",
        "the kept connection is closed between two events",
        "Servers close idle connections without a word. The next event meets a dead one: it must be sent again on another.",
        arrives,
        "/hang-up/204",
        plain,
        act="pause",
        events=2,
        expects=2,
    ),
    Scenario(
        "transport/recovery",
        "answered 500 once, then 204",
        "A fault that passes. Whoever sends again with identical bytes loses nothing.",
        recovers,
        "/flaky/1/500",
        plain,
        expects=2,
    ),
)
