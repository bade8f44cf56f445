"""
A lock on a file that ends with the process that holds it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

from pathlib import Path
from typing import Final


_PID_BYTES: Final = 32

if sys.platform == "win32":
    import msvcrt

    # Beyond the process id in the file, which is to stay readable while it's locked.
    _LOCKED_BYTE: Final = 1 << 30

    def _lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(fd: int) -> bool:
        # flock and not lockf: a POSIX record lock ends as soon as the process closes any descriptor of the file.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_SAFE: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OTHERS: Final = 0o077


def open_private(path: Path, flags: int) -> int:
    """
    Open a file that must be this user's own regular file, and make it readable by nobody else. No symbolic link is
    followed, and a FIFO hangs nothing.

    Raises:
        OSError: If it is not, or cannot be opened.
    """
    fd = os.open(path, flags | _SAFE, 0o600)
    try:
        _make_private(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make_private(fd: int, path: Path) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no regular file: remove it", str(path))
    if sys.platform != "win32":
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"belongs to user {found.st_uid}: remove it, or chown it", str(path))
        if stat.S_IMODE(found.st_mode) & _OTHERS:
            os.fchmod(fd, 0o600)


class FileLock:
    """
    A file that one process at a time holds locked. It holds the process's id, for people.

    A forked child has a copy of the descriptor, and with it of the lock: it must call :meth:`disown`, or the lock outlives
    the parent.

    Args:
        path: The file; it's made where it's missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self) -> bool:
        """
        Lock it, unless it is locked.

        Returns:
            Whether it's held now.

        Raises:
            OSError: If the file can't be opened, or its file system knows no locks.
        """
        while True:
            fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
            try:
                if not _lock(fd):
                    os.close(fd)
                    return False
                if self._stands(fd):
                    break
            except BaseException:
                os.close(fd)
                raise
            # Whoever held it has removed it in the meantime: what is locked here is a file without a name.
            os.close(fd)
        self._fd = fd
        self._sign(fd)
        return True

    def _stands(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.lstat())
        except FileNotFoundError:
            return False

    def _sign(self, fd: int) -> None:
        # On a full disk it stays unsigned.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, str(os.getpid()).encode("ascii"))

    def release(self, *, remove: bool = False) -> None:
        """
        Unlock it.

        Args:
            remove: Whether the file is to go, which must be while it's held.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if remove and sys.platform != "win32":
            self.path.unlink(missing_ok=True)
        os.close(fd)

    disown = release
    """Close a forked child's copy, which leaves the parent's lock alone."""


def holder_of(path: Path) -> int | None:
    """
    The process that holds a lock file, by its own word; None if it hasn't said.
    """
    try:
        with path.open("rb") as file:
            return int(file.read(_PID_BYTES))
    except (OSError, ValueError):
        return None
