"""
What a file has that this process didn't put there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.sqlite.faults import CORRUPT, Faults
from wirewitness.outbox.sqlite.file import MOST_ID, SpoolFile
from wirewitness.outbox.sqlite.record import Record


class Found(NamedTuple):
    """
    Messages that a file has.

    Attributes:
        first: The least id.
        last: The greatest.
        number: How many.
        size: Their bytes, as the bounds reckon them.
    """

    first: int
    last: int
    number: int
    size: int


def survey(file: SpoolFile, faults: Faults) -> list[Found]:
    """
    Count what's in a file, bury what is damaged, and count what is missing.

    Raises:
        sqlite3.DatabaseError: If it can't be read.
    """
    file.tidy()
    found = [found_in(_sound(file, records, faults)) for records in file.messages()]
    found = [some for some in found if some.number]
    number = sum(some.number for some in found)
    if number != file.queued:
        faults.count(CORRUPT, max(0, file.queued - number))
        file.recount(number)
    if not found:
        return []
    return [Found(found[0].first, found[-1].last, number, sum(some.size for some in found))]


def _sound(file: SpoolFile, records: Sequence[Record], faults: Faults) -> list[Record]:
    for record in records:
        if not _is_sound(record):
            faults.count(CORRUPT)
            file.bury(record.id, CORRUPT, steady_ns())
    return [record for record in records if _is_sound(record)]


def _is_sound(record: Record) -> bool:
    return record.message is not None and record.id < MOST_ID


def found_in(records: Sequence[Record]) -> Found:
    """
    What there is in a chunk.
    """
    if not records:
        return Found(0, 0, 0, 0)
    size = sum([record.size for record in records])
    return Found(records[0].id, records[-1].id, len(records), size)
