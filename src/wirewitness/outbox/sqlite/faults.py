"""
What disks and databases do wrong.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3

from collections import Counter
from types import MappingProxyType
from typing import Final

from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.errors import ConfigurationError


DISK_FULL: Final = "disk_full"
IO_ERROR: Final = "io_error"
CORRUPT: Final = "corrupt"
BUSY: Final = "busy"
UNREADABLE: Final = "unreadable"

KINDS: Final = (CORRUPT, DISK_FULL, IO_ERROR, UNREADABLE)

# https://www.sqlite.org/rescode.html, by the primary result code; for errors without a code, the text tells.
_CODES: Final = MappingProxyType(
    {1: CORRUPT, 5: BUSY, 11: CORRUPT, 13: DISK_FULL, 18: CORRUPT, 20: CORRUPT, 26: CORRUPT}
)
_TEXTS: Final = MappingProxyType(
    {"malformed": CORRUPT, "is full": DISK_FULL, "not a database": CORRUPT, "is locked": BUSY}
)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PRIMARY: Final = 0xFF


class Damaged(sqlite3.DatabaseError):
    """
    SQLite reads the file, but what's in it is no spool of ours any more.
    """


class NewerSchema(Exception):  # noqa: N818 -- it says what there is
    """
    A later wirewitness has written the file.
    """


class Foreign(Exception):  # noqa: N818 -- it says what there is
    """
    The file is somebody else's database.
    """


TROUBLES: Final = (sqlite3.Error, OSError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What reading and writing a file raises: SQLite, the disk, and Python for whatever stands in a damaged file."""


def kind_of(error: BaseException) -> str:
    """
    What sort of trouble an error of :data:`TROUBLES` is.
    """
    if isinstance(error, ConfigurationError):
        return kind_of(error.__cause__) if isinstance(error.__cause__, OSError) else IO_ERROR
    if isinstance(error, Damaged) or not isinstance(error, (OSError, sqlite3.Error)):
        return CORRUPT
    if isinstance(error, OSError):
        return DISK_FULL if error.errno in _FULL else IO_ERROR
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _CODES.get(code & _PRIMARY, IO_ERROR)
    return next((kind for text, kind in _TEXTS.items() if text in str(error)), IO_ERROR)


_log: Final = logging.getLogger("wirewitness")


class Faults:
    """
    How many troubles a spool has had, by kind.

    Args:
        path: The spool's, as it was given.
    """

    def __init__(self, path: object) -> None:
        self._path = path
        self.clear()
        INTERNAL_ERRORS.register("spool")

    def clear(self) -> None:
        """
        Start at zero.
        """
        self._counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._logged: set[str] = set()

    def count(self, kind: str, number: int = 1) -> None:
        """
        Count troubles that have no exception.
        """
        self._counts[kind] += number

    def report(self, error: BaseException) -> str:
        """
        Count a trouble, and log the first of its kind: for whom it is to mend, and so with the path and the remedy.

        Returns:
            Its kind.
        """
        kind = kind_of(error)
        self.count(kind)
        INTERNAL_ERRORS.count("spool")
        what, remedy = _told(kind, error)
        if what not in self._logged:
            self._logged.add(what)
            _log.warning(
                "The spool %s: %s. Until that is mended, what is accepted may be held in memory only, and payloads go on being sent. "
                "Remedy: %s. Further ones are only counted.",
                self._path,
                what,
                remedy,
            )
        return kind

    def items(self) -> tuple[tuple[str, int], ...]:
        """
        The counts, by name.
        """
        return tuple(sorted(self._counts.items()))


def _told(kind: str, error: BaseException) -> tuple[str, str]:  # noqa: PLR0911 -- a table, by kind
    if isinstance(error, ConfigurationError):
        if not isinstance(error.__cause__, OSError):
            # It names the remedy itself.
            return "it can't be used", str(error)
        error = error.__cause__
    if kind == CORRUPT:
        return (
            "a file is damaged and was set aside",
            "`wirewitness spool salvage` with that path puts what can be read of it back into the queue",
        )
    if kind == DISK_FULL:
        return "the disk is full", "free some room on it"
    if kind == BUSY:
        return "another program has a file open", "close that program"
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        why = error.strerror or "permission denied"
        return (
            f"it can't be written: {why}",
            f"let the user with the id {os.geteuid()} write to that folder, or name another path",
        )
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return (
            "this process closed the descriptors of its file, as daemonizers do",
            "none is needed for what is in memory; make the Outbox after that, or flush it before",
        )
    if isinstance(error, FileNotFoundError):
        return (
            "its file or folder was removed while it was in use",
            "make the folder again, and keep clean-up jobs away from it",
        )
    return (
        f"the disk fails: {getattr(error, 'strerror', None) or type(error).__name__}",
        "look at the disk, or name another path",
    )
