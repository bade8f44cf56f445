"""
The figures of wirewitness: ``python benchmarks/run.py [FIGURE ...] [--rounds N] [--quick] [--json FILE]``.

They are figures and no tests: it exits with 0 whether targets are met or not, and with 1 only where something breaks.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from figures.row import Row
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


HERE = Path(__file__).parent

FIGURES = {
    "1": (("at_once", "at_once_logged"), "added CPU time, inner returns at once, SDK on"),
    "2": (("exchange",), "added CPU time round a real exchange, SDK on"),
    "3": (("unconfigured",), "added CPU time, inner returns at once, no SDK"),
    "4": (("idle_tap",), "an http.client request with nothing watched"),
    "5": (("memory",), "growth over a million dispatches"),
    "6": (("collector_down",), "the slowest dispatches while the OTLP collector is down"),
    "7": (("caller",), "what the caller of an Outbox waits"),
    "8": (("drain",), "an Outbox's rate, of bare senders' and of the SDK's dispatcher"),
    "9": (("held",), "a million payloads held while the endpoint is down"),
    "10": (("datafile",), "a decision by a stale datafile while the CDN hangs"),
    "11": (("decide",), "a decision of an instrumented client, events off"),
}

LIBRARIES = (
    "wirewitness",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-urllib3",
    "structlog",
    "urllib3",
)

METHOD = (
    "CPU time of the process, all threads, microseconds a dispatch beyond the bare inner call of the same round: medians of "
    "interleaved rounds, and the least and the most of one round. Garbage collector on, run before each turn, what existed "
    "before frozen. SDK on: every span is sampled and handed to a processor that does nothing, metrics are aggregated for an "
    "in-memory reader; nothing is exported, which would be the same work for both. structlog: JSON into the void. "
    "1 and 3 settle inside the timed part what waits for late evidence. 2: over a kept-alive urllib3 pool, which ends in "
    "http.client, to a server in another process; the control has opentelemetry-instrumentation-urllib3 besides. "
    "3's control is json.dumps of the same event, 4's the request itself. 6 is wall time, with everything exported over OTLP. "
    "7 is wall time of single calls at 5,000 a second, contenders in turns call by call; 8 wall time, each turn in a process of its own, with the "
    "control's rate as the unit; 10 wall time of single decisions, two clients in turns, events off; 11 CPU time of single decisions, the same client with and without instrumentation in turns."
)


@dataclass(frozen=True)
class Options:
    """
    What was asked for.
    """

    figures: list[str]
    rounds: int
    quick: bool
    file: Path | None

    @classmethod
    def of_command_line(cls) -> Options:
        """
        Read the command line.
        """
        about = "\n".join(f"  {key}  {', '.join(names):<24} {what}" for key, (names, what) in FIGURES.items())
        arguments = argparse.ArgumentParser(
            description=f"Measure what wirewitness costs.\n\nfigures:\n{about}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        arguments.add_argument("figures", nargs="*", metavar="FIGURE", help="by number or name; default: all")
        arguments.add_argument("--rounds", type=int, default=None, help="interleaved rounds (default 7, quick 5)")
        arguments.add_argument("--quick", action="store_true", help="fewer calls a round")
        arguments.add_argument("--json", type=Path, dest="file", metavar="FILE", help="write the results to a file")
        given = arguments.parse_args()
        known = {key: names for key, (names, _) in FIGURES.items()}
        known |= {name: (name,) for names, _ in FIGURES.values() for name in names}
        unknown = [figure for figure in given.figures if figure not in known]
        if unknown:
            arguments.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
        figures = [name for figure in given.figures or FIGURES for name in known[figure]]
        return cls(figures, given.rounds or (5 if given.quick else 7), given.quick, given.file)


def measure(options: Options, console: Console) -> list[Row]:
    """
    Run the figures one after another, each in a process of its own.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    with Progress(*columns, console=console, transient=True) as progress:
        for name in options.figures:
            task = progress.add_task(name, total=None)
            for line in _told(name, options):
                if "steps" in line:
                    progress.update(task, total=line["steps"])
                elif "row" in line:
                    rows.append(Row(**line["row"]))
                else:
                    progress.advance(task)
    return rows


def _told(name: str, options: Options) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "figures", name, "--rounds", str(options.rounds), *(["--quick"] * options.quick)]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        sys.exit(1)


def table(rows: list[Row]) -> Table:
    """
    The report.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), collapse_padding=True)
    shown.add_column("figure", no_wrap=True)
    for heading in ("control", "witness", "value", "least..most", "target (aim)"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    previous = ""
    for row in rows:
        if row.figure != previous:
            shown.add_section()
            shown.add_row(f"[bold]{row.figure}[/]")
        shown.add_row(*_cells(row))
        previous = row.figure
    return shown


MET = {True: "[green]met[/]", False: "[red]not met[/]", None: ""}


def _cells(row: Row) -> tuple[str, ...]:
    control = next((row.parts[name] for name in ("control", "json.dumps", "request") if name in row.parts), None)
    aim = "" if row.aim is None else f" ({row.aim:g})"
    return (
        f"  {row.case}",
        _microseconds(control),
        _microseconds(row.parts.get("witness")),
        f"{row.median:.2f} {row.unit}",
        f"{min(row.values):.2f}..{max(row.values):.2f}" if len(row.values) > 1 else "",
        "" if row.target is None else f"{'≥' * row.at_least}{row.target:g}{aim}",
        MET[row.met],
    )


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"  # noqa: PLR2004 -- digits that tell


def footnotes(rows: list[Row]) -> Iterator[str]:
    """
    How it was measured, on what, and what doesn't fit into the table.
    """
    for row in rows:
        if row.note:
            looks = ", ".join(f"{name} {value:,.1f}".replace(".0", "") for name, value in row.parts.items())
            yield f"{row.case}: {looks}\n{row.note}"
    yield METHOD
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    yield f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}; {libraries}"


def main() -> None:
    """
    Measure, print, write.
    """
    options = Options.of_command_line()
    console = Console(width=None if sys.stdout.isatty() else 100)
    rows = measure(options, console)
    console.print(table(rows))
    for note in footnotes(rows):
        console.print(note, style="dim", highlight=False)
    if options.file is not None:
        options.file.write_text(json.dumps([row.as_dict() for row in rows], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
