"""
The entry point: the commands, or the line that installs what they need.
"""

from __future__ import annotations

import sys

from types import MappingProxyType
from typing import Final


EXTRAS: Final = MappingProxyType(
    {
        "click": "cli",
        "rich": "cli",
        "h11": "demo",
        "optimizely": "demo",
        "prometheus_client": "demo",
        "opentelemetry.exporter": "demo",
    }
)
"""The extra that brings a module."""


def main() -> None:
    """
    Run the command line.

    Raises:
        SystemExit: With the command's exit code; with 2 where an extra isn't installed.
    """
    try:
        from wirewitness.cli.commands import wirewitness  # noqa: PLC0415 -- click may be missing

        wirewitness(prog_name="wirewitness")
    except ImportError as error:
        line = what_to_install(error)
        if line is None:
            raise
        sys.stderr.write(f"{line}\n")
        sys.exit(2)


def what_to_install(error: ImportError) -> str | None:
    """
    The line that tells how to get what's missing; None where that's no part of any extra.
    """
    module = _missing(error)
    for known, extra in EXTRAS.items():
        if f"{module}.".startswith(f"{known}."):
            return f"wirewitness: {known} is missing: pip install 'wirewitness[{extra}]'"
    return None


def _missing(error: ImportError) -> str:
    # A room that needs an extra says so in an ImportError of its own, which has no name.
    cause = error.__cause__
    return error.name or (cause.name if isinstance(cause, ImportError) else None) or ""
