"""
The standard library's ``urllib.request``.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request

from typing import Any


class Dispatcher:
    """
    ``urlopen`` raises for what isn't 2xx, and follows redirects.
    """

    @staticmethod
    def dispatch_event(event: Any) -> None:
        """
        Send one event.
        """
        url, body = event.url, None
        if event.http_verb == "GET":
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(event.params)
        else:
            body = json.dumps(event.params).encode("utf-8")
        request = urllib.request.Request(url, body, event.headers, method=event.http_verb)  # noqa: S310 -- the sink's
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            response.read()
