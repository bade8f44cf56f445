"""
What became of a dispatch, and why.
"""

from __future__ import annotations

import enum

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final


class Outcome(enum.StrEnum):
    """
    The end of a dispatch; each has exactly one.
    """

    DELIVERED = "delivered"
    """The last exchange that carried the payload to its target was answered 2xx."""
    REJECTED = "rejected"
    """It was answered anything else."""
    FAILED = "failed"
    """No response: an error or a timeout, swallowed by the inner dispatcher or not."""
    DROPPED = "dropped"
    """Never attempted."""
    UNCONFIRMED = "unconfirmed"
    """The call returned, and there is no evidence either way."""


class Reason(enum.StrEnum):
    """
    Why a dispatch ended as it did, or what happened to its payload. The values are bounded, so they can label metrics.
    """

    NONE = ""

    # What happened to the payload on its way: these go before any other reason.
    BYTES_DIFFER = "bytes_differ"
    BODY_LOST = "body_lost"
    BODY_NOT_RESENT = "body_not_resent"
    BODY_TRUNCATED = "body_truncated"
    ALTERED_IN_TRANSIT = "altered_in_transit"

    # REJECTED: what answered.
    STATUS_1XX = "status_1xx"
    STATUS_3XX = "status_3xx"
    STATUS_4XX = "status_4xx"
    STATUS_5XX = "status_5xx"

    # FAILED: what ended the attempt.
    CANCELLED = "cancelled"
    DNS = "dns"
    ERROR = "error"
    PROXY = "proxy"
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    TLS = "tls"

    # DROPPED, and UNCONFIRMED where the call returned all the same.
    UNSERIALIZABLE = "unserializable"
    UNREADABLE = "unreadable"

    # DROPPED by an Outbox, which never attempted it.
    CORRUPT = "corrupt"
    EXPIRED = "expired"
    FEEDBACK = "feedback"
    """A log line about its own deliveries, which a log handler dispatched."""
    QUEUE_FULL = "queue_full"
    SPOOL_FAILED = "spool_failed"
    TOO_LARGE = "too_large"
    UNSENDABLE = "unsendable"

    # UNCONFIRMED: what's missing.
    ELSEWHERE = "elsewhere"
    """The payload was seen at another address only than its target."""
    EVICTED = "evicted"
    FRAMED_ODDLY = "framed_oddly"
    """Receivers may read other content, or refuse it, and it was answered 2xx."""
    NO_EVIDENCE = "no_evidence"
    RESPONSE_UNREAD = "response_unread"
    SEARCH_GIVEN_UP = "search_given_up"
    """A body that may hold the payload was too costly to be searched."""
    SHUTDOWN = "shutdown"
    TAP_LOST = "tap_lost"
    """Another tool has taken the tap away, or put something in the place of HTTP: the wire can't be seen."""
    UNKNOWN_PAYLOAD = "unknown_payload"


ALTERATIONS: Final = (
    Reason.BYTES_DIFFER,
    Reason.BODY_LOST,
    Reason.BODY_NOT_RESENT,
    Reason.BODY_TRUNCATED,
    Reason.ALTERED_IN_TRANSIT,
)

_STATUS: Final = (Reason.STATUS_1XX, Reason.STATUS_3XX, Reason.STATUS_4XX, Reason.STATUS_5XX)
_FAILURES: Final = (
    Reason.CANCELLED,
    Reason.DNS,
    Reason.ERROR,
    Reason.PROXY,
    Reason.REFUSED,
    Reason.RESET,
    Reason.TIMEOUT,
    Reason.TLS,
)
_UNKNOWN_PAYLOAD: Final = (Reason.UNSERIALIZABLE, Reason.UNREADABLE, Reason.UNKNOWN_PAYLOAD)

