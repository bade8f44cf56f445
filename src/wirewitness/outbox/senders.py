"""
The sender that needs nothing but requests.
"""

from __future__ import annotations

import os

from collections.abc import Callable
from typing import Any

import requests

from requests.utils import get_environ_proxies

from wirewitness._version import __version__
from wirewitness.core.limits import positive, seconds
from wirewitness.outbox.message import Message, Origin
from wirewitness.outbox.watched import Prepared


class HttpSender:
    """
    Sends over kept-alive connections of requests, one a thread.

    A request has the header fields that the caller asked for, and those without which requests sends none. No redirect is
    followed, and nothing is read from a ``.netrc``. Proxies and ``REQUESTS_CA_BUNDLE`` are taken from the environment.

    Args:
        threads: How many threads, and so connections.
        timeout: Seconds to wait for a connection, and then for each part of the answer.
        verify: Whether to check certificates, or a file of those to be trusted.

    Raises:
        ConfigurationError: If ``threads`` or ``timeout`` can't work.
    """

    def __init__(self, *, threads: int = 8, timeout: float = 10.0, verify: bool | str | None = None) -> None:
        self.threads = positive("threads", threads)
        self._timeout = seconds("timeout", timeout)
        self._verify = _trusted() if verify is None else verify

    def call(self) -> Callable[[Message], Prepared]:
        """
        A thread's own session.
        """
        session = requests.Session()
        # The environment is read below, without the .netrc that would add a credential to somebody's payload.
        session.trust_env = False
        session.headers["User-Agent"] = f"wirewitness/{__version__}"
        proxies: dict[Origin | None, Any] = {}

        def prepare(message: Message) -> Prepared:
            origin = message.origin
            if origin not in proxies:
                proxies[origin] = get_environ_proxies(message.url)
            return lambda: self._send(session, message, proxies[origin])

        return prepare

    def _send(self, session: requests.Session, message: Message, proxies: Any) -> None:
        response = session.request(
            message.method,
            message.target,
            data=message.content,
            headers=dict(message.headers),
            timeout=self._timeout,
            allow_redirects=False,
            proxies=proxies,
            verify=self._verify,
            stream=True,
        )
        with response:
            # Where this is all of it, the connection can be used again; what it says nobody asks for.
            response.raw.read(_MOST_READ)


_MOST_READ = 1 << 16


def _trusted() -> bool | str:
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
