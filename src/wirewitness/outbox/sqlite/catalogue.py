"""
The files of a spool that no living process has, for people who look.
"""

from __future__ import annotations

import contextlib
import re

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wirewitness.errors import WireWitnessError
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.faults import CORRUPT, TROUBLES, Foreign, NewerSchema, kind_of
from wirewitness.outbox.sqlite.file import Batch, SpoolFile
from wirewitness.outbox.sqlite.lock import FileLock, holder_of
from wirewitness.outbox.sqlite.place import lock_path, place_of, remove
from wirewitness.outbox.sqlite.record import message_of, row_of


_SET_ASIDE: Final = re.compile(r".*\.(corrupt|failed)-\d{8}T\d{6}(-\d+)?")


class Unavailable(WireWitnessError):  # noqa: N818 -- it says what the file is
    """
    A file that can't be looked into.

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
        state: ``free``, ``in use by process N``, ``set aside``, or what else keeps it from being read.
        queued: Messages; None if it can't be read.
        dead: Dead letters.
        oldest_age: Seconds since the oldest message was accepted; None if there's none.
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
    A message or a dead letter, as it's shown.

    Attributes:
        message: What it is; None if its checksum is wrong.
        id: Its id in its file.
        reason: Why it's dead; None if it isn't.
        buried_ns: Since when, Unix nanoseconds.
    """

    message: Message | None
    id: int
    reason: str | None = None
    buried_ns: int | None = None


def files_at(path: Path, *, aside: bool) -> list[Path]:
    """
    The files of a spool, of all processes.

    Args:
        path: The file, or the folder.
        aside: Whether those that were set aside are wanted, too.

    Raises:
        Unavailable: If there is none.
    """
    if not path.exists():
        raise Unavailable(path, "isn't there")
    if path.is_dir():
        files, folder, stem = place_of(path).files(), path, ""
    else:
        files, folder, stem = [path, *place_of(path).files()], path.parent, path.stem
    names = sorted(one.name for one in folder.iterdir() if _SET_ASIDE.fullmatch(one.name)) if aside else []
    return [*files, *(folder / name for name in names if name.startswith(stem))]


@contextlib.contextmanager
def held(path: Path) -> Iterator[SpoolFile]:
    """
    Open a file while its lock is held.

    Raises:
        Unavailable: If a living process has it, or it's no file that can be read.
    """
    if _SET_ASIDE.fullmatch(path.name):
        raise Unavailable(path, "was set aside: only what could be read of it was kept, in another file")
    if not path.is_file():
        raise Unavailable(path, "isn't there")
    lock = FileLock(lock_path(path))
    if not lock.take():
        raise Unavailable(path, f"is in use by {_holder(lock.path)}: stop that first")
    try:
        with contextlib.closing(_opened(path)) as file:
            yield file
    finally:
        lock.release()


def _opened(path: Path) -> SpoolFile:
    try:
        return SpoolFile(path)
    except NewerSchema as error:
        raise Unavailable(path, f"has schema {error}, which is newer: upgrade wirewitness") from error
    except Foreign as error:
        raise Unavailable(path, "is another application's database") from error
    except TROUBLES as error:
        why = "is damaged: the next process that uses it will salvage what can be read"
        raise Unavailable(path, why if kind_of(error) == CORRUPT else "can't be read") from error


def _holder(path: Path) -> str:
    holder = holder_of(path)
    return "a living process" if holder is None else f"process {holder}"


def entry_of(path: Path) -> Entry:
    """
    What a list shows of a file.
    """
    size = sum(part.stat().st_size for part in (path, Path(f"{path}-wal")) if part.exists())
    try:
        with held(path) as file:
            queued, dead, oldest = file.counts()
    except Unavailable as unavailable:
        return Entry(path, size, unavailable.why.partition(":")[0].removeprefix("is ").removeprefix("was "))
    age = None if oldest is None else max(0.0, (steady_ns() - oldest) / 1e9)
    return Entry(path, size, "free", queued, dead, age)


def remove_aside(path: Path) -> int:
    """
    Remove the files of a spool that were set aside. They are damaged, and nothing reads them any more.

    Args:
        path: The file, or the folder.

    Returns:
        How many.
    """
    aside = [file for file in files_at(path, aside=True) if _SET_ASIDE.fullmatch(file.name)]
    for file in aside:
        remove(file)
    return len(aside)


def letters(file: SpoolFile, *, dead: bool) -> Iterator[Letter]:
    """
    All messages, or all dead letters.
    """
    if dead:
        for rows in file.dead_letters():
            yield from (_dead_letter(row) for row in rows)
    else:
        for records in file.messages():
            yield from (Letter(record.message, record.id) for record in records)


def _dead_letter(row: Any) -> Letter:
    message = message_of(row)
    if message is not None:
        message.attempts = row[9]
    return Letter(message, row[0], row[10], row[11])


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
    for rows in file.dead_letters():
        batch = Batch()
        for letter in [_dead_letter(row) for row in rows if ids is None or row[0] in ids]:
            if letter.message is None:
                refused += 1
                continue
            number += 1
            message = letter.message
            message.id, message.accepted_ns = number, steady_ns()
            batch.rows.append(row_of(message))
            batch.undead.append(letter.id)
        file.write(batch)
        revived += len(batch.rows)
    return revived, refused
