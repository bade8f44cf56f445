"""
The cache file: what was fetched last, for the processes that start after, or beside, this one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import tempfile
import time

from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from wirewitness.optimizely.datafile_parse import digest_of


_FORMAT: Final = 1
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_PEOPLE: Final = hasattr(os, "geteuid")
_CLOCKS_DIFFER: Final = 60.0
_BESIDES: Final = 1 << 14
"""Bytes of a cache file that are not the datafile's, at most."""


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """
    Open a regular file for reading. It never waits, whatever stands at that path, such as a FIFO that nobody writes to.

    Args:
        path: Where it is.
        follow: Whether it may be a symbolic link to one.

    Raises:
        OSError: If it can't be opened, or is something else than a regular file.
        ValueError: If it is no path.
    """
    # What the path names can change until it is opened: what is looked at is the open descriptor.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return open(descriptor, "rb")  # noqa: PTH123 -- it is open already


class UnreadableFile(Exception):  # noqa: N818 -- named for what it says
    """
    The file is there, and can't be used.
    """


class Stored(NamedTuple):
    """
    What a cache file holds.

    Attributes:
        text: The datafile.
        saved: When it was last known to be what the server has, Unix seconds.
        etag: What the server named it, or None.
        last_modified: Since when the server had it, or None.
    """

    text: str
    saved: float
    etag: str | None
    last_modified: str | None

    def __repr__(self) -> str:
        return f"Stored({len(self.text)} characters, saved={self.saved})"

    def age(self) -> float:
        """
        Seconds since it was known to be right: endless if that's in the future, where a clock was wrong.
        """
        age = time.time() - self.saved
        return max(0.0, age) if age > -_CLOCKS_DIFFER else float("inf")


class CacheFile:
    """
    A cache file, that is replaced and never changed. Only its user can read it, and nothing is taken from one that others
    could have written.

    Args:
        path: Where it is. Missing folders are made.
        url: What it is of: another URL's is no use.
        most_bytes: The longest that is read.
    """

    def __init__(self, path: str | os.PathLike[str], url: str, most_bytes: int) -> None:
        self._path = Path(path)
        self._of = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        self._most_bytes = most_bytes

    def read(self) -> Stored | None:
        """
        What it holds; None where there's none, or one of another URL.

        Raises:
            UnreadableFile: If it can't be read, others could have written it, or it isn't what was written.
        """
        try:
            with open_regular(self._path, follow=False) as file:
                # JSON escapes at most 6 bytes for one.
                most = 6 * self._most_bytes + _BESIDES
                _refuse_others(os.fstat(file.fileno()), most)
                return self._stored(json.loads(file.read(most)))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 -- whatever stands in a file, a client begins
            raise UnreadableFile(type(error).__qualname__) from None

    def _stored(self, found: dict[str, Any]) -> Stored | None:
        if found["format"] != _FORMAT or found["of"] != self._of:
            return None
        stored = Stored(found["datafile"], float(found["saved"]), found["etag"], found["last_modified"])
        names = [name for name in (stored.etag, stored.last_modified) if name is not None]
        if (
            digest_of(stored.text).hex() != found["sha256"]
            or not all(map(_is_field, names))
            or math.isnan(stored.saved)
        ):
            msg = "other than was written"
            raise ValueError(msg)
        return stored

    def write(self, stored: Stored) -> None:
        """
        Replace it, in one step. What is no regular file and no link stays: it was named by mistake.

        Raises:
            OSError: If that can't be done.
            ValueError: If it is no path.
        """
        content = {
            "format": _FORMAT,
            "of": self._of,
            "saved": stored.saved,
            "etag": stored.etag,
            "last_modified": stored.last_modified,
            "sha256": digest_of(stored.text).hex(),
            "datafile": stored.text,
        }
        with contextlib.suppress(FileNotFoundError):
            mode = self._path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise OSError(errno.EINVAL, "no regular file")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with mode 0600 (tempfile's documentation), and in the same folder, so that replacing is one step.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with open(handle, "w", encoding="ascii") as file:  # noqa: PTH123 -- it has a handle already
                json.dump(content, file)
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise


def _refuse_others(found: os.stat_result, most_bytes: int) -> None:
    if _PEOPLE and (found.st_uid not in {os.geteuid(), 0} or found.st_mode & _OTHERS_MAY_WRITE):
        raise PermissionError(errno.EPERM, "others could have written it")
    if found.st_size > most_bytes:
        raise OSError(errno.EFBIG, "larger than any that was written")


def _is_field(value: object) -> bool:
    # What stands in it is sent as a header field (RFC 9110 section 5.5).
    return isinstance(value, str) and value.isprintable() and value.strip() == value
