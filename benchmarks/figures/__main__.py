"""
``python -m figures NAME``: one figure in this process, told as JSON lines to whoever runs it.
"""

from __future__ import annotations

import argparse
import importlib
import json

from typing import Any

from figures.row import Scale


def _tell(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """
    Measure one figure.
    """
    arguments = argparse.ArgumentParser()
    arguments.add_argument("name")
    arguments.add_argument("--rounds", type=int, required=True)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    figure = importlib.import_module(f"figures.{given.name}")
    scale = Scale(given.rounds, given.quick)
    _tell(steps=figure.steps(scale))
    for row in figure.measure(scale, lambda: _tell(tick=1)):
        _tell(row=vars(row))


if __name__ == "__main__":
    main()
