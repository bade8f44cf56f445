"""
``wirewitness spool``: what waits on disk, and what was given up.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import sqlite3
import sys

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirewitness.core.exchange import REDACTED, redact_query
from wirewitness.core.payload import repr_digest
from wirewitness.errors import ConfigurationError
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.message import Message
from wirewitness.outbox.sqlite.file import SpoolFile
from wirewitness.outbox.sqlite.inspect import (
    Entry,
    Letter,
    Unavailable,
    entry_of,
    files_at,
    held,
    is_damaged,
    letters,
    remove_aside,
    revive,
)
from wirewitness.outbox.sqlite.salvage import salvage as read_damaged


T = TypeVar("T")

# Every other can hold a credential.
_SHOWN: Final = frozenset({"accept", "content-encoding", "content-language", "content-type", "user-agent"})
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))
_NOT_DONE: Final = 2
# Where it goes into a pipe or a file.
_WIDE: Final = 1000

path_argument: Callable[[Any], Any] = click.argument("path", type=click.Path(path_type=Path))
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class NotDone(click.ClickException):
    """
    A command that couldn't do what was asked.
    """

    exit_code = _NOT_DONE


@click.group()
def spool() -> None:
    """
    Look into the files of a SqliteSpool, and at what was given up.

    PATH is the folder that was given to SqliteSpool, or a file in it. A file that a living process uses is never opened.
    """


@spool.command()
@path_argument
@json_option
def ls(path: Path, as_json: bool) -> None:  # noqa: FBT001 -- click's
    """
    List the files, and what is in them.
    """
    entries = [entry_of(file) for file in _files(path, aside=True)]
    if as_json:
        _print_json([{**dataclasses.asdict(entry), "path": str(entry.path)} for entry in entries])
        return
    table = _table("file", "size", "queued", "dead", "oldest", "state", right=range(1, 5))
    for entry in entries:
        table.add_row(*map(_plain, _cells(entry)))
    _print(table)


def _cells(entry: Entry) -> list[str]:
    numbers = ["-" if number is None else str(number) for number in (entry.queued, entry.dead)]
    return [entry.path.name, _size(entry.size), *numbers, _duration(entry.oldest_age), entry.state]


@spool.command()
@path_argument
@click.argument("id", required=False, type=int)
@click.option("--dead", is_flag=True, help="Dead letters, and not what is queued.")
@click.option("--payload", is_flag=True, help="The payload too: with an ID its very bytes, and nothing else.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@json_option
def show(path: Path, id: int | None, dead: bool, payload: bool, limit: int, as_json: bool) -> None:  # noqa: A002, FBT001, PLR0913, PLR0917 -- click's
    """
    Show what is queued, or the one with this ID: everything but the payload.

    Values of queries, and of headers that could be credentials, are never shown.
    """
    if payload and id is None and not as_json:
        msg = "--payload wants an ID, or --json"
        raise click.UsageError(msg)
    at = _one_file(path) if id is not None else path
    found, unavailable = _visit(at, lambda file: list(itertools.islice(_chosen(file, id, dead=dead), limit)))
    shown = [(file.name, letter) for file, some in found for letter in some][:limit]
    if not shown:
        _tell(unavailable)
    if id is not None and not shown:
        msg = f"{path} has no {'dead letter' if dead else 'queued message'} {id}"
        raise NotDone(msg)
    if as_json:
        _print_json([{"file": file, **_described(letter, payload=payload)} for file, letter in shown])
    elif payload:
        _print_payload(shown[0][1])
    elif id is not None:
        _print_one(shown[0][1])
    else:
        _print_letters(shown, dead=dead, files=path.is_dir())
    _tell(unavailable)


def _one_file(path: Path) -> Path:
    files = _files(path)
    if len(files) != 1:
        msg = f"ids are a file's own, and {path} has {len(files)} files: name one of them"
        raise click.UsageError(msg)
    return files[0]


def _chosen(file: SpoolFile, number: int | None, *, dead: bool) -> Iterator[Letter]:
    return (letter for letter in letters(file, dead=dead) if number in {None, letter.id})


def _print_payload(letter: Letter) -> None:
    if letter.message is None:
        msg = f"the checksum of {letter.id} is wrong: its payload is not what it was"
        raise NotDone(msg)
    sys.stdout.buffer.write(letter.message.body)
    sys.stdout.buffer.flush()


def _print_one(letter: Letter) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in _described(letter, payload=False).items():
        lines = [f"{field}: {text}" for field, text in value] if name == "headers" else [str(value)]
        table.add_row(name, "\n".join(map(_plain, lines)))
    _print(table)


def _print_letters(shown: Iterable[tuple[str, Letter]], *, dead: bool, files: bool) -> None:
    names = ("id", "age", "size", "attempts", "reason" if dead else "due in", "request")
    table = _table(*(("file",) if files else ()), *names, right=range(files, files + 4))
    for file, letter in shown:
        table.add_row(*map(_plain, [*([file] if files else ()), *_row(letter)]))
    _print(table)


def _row(letter: Letter) -> list[str]:
    message = letter.message
    if message is None:
        return [str(letter.id), "-", "-", "-", letter.reason or "-", "damaged: its checksum is wrong"]
    last = letter.reason or _duration(max(0.0, message.due - steady_ns() / 1e9) if message.due else None)
    request = f"{message.method} {_redacted(message.url)}"
    return [
        str(letter.id),
        _duration(_age(message)),
        _size(len(message.body)),
        str(message.attempts),
        last,
        request,
    ]


@spool.command()
@path_argument
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
def retry(path: Path, ids: tuple[int, ...], everything: bool) -> None:  # noqa: FBT001 -- click's
    """
    Put dead letters back into the queue: those with these IDS, or --all.

    Their lifetime begins anew. What fails its checksum stays dead.
    """
    if bool(ids) == everything:
        msg = "give IDS, or --all"
        raise click.UsageError(msg)
    at = path if everything else _one_file(path)
    visited, unavailable = _visit(at, lambda file: revive(file, None if everything else set(ids)))
    done = [numbers for _, numbers in visited]
    revived, refused = (sum(numbers) for numbers in zip(*done, strict=True)) if done else (0, 0)
    if not done:
        _tell(unavailable)
    click.echo(f"{revived} put back into the queue" + (f", {refused} damaged left dead" if refused else ""))
    if ids and not unavailable and revived + refused < len(set(ids)):
        msg = f"{path} has no dead letter for {len(set(ids)) - revived - refused} of these ids"
        raise NotDone(msg)
    _tell(unavailable)


@spool.command()
@path_argument
@click.option("--dead", is_flag=True, help="The dead letters.")
@click.option("--all", "everything", is_flag=True, help="Everything, what is queued too.")
@click.option("--yes", is_flag=True, help="Do it, and don't ask.")
def purge(path: Path, dead: bool, everything: bool, yes: bool) -> None:  # noqa: FBT001 -- click's
    """
    Delete the dead letters, or everything, for good. Everything includes the damaged files that were set aside.
    """
    if dead == everything:
        msg = "give --dead, or --all"
        raise click.UsageError(msg)
    if not yes:
        what = "everything, what is queued too" if everything else "the dead letters"
        msg = f"this deletes {what}, in {path}, for good: say --yes if that's wanted"
        raise NotDone(msg)
    gone, unavailable = _visit(path, lambda file: file.purge(messages=everything))
    aside = remove_aside(path) if everything else 0
    more = f", and {aside} damaged {'file' if aside == 1 else 'files'} removed" if aside else ""
    if not gone and not aside:
        _tell(unavailable)
    click.echo(f"{sum(number for _, number in gone)} deleted{more}")
    _tell(unavailable)


@spool.command()
@path_argument
def salvage(path: Path) -> None:
    """
    Put what can still be read of damaged files back into the queue.

    PATH is the folder, or one of its files that were set aside. Each is salvaged once, and renamed. What memory held when a file
    failed may be sent a second time.
    """
    aside = [file for file in _files(path, aside=True) if is_damaged(file)]
    if not aside:
        msg = f"{path} has no damaged file that was set aside"
        raise NotDone(msg)
    for file in aside:
        try:
            done = read_damaged(file)
        except (OSError, sqlite3.Error, ConfigurationError) as error:
            msg = f"{file} can't be read: {error}"
            raise NotDone(msg) from error
        dead = f", {done.dead} dead letters" if done.dead else ""
        click.echo(f"{file.name}: {done.queued} put back into the queue{dead}, {done.damaged + done.missing} lost")


def _files(path: Path, *, aside: bool = False) -> list[Path]:
    try:
        return files_at(path, aside=aside)
    except Unavailable as unavailable:
        raise NotDone(str(unavailable)) from unavailable


def _visit(path: Path, act: Callable[[SpoolFile], T]) -> tuple[list[tuple[Path, T]], list[Unavailable]]:
    done: list[tuple[Path, T]] = []
    unavailable: list[Unavailable] = []
    for name in _files(path):
        try:
            with held(name) as file:
                done.append((name, act(file)))
        except Unavailable as one:
            unavailable.append(one)
    return done, unavailable


def _tell(unavailable: list[Unavailable]) -> None:
    # At the end: what could be done is done.
    if unavailable:
        raise NotDone("\n".join(map(str, unavailable)))


def _described(letter: Letter, *, payload: bool) -> dict[str, Any]:
    message = letter.message
    described: dict[str, Any] = {"id": letter.id}
    if letter.reason is not None:
        described |= {"reason": letter.reason, "buried": _time(letter.since_ns or 0)}
    if message is None:
        return {**described, "damaged": True}
    described |= {
        "method": message.method,
        "url": _redacted(message.url),
        "headers": [[name, value if name.lower() in _SHOWN else REDACTED] for name, value in message.headers],
        "form": message.form.value,
        "size": len(message.body),
        "digest": repr_digest(message.payload.digest),
        "accepted": _time(message.accepted_ns),
        "attempts": message.attempts,
        "due": _time(int(message.due * 1e9)) if message.due else None,
    }
    return {**described, **(_payload(message) if payload else {})}


def _payload(message: Message) -> dict[str, str]:
    try:
        return {"payload": message.body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(message.body).decode("ascii")}


def _redacted(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    netloc = parts.netloc.rpartition("@")[2]
    query = redact_query(parts.query) if parts.query else ""
    path = re.sub(r";[^/]*", f";{REDACTED}", parts.path)
    shown = parts._replace(netloc=netloc, path=path, query=query, fragment="").geturl()
    return shown.encode("ascii", "backslashreplace").decode("ascii")


def _plain(text: str) -> str:
    # What somebody wrote into a file must not write on a terminal.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="milliseconds")


def _age(message: Message) -> float:
    return max(0.0, (steady_ns() - message.accepted_ns) / 1e9)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 -- SI
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _table(*names: str, right: Iterable[int]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for index, name in enumerate(names):
        # The last may be long, and is folded where there's no room: what is cut off can't be copied.
        last = index == len(names) - 1
        table.add_column(name, justify="right" if index in right else "left", no_wrap=not last, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(markup=False, highlight=False)
    options = console.options if console.is_terminal else console.options.update_width(_WIDE)
    for segments in console.render_lines(table, options, pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        console.print(line, soft_wrap=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
