"""
``(http_verb, url, params)``: the classic dispatcher, as Optimizely's Ruby SDK and its documentation have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wirewitness.core.request import verb_of
from wirewitness.typing import Adapter, Intent


def three_arguments(names: Sequence[str] = ("http_verb", "url", "params")) -> Adapter:
    """
    An adapter for calls with a verb, a URL and parameters, by position or under these names.
    """

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Intent:
        verb, url, params = args[:3] if len(args) >= len(names) else _by_name(args, kwargs)
        return Intent(verb_of(verb), url, params)

    def _by_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
        verb, url, params = (args[i] if i < len(args) else kwargs[name] for i, name in enumerate(names))
        return verb, url, params

    return read
