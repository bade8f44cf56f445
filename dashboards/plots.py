"""
Draws what a dashboard's panels show, and a trace, with matplotlib.
"""

from __future__ import annotations

import math
import re

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import matplotlib as mpl

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator


INK, FAINT, LINES, PAPER = "#1F2933", "#66707A", "#DDE2E6", "#FFFFFF"
OTHERS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#F0E442")
FAILED, FINE, WHOLE = "#D55E00", "#009E73", "#0072B2"

STYLE: Final[Mapping[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": LINES,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": PAPER,
    "hatch.linewidth": 0.8,
    "timezone": "UTC",
}


class Series(NamedTuple):
    """
    One series of a panel.

    Attributes:
        name: As the panel's legend names it.
        times: Seconds since 1970.
        values: One each time; NaN where there's none.
    """

    name: str
    times: Sequence[float]
    values: Sequence[float]


class Exemplar(NamedTuple):
    """
    One dispatch that a panel shows as a dot.

    Attributes:
        time: Seconds since 1970.
        value: What was measured.
    """

    time: float
    value: float


class Shown(NamedTuple):
    """
    What a panel shows.

    Attributes:
        series: Its series, in their order.
        exemplars: Its dots.
    """

    series: Sequence[Series]
    exemplars: Sequence[Exemplar] = ()


def amount(value: float, unit: str, decimals: int | None = None) -> str:
    """
    A value with its unit, as Grafana writes it.

    Args:
        value: The value.
        unit: Grafana's id of the unit.
        decimals: Digits behind the point; None for three digits in all.
    """
    if unit == "percentunit":
        return f"{value * 100:.4g}%"
    if unit in _SCALES:
        return _scaled(value, _SCALES[unit])
    large = abs(value) >= 1000  # noqa: PLR2004 -- more than three digits
    plain = f"{value:,.{decimals or 0}f}" if large or decimals is not None else f"{value:,.3g}"
    return f"{plain} {unit.removeprefix('suffix:')}" if unit.startswith("suffix:") else plain


_SCALES: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "bytes": ((1024.0, "KiB"), (1.0, "B")),
}


def _scaled(value: float, scale: tuple[tuple[float, str], ...]) -> str:
    if not value:
        return "0"
    size, name = next((step for step in scale if abs(value) >= step[0]), scale[-1])
    return f"{value / size:.3g} {name}"


def _when(times: Sequence[float]) -> list[datetime]:
    return [datetime.fromtimestamp(moment, UTC) for moment in times]


def _colours(panel: Mapping[str, Any], series: Sequence[Series]) -> list[str]:
    own = {
        override["matcher"]["options"]: prop["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "color"
    }
    chosen = [next((colour for name, colour in own.items() if _fits(name, one.name)), None) for one in series]
    # Those that share a colour are shades of it.
    return [
        _shade(colour, chosen[:place].count(colour)) if colour else OTHERS[place % len(OTHERS)]
        for place, colour in enumerate(chosen)
    ]


def _fits(name: str, series: str) -> bool:
    return re.search(name[1:-1], series) is not None if name.startswith("/") else name == series


def _shade(colour: str, earlier: int) -> str:
    return to_hex([part + (1 - part) * min(0.3 * earlier, 0.8) for part in to_rgb(colour)])


def _clock(axes: Axes) -> None:
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.margins(x=0)
    axes.tick_params(length=0)


def _legend(axes: Axes) -> None:
    names = axes.get_legend_handles_labels()[1]
    columns = 2 if any(len(name) > 17 for name in names) else 5  # noqa: PLR2004 -- characters
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.1),
        ncols=columns,
        handlelength=1.1,
        columnspacing=1.2,
        borderpad=0.2,
    )


