"""
What a request becomes for libcurl. Nothing here needs libcurl.
"""

from __future__ import annotations

from typing import Final

from wirewitness._version import __version__
from wirewitness.core.request import Fields, Request


USER_AGENT: Final = f"wirewitness/{__version__}"


def lines_of(request: Request) -> list[bytes]:
    """
    Header fields as libcurl takes them: a name alone, behind which a colon stands, takes one of its own out.
    """
    names = {name.lower() for name, _ in request.fields}
    # Without a value, libcurl wants a semicolon in the colon's place.
    asked = [f"{name}: {value}" if value else f"{name};" for name, value in request.fields]
    return [line.encode("latin-1") for line in (*asked, *(line for name, line in _OWN if name not in names))]


_OWN: Final = (
    # It would wait for a "100 Continue" that many servers never send.
    ("expect", "Expect:"),
    ("transfer-encoding", "Transfer-Encoding:"),
    # For a POST, libcurl has an idea of its own.
    ("content-type", "Content-Type:"),
    ("user-agent", f"User-Agent: {USER_AGENT}"),
)


def content_encoding_of(headers: Fields) -> str:
    """
    The content codings that the caller applied, lower-case.
    """
    return ", ".join(value.lower() for name, value in headers if name.lower() == "content-encoding")
