"""
The figures of wirewitness: ``python benchmarks/run.py [FIGURE ...] [--rounds N] [--quick] [--json [FILE]]``.

Each figure compares wirewitness with a control that has its turns in the same run, and reports the ratio. Ratios hold on
another machine; microseconds do not. The exit code tells whether the figures could be measured (0) or one of them broke (1),
never whether a target is met: these are figures and not tests.

Each value is printed as a line of its own as soon as it is known, as wide as it needs to be. On a terminal, a last line on
the standard error shows how far the current figure is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from figures.row import Row


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
    "9": (("held",), "300,000 payloads held while the endpoint is down"),
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
    "Columns: 'control' and 'witness' are medians of the rounds, 'value' is the median of the rounds' ratios.",
    "1 to 5: microseconds of CPU time of the process, all threads, per dispatch, beyond the bare inner call of the same round.",
    "The garbage collector is on, runs before each turn, and what existed before is frozen.",
    "SDK on: every span is sampled and handed to a processor that does nothing, metrics are aggregated for an in-memory reader.",
    "Nothing is exported, which would be the same work for both. structlog writes JSON into the void.",
    "1 and 3 settle what waits for late evidence inside the timed part. 3's control is json.dumps of the same event.",
    "2: a kept-alive urllib3 pool, which ends in http.client, to a server in another process;",
    "the control has opentelemetry-instrumentation-urllib3 besides. 4's control is the request itself.",
    "6: wall time, everything exported over OTLP. 7: wall time of single calls at 5,000 per second, contenders in turns.",
    "8: wall time, each turn in a process of its own, in multiples of the control's rate.",
    "10: wall time of single decisions, two clients in turns, events off.",
    "11: CPU time of single decisions, the same client with and without instrumentation in turns.",
)

COLUMNS = f"{'':2}{{:<52}}{{:>11}}{{:>11}}{{:>12}}{{:>18}}{{:>14}}  {{}}"


@dataclass(frozen=True)
class Options:
    """
    What was asked for.

    Attributes:
        figures: Modules in ``figures/``, in the order in which they run.
        rounds: Interleaved rounds per case.
        quick: Whether each round makes fewer calls.
        file: Where the JSON document goes, ``-`` for the standard output; None for none.
    """

    figures: list[str]
    rounds: int
    quick: bool
    file: str | None

    @classmethod
    def of_command_line(cls) -> Options:
        """
        Read the command line.
        """
        about = "\n".join(f"  {key:>2}  {', '.join(names):<24} {what}" for key, (names, what) in FIGURES.items())
        arguments = argparse.ArgumentParser(
            description=f"Measure what wirewitness costs.\n\nfigures:\n{about}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        arguments.add_argument("figures", nargs="*", metavar="FIGURE", help="by number or name; default: all")
        arguments.add_argument("--rounds", type=int, default=None, help="interleaved rounds (default 5, quick 3)")
        arguments.add_argument("--quick", action="store_true", help="fewer calls per round: all figures in 90 seconds")
        arguments.add_argument(
            "--json",
            nargs="?",
            const="-",
            dest="file",
            metavar="FILE",
            help="write one JSON document to FILE; without FILE to the standard output, and the lines to the standard error",
        )
        given = arguments.parse_args()
        known = {key: names for key, (names, _) in FIGURES.items()}
        known |= {name: (name,) for names, _ in FIGURES.values() for name in names}
        if given.file in known:
            arguments.error(f"--json {given.file}: that is a figure and not a file; name the figures before --json")
        unknown = [figure for figure in given.figures if figure not in known]
        if unknown:
            arguments.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
        if given.rounds is not None and given.rounds < 1:
            arguments.error(f"--rounds {given.rounds}: at least 1")
        figures = [name for figure in given.figures or FIGURES for name in known[figure]]
        return cls(figures, given.rounds or (3 if given.quick else 5), given.quick, given.file)


class Broken(Exception):  # noqa: N818 -- what happened to the figure
    """
    A figure's process has failed; its traceback stands on the standard error.
    """


def told(name: str, options: Options) -> Iterator[dict[str, Any]]:
    """
    Run a figure in a process of its own, and yield what it says.

    Raises:
        Broken: It has failed.
    """
    command = [sys.executable, "-m", "figures", name, "--rounds", str(options.rounds), *(["--quick"] * options.quick)]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        raise Broken(name)


class Report:
    """
    Prints each row when it comes.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._figure = ""
        self._live = sys.stderr.isatty()

    def progress(self, name: str, done: int, steps: int) -> None:
        """
        On a terminal, say how far a figure is.
        """
        if self._live:
            print(f"\r\x1b[2K{name}: {done} of {steps}", end="", file=sys.stderr, flush=True)

    def say(self, line: str = "") -> None:
        """
        Print a line, where the progress stood.
        """
        if self._live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        print(line, file=self._out, flush=True)

    def row(self, row: Row) -> None:
        """
        Print a row, below its figure's name.
        """
        if row.figure != self._figure:
            self.say(f"\n{row.figure}")
            self._figure = row.figure
        control = next((row.parts[name] for name in ("control", "json.dumps", "request") if name in row.parts), None)
        aim = "" if row.aim is None else f" ({row.aim:g})"
        cells = COLUMNS.format(
            row.case,
            digits(control),
            digits(row.parts.get("witness")),
            f"{row.median:.2f} {row.unit}",
            f"{min(row.values):.2f}..{max(row.values):.2f}" if len(row.values) > 1 else "",
            "" if row.target is None else f"{'≥' * row.at_least}{row.target:g}{aim}",
            {True: "met", False: "not met", None: ""}[row.met],
        )
        self.say(cells.rstrip())
        if row.note:
            others = {name: value for name, value in row.parts.items() if name not in {"control", "witness"}}
            for line in (*(f"{name} {value:,.1f}" for name, value in others.items()), row.note):
                self.say(f"      {line}")


def digits(value: float | None) -> str:
    """
    A number with the digits that tell, and thousands apart.
    """
    return "" if value is None else f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"  # noqa: PLR2004 -- as said


def main() -> None:
    """
    Measure, print, write.
    """
    options = Options.of_command_line()
    report = Report(sys.stderr if options.file == "-" else sys.stdout)
    report.say(COLUMNS.format("", "control", "witness", "value", "least..most", "target (aim)", "").rstrip())
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    broken: list[str] = []
    for name in options.figures:
        started, done, steps = time.monotonic(), 0, 0
        try:
            for line in told(name, options):
                if "row" in line:
                    rows.append(Row(**line["row"]))
                    report.row(rows[-1])
                else:
                    steps = line.get("steps", steps)
                    done += line.get("tick", 0)
                    report.progress(name, done, steps)
        except Broken:
            broken.append(name)
            report.say(f"\n{name}: broken, see its traceback above")
        seconds[name] = round(time.monotonic() - started, 1)
    report.say()
    for sentence in METHOD:
        report.say(sentence)
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    libraries = {name: version(name) for name in LIBRARIES}
    report.say(f"{python}, {os.cpu_count()} cores; {', '.join(f'{name} {found}' for name, found in libraries.items())}")
    took = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    report.say(f"{options.rounds} rounds, {sum(seconds.values()):.0f} s in all: {took}")
    if options.file is not None:
        document = {
            "python": python,
            "cores": os.cpu_count(),
            "libraries": libraries,
            "rounds": options.rounds,
            "quick": options.quick,
            "seconds": seconds,
            "broken": broken,
            "rows": [row.as_dict() for row in rows],
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if options.file == "-":
            sys.stdout.write(text)
        else:
            Path(options.file).write_text(text, encoding="utf-8")
    if broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
