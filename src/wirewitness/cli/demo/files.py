"""
The files that the demo leaves behind.
"""

from __future__ import annotations

import contextlib

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


@dataclass
class Files:
    """
    The files, open.

    Attributes:
        traces: OTLP JSON, a line a batch.
        metrics: Prometheus's text format.
    """

    traces: IO[str]
    metrics: IO[str]
    _open: contextlib.ExitStack = field(repr=False)

    @classmethod
    def create(cls, folder: Path) -> Files:
        """
        Open empty files, and make the folder where there's none.

        Raises:
            OSError: If that can't be done.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            traces, metrics = (
                stack.enter_context((folder / name).open("w", encoding="utf-8", newline="\n"))
                for name in ("traces.jsonl", "metrics.prom")
            )
            return cls(traces, metrics, stack.pop_all())

    def close(self) -> None:
        """
        Close the files.
        """
        self._open.close()
