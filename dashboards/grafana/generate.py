"""
Makes Grafana's JSON of the tables in ``pages.py``: ``python dashboards/grafana/generate.py``.

It needs Python 3.11 or newer and ``grafana-foundation-sdk==0.0.21``: the group ``dashboards`` of pyproject.toml.
"""

# ruff: noqa: FBT003 -- the SDK's builders take their values so

from __future__ import annotations

import argparse
import json
import sys
import warnings

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pages import COLOURS, PAGES, Page, Panel, Query


with warnings.catch_warnings():
    # It prefers dashboards of the second version, which only the newest Grafana imports.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        bargauge,
        common,
        dashboard,
        heatmap,
        prometheus,
        stat,
        statetimeline,
        timeseries,
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common as commons
    from grafana_foundation_sdk.models import dashboard as models
    from grafana_foundation_sdk.models import heatmap as heatmaps
    from grafana_foundation_sdk.models import prometheus as queries


HERE: Final = Path(__file__).resolve().parent
JAEGER: Final = "http://localhost:16686"
RUNBOOKS: Final = "dashboards/runbooks"
SOURCE: Final = commons.DataSourceRef(type_val="prometheus", uid="${datasource}")
STATES: Final = {"0": ("closed", "#009E73"), "1": ("half-open", "#E69F00"), "2": ("open", "#D55E00")}
ALL: Final = models.VariableOption(selected=True, text=["All"], value=["$__all"])

# Jaeger names a service by service.name. Metrics by OTLP have it as their job, behind a namespace if there's one; scraped ones
# have it in target_info.
SERVICES: Final = (
    'query_result(group by (service_name) (label_replace(target_info{job=~"$job", service_name=""}, '
    '"service_name", "$1", "job", "(?:.*/)?(.+)") or target_info{job=~"$job", service_name!=""}))'
)


def traces(tags: Mapping[str, str]) -> str:
    """
    A link to Jaeger's search, for the dashboard's service and time range.

    Args:
        tags: What the spans must have. A value may be one of Grafana's variables.
    """
    where = (
        "${jaeger}/search?service=${service:percentencode}&lookback=custom&start=${__from}000&end=${__to}000&limit=50"
    )
    pairs = "%2C".join(f"%22{quote(tag)}%22%3A%22{quote(value, safe='${}')}%22" for tag, value in tags.items())
    return f"{where}&tags=%7B{pairs}%7D" if pairs else where


def _link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).target_blank(True)


def _links(panel: Panel) -> list[Any]:
    runbooks = [_link(f"Runbook: {name}", f"${{runbooks}}/{name}.md") for name in panel.runbooks]
    searches = {f"Traces in Jaeger: {end}": {**panel.tags, "wirewitness.outcome": end} for end in panel.ends}
    found = searches or {"Traces in Jaeger": panel.tags}
    return [*(_link(title, traces(tags)) for title, tags in found.items()), *runbooks]


def _data_links(panel: Panel) -> list[Any]:
    drill = {tag: f"${{__field.labels.{label}}}" for tag, label in panel.drill.items()}
    return [_link("Its traces in Jaeger", traces({**panel.tags, **drill}))]


def _timeseries(_: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(10)
        .show_points(commons.VisibilityMode.AUTO)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.MULTI).sort(commons.SortOrder.DESCENDING))
    )


