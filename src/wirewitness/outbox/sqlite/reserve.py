"""
Room on the disk that is given back when it's full, so that what makes room can be written.
"""

from __future__ import annotations

import contextlib
import os
import stat

from pathlib import Path
from typing import Final

from wirewitness.outbox.sqlite.lock import open_private


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
            if os.path.lexists(self._path):
                found = self._path.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_size == _BYTES:
                    return True
                self._path.unlink()
            return self._write() == _BYTES
        return False

    def _write(self) -> int:
        fd = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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
