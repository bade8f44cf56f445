"""
Packages whose names are loaded when they are used (PEP 562).
"""

from __future__ import annotations

import sys

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """
    A ``__getattr__`` for a package.

    Args:
        package: Its name.
        homes: By name, the module in the package that has it.
    """

    def find(name: str) -> object:
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
