"""
The folder of a spool: which file is whose, by locks that end with the process that holds them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
import time

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from wirewitness.errors import ConfigurationError, shown


SUFFIXES: Final = ("", "-wal", "-journal", "-shm")
"""What SQLite keeps, beside the file's own name."""

SET_ASIDE: Final = re.compile(r".*\.(?P<why>corrupt|failed|salvaged)-\d{8}T\d{6}(-\d+)?")
"""The name of a file that is not used any more: see :func:`set_aside`."""

FAILED: Final = "failed"
"""Why a file was set aside that could not be written or read. The other reasons are ``corrupt``, and ``salvaged``."""

_NAMES: Final = re.compile(r"\d+-[0-9a-f]{8}\.db")
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_PID_BYTES: Final = 32
_SAFE: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

if sys.platform == "win32":
    import msvcrt

    # Beyond the process id in the file, which is to stay readable while it is locked.
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


def open_private(path: Path, flags: int) -> int:
    """
    Open a file that must be this user's own regular file, and make it readable by nobody else. No symbolic link is
    followed, and a FIFO hangs nothing.

    Raises:
        OSError: If it is not, or cannot be opened.
    """
    fd = os.open(path, flags | _SAFE, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no regular file: remove it", str(path))
        if sys.platform != "win32":
            if found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, f"belongs to user {found.st_uid}: remove it, or chown it", str(path))
            if stat.S_IMODE(found.st_mode) & _OTHERS:
                os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


