"""
Which file is whose.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import time

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.sqlite.file import SUFFIXES
from wirewitness.outbox.sqlite.lock import FileLock, holder_of, open_private


_OWN_NAME: Final = r"\d+-[0-9a-f]{8}"
_OTHERS_WRITE: Final = 0o022
_REMEDY: Final = "give a folder, in which each process keeps a file of its own"


class Place(ABC):
    """
    Where a spool keeps its file, and finds those of dead processes.
    """

    def __init__(self) -> None:
        self._shunned: set[Path] = set()

    @abstractmethod
    def take(self) -> FileLock:
        """
        Lock the file that is this process's own.

        Raises:
            ConfigurationError: If a living process has it, or there can't be one.
            OSError: If the disk fails.
        """

    @property
    @abstractmethod
    def kept(self) -> bool:
        """Whether the file is kept when it's empty."""

    @abstractmethod
    def files(self) -> list[Path]:
        """
        Files that processes have made for themselves.
        """

    def new(self) -> FileLock:
        """
        Lock another file, where the one that was taken can't be read.

        Raises:
            ConfigurationError: If there can't be one.
            OSError: If the disk fails.
        """
        return self.take()

    def shun(self, path: Path) -> None:
        """
        Leave a file alone that can't be read.
        """
        self._shunned.add(path)

    def orphans(self, own: Path | None) -> Iterator[FileLock]:
        """
        Lock the files of dead processes, one after the other.

        Args:
            own: The file that isn't one.
        """
        for path in self.files():
            if path != own and path not in self._shunned:
                with contextlib.suppress(OSError):
                    lock = take_orphan(path)
                    if lock is not None:
                        yield lock


def take_orphan(path: Path) -> FileLock | None:
    """
    Lock a file, if it's there and nobody has it.
    """
    lock = FileLock(lock_path(path))
    if not lock.take():
        return None
    try:
        os.close(open_private(path, os.O_RDWR))
    except OSError as error:
        # What is another user's, or no regular file, is left alone.
        lock.release(remove=isinstance(error, FileNotFoundError))
        return None
    return lock


class OneFile(Place):
    """
    A file for one process. A forked child has one beside it: ``events.1234-0a1b2c3d.db`` beside ``events.db``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._process = os.getpid()
        self._beside = re.compile(f"{re.escape(path.stem)}\\.{_OWN_NAME}{re.escape(path.suffix)}")

    @property
    def kept(self) -> bool:
        """The file that was named is."""
        return os.getpid() == self._process

    def take(self) -> FileLock:
        """
        Lock it; in a forked child, the one beside it.
        """
        path = self._path
        if not self.kept:
            path = path.with_name(f"{path.stem}.{_own_name()}{path.suffix}")
        lock = FileLock(lock_path(path))
        if not lock.take():
            msg = f"{path} is in use by {_holder(lock.path)}: {_REMEDY}"
            raise ConfigurationError(msg)
        return lock

    def files(self) -> list[Path]:
        """
        Those beside it.
        """
        return _matching(self._path.parent, self._beside)


class Folder(Place):
    """
    A folder with a file a process.
    """

    _names: Final = re.compile(f"{_OWN_NAME}\\.db")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def kept(self) -> bool:
        """It isn't."""
        return False

    def take(self) -> FileLock:
        """
        Take over the largest file of a dead process, so that little is left to copy; or have a new one.
        """
        _made(self._path)
        for path in sorted(self.files(), key=_size, reverse=True):
            with contextlib.suppress(OSError):
                lock = take_orphan(path)
                if lock is not None:
                    return lock
        return self.new()

    def new(self) -> FileLock:
        """
        Lock a new one.
        """
        lock = FileLock(lock_path(self._path / f"{_own_name()}.db"))
        lock.take()
        return lock

    def files(self) -> list[Path]:
        """
        All.
        """
        return _matching(self._path, self._names)


def place_of(given: Any) -> Place:
    """
    The place that a path names: a folder if it is one, or ends with a separator; else a file.

    Raises:
        ConfigurationError: If it can't be used.
    """
    try:
        text = os.fspath(given)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
        msg = f"path={shown(given)}: must be the path of a file or a folder; for memory alone there's MemorySpool"
        raise ConfigurationError(msg)
    path = Path(text)
    seps = tuple(sep for sep in (os.sep, os.altsep) if sep)
    if path.is_dir() or text.endswith(seps):
        return Folder(_private(_made(path.absolute())))
    _need(path.absolute().parent, path)
    _private(path.absolute().parent)
    return OneFile(path.absolute())


def _made(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"{path} can't be made: {error.strerror}; make the folder, or name another one"
        raise ConfigurationError(msg) from error
    return path


def _private(folder: Path) -> Path:
    # Whoever may write there could plant messages that are sent, and take what is written.
    if sys.platform == "win32":
        return folder
    found = folder.stat()
    if found.st_uid != os.geteuid():
        msg = (
            f"{folder} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}: "
            f"chown {os.geteuid()} {folder}, or name a folder of this user's"
        )
        raise ConfigurationError(msg)
    if found.st_mode & _OTHERS_WRITE:
        msg = f"others may write to {folder}: chmod go-w it, or name a folder in it with a separator behind, such as {folder}/spool/"
        raise ConfigurationError(msg)
    return folder


def _need(folder: Path, path: Path) -> None:
    if not folder.is_dir():
        msg = f"{path} can't be made: there's no folder {folder}; make it, or name another path"
        raise ConfigurationError(msg)


def _own_name() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _matching(folder: Path, names: re.Pattern[str]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if names.fullmatch(entry.name))
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return sum(part.stat().st_size for part in (path, Path(f"{path}-wal")) if part.exists())
    except OSError:
        return 0


def lock_path(path: Path) -> Path:
    """
    The lock file of a file.
    """
    return Path(f"{path}.lock")


def file_of(lock: FileLock) -> Path:
    """
    The file that a lock is for.
    """
    return lock.path.with_suffix("")


def _holder(path: Path) -> str:
    holder = holder_of(path)
    return "a living process" if holder is None else f"process {holder}"


def remove(path: Path) -> None:
    """
    Remove a file and all that SQLite keeps beside it.
    """
    for suffix in (*SUFFIXES, "-reserve", "-first-page"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def set_aside(path: Path, why: str) -> Path:
    """
    Rename a file, and what SQLite keeps beside it, so that nobody uses it any more.

    Args:
        path: The file.
        why: Part of the new name: ``corrupt`` or ``failed``.

    Returns:
        Its new path, such as ``events.db.corrupt-20261124T093000``.

    Raises:
        OSError: If it can't be renamed.
    """
    stem = f"{path}.{why}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    target = next(name for name in _numbered(stem) if not Path(name).exists())
    path.rename(target)
    for suffix in SUFFIXES[1:]:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{target}{suffix}")
    return Path(target)


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 1
    while True:
        number += 1
        yield f"{stem}-{number}"
