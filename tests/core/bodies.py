"""
Bodies that are hard to compare: payloads of every kind in one size, and what may have become of them on the way.
"""

from __future__ import annotations

import gzip
import json


def repeated(unit, size):
    return unit * (size // len(unit))


PAYLOADS = {
    "one letter": lambda n: b"a" * n,
    "two letters": lambda n: repeated(b"ab", n),
    "almost periodic": lambda n: b"a" * (n - 1) + b"b",
    "blanks": lambda n: b" " * n,
    "line ends": lambda n: b"\n" * n,
    "lines": lambda n: repeated(b"a line\n", n),
    "quotes": lambda n: b'"' * n,
    "backslashes": lambda n: b"\\" * n,
    "a text of quotes": lambda n: b'"' + repeated(b'\\"', n) + b'"',
    "open brackets": lambda n: b"[" * n,
    "closing brackets": lambda n: b"]" * n,
    "brackets": lambda n: b"[" + repeated(b"[],", n) + b"[]]",
    "nested": lambda n: repeated(b'{"a":[', 3000) + b"1" * n + repeated(b"]}", 1000),
    "one number": lambda n: b"9" * n,
    "an exponent": lambda n: b"1e" + b"9" * n,
    "numbers": lambda n: b"[" + repeated(b"1e400,", n) + b"1]",
    "long fractions": lambda n: b"[" + repeated(b"0." + b"3" * 500 + b",", n) + b"1]",
    "events": lambda n: b"[" + repeated(b'{"event": "click", "value": 12.50},', n) + b"{}]",
    "event lines": lambda n: repeated(b'{"event": "click", "value": 12.50}\n', n),
    "equal names": lambda n: b"{" + repeated(b'"a":1,', n) + b'"a":2}',
    "names": lambda n: b"{" + b",".join(b'"%d":%d' % (at, at) for at in range(n // 12)) + b"}",
    "a form": lambda n: repeated(b"a=%7B%22b%22%3A1%7D&", n),
    "all bytes": lambda n: repeated(bytes(range(256)), n),
}


def _spelled_otherwise(payload):
    try:
        return json.dumps(json.loads(payload), indent=1).encode()
    except (ValueError, RecursionError):
        return payload + b" "


MUTATIONS = {
    "cut": lambda p: p[:-1],
    "longer": lambda p: p + p[:1],
    "changed at the start": lambda p: b"#" + p[1:],
    "changed in the middle": lambda p: p[: len(p) // 2] + b"#" + p[len(p) // 2 + 1 :],
    "changed at the end": lambda p: p[:-1] + b"#",
    "twice": lambda p: p + p,
    "shifted": lambda p: p[1:] + p + p[:-1],
    "reversed": lambda p: p[::-1],
    "in a list": lambda p: b"[1," + p + b"," + p + b"]",
    "in a broken list": lambda p: b"[1," + p + b"," + p + b",",
    "on a line": lambda p: b"first\n" + p + b"\nlast",
    "in a text": lambda p: b'{"a":"' + p.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"}',
    "between brackets": lambda p: b"[" * 1000 + p + b"]" * 1000,
    "spelled otherwise": _spelled_otherwise,
    "in a comma's place": lambda p: p.replace(b",", b", "),
}


def compressed(body):
    return gzip.compress(body, 1)