def _timeseries(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    colours = _colours(panel, shown.series)
    if defaults["custom"].get("stacking", {}).get("mode") == "normal":
        rows = [[0.0 if math.isnan(value) else value for value in one.values] for one in shown.series]
        names = [one.name for one in shown.series]
        axes.stackplot(_when(shown.series[0].times), rows, labels=names, colors=colours, alpha=0.9, linewidth=0)
    else:
        for place, (one, colour) in enumerate(zip(shown.series, colours, strict=True)):
            # What a later line would hide shows on both sides of it.
            hidden = sum(_same(one, later) for later in shown.series[place + 1 :])
            axes.plot(_when(one.times), one.values, color=colour, label=one.name, linewidth=1.6 + 1.5 * hidden)
    _dots(axes, shown.exemplars)
    _thresholds(axes, defaults)
    _values(axes, defaults)
    _clock(axes)
    _legend(axes)


def _same(one: Series, other: Series) -> bool:
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=0.01)
        for a, b in zip(one.values, other.values, strict=True)
    )


def _dots(axes: Axes, exemplars: Sequence[Exemplar]) -> None:
    if exemplars:
        at = _when([one.time for one in exemplars])
        values = [one.value for one in exemplars]
        axes.scatter(
            at, values, marker="D", s=9, color="none", edgecolors=INK, linewidths=0.6, alpha=0.5, label="one trace"
        )


def _thresholds(axes: Axes, defaults: Mapping[str, Any]) -> None:
    top = axes.get_ylim()[1]
    for step in defaults.get("thresholds", {}).get("steps", ()):
        if step["value"] is not None and step["value"] <= top:
            axes.axhline(step["value"], color=step["color"], linewidth=0.9, linestyle=(0, (4, 3)))


def _values(axes: Axes, defaults: Mapping[str, Any]) -> None:
    nothing = max(abs(end) for end in axes.get_ylim()) < 0.1  # noqa: PLR2004 -- what matplotlib makes of noughts alone
    if nothing:
        axes.set_ylim(-1, 1)
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"] * 1.02)
    high = axes.get_ylim()[1]
    kibibytes = defaults["unit"] == "bytes" and high > 4096  # noqa: PLR2004 -- four of them
    axes.yaxis.set_major_locator(MultipleLocator(1024 * math.ceil(high / 5120)) if kibibytes else MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, _short(defaults["unit"]))))


def _short(unit: str) -> str:
    # On an axis the unit's name stands beside the title.
    return "suffix:x" if unit == "suffix:x" else "short" if unit.startswith("suffix:") else unit


def _stat(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    value = shown.series[0].values[-1]
    reached = [
        step["color"] for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]
    ]
    axes.axis("off")
    told = amount(value, _short(defaults["unit"]), defaults.get("decimals"))
    axes.text(0.5, 0.5, told, ha="center", va="center", fontsize=30, fontweight="bold", color=reached[-1])


def _bargauge(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    series = sorted(shown.series, key=lambda one: one.values[-1])
    values = [one.values[-1] for one in series]
    axes.barh([one.name for one in series], values, color=_colours(panel, series), height=0.62)
    defaults = panel["fieldConfig"]["defaults"]
    for place, value in enumerate(values):
        axes.annotate(
            amount(value, _short(defaults["unit"]), defaults.get("decimals")),
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(0, max(values) * 1.18 or 1)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0, colors=INK)


def _heatmap(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    series = sorted(shown.series, key=lambda one: float(one.name))
    own = _between([[0.0 if math.isnan(value) else value for value in one.values] for one in series])
    used = [place for place, row in enumerate(own) if max(row) > NOTHING]
    if not used:
        _no_data(axes)
        return
    rows = own[used[0] : used[-1] + 1]
    cells = [[value if value > NOTHING else math.nan for value in row] for row in rows]
    mesh = axes.pcolormesh(
        _when(series[0].times), range(len(rows)), cells, cmap="viridis", norm=LogNorm(vmin=0.5), shading="nearest"
    )
    bounds = [float(one.name) for one in series][used[0] : used[-1] + 1]
    axes.set_yticks(
        range(len(rows)),
        [_bound(bound, panel["fieldConfig"]["defaults"]["unit"]) for bound in bounds],
    )
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    _clock(axes)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.015, fraction=0.03, aspect=28)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7)
    bar.ax.set_title("count", fontsize=7, fontweight="normal", color=FAINT, loc="center")


