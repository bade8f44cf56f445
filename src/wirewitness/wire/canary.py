"""
The proof that a tap sees, on the version of the library that is installed.

A library is free to move the methods that a tap wraps. A tap that is on, and sees nothing or the half of it, would report
requests that were never cut short as cut short. So each tap is tried once, with a request over a stream that goes nowhere.
"""

from __future__ import annotations

import contextvars

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from wirewitness.dispatch import CURRENT, Dispatch


if TYPE_CHECKING:
    from wirewitness.core.outcome import Reason


HOST: Final = "canary.invalid"  # RFC 2606: leads nowhere
PATH: Final = "/wirewitness"
URL: Final = f"http://{HOST}{PATH}"
BODY: Final = b'{"canary": true}'
ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_STATUS: Final = 204


class Nowhere:
    """
    A socket that keeps nothing, and answers the canary.
    """

    def sendall(self, data: bytes) -> None:
        """Keep nothing."""

    def makefile(self, mode: str) -> BytesIO:  # noqa: ARG002 -- a socket's
        """The answer."""
        return BytesIO(ANSWER)

    def close(self) -> None:
        """Nothing is open."""


class _Nobody:
    """Whose dispatch the canary's is: nobody counts it, and nobody is told."""

    def reconsider(self, dispatch: Dispatch) -> None: ...

    def recognised(self, dispatch: Dispatch) -> None: ...

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None: ...

    def ignores_requests(self, dispatch: Dispatch) -> bool:  # noqa: ARG002 -- the protocol's
        return False


def sees(request: Callable[[], object]) -> bool:
    """
    Whether the taps that are on see a request.

    Args:
        request: POSTs :data:`BODY` to :data:`URL` over a stream that keeps nothing and answers :data:`ANSWER`.

    Returns:
        Whether it was seen as exactly one exchange, with these bytes and this answer. What ``request`` raises is not
        caught.
    """
    dispatch = Dispatch("canary", _Nobody())

    def run() -> None:
        CURRENT.set(dispatch)
        request()

    # In a context of its own: the caller may be in the middle of a dispatch.
    contextvars.copy_context().run(run)
    dispatch.open = False
    seen = [(each.host, each.path, each.body, each.complete, each.status) for each in dispatch.exchanges]
    return seen == [(HOST, PATH, BODY, True, _STATUS)]