REASONS: Final = MappingProxyType(
    {
        Outcome.DELIVERED: (Reason.NONE, *ALTERATIONS),
        Outcome.REJECTED: (*_STATUS, *ALTERATIONS),
        Outcome.FAILED: (*_FAILURES, *ALTERATIONS),
        Outcome.DROPPED: (
            Reason.CORRUPT,
            Reason.EXPIRED,
            Reason.FEEDBACK,
            Reason.QUEUE_FULL,
            Reason.SHUTDOWN,
            Reason.SPOOL_FAILED,
            Reason.TOO_LARGE,
            Reason.UNREADABLE,
            Reason.UNSENDABLE,
            Reason.UNSERIALIZABLE,
        ),
        Outcome.UNCONFIRMED: (
            Reason.ELSEWHERE,
            Reason.EVICTED,
            Reason.FRAMED_ODDLY,
            Reason.NO_EVIDENCE,
            Reason.RESPONSE_UNREAD,
            Reason.SEARCH_GIVEN_UP,
            Reason.SHUTDOWN,
            Reason.TAP_LOST,
            *_UNKNOWN_PAYLOAD,
            *ALTERATIONS,
        ),
    }
)
"""Every reason that an outcome can have: the label sets that exist at zero from the start."""


def reason_of_status(status: int) -> Reason:
    """
    The ``REJECTED`` reason of a status code that isn't 2xx; codes outside RFC 9110's classes count as 5xx.
    """
    classes = {1: Reason.STATUS_1XX, 3: Reason.STATUS_3XX, 4: Reason.STATUS_4XX}
    return classes.get(status // 100, Reason.STATUS_5XX)


# The more specific first: a requests.ConnectTimeout is a ConnectionError too, and a failed TLS handshake an OSError.
_FAILURE_BY_CLASS_NAME: Final = MappingProxyType(
    {
        "CancelledError": Reason.CANCELLED,
        "Cancelled": Reason.CANCELLED,
        "SSLError": Reason.TLS,
        "CertificateError": Reason.TLS,
        "gaierror": Reason.DNS,
        "NameResolutionError": Reason.DNS,
        "ConnectionRefusedError": Reason.REFUSED,
        "TimeoutError": Reason.TIMEOUT,
        "Timeout": Reason.TIMEOUT,
        "HTTPTimeoutError": Reason.TIMEOUT,
        "TimeoutException": Reason.TIMEOUT,
        "ConnectionResetError": Reason.RESET,
        "BrokenPipeError": Reason.RESET,
        "ConnectionAbortedError": Reason.RESET,
        "IncompleteRead": Reason.RESET,
        "ProxyError": Reason.PROXY,
    }
)


def reason_of_error(error: BaseException) -> Reason:
    """
    The ``FAILED`` reason of an exception, from the class names of it or of the nearest thing that caused it.

    Names, so that the libraries whose exceptions they are need not be imported.
    """
    for link in _chain(error):
        if _refuses_tunnel(link):
            return Reason.PROXY
        if _says_disconnected(link):
            return Reason.RESET
        names = {base.__name__ for base in type(link).__mro__}
        # urllib3 wraps whatever a connect met in it, and in 1.26 it's a timeout by class: what it wraps tells.
        if "NewConnectionError" not in names or "NameResolutionError" in names:
            for name, reason in _FAILURE_BY_CLASS_NAME.items():
                if name in names:
                    return reason
    return Reason.ERROR


def _refuses_tunnel(error: BaseException) -> bool:
    # http.client has no class of its own for a proxy that answers a CONNECT with anything but 200: its text alone tells.
    return type(error) is OSError and str(error).startswith("Tunnel connection failed")


def _says_disconnected(error: BaseException) -> bool:
    # httpcore and h11 have one class for an answer that never came and for one that is no HTTP.
    return type(error).__name__ == "RemoteProtocolError" and str(error).startswith("Server disconnected")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
        if isinstance(link, BaseExceptionGroup):
            # Of several addresses that were tried at once, the first.
            link = link.exceptions[0]


def error_type(error: BaseException) -> str:
    """
    An exception's class as OpenTelemetry's ``error.type`` wants it: fully qualified, built-ins by their bare name.
    """
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
