"""
How libcurl is to send.
"""

from __future__ import annotations

from dataclasses import dataclass

from wirewitness.core.exchange import Origin


@dataclass(frozen=True)
class CurlOptions:
    """
    What a :class:`~wirewitness.outbox.curl.CurlSender` was told, checked.

    Attributes:
        connections: How many transfers at once, to all servers.
        timeout: Seconds in which at least something must move.
        total_timeout: Seconds for a transfer.
        connect_timeout: Seconds of these for the connection.
        trusted: A file or a folder of trusted certificates; None to trust any.
        audit: The share of transfers whose bytes are recorded.
        receivers: The origins whose word on what they received is taken.
    """

    connections: int
    timeout: float
    total_timeout: float
    connect_timeout: float
    trusted: str | None
    audit: float
    receivers: frozenset[Origin] = frozenset()