def _stacked(panel: Panel) -> timeseries.Panel:
    stacking = common.StackingConfig().mode(commons.StackingMode.NORMAL).group("A")
    return _timeseries(panel).stacking(stacking).fill_opacity(70).line_width(1)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(commons.LegendDisplayMode.LIST)
        .placement(commons.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _stat(_: Panel) -> stat.Panel:
    return stat.Panel().graph_mode(commons.BigValueGraphMode.NONE).reduce_options(_last())


def _bargauge(_: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .orientation(commons.VizOrientation.HORIZONTAL)
        .display_mode(commons.BarGaugeDisplayMode.BASIC)
        .reduce_options(_last())
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _heatmap(panel: Panel) -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    return (
        heatmap.Panel()
        .calculate(False)
        .color(colours)
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_gap(1)
        .show_value(commons.VisibilityMode.NEVER)
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .tooltip(
            heatmap.HeatmapTooltip().mode(commons.TooltipDisplayMode.SINGLE).y_histogram(True).show_color_scale(True)
        )
        .show_legend()
        .exemplars_color("rgba(255,255,255,0.8)")
    )


def _states(_: Panel) -> statetimeline.Panel:
    results = {
        value: models.ValueMappingResult(text=text, color=colour, index=int(value))
        for value, (text, colour) in STATES.items()
    }
    return statetimeline.Panel().mappings([models.ValueMap(options=results)]).legend(_legend())


KINDS: Final[Mapping[str, Callable[[Panel], Any]]] = {
    "timeseries": _timeseries,
    "stacked": _stacked,
    "stat": _stat,
    "bargauge": _bargauge,
    "heatmap": _heatmap,
    "states": _states,
}


def _query(panel: Panel, number: int, query: Query) -> prometheus.Dataquery:
    # format is what says to a heatmap that buckets are cumulative.
    form = queries.PromQueryFormat.HEATMAP if panel.kind == "heatmap" else queries.PromQueryFormat.TIME_SERIES
    made = (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .ref_id("ABCDEF"[number])
        .expr(query.expr)
        .legend_format(query.legend)
        .format(form)
        .exemplar(panel.exemplars)
        .editor_mode(queries.QueryEditorMode.CODE)
    )
    return made.instant() if query.instant else made.range()


def _panel(panel: Panel, number: int) -> Any:
    made = (
        KINDS[panel.kind](panel)
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
        .links(_links(panel))
        .data_links(_data_links(panel))
        .targets([_query(panel, place, query) for place, query in enumerate(panel.queries)])
    )
    return _limits(_colours(made, panel), panel)


def _colours(made: Any, panel: Panel) -> Any:
    for query in panel.queries:
        for name, colour in COLOURS.get(query.legend, {}).items():
            pattern = name.startswith("/")
            override = made.override_by_regexp if pattern else made.override_by_name
            mode = models.FieldColorModeId.SHADES if pattern else models.FieldColorModeId.FIXED
            override(name, [models.DynamicConfigValue("color", {"mode": mode.value, "fixedColor": colour})])
    return made


def _limits(made: Any, panel: Panel) -> Any:
    if panel.least is not None and panel.kind != "heatmap":
        made.min(panel.least)
    if panel.most is not None:
        made.max(panel.most)
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    if panel.steps:
        steps = [models.Threshold(value, colour) for value, colour in panel.steps]
        made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.steps and panel.kind == "timeseries":
        style = common.GraphThresholdsStyleConfig().mode(commons.GraphThresholdsStyleMode.DASHED)
        made.thresholds_style(style)
    return made


def _chosen(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _filter(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return _chosen(name, label, query).multi(True).include_all(True).all_value(".*").current(ALL)


def _base(name: str, label: str, where: str, description: str) -> dashboard.TextBoxVariable:
    option = models.VariableOption(selected=True, text=where, value=where)
    return (
        dashboard.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(where)
        .current(option)
        .options([option])
    )


def _variables(page: Page, jaeger: str, runbooks: str) -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    # Every application with a dispatcher has this metric.
    jobs = _filter("job", "Job", "label_values(wirewitness_ledger_accepted_total, job)")
    filters = [
        _filter(name, label, f'label_values({metric}{{job=~"$job"}}, {values})')
        for name, label, metric, values in page.filters
    ]
    service = _chosen("service", "Service in Jaeger", SERVICES).regex('/service_name="([^"]+)"/')
    return [
        source,
        jobs,
        *filters,
        service.description("Whose traces the links find: the application's service.name."),
        _base("jaeger", "Jaeger", jaeger, "Where Jaeger's page is, as your browser reaches it."),
        _base("runbooks", "Runbooks", runbooks, "Where the folder dashboards/runbooks of wirewitness is readable."),
    ]


def _dashboard(page: Page, jaeger: str, runbooks: str) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags(["wirewitness"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables(_variables(page, jaeger, runbooks))
        .link(dashboard.DashboardLink("wirewitness").type(models.DashboardLinkType.DASHBOARDS).tags(["wirewitness"]))
    )
    number = 0
    for title, panels in page.rows.items():
        number += 1
        made.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(_panel(panel, number))
    return made


def generated(jaeger: str = JAEGER, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """
    Every dashboard's JSON, by its file's name.

    Args:
        jaeger: Where Jaeger's page is.
        runbooks: Where the runbooks are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return {
            name: json.dumps(_dashboard(page, jaeger, runbooks).build(), cls=JSONEncoder, indent=2, sort_keys=True)
            + "\n"
            for name, page in PAGES.items()
        }


def main(arguments: list[str] | None = None) -> int:
    """
    Write the dashboards.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description="Generate Grafana's dashboards.")
    parser.add_argument("--jaeger", default=JAEGER, metavar="URL", help="where Jaeger's page is; %(default)s")
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="where the runbooks are; %(default)s")
    parser.add_argument(
        "--output", type=Path, default=HERE, metavar="FOLDER", help="where to write; beside this script"
    )
    options = parser.parse_args(arguments)
    for name, text in generated(options.jaeger, options.runbooks).items():
        (options.output / name).write_text(text)
        print(options.output / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
