"""
What the adapters of SDKs share: their payloads travel inside envelopes of the SDK's own.

An event's ``params`` go under :data:`KEY` into whatever the SDK calls properties or data. By the name the very text that
was sent for them is found again in the request, however the SDK batched, escaped or compressed it. The witness can't
call such a request identical. Where the envelope holds the very bytes of ``json.dumps(params)``, its verdict is
``embedded``. Where they are in another encoding or compressed, it's ``altered`` if they are sent in the caller's thread,
and ``unobserved`` if in another one: nothing tells whose they are. The results therefore judge the payload that is cut
out here.

An SDK decides itself about the method, the header fields and the content's type. Scenarios about those don't apply.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import threading

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import requests

from requests.adapters import HTTPAdapter

from wirewitness.conformance import Received


KEY: Final = "wirewitness_params"
"""The property that carries the payload."""

SILENT: Final = frozenset({"headers/content_type", "headers/own_field", "shape/unknown_verb", "shape/get_query"})
"""The scenarios that ask for what an SDK has no place for."""

LARGE: Final = frozenset({"transport/reset_during_body", "transport/slow_read"})
"""The scenarios that need a payload of 1 MB, which some SDKs refuse."""

_SUCCESS: Final = range(200, 300)
_FOUND: Final = re.compile(rf'"{KEY}":\s*')
_CREDENTIALS: Final = frozenset({"authorization", "x-sentry-auth"})

Client = TypeVar("Client")
Texts = Callable[[bytes], "list[str]"]


class Clients(Generic[Client]):
    """
    A client for each URL: an SDK is told its endpoint once.

    Args:
        make: Makes one for a URL.
    """

    def __init__(self, make: Callable[[str], Client]) -> None:
        self._make = make
        self._made: dict[str, Client] = {}
        # A signal handler may dispatch, too.
        self._lock = threading.RLock()

    def __getitem__(self, url: str) -> Client:
        """
        The URL's client, made now if there's none.
        """
        with self._lock:
            if url not in self._made:
                self._made[url] = self._make(url)
            return self._made[url]

    def __iter__(self) -> Iterator[Client]:
        """
        All clients.
        """
        return iter(tuple(self._made.values()))


class Failures:
    """
    What an SDK tells through its own callback, which is how an application can know.
    """

    def __init__(self) -> None:
        self._told: list[str] = []

    def add(self, error: object, *_: object) -> None:
        """
        Take one.
        """
        self._told.append(" ".join(filter(None, (type(error).__name__, str(getattr(error, "status", ""))))))

    def said(self) -> list[str] | None:
        """
        All that was told; None if nothing was.
        """
        return self._told or None


def host(url: str) -> str:
    """
    A base URL to which the SDK may append a path of its own, so that requests still go to ``url``: a fragment isn't sent.
    """
    return url + "#"


class AnswersAsTheVendor(HTTPAdapter):
    """
    Makes a 204 of the sink's a 200 with content, which some SDKs take alone for a success. What is sent stays as it is.

    It is mounted for ``http://``, where the SDK mounts its retries for ``https://`` only: so it has the same.

    Args:
        session: The SDK's session.
        content: What the vendor's endpoint answers.
    """

    def __init__(self, session: requests.Session, content: bytes) -> None:
        https: Any = session.get_adapter("https://")
        super().__init__(max_retries=https.max_retries)
        self._answer = content
        session.mount("http://", self)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """
        Send, and put the answer in the place of an empty one.
        """
        response = super().send(*args, **kwargs)
        if response.status_code == requests.codes.no_content:
            response.status_code = requests.codes.ok
        if response.status_code in _SUCCESS and not response.content:
            response._content = self._answer  # noqa: SLF001 -- requests has no other way
        return response


def whole(body: bytes) -> list[str]:
    """
    The request's content as one text.
    """
    return [body.decode("utf-8")]


def cut_out(request: Received, texts: Texts = whole) -> list[Received]:
    """
    The payloads in a request, each as if it had come alone.

    Args:
        request: As the sink received it.
        texts: Finds the texts that hold payloads.

    Returns:
        One for each payload; the request itself where there's none that can be read.
    """
    own = dataclasses.replace(request, headers=tuple(f for f in request.headers if f[0] not in _CREDENTIALS))
    try:
        found = [payload for text in texts(_decoded(request)) for payload in _payloads(text)]
    except (ValueError, OSError, EOFError, LookupError):
        found = []
    # Half a pair that a text within a text holds raw is escaped as JSON does it.
    return [dataclasses.replace(own, body=payload.encode("utf-8", "backslashreplace")) for payload in found] or [own]


def _payloads(text: str) -> Iterator[str]:
    for match in _FOUND.finditer(text):
        _, end = json.JSONDecoder().raw_decode(text, match.end())
        yield text[match.end() : end]


def _decoded(request: Received) -> bytes:
    coding: Any = request.header("content-encoding")
    if coding == "br":
        import brotli  # noqa: PLC0415 -- comes with the SDK that uses it

        try:
            return bytes(brotli.decompress(request.body))
        except brotli.error as cut:
            raise EOFError from cut
    return gzip.decompress(request.body) if coding == "gzip" else request.body
