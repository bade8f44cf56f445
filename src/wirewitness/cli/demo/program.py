"""
The demo's course, from its header to its exit code.
"""

from __future__ import annotations

import contextlib
import io
import sys

from collections.abc import Iterator, Sequence

from optimizely.version import __version__ as sdk_version
from rich.console import Console

from wirewitness._version import __version__
from wirewitness.cli.demo import scenarios
from wirewitness.cli.demo.files import Files
from wirewitness.cli.demo.findings import agreement, differences, findings
from wirewitness.cli.demo.lines import lines_kept_off_the_screen
from wirewitness.cli.demo.records import Records, Sent, answers, page_of, search_for_errors
from wirewitness.cli.demo.screen import Screen
from wirewitness.cli.demo.stage import Run, Stage, no_proxy_for_loopback
from wirewitness.conformance import Received, Sink
from wirewitness.core.outcome import Outcome
from wirewitness.ledger import Book, Stage as LedgerStage


HOW_TO_GET_JAEGER = (
    "docker run --rm -p 16686:16686 -p 4318:4318 cr.jaegertracing.io/jaegertracing/jaeger:2.15.0, then the demo again"
)


def run(files: Files, otlp_endpoint: str) -> int:
    """
    Show the demo.

    Args:
        files: Where traces and metrics are written.
        otlp_endpoint: Where they're sent, too, if somebody answers there.

    Returns:
        The exit code: 0 only if everything was as it must be.
    """
    screen = Screen(_console())
    with contextlib.closing(Records()) as records, no_proxy_for_loopback(), lines_kept_off_the_screen():
        runs, received = _play(screen, records)
        book = total(run.book for run in runs)
        screen.table(runs)
        screen.waterfall(_notable(runs))
        screen.book(book)
        screen.points("what this means", [*findings(runs), *agreement(runs, received)])
        records.write(files.traces, files.metrics)
        screen.lines("look", [*_written(files), *_sent(records, otlp_endpoint, runs)])
    differing = differences(runs, received, book)
    if differing:
        screen.points("not as it must be", differing, "red")
    return 1 if differing else 0


def _console() -> Console:
    # A terminal or a file whose encoding lacks a character gets a question mark in its place, and not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, emoji=False, markup=False)


def _play(screen: Screen, records: Records) -> tuple[list[Run], list[Received]]:
    with Sink() as sink:
        others = len({scenario.sender for scenario in scenarios.SCENARIOS if not scenario.of_the_sdk})
        screen.header(f"wirewitness {__version__}", ...)
        stage = Stage(sink, records.tracer_provider, records.meter_provider)
        with screen.progress() as progress:
            task = progress.add_task("", total=len(scenarios.SCENARIOS))
    return [], []
