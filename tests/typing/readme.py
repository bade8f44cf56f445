"""
Prints the README's Python as one program, for type checkers: ``python tests/typing/readme.py``.
"""

from __future__ import annotations

import re
import sys

from pathlib import Path


README = Path(__file__).resolve().parents[2] / "README.md"

# The SDK asks for its Protocol in a way that pyright doesn't follow: there, not even the SDK's own dispatcher is one.
SDK_ONLY = re.compile(r"(.*\bOptimizely\(.*event_dispatcher=.*)")

PROMPT = re.compile(r"(>>>|\.\.\.) ?(.*)")


def program(text: str) -> str:
    """
    The lines of all blocks of Python; where a block has prompts, those behind a prompt, without what is printed.
    """
    lines = ['datafile: str = ""']
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        found = [match for match in map(PROMPT.fullmatch, block.splitlines()) if match]
        lines += [match[2] for match in found] if found else block.splitlines()
    return "".join(SDK_ONLY.sub(r"\1  # pyright: ignore[reportArgumentType]", line) + "\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(program(README.read_text(encoding="utf-8")))
