"""
The demo's screen: 80 columns or more, colours where there are any, and words that carry the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from wirewitness.cli.demo.stage import Run
from wirewitness.cli.demo.words import came_back, duration, seen_by_the_caller, seen_on_the_wire
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome
from wirewitness.core.verdict import Verdict
from wirewitness.ledger import LedgerSnapshot


_ROOMY: Final = 100
"""Columns from which on the table has wider gaps."""

_GOOD, _FAIR, _POOR, _BAD = "green", "cyan", "yellow", "red"

_OUTCOMES: Final = {
    Outcome.DELIVERED: _GOOD,
    Outcome.REJECTED: _BAD,
    Outcome.FAILED: _BAD,
    Outcome.DROPPED: _BAD,
    Outcome.UNCONFIRMED: _POOR,
}
_VERDICTS: Final = {
    Verdict.IDENTICAL: _GOOD,
    Verdict.EQUIVALENT: _FAIR,
    Verdict.EMBEDDED: _FAIR,
    Verdict.ALTERED: _BAD,
    Verdict.UNOBSERVED: _POOR,
}


class Screen:
    """
    Prints.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def header(self, *parts: str) -> None:
        """
        The first line.
        """
        self._print(Text(" · ").join([Text(parts[0], "bold"), *map(Text, parts[1:])]))
        self._console.print()

    def progress(self) -> Progress:
        """
        A bar that is gone when it's over; none where there's no terminal.
        """
        return Progress(
            TextColumn(" {task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def table(self, runs: Iterable[Run]) -> None:
        """
        A row a dispatch.
        """
        gap = 2 if self._console.width >= _ROOMY else 1
        table = Table(box=None, header_style="dim", padding=(0, gap, 0, 0), pad_edge=False)
        table.add_column("what happens")
        table.add_column("the caller saw", no_wrap=True)
        table.add_column("the wire saw")
        for name in ("outcome", "payload", "evidence"):
            table.add_column(name, no_wrap=True)
        for run in runs:
            caller = f"{seen_by_the_caller(run):<6} {duration(run.seconds):>7}"
            table.add_row(run.scenario.title, caller, seen_on_the_wire(run), *_ending(run))
        self._block(table)

    def waterfall(self, runs: Sequence[Run]) -> None:
        """
        Dispatches and their exchanges, each dispatch as long as the axis.
        """
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        for index, run in enumerate(runs):
            if index:
                grid.add_row()
            for row in _waterfall(run):
                grid.add_row(*row)
        self._block(grid)

    def show_book(self, book: LedgerSnapshot) -> None:
        """
        The ledger's book.
        """
        closes = Text("closes", f"bold {_GOOD}") if book.closes else Text("DOES NOT CLOSE", f"bold {_BAD}")
        grid = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        grid.add_column(no_wrap=True)
        grid.add_column()
        grid.add_column(no_wrap=True)
        grid.add_row(Text("the book", "bold"), self._sum(book), closes)
        self._block(grid)

    def _sum(self, book: LedgerSnapshot) -> str:
        whole = str(book)
        return whole if self._console.width >= _ROOMY else whole.replace(" + dropped", "\n+ dropped")

    def points(self, title: str, texts: Sequence[str], style: str = "") -> None:
        """
        A title and sentences.
        """
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for text in texts:
            grid.add_row(" ·", Text(text, style))
        self._console.print(Text(f" {title}", f"bold {style}"))
        self._block(grid)

    def lines(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """
        A title and lines that are never broken, so that what stands in them can be copied.
        """
        rows = list(rows)
        self._console.print(Text(f" {title}", "bold"))
        width = max(len(label) for label, _ in rows)
        for label, text in rows:
            self._console.print(Text(f"  {label:<{width}}  ").append(text), soft_wrap=True)

    def _block(self, grid: Table) -> None:
        self._print(Padding(grid, (0, 0, 0, 1)))
        self._console.print()

    def _print(self, renderable: RenderableType) -> None:
        # Line by line, so that no blanks stand at their ends.
        for segments in self._console.render_lines(renderable, pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            self._console.print(line, soft_wrap=True)


def _waterfall(run: Run) -> Iterator[tuple[str, Text, Stretch, str]]:
    dispatch = run.dispatch
    if dispatch is None or dispatch.outcome is None:
        return
    whole = max(dispatch.duration, 1e-9)
    style = _OUTCOMES[dispatch.outcome]
    yield f"dispatch {run.scenario.name}", Text(dispatch.outcome.name, style), Stretch(0.0, 1.0, style), duration(whole)
    for index, exchange in enumerate(run.exchanges, 1):
        branch = "└─" if index == len(run.exchanges) else "├─"
        begin = (exchange.started_ns - dispatch.started_ns) / 1e9
        stretch = Stretch(begin / whole, (begin + exchange.duration) / whole, _style(exchange))
        request = f"{branch} {exchange.method} {exchange.host}:{exchange.port}"
        yield request, Text(came_back(exchange), _style(exchange)), stretch, duration(exchange.duration)


def _ending(run: Run) -> tuple[Text, Text, Text]:
    ending = run.ending
    if ending is None:
        return Text("PENDING", _BAD), Text(""), Text("")
    return (
        Text(ending.outcome.name, _OUTCOMES[ending.outcome]),
        Text(ending.verdict.name, _VERDICTS[ending.verdict]),
        Text(ending.evidence.value),
    )


def _style(exchange: Exchange) -> str:
    if exchange.succeeded:
        return _GOOD
    return _POOR if exchange.redirected else _BAD


class Stretch:
    """
    A bar from somewhere to somewhere on an axis as wide as there's room, at least a character long.

    Args:
        begin: Where it begins, of 1.
        end: Where it ends, of 1.
        style: Its colour.
    """

    def __init__(self, begin: float, end: float, style: str) -> None:
        self._begin = begin
        self._end = end
        self._style = style

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """
        What room it can use.
        """
        return Measurement(4, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """
        The bar.
        """
        width = options.max_width
        first = min(max(int(self._begin * width), 0), width - 1)
        last = min(max(round(self._end * width), first + 1), width)
        yield Text(" " * first + "━" * (last - first), self._style)
