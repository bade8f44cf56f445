"""
The payloads that dispatchers are tried with, each made anew at every call.
"""

from __future__ import annotations

import json
import math

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final


def plain() -> dict[str, Any]:
    """
    An event such as Optimizely's SDK sends.
    """
    return {
        "account_id": "12001",
        "visitors": [
            {"visitor_id": "v-1", "snapshots": [{"events": [{"key": "checkout", "timestamp": 1700000000000}]}]}
        ],
        "client_name": "python-sdk",
    }


def unicode_planes() -> dict[str, Any]:
    """
    Characters of every plane that has some, and noncharacters.
    """
    samples = (0x41, 0xE9, 0x3B1, 0x5D0, 0x4E2D, 0xFFFD, 0x1F600, 0x20000, 0x30000, 0xE0001, 0xF0000, 0x10FFFD, 0x2028)
    return {f"U+{code:04X}": chr(code) for code in samples}


def escapes() -> dict[str, Any]:
    """
    Every character that JSON escapes, and those that look so.
    """
    controls = "".join(map(chr, range(0x20)))
    return {
        "controls": controls,
        "quotes": "\"'\\/",
        "not an escape": "\\u0041",
        "html": "<script>&amp;",
        "del": "\x7f",
    }


def floats() -> dict[str, Any]:
    """
    Floats at the edges: the shortest digits that tell them apart, exponents, subnormals.
    """
    return {"values": [0.1, 1.10, 1e5, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 2**53 + 0.0, math.pi]}


def nested(depth: int = 200) -> dict[str, Any]:
    """
    Lists in lists, so many deep.
    """
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return {"deep": inner}


def near_duplicates() -> dict[Any, Any]:
    """
    Names that JSON makes the same, and names that look the same.
    """
    return {
        1: "number",
        "1": "text",
        None: "null",
        "null": "text",
        "e\u0301": "combining",
        "\xe9": "composed",
        "": "empty",
    }


def _sized(size: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"filler": "0123456789abcdef" * (size // 16)}


def corners() -> dict[str, Any]:
    """
    What parsers and printers of JSON differ in, generated.
    """
    powers = [sign * 10**power for power in range(0, 40, 3) for sign in (1, -1)]
    texts = ["null", "true", "0", "-0", "1E400", "[]", "{}", '"', "\\", "\ufeff", "\x00", "NaN", "//", "/**/", "'"]
    nests = [[], {}, [[]], [{}], {"": {}}, {"a": []}, [None, True, False], {"__proto__": {"constructor": None}}]
    return {"powers": powers, "texts": texts, "nests": nests, "names": {text: text for text in texts}}


BUILDERS: Final[Mapping[str, Callable[[], Any]]] = MappingProxyType(
    {
        "plain": plain,
        "unicode": unicode_planes,
        "escapes": escapes,
        "lone_surrogate": lambda: {"broken": "\ud800", "pair": "\U0001f600", "reversed": "\udc00\ud800"},
        "floats": floats,
        "negative_zero": lambda: {"zero": -0.0, "integer": 0},
        "big_integers": lambda: {"values": [2**53 + 1, 2**63, -(2**64) - 1, 10**300]},
        "nan": lambda: {"values": [math.nan, math.inf, -math.inf]},
        "empty": dict,
        "empty_list": list,
        "nested_200": nested,
        "near_duplicate_keys": near_duplicates,
        "1_mb": _sized(1 << 20),
        "10_mb": _sized(10 << 20),
        "json_corners": corners,
        "bytes": lambda: b'{"frozen": "bytes", "raw": "\xc3\xa9"}',
        "str": lambda: '{"frozen": "text", "raw": "\xe9"}',
        "memoryview": lambda: memoryview(b'{"frozen": "view"}'),
    }
)
"""By the scenario's name without its group."""


def bytes_of(params: Any) -> bytes:
    """
    The bytes that a payload means: bytes are themselves, text is UTF-8, None is nothing, all else is ``json.dumps(params)``.
    """
    if params is None:
        return b""
    if isinstance(params, (bytes, bytearray, memoryview)):
        return bytes(params)
    text = params if isinstance(params, str) else json.dumps(params)
    return text.encode("utf-8")
