"""
What spans, metrics and logs say of an exchange: bounded, and without a payload, a query value or a credential.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.util.types import AttributeValue

from wirewitness.core.exchange import Exchange


SCOPE: Final = "wirewitness"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.30.0"
OTHER: Final = "_OTHER"

# OpenTelemetry semantic conventions, "HTTP request method": what isn't known to the standard is _OTHER.
_KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})


def known_method(method: str) -> str:
    """
    A method as ``http.request.method`` may hold it.
    """
    return method if method in _KNOWN_METHODS else OTHER


def exchange_error(exchange: Exchange) -> str | None:
    """
    ``error.type`` of an exchange: the exception's class, a status code from 400 on, or None.
    """
    if exchange.status is not None:
        return str(exchange.status) if exchange.status >= 400 else None  # noqa: PLR2004 -- RFC 9110 section 15.5
    return exchange.error_type


def exchange_attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    """
    A client span's attributes by the HTTP semantic conventions, and ``peer.service`` for Jaeger's arrows.
    """
    attributes: dict[str, AttributeValue] = {
        "http.request.method": known_method(exchange.method),
        "server.address": exchange.host,
        "server.port": exchange.port,
        "url.full": exchange.url,
        "peer.service": exchange.host,
        "service.peer.name": exchange.host,
    }
    optional: dict[str, AttributeValue | None] = {
        "http.request.body.size": exchange.size if exchange.complete else None,
        "http.request.resend_count": exchange.resend_count or None,
        "http.response.status_code": exchange.status,
        "error.type": exchange_error(exchange),
    }
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes


class CardinalityLimit:
    """
    Lets the first values of a kind through, and calls all further ones ``_OTHER``, so that no metric's series explode.

    Args:
        most: How many values are let through.
    """

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """
        The value itself, or ``_OTHER``.
        """
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return OTHER
        self._seen.add(value)
        return value
