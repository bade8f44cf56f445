"""
Reads the dashboards' JSON: what each panel asks Prometheus, with Grafana's variables filled in.
"""

from __future__ import annotations

import json
import re

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple


HERE: Final = Path(__file__).resolve().parent

EVERYTHING: Final[Mapping[str, str]] = {"job": ".*", "dispatcher": ".*", "outbox": ".*", "flag": ".*"}
"""What Grafana puts in the place of the variables when All is chosen."""


class Target(NamedTuple):
    """
    One query of a panel.

    Attributes:
        dashboard: The file's name.
        panel: The panel, as Grafana has it in JSON.
        target: The query, likewise.
        expr: Its PromQL, with the variables filled in.
    """

    dashboard: str
    panel: Mapping[str, Any]
    target: Mapping[str, Any]
    expr: str


def dashboard(name: str) -> dict[str, Any]:
    """
    A dashboard's JSON.

    Args:
        name: The file's name, such as ``overview.json``.
    """
    read: dict[str, Any] = json.loads((HERE / name).read_text())
    return read


def dashboards() -> dict[str, dict[str, Any]]:
    """
    Every dashboard's JSON, by the file's name.
    """
    return {path.name: dashboard(path.name) for path in sorted(HERE.glob("*.json"))}


def panels(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    A dashboard's panels, without its rows.
    """
    inside = [panel for row in page["panels"] for panel in row.get("panels", ())]
    return [panel for panel in [*page["panels"], *inside] if panel["type"] != "row"]


def filled(text: str, **variables: str) -> str:
    """
    A text with Grafana's variables replaced: ``$name``, and ``${name}`` with or without a format.

    Args:
        text: A query, or a link.
        **variables: Their values.
    """
    for name, value in variables.items():
        text = re.sub(rf"\$\{{{re.escape(name)}(:\w+)?\}}|\${name}\b", lambda _, value=value: value, text)
    return text


def targets(interval: str = "1m", within: str = "1h", **variables: str) -> Iterator[Target]:
    """
    Every query of every panel.

    Args:
        interval: ``$__rate_interval``.
        within: ``$__range``.
        **variables: ``job``, ``dispatcher``, ``outbox`` and ``flag``, regular expressions; by default all.
    """
    chosen = {**EVERYTHING, **variables, "__rate_interval": interval, "__range": within}
    for name, page in dashboards().items():
        for panel in panels(page):
            for target in panel["targets"]:
                yield Target(name, panel, target, filled(target["expr"], **chosen))


def expressions(interval: str = "1m", within: str = "1h", **variables: str) -> list[tuple[str, str, str]]:
    """
    Every query as dashboard, panel's title and PromQL. Arguments are those of :func:`targets`.
    """
    return [(one.dashboard, one.panel["title"], one.expr) for one in targets(interval, within, **variables)]


def counted(expr: str) -> str:
    """
    A query for what its counters say by now, in place of how fast they grow: ``rate(x[1m])`` is ``x``.
    """
    return re.sub(r"\b(?:rate|increase)\(([^()]*)\[\w+\]\)", r"\1", expr)
