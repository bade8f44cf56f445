"""
The files of a spool that no living process has, for people who look.
"""

from __future__ import annotations

import contextlib

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from wirewitness.errors import ConfigurationError, WireWitnessError
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.directory import SET_ASIDE, FileLock, SpoolDirectory, remove, size_of
from wirewitness.outbox.sqlite.faults import CORRUPT, TROUBLES, Foreign, NewerSchema, kind_of
from wirewitness.outbox.sqlite.file import Batch, SpoolFile, dead_message, row_of


class Unavailable(WireWitnessError):  # noqa: N818 -- it says what the file is
    """
    A file that cannot be looked into.

    Attributes:
        path: The file.
        why: What keeps it.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = path
        self.why = why


@dataclass(frozen=True)
class Entry:
    """
    A file, as a list shows it.

    Attributes:
        path: The file.
        size: Its bytes on disk, its log's included.
        state: ``free``, ``in use by process N``, ``set aside``, ``salvaged``, or what else keeps it from being read.
        queued: Messages; None if it cannot be read.
        dead: Dead letters.
        oldest_age: Seconds since the oldest message was accepted; None if there is none.
    """

    path: Path
    size: int
    state: str = "free"
    queued: int | None = None
    dead: int | None = None
    oldest_age: float | None = None


@dataclass(frozen=True)
class Letter:
    """
    A message or a dead letter, as it is shown.

    Attributes:
        message: What it is; None if its checksum is wrong.
        id: Its id in its file.
        reason: Why it is dead; None if it is not.
        since_ns: Since when, Unix nanoseconds.
    """

    message: Message | None
    id: int
    reason: str | None = None
    since_ns: int | None = None


def files_at(path: Path, *, aside: bool = False) -> list[Path]:
    """
    The files of a spool, of all processes; or one of them.

    Args:
        path: The folder, or a file in it.
        aside: Whether those that were set aside are wanted, too.

    Raises:
        Unavailable: If it is not there, or no folder of this user's.
    """
    if not path.exists():
        raise Unavailable(path, "isn't there")
    if not path.is_dir():
        return [path]
    try:
        directory = SpoolDirectory(path)
    except ConfigurationError as error:
        raise Unavailable(path, f"is no spool: {error}") from error
    return [*sorted(directory.files()), *(directory.aside() if aside else [])]


@contextlib.contextmanager
def held(path: Path) -> Iterator[SpoolFile]:
    """
    Open a file while its lock is held.

    Raises:
        Unavailable: If a living process has it, or it is no file that can be read.
    """
    aside = SET_ASIDE.fullmatch(path.name)
    if aside:
        done = aside["why"] == "salvaged"
        why = "was salvaged: purge --all removes it" if done else "was set aside: salvage puts back what can be read"
        raise Unavailable(path, why)
    if not path.is_file():
        raise Unavailable(path, "isn't there")
    lock = FileLock(path)
    if not lock.take():
        raise Unavailable(path, f"is in use by {lock.holder}: stop that first")
    try:
        try:
            file = SpoolFile(path, check=False)
        except NewerSchema as error:
            raise Unavailable(path, f"has schema {error}, which is newer: upgrade wirewitness") from error
        except Foreign as error:
            raise Unavailable(path, "is another application's database") from error
        except TROUBLES as error:
            why = "is damaged: the next process that finds it will set it aside"
            raise Unavailable(path, why if kind_of(error) == CORRUPT else "can't be read") from error
        with contextlib.closing(file):
            yield file
    finally:
        lock.release()


def entry_of(path: Path) -> Entry:
    """
    What a list shows of a file.
    """
    size = size_of(path)
    try:
        with held(path) as file:
            queued, dead, oldest = file.counts()
    except Unavailable as unavailable:
        return Entry(path, size, unavailable.why.partition(":")[0].removeprefix("is ").removeprefix("was "))
    age = None if oldest is None else max(0.0, (steady_ns() - oldest) / 1e9)
    return Entry(path, size, "free", queued, dead, age)


def is_damaged(path: Path) -> bool:
    """
    Whether a file was set aside because it is damaged, and was not salvaged yet.
    """
    aside = SET_ASIDE.fullmatch(path.name)
    return aside is not None and aside["why"] != "salvaged"


def remove_aside(path: Path) -> int:
    """
    Remove the files of a spool that were set aside, salvaged or not.

    Args:
        path: The folder.

    Returns:
        How many.
    """
    aside = [file for file in files_at(path, aside=True) if SET_ASIDE.fullmatch(file.name)]
    for file in aside:
        remove(file)
    return len(aside)


def letters(file: SpoolFile, *, dead: bool) -> Iterator[Letter]:
    """
    All messages, or all dead letters.
    """
    if dead:
        for row in file.dead_letters():
            yield Letter(dead_message(row), row[0], row[10], row[11])
    else:
        for records in file.messages():
            yield from (Letter(record.message, record.id) for record in records)


def revive(file: SpoolFile, ids: Collection[int] | None) -> tuple[int, int]:
    """
    Put dead letters back among the messages, as if accepted now: their time would be over before they were sent, else.

    Args:
        file: Where they are.
        ids: Which; None for all.

    Returns:
        How many were put back, and how many not because their checksum is wrong.
    """
    revived = refused = 0
    number = file.last_id
    for letter in letters(file, dead=True):
        if ids is not None and letter.id not in ids:
            continue
        if letter.message is None:
            refused += 1
            continue
        number += 1
        letter.message.accepted_ns = steady_ns()
        file.write(Batch(rows=[row_of(letter.message, number)], undead=[letter.id]))
        revived += 1
    return revived, refused
