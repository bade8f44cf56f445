"""
What is at the other end in a scenario: always on loopback.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from wirewitness.conformance.sink import Sink


@dataclass(frozen=True)
class Endpoint:
    """
    Where a scenario's path is.

    Attributes:
        origin: Scheme, host and port.
        sink: What records there, if anything does.
        environment: What the dispatcher's process needs to get there.
        missing: What can't be had here, so that the scenario isn't played.
    """

    origin: str = ""
    sink: Sink | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: str | None = None


@contextlib.contextmanager
def endpoint(kind: str) -> Iterator[Endpoint]:
    """
    Open an endpoint for the time of a scenario.

    Args:
        kind: ``sink``, ``refused``, ``tls``, ``dns`` or ``proxy``.
    """
    if kind == "refused":
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            yield Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}")
    elif kind == "dns":
        yield Endpoint("http://wirewitness-conformance.invalid")
    elif kind == "tls":
        with _untrusted() as found:
            yield found
    else:
        with Sink() as sink:
            proxied = {"HTTP_PROXY": sink.url, "http_proxy": sink.url} if kind == "proxy" else {}
            origin = "http://wirewitness-conformance.invalid" if proxied else sink.url
            yield Endpoint(origin, sink, proxied)


@contextlib.contextmanager
def _untrusted() -> Iterator[Endpoint]:
    try:
        import trustme  # noqa: PLC0415 -- an extra
    except ImportError:
        yield Endpoint(missing="trustme is missing: pip install 'wirewitness[conformance]'")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with Sink(tls=context) as sink:
        yield Endpoint(sink.url, sink)
