"""
What is answered, and what the dispatcher makes of it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from wirewitness.conformance.judges import permanent, redirected, succeeded, throttled, transient
from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.payloads import plain


_SUCCESS: Final = "The payload is delivered: it must be sent once, and the caller must not be told of a failure."
_LOSING: Final = (
    "Clients turn a POST into a GET without content on this status (RFC 9110 section 15.4), are answered 200, and take it"
    " for a success: the payload is lost. Follow with the payload, or don't follow and tell the caller."
)
_KEEPING: Final = (
    "The same request is to be sent to another place (RFC 9110 section 15.4): with identical bytes. A body that was an"
    " iterator or a file is empty by then."
)
_PERMANENT: Final = (
    "The server refuses the payload for good. Repeating it won't help, and the caller should know: by an exception, a"
    " returned value, or a report of the dispatcher. A line in a log tells no caller."
)
_TRANSIENT: Final = (
    "The same request may succeed later. It's to be sent again with identical bytes, or handed back to the caller. One"
    " attempt and silence lose the payload. urllib3's Retry leaves POST out unless allowed_methods names it."
)
_THROTTLED: Final = (
    f"{_TRANSIENT} Whoever sends again before Retry-After is over makes it worse (RFC 9110 section 10.2.3)."
)

_NAMES: Final = MappingProxyType(
    {
        200: "OK",
        202: "Accepted",
        204: "No Content",
        301: "Moved Permanently",
        302: "Found",
        303: "See Other",
        307: "Temporary Redirect",
        308: "Permanent Redirect",
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        404: "Not Found",
        408: "Request Timeout",
        413: "Content Too Large",
        425: "Too Early",
        429: "Too Many Requests, with Retry-After: 1",
        500: "Internal Server Error",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Gateway Timeout",
    }
)

_MAY_PASS: Final = frozenset({408, 425, 500, 502, 503, 504})
_KEEPS: Final = frozenset({307, 308})


def _scenario(code: int) -> Scenario:
    name, summary, path = f"status/{code}", _NAMES[code], f"/status/{code}"
    if code in _MAY_PASS:
        return Scenario(name, summary, _TRANSIENT, transient, path, plain)
    if summary.endswith("Retry-After: 1"):
        return Scenario(name, summary, _THROTTLED, throttled, f"{path}?retry-after=1", plain)
    if code // 100 == 3:  # noqa: PLR2004 -- RFC 9110 section 15.4
        words = _KEEPING if code in _KEEPS else _LOSING
        return Scenario(name, summary, words, redirected, f"/redirect/{code}/v1/events", plain)
    words, judge = (_SUCCESS, succeeded) if code // 100 == 2 else (_PERMANENT, permanent)  # noqa: PLR2004
    return Scenario(name, summary, words, judge, path, plain)


SCENARIOS: Final = tuple(_scenario(code) for code in _NAMES)