class FileLock:
    """
    A file beside a spool's file, that one process at a time holds locked. It holds the process's id, for people.

    A forked child has a copy of the descriptor, and with it of the lock: it must call :meth:`release`, or the lock outlives
    the parent.

    Args:
        path: The spool's file. The lock's own name is made of it, and the lock is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.of: Path = path
        self.path: Path = Path(f"{path}.lock")
        self._fd: int | None = None
        self._identity = (0, 0)

    def take(self) -> bool:
        """
        Lock it, unless it is locked.

        Returns:
            Whether it is held now.

        Raises:
            OSError: If the file cannot be opened, or its file system knows no locks.
        """
        while True:
            fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
            try:
                if not _lock(fd):
                    os.close(fd)
                    return False
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), self.path.lstat()):
                        break
            except BaseException:
                os.close(fd)
                raise
            # The process that held it has removed it in the meantime: what is locked here is a file without a name.
            os.close(fd)
        self._fd = fd
        found = os.fstat(fd)
        self._identity = (found.st_dev, found.st_ino)
        # On a full disk it stays unsigned.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, str(os.getpid()).encode("ascii"))
        return True

    @property
    def holder(self) -> str:
        """The process that holds it, by its own word."""
        try:
            with self.path.open("rb") as file:
                return f"process {int(file.read(_PID_BYTES))}"
        except (OSError, ValueError):
            return "a living process"

    @property
    def held(self) -> bool:
        """Whether the descriptor is still this lock's: a daemonizer may have closed all, and their numbers be others' now."""
        try:
            found = None if self._fd is None else os.fstat(self._fd)
        except OSError:
            return False
        return found is not None and (found.st_dev, found.st_ino) == self._identity

    def release(self, *, remove: bool = False) -> None:
        """
        Unlock it; in a forked child, close the copy, which leaves the parent's lock alone.

        Args:
            remove: Whether the file is to go, which must be while it is held.
        """
        fd = self._fd if self.held else None
        self._fd = None
        if fd is None:
            return
        if remove and sys.platform != "win32":
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(fd)


class SpoolDirectory:
    """
    A folder with one file per process.

    Args:
        given: Its path. It is made, for this user alone, where it is missing.

    Raises:
        ConfigurationError: If it cannot be used.
    """

    def __init__(self, given: Any) -> None:
        try:
            text = os.fspath(given)
        except TypeError:
            text = None
        if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
            msg = f"path={shown(given)}: must be the path of a folder; for memory alone there is MemorySpool"
            raise ConfigurationError(msg)
        self.path: Path = Path(text).absolute()
        self._left_alone: dict[Path, float] = {}
        self.make()

    def make(self) -> None:
        """
        See that the folder is there, and that nobody else may write to it: who may could plant messages that are sent, and take
        what is written.

        Raises:
            ConfigurationError: If it is not so.
        """
        path = self.path
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            found = path.stat()
        except FileExistsError as error:
            msg = f"{path} is a file: name a folder, in which each process keeps a file of its own"
            raise ConfigurationError(msg) from error
        except OSError as error:
            msg = f"{path} can't be made: {error.strerror}; make the folder, or name another one"
            raise ConfigurationError(msg) from error
        if sys.platform == "win32":
            return
        if found.st_uid != os.geteuid():
            msg = (
                f"{path} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}: "
                f"chown {os.geteuid()} {path}, or name a folder of this user's"
            )
            raise ConfigurationError(msg)
        if found.st_mode & _OTHERS_WRITE:
            msg = f"others may write to {path}: chmod go-w it, or name a folder in it, such as {path}/spool"
            raise ConfigurationError(msg)

    def files(self) -> list[Path]:
        """
        The files that processes have made for themselves, the largest first.
        """
        sizes: dict[Path, int] = {}
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if _NAMES.fullmatch(entry.name):
                    sizes[Path(entry.path)] = size_of(Path(entry.path))
        return sorted(sizes, key=lambda path: (-sizes[path], path))

    def aside(self) -> list[Path]:
        """
        The files that are not used any more.
        """
        with contextlib.suppress(OSError):
            return sorted(path for path in self.path.iterdir() if SET_ASIDE.fullmatch(path.name))
        return []

    def new(self) -> FileLock:
        """
        Lock a file that is not there yet.

        Raises:
            OSError: If the disk fails.
        """
        lock = FileLock(self.path / f"{os.getpid()}-{secrets.token_hex(4)}.db")
        lock.take()
        return lock

    def orphans(self, own: Collection[Path] = ()) -> Iterator[FileLock]:
        """
        Lock the files of dead processes, one after the other, the largest first.

        Args:
            own: Files that this process has.
        """
        now = time.monotonic()
        for path in self.files():
            if path in own or self._left_alone.get(path, 0.0) > now:
                continue
            lock = FileLock(path)
            try:
                if not lock.take():
                    continue
                # What is another user's, or no regular file, is left alone.
                os.close(open_private(path, os.O_RDWR))
            except OSError as error:
                lock.release(remove=isinstance(error, FileNotFoundError))
                continue
            yield lock

    def leave_alone(self, path: Path, seconds: float) -> None:
        """
        Do not look at a file for some time: it cannot be read, or has nothing to send.
        """
        self._left_alone[path] = time.monotonic() + seconds


def size_of(path: Path) -> int:
    """
    Bytes that a file takes, with its log.
    """
    with contextlib.suppress(OSError):
        return sum(part.stat().st_size for part in (path, Path(f"{path}-wal")) if part.exists())
    return 0


def remove(path: Path) -> None:
    """
    Remove a file and all that is kept beside it, but not its lock.
    """
    for suffix in (*SUFFIXES, "-reserve", "-first-page"):
        with contextlib.suppress(OSError):
            Path(f"{path}{suffix}").unlink()


def set_aside(path: Path, why: str) -> Path:
    """
    Rename a file, and what SQLite keeps beside it, so that nobody uses it any more.

    Args:
        path: The file, or one that was set aside before.
        why: Part of the new name: ``corrupt``, ``failed`` or ``salvaged``.

    Returns:
        Its new path, such as ``4711-9f86d081.db.corrupt-20261124T093000``.

    Raises:
        OSError: If it cannot be renamed.
    """
    name = re.sub(r"\.(corrupt|failed)-\d{8}T\d{6}(-\d+)?$", "", path.name)
    stem = path.with_name(f"{name}.{why}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    target, number = stem, 1
    while target.exists():
        number += 1
        target = stem.with_name(f"{stem.name}-{number}")
    path.rename(target)
    for suffix in (*SUFFIXES[1:], "-first-page"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{target}{suffix}")
    with contextlib.suppress(OSError):
        Path(f"{path}-reserve").unlink()
    return target
