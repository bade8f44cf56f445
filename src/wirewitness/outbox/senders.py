"""
The sender that needs nothing but requests.
"""

from __future__ import annotations

import os
import threading

import requests

from requests.utils import get_environ_proxies

from wirewitness._version import __version__
from wirewitness.core.limits import positive, seconds
from wirewitness.outbox.message import Message
from wirewitness.outbox.sender import Answer


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
        self._local = threading.local()

    def send(self, message: Message) -> Answer:
        """
        Make one request, and read its answer's head.

        Raises:
            requests.RequestException: If there is no answer.
        """
        # Each thread has connections of its own, and a forked child none of its parent's.
        local = self._local
        if getattr(local, "pid", None) != os.getpid():
            local.pid, local.session, local.proxies = os.getpid(), requests.Session(), {}
            # The environment is read below, without the .netrc that would add a credential to somebody's payload.
            local.session.trust_env = False
            local.session.headers["User-Agent"] = f"wirewitness/{__version__}"
        origin = message.origin
        if origin not in local.proxies:
            local.proxies[origin] = get_environ_proxies(message.url)
        response = local.session.request(
            message.method,
            message.target,
            data=message.content,
            headers=dict(message.headers),
            timeout=self._timeout,
            allow_redirects=False,
            proxies=local.proxies[origin],
            verify=self._verify,
            stream=True,
        )
        with response:
            # Where this is all of it, the connection can be used again; what it says nobody asks for.
            response.raw.read(_MOST_READ)
        return Answer(response.status_code, response.headers.get("Retry-After"))


_MOST_READ = 1 << 16


def _trusted() -> bool | str:
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