NOTHING: Final = 1e-9


def _bound(value: float, unit: str) -> str:
    return "more" if math.isinf(value) else f"≤ {amount(value, unit)}"


def _between(cumulative: Sequence[Sequence[float]]) -> list[list[float]]:
    # Each bucket of a classic histogram counts all smaller ones, too.
    lower = [[0.0] * len(cumulative[0]), *cumulative[:-1]]
    return [
        [max(a - b, 0.0) for a, b in zip(row, below, strict=True)] for row, below in zip(cumulative, lower, strict=True)
    ]


def _states(axes: Axes, panel: Mapping[str, Any], shown: Shown) -> None:
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    states = {float(value): (one["text"], one["color"]) for value, one in mapping["options"].items()}
    for line, one in enumerate(shown.series):
        for begin, end, value in _stretches(one):
            first, last = _when([one.times[begin], one.times[end]])
            axes.barh(line, last - first, left=first, height=0.7, color=states[value][1])
    for text, colour in states.values():
        axes.bar(0, 0, color=colour, label=text)
    axes.set_yticks(range(len(shown.series)), [one.name for one in shown.series])
    axes.set_ylim(len(shown.series) - 0.5, -0.5)
    axes.set_xlim(*_when([shown.series[0].times[0], shown.series[0].times[-1]]))
    axes.grid(visible=False)
    _clock(axes)
    _legend(axes)


def _stretches(one: Series) -> Iterator[tuple[int, int, float]]:
    # Each value lasts until the next one's time.
    for place, value in enumerate(one.values[:-1]):
        if not math.isnan(value):
            yield place, place + 1, value


KINDS: Final[Mapping[str, Callable[[Axes, Mapping[str, Any], Shown], None]]] = {
    "timeseries": _timeseries,
    "state-timeline": _states,
    "stat": _stat,
    "bargauge": _bargauge,
    "heatmap": _heatmap,
}

WIDTH: Final = 17.0
"""Inches of a page."""

ROW: Final = 0.37
"""Inches of one of Grafana's rows."""

HEAD: Final = 1.15
"""Inches above the panels."""


def overview(page: Mapping[str, Any], shown: Mapping[int, Shown], note: str) -> Figure:
    """
    A dashboard, laid out as its grid says.

    Args:
        page: Its JSON.
        shown: What each panel shows, by the panel's id.
        note: Where all of this is from.
    """
    with mpl.rc_context(dict(STYLE)):
        deepest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page["panels"])
        height = HEAD + deepest * ROW
        figure = Figure(figsize=(WIDTH, height))
        figure.text(0.02, 1 - 0.42 / height, page["title"], fontsize=19, fontweight="bold", va="center")
        figure.text(0.02, 1 - 0.82 / height, note, fontsize=10, color=FAINT, va="center")
        for panel in page["panels"]:
            if panel["type"] == "row":
                _heading(figure, panel, height)
            else:
                _panel(figure, panel, shown[panel["id"]], height)
        return figure


def _has_data(shown: Shown) -> bool:
    return any(not math.isnan(value) for one in shown.series for value in one.values)


def _no_data(axes: Axes, *_: object) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color=FAINT, transform=axes.transAxes)


def _heading(figure: Figure, row: Mapping[str, Any], height: float) -> None:
    y = 1 - (HEAD + (row["gridPos"]["y"] + 0.45) * ROW) / height
    figure.text(0.02, y, row["title"], fontsize=13, fontweight="bold", color=WHOLE, va="center")


