"""
What is sent, and whether it arrives as it was meant.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from wirewitness.conformance.judges import intact, not_json, optional
from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.payloads import BUILDERS


_WORDS: Final = MappingProxyType(
    {
        "plain": (
            "an ordinary event",
            (
                "The bytes of json.dumps(params) arrive once. It also tells what a success looks like to the caller: the other"
                " scenarios compare with it."
            ),
        ),
        "unicode": (
            "characters of every plane",
            "Escaped or as UTF-8, each must come back as the same character. An encoder for latin-1 can't do it.",
        ),
        "escapes": (
            "control characters, quotes, backslashes",
            "A dispatcher that builds JSON text by hand, or decodes it once too often, changes these.",
        ),
        "lone_surrogate": (
            "half a surrogate pair",
            (
                "Text cut in the middle of an emoji. json.dumps escapes it, which any receiver can read; an encoder that writes"
                " raw UTF-8 raises on it."
            ),
        ),
        "floats": (
            "floats at the edges",
            "json.dumps writes the shortest digits that tell a float apart. Another encoder writes other digits.",
        ),
        "negative_zero": (
            "-0.0",
            "It equals 0 and has another text: an encoder that normalises numbers loses the sign.",
        ),
        "big_integers": (
            "integers beyond 64 bits",
            "Fast encoders refuse them, or turn them into floats and lose digits.",
        ),
        "nan": (
            "NaN and Infinity",
            (
                "json.dumps writes NaN, which is no JSON (RFC 8259 section 6): a strict receiver refuses the whole batch."
                " Refusing it with an exception is right; sending it is worth a warning."
            ),
        ),
        "empty": ("an empty object", "{} is two bytes, and `if params:` takes it for nothing."),
        "empty_list": ("an empty list", "[] likewise; a dispatcher may refuse what is no object."),
        "nested_200": ("200 lists in one another", "A recursive copy or encoder with a low limit gives up."),
        "near_duplicate_keys": (
            "names that JSON makes the same",
            '1 and "1" become one name twice. A dispatcher that reads the JSON again and writes it loses one of them.',
        ),
        "1_mb": (
            "one megabyte",
            "Larger than a socket's buffer: a dispatcher that sends once and doesn't look loses the rest.",
        ),
        "10_mb": ("ten megabytes", "Likewise, with what is held in memory several times over."),
        "json_corners": (
            "what JSON's parsers and printers differ in",
            "Generated: powers of ten, texts that look like JSON, empty containers in one another, odd names.",
        ),
        "bytes": (
            "ready-made bytes",
            "They must go out as they are. A dispatcher that takes objects only may refuse them, if it says so.",
        ),
        "str": (
            "ready-made text",
            "It must go out as UTF-8, not as latin-1 and not encoded as JSON once more.",
        ),
        "memoryview": ("a memoryview", "It must go out as its bytes, or be refused so that the caller knows."),
    }
)

_OPTIONAL: Final = frozenset({"bytes", "str", "memoryview", "empty_list"})


def _scenario(name: str) -> Scenario:
    judge = not_json if name == "nan" else optional if name in _OPTIONAL else intact
    return Scenario(f"payload/{name}", *_WORDS[name], judge, params=BUILDERS[name])


SCENARIOS: Final = tuple(_scenario(name) for name in BUILDERS)
