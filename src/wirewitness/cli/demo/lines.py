"""
What the SDK, urllib3 and exporters log while the demo runs: counted, and not on the screen.
"""

from __future__ import annotations

import contextlib
import logging

from collections.abc import Iterator


class Lines(logging.Handler):
    """
    Counts log records.

    Attributes:
        of_root: How many were logged through the root logger itself, as the SDK's dispatcher does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_root = 0

    def emit(self, record: logging.LogRecord) -> None:
        """
        Count a record.
        """
        self.of_root += record.name == logging.root.name


@contextlib.contextmanager
def lines_kept_off_the_screen() -> Iterator[Lines]:
    """
    Take the place of the root logger's handlers inside the block.

    Without any handler there the SDK's ``logging.error`` would install one, for good.
    """
    lines = Lines()
    handlers = logging.root.handlers[:]
    logging.root.handlers[:] = [lines]
    try:
        yield lines
    finally:
        logging.root.handlers[:] = handlers