def _panel(figure: Figure, panel: Mapping[str, Any], shown: Shown, height: float) -> None:
    place = panel["gridPos"]
    kind = panel["type"]
    left, width = 0.02 + place["x"] / 24 * 0.97, place["w"] / 24 * 0.97
    # Inches kept free: for the axis's labels, the title, and the legend below.
    margin = {"bargauge": 2.35 if place["w"] == 8 else 1.05, "stat": 0.1, "heatmap": 0.75}.get(kind, 0.6) / WIDTH  # noqa: PLR2004
    above, below = 0.5, {"timeseries": 0.72, "state-timeline": 0.72, "heatmap": 0.38}.get(kind, 0.3)
    bottom = 1 - (HEAD + (place["y"] + place["h"]) * ROW - below) / height
    axes = figure.add_axes(
        (left + margin, bottom, width - margin - 0.35 / WIDTH, (place["h"] * ROW - above - below) / height)
    )
    (KINDS[kind] if _has_data(shown) else _no_data)(axes, panel, shown)
    unit = _unit(panel["fieldConfig"]["defaults"]["unit"])
    axes.set_title("")
    top = 1 - (HEAD + place["y"] * ROW + 0.22) / height
    title = figure.text(left, top, panel["title"], fontsize=10.5, fontweight="bold", va="center")
    if unit:
        axes.annotate(unit, (1, 0.5), (6, 0), xycoords=title, textcoords="offset points", va="center", color=FAINT)


def _unit(unit: str) -> str:
    named = {"s": "seconds", "bytes": "bytes", "percentunit": "percent", "suffix:x": "times", "none": ""}
    return named.get(unit, unit.removeprefix("suffix:"))


class Span(NamedTuple):
    """
    A span of a trace.

    Attributes:
        name: Its name.
        told: What its attributes tell, in few words.
        begin: Milliseconds since the trace's begin.
        length: Milliseconds.
        failed: Whether it has an error flag.
        depth: How many spans are above it.
    """

    name: str
    told: str
    begin: float
    length: float
    failed: bool
    depth: int


def waterfall(title: str, note: str, spans: Sequence[Span]) -> Figure:
    """
    A trace, a line a span.

    Args:
        title: What it is.
        note: Where it is from.
        spans: Its spans, in the order of the lines.
    """
    with mpl.rc_context({**STYLE, "font.size": 10, "axes.grid.axis": "x"}):
        height = 1.5 + 0.62 * len(spans)
        figure = Figure(figsize=(14, height))
        figure.text(0.02, 1 - 0.36 / height, title, fontsize=16, fontweight="bold", va="center")
        figure.text(0.02, 1 - 0.72 / height, note, fontsize=9.5, color=FAINT, va="center")
        axes = figure.add_axes((0.36, 0.42 / height, 0.6, 0.62 * len(spans) / height))
        total = max(span.begin + span.length for span in spans)
        for line, span in enumerate(spans):
            _bar(axes, line, span, total)
        axes.set_xlim(0, total)
        axes.set_ylim(len(spans) - 0.5, -0.5)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value / 1000, "s")))
        return figure


def _bar(axes: Axes, line: int, span: Span, total: float) -> None:
    colour = FAILED if span.failed else WHOLE if span.depth == 0 else FINE
    shape = {"hatch": "////", "edgecolor": "#FFFFFF"} if span.failed else {}
    axes.barh(line - 0.12, max(span.length, total * 0.004), left=span.begin, height=0.34, color=colour, **shape)
    took = f"FAILED  {amount(span.length / 1000, 's')}" if span.failed else amount(span.length / 1000, "s")
    ends = (span.begin + span.length) / total
    at, side = (span.begin + span.length, "left") if ends < 0.8 else (span.begin, "right")  # noqa: PLR2004
    if span.length > total * 0.9:
        axes.annotate(took, (total / 2, line - 0.12), va="center", ha="center", color=PAPER, fontweight="bold")
    else:
        offset = (6 if side == "left" else -6, 0)
        weight = "bold" if span.failed else "normal"
        axes.annotate(
            took,
            (at, line - 0.12),
            offset,
            textcoords="offset points",
            va="center",
            ha=side,
            color=colour,
            fontweight=weight,
        )
    frame = axes.get_yaxis_transform()
    indent = "    " * span.depth
    name = f"{indent}{'✗' if span.failed else '✓'} {span.name}"
    axes.text(-0.567, line - 0.16, name, transform=frame, va="center", fontweight="bold", color=colour)
    axes.text(-0.567, line + 0.18, f"{indent}    {span.told}", transform=frame, va="center", fontsize=8.5, color=FAINT)
