"""
Room on the disk that is given back when it's full, so that what makes room can be written.
"""

from __future__ import annotations

import contextlib
import os

from pathlib import Path
from typing import Final


_BYTES: Final = 1 << 20


class Reserve:
    """
    A file of 1 MiB beside a spool's.

    Args:
        path: The spool's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-reserve")

    def keep(self) -> bool:
        """
        See that it's there, if there's room.

        Returns:
            Whether it is.
        """
        with contextlib.suppress(OSError):
            return (self._path.exists() and self._path.stat().st_size == _BYTES) or self._write() == _BYTES
        return False

    def _write(self) -> int:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            # Written, for a hole takes no room.
            return os.write(fd, b"\0" * _BYTES)
        finally:
            os.close(fd)

    def release(self) -> bool:
        """
        Give it back.

        Returns:
            Whether there was one.
        """
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
