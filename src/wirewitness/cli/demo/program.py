"""
The demo's course, from its header to its exit code.
"""

from __future__ import annotations

import contextlib
import io
import sys

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from optimizely.version import __version__ as sdk_version
from rich.console import Console

from wirewitness._version import __version__
from wirewitness.cli.demo import scenarios
from wirewitness.cli.demo.findings import agreement, differences, findings
from wirewitness.cli.demo.records import Files, Records, Sent, Written, answers, monitor, page_of, search_for_altered
from wirewitness.cli.demo.screen import Screen
from wirewitness.cli.demo.stage import DemoStage, Run, lines_kept_off_the_screen, no_proxy_for_loopback
from wirewitness.conformance import Received, Sink
from wirewitness.core.outcome import Outcome
from wirewitness.ledger import LedgerSnapshot


T = TypeVar("T", bound=Hashable)

JAEGER = "docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:latest"
"""By https://www.jaegertracing.io/docs/getting-started, with the two ports that are used here."""


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
        with Sink() as sink:
            runs = _play(screen, sink, records)
            received = sink.requests
        book = total(run.book for run in runs)
        _show(screen, runs, received, book)
        written = records.write(files.traces, files.metrics)
        screen.lines("look", [*_written(files, written), *_sent(records, otlp_endpoint, runs)])
    differing = differences(runs, received, book)
    if differing:
        screen.points("not as it must be", differing, "red")
    return 1 if differing else 0


def _console() -> Console:
    # Where the output's encoding lacks a character, a question mark takes its place, and not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, emoji=False, markup=False)


def _play(screen: Screen, sink: Sink, records: Records) -> list[Run]:
    screen.header(
        f"wirewitness {__version__}",
        f"watching optimizely-sdk {sdk_version}'s own EventDispatcher, and others",
        f"endpoint {sink.host}:{sink.port}",
    )
    stage = DemoStage(sink, records.tracer_provider, records.meter_provider)
    runs: list[Run] = []
    with screen.progress() as progress:
        task = progress.add_task("", total=len(scenarios.SCENARIOS))
        for scenario in scenarios.SCENARIOS:
            progress.update(task, description=scenario.title)
            runs.append(stage.play(scenario))
            progress.advance(task)
    return runs


def _show(screen: Screen, runs: Sequence[Run], received: Sequence[Received], book: LedgerSnapshot) -> None:
    screen.table(runs)
    screen.waterfall([run for _, run in notable(runs)])
    screen.show_book(book)
    screen.points("what this means", [*findings(runs), *agreement(runs, received)])


def notable(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """
    The first dispatch that was delivered, and of those that weren't the one with the most exchanges.
    """
    delivered = [run for run in runs if run.ending is not None and run.ending.outcome is Outcome.DELIVERED]
    others = [run for run in runs if run.ending is not None and run.ending.outcome is not Outcome.DELIVERED]
    worst = sorted(others, key=lambda run: len(run.exchanges), reverse=True)
    return [*(("good", run) for run in delivered[:1]), *(("bad", run) for run in worst[:1])]


def total(books: Iterable[LedgerSnapshot]) -> LedgerSnapshot:
    """
    The book of several dispatchers together.
    """
    books = list(books)
    return LedgerSnapshot(
        sum(book.accepted for book in books),
        _added(book.settled for book in books),
        _added(book.pending for book in books),
        _added(book.verdicts for book in books),
        sum(book.exchanges for book in books),
    )


def _added(counts: Iterable[Mapping[T, int]]) -> dict[T, int]:
    added: Counter[T] = Counter()
    for count in counts:
        added.update(count)
    return dict(added)


def _written(files: Files, written: Written) -> Iterator[tuple[str, str]]:
    yield "traces", f"{files.traces.name}: {written.spans} spans, for Jaeger's page, Search, Upload"
    yield "metrics", f"{files.metrics.name}: {written.series} series, as Prometheus scrapes them"


def _sent(records: Records, endpoint: str, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    if not answers(endpoint):
        yield "Jaeger", f"nobody listens at {endpoint}; start one, and the demo again:"
        yield "", JAEGER
        return
    sent = records.send(endpoint)
    yield "OTLP", f"{endpoint} took {_TAKEN[sent]}"
    if sent.traces:
        yield from _links(records, page_of(endpoint), runs)


def _links(records: Records, page: str, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    yield "Jaeger", f"is up at {page}" if answers(page) else f"isn't up at {page}; when it is:"
    for label, run in notable(runs):
        trace_id = records.trace_id(run.scenario.name)
        if trace_id is not None:
            yield f"  {label}", f"{page}/trace/{trace_id}"
    yield "  altered", search_for_altered(page)
    yield "  rates", monitor(page)


_TAKEN: Final = {
    Sent(traces=True, metrics=True): "traces and metrics",
    Sent(traces=True, metrics=False): "traces, and no metrics: a Jaeger has no use for them",
    Sent(traces=False, metrics=True): "metrics, and no traces",
    Sent(traces=False, metrics=False): "neither traces nor metrics",
}
