"""
The fast sender: libcurl, tens of kept-alive connections from one thread.
"""

from __future__ import annotations

import importlib
import os

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from wirewitness.core.limits import origins, positive, seconds
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.curl_options import CurlOptions
from wirewitness.outbox.sender import Lane


AUDIT: Final = 1 / 64
"""The share of messages whose very bytes are compared, by default: what that costs is lost in the noise."""

_SPARE_OF: Final = 16


class CurlSender:
    """
    Sends over libcurl, by HTTP/1.1: many messages at once, each in a request of its own, from one thread.

    A message is sent once: no retry, no redirect, and unlike libcurl itself no second request where a kept-alive connection
    turns out to be dead. The request has the header fields that the caller asked for, and ``Host``, ``Accept``,
    ``User-Agent`` and ``Content-Length``; its content is the payload's bytes. Nothing is read from a ``.netrc``. Proxies and
    ``REQUESTS_CA_BUNDLE`` are taken from the environment as ``requests`` takes them.

    No tap sees libcurl's sockets, so the sender tells itself what it handed to them. Of every message it compares what
    libcurl counted as uploaded with the payload's length: the bytes themselves are those that libcurl was given. Of one in
    ``1 / audit``, of every repeated one, and of all while records are wanted, the payload is compared with the very bytes
    that libcurl handed to the socket or the TLS layer, request line and framing included, and the
    ``Wirewitness-Received-Digest`` of a receiver in ``receiver_origins`` is read.

    Args:
        connections: How many messages are sent at once to one server, and connections kept. A sixteenth more, and one at least,
            is for the others: a server that is slow does not keep the first message for another one waiting.
        timeout: Seconds in which at least something must go out or come in; libcurl counts them whole.
        total_timeout: Seconds that an attempt may take in all: look-up, connection, TLS, sending, waiting and reading. None
            for ``timeout``.
        connect_timeout: Seconds of these for the connection, TLS included.
        verify: Whether to check certificates, or a file or a folder of those to be trusted; None for what
            ``REQUESTS_CA_BUNDLE`` says, else those that ``requests`` trusts.
        audit: The share of messages, from 0 to 1, whose very bytes are compared.
        receiver_origins: The servers whose ``Wirewitness-Received-Digest`` counts, each as ``https://host`` or
            ``https://host:port``. By default none: any server can answer with such a field.

    Attributes:
        threads: One is enough.
        spare: How many connections there are beyond ``connections``. No server alone gets them.

    Raises:
        ConfigurationError: If a value can't work, or pycurl is missing or too old.
    """

    threads = 1

    def __init__(  # noqa: PLR0913 -- each is an option of its own
        self,
        *,
        connections: int = 64,
        timeout: float = 10.0,
        total_timeout: float | None = None,
        connect_timeout: float = 5.0,
        verify: bool | str | os.PathLike[str] | None = None,
        audit: float = AUDIT,
        receiver_origins: Iterable[str] = (),
    ) -> None:
        self._run = _runner()
        self.connections: int = positive("connections", connections)
        self.spare: int = max(1, self.connections // _SPARE_OF)
        self._options = CurlOptions(
            connections=self.connections + self.spare,
            timeout=seconds("timeout", timeout),
            total_timeout=seconds("total_timeout", timeout if total_timeout is None else total_timeout),
            connect_timeout=seconds("connect_timeout", connect_timeout),
            trusted=_trusted(verify),
            audit=_share("audit", audit),
            receivers=origins("receiver_origins", receiver_origins),
        )

    def run(self, lane: Lane) -> None:
        """
        Carry messages until the lane has no more. All handles are made here and end here: a forked child has its own.

        Args:
            lane: Where messages come from, and where is reported what became of them.
        """
        self._run(self._options, lane)

    def __repr__(self) -> str:
        return f"<CurlSender {self.connections} connections>"


def _runner() -> Callable[[CurlOptions, Lane], None]:
    try:
        module: Any = importlib.import_module("wirewitness.outbox.curl_multi")
    except ImportError as missing:
        msg = "CurlSender needs pycurl 7.48 or newer, with libcurl 7.80 or newer: pip install 'wirewitness[curl]'"
        raise ConfigurationError(msg) from missing
    run: Callable[[CurlOptions, Lane], None] = module.run
    return run


def _trusted(verify: Any) -> str | None:
    if verify is False:
        return None
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    path = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
    if not isinstance(path, (str, os.PathLike)) or not Path(path).exists():
        msg = (
            f"verify={shown(path)}: there is no such file or folder; give a file of certificates in PEM, True or False"
        )
        raise ConfigurationError(msg)
    return os.fspath(path)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        msg = f"{name}={shown(value)}: must be a number from 0 to 1"
        raise ConfigurationError(msg)
    return float(value)
