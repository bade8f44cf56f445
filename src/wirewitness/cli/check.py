"""
``wirewitness check``: whether a dispatcher keeps the contract, scenario by scenario.
"""

from __future__ import annotations

import json
import sys
import textwrap

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from wirewitness.errors import shown


if TYPE_CHECKING:
    from rich.console import Console

    from wirewitness.conformance.observation import Scenario
    from wirewitness.conformance.runner import Aim, CheckFinding


SHAPES: Final = ("auto", "event", "three")

_STYLES: Final = {"pass": "green", "fail": "bold red", "warn": "yellow", "n/a": "dim"}


class Unusable(click.ClickException):
    """
    What was asked can't be done: the target, a scenario or a file isn't there.
    """

    exit_code = 2


def _arguments(_: click.Context, __: click.Parameter, value: str | None) -> dict[str, Any]:
    try:
        read = json.loads(value or "{}")
    except ValueError as error:
        msg = f"no JSON: {error}"
        raise click.BadParameter(msg) from error
    if not isinstance(read, dict):
        msg = f"{shown(read)} is no JSON object"
        raise click.BadParameter(msg)
    return read


@click.command()
@click.argument("target", required=False, metavar="MODULE:ATTRIBUTE")
@click.option("--shape", type=click.Choice(SHAPES), default="auto", show_default=True, help="What it's called with.")
@click.option("--kwargs", callback=_arguments, metavar="JSON", help="What a class or a factory is called with.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="A scenario, a group, or a pattern; more than once for more."
)
@click.option("--jobs", type=click.IntRange(1, 32), default=2, show_default=True, help="Scenarios at once.")
@click.option("--timeout", type=click.FloatRange(1, 600), default=30.0, show_default=True, help="Seconds a scenario.")
@click.option(
    "--settle", type=click.FloatRange(0, 300), default=2.0, show_default=True, help="Seconds for what comes late."
)
@click.option("--spawn", is_flag=True, help="Start each scenario's process anew, in place of forking it.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output in place of the table.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="JUnit's XML, too.")
@click.option("--list", "listed", is_flag=True, help="List the scenarios, and play none.")
@click.option("--explain", metavar="SCENARIO", help="Say what a scenario is about, and play none.")
def check(  # noqa: PLR0913 -- one for every option
    target: str | None,
    *,
    shape: str,
    kwargs: dict[str, Any],
    only: tuple[str, ...],
    jobs: int,
    timeout: float,
    settle: float,
    spawn: bool,
    as_json: bool,
    junit: Path | None,
    listed: bool,
    explain: str | None,
) -> None:
    """
    Play every scenario against a dispatcher, on loopback, and judge what the wire saw.

    MODULE:ATTRIBUTE is a class, an instance, a factory or a function. The exit code is 1 if a scenario failed, 2 if the
    target can't be had, and 3 if the witness and the sink disagree, which is a fault of wirewitness.
    """
    from wirewitness.conformance.runner import Aim  # noqa: PLC0415 -- needs another extra than the other commands

    scenarios = _chosen((explain,) if explain else only)
    if explain or listed:
        _tell(scenarios, at_length=bool(explain))
        return
    if target is None:
        msg = "no target: name one, such as optimizely.event_dispatcher:EventDispatcher"
        raise click.UsageError(msg)
    sys.exit(_check(Aim(target, shape, kwargs, timeout, settle, spawn), scenarios, jobs, as_json=as_json, junit=junit))


def _chosen(only: tuple[str, ...]) -> list[Scenario]:
    from wirewitness.conformance.suite import choose, near  # noqa: PLC0415

    try:
        return choose(only)
    except KeyError as error:
        meant = f"did you mean {' or '.join(found)}" if (found := near(error.args[0])) else "--list names them all"
        msg = f"no scenario and no group is named {error.args[0]!r}: {meant}"
        raise Unusable(msg) from error


def _tell(scenarios: Sequence[Scenario], *, at_length: bool) -> None:
    for scenario in scenarios:
        click.echo(f"{scenario.name}  {scenario.summary}" if at_length else f"{scenario.name:<28}{scenario.summary}")
        if at_length:
            click.echo(textwrap.fill(scenario.explanation, 100, initial_indent="  ", subsequent_indent="  "))


def _check(aim: Aim, scenarios: Sequence[Scenario], jobs: int, *, as_json: bool, junit: Path | None) -> int:
    from wirewitness.conformance import result  # noqa: PLC0415
    from wirewitness.conformance.load import BadTarget  # noqa: PLC0415
    from wirewitness.conformance.runner import worst  # noqa: PLC0415

    try:
        findings = _played(aim, scenarios, jobs)
    except BadTarget as error:
        raise Unusable(str(error)) from error
    if junit is not None:
        _write(junit, result.as_junit(aim.target, findings))
    if as_json:
        click.echo(json.dumps(result.as_json(aim.target, findings), indent=2))
    else:
        _show(aim.target, findings)
    return worst(findings)


def _played(aim: Aim, scenarios: Sequence[Scenario], jobs: int) -> list[CheckFinding]:
    from rich.progress import Progress  # noqa: PLC0415

    from wirewitness.conformance.runner import check as play  # noqa: PLC0415

    # On standard error, and only where somebody watches: standard output is for the result.
    with Progress(console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("scenarios", total=len(scenarios))
        return play(aim, scenarios, jobs, lambda _: progress.advance(bar))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"can't write {path}: {error.strerror}"
        raise Unusable(msg) from error


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def _show(target: str, findings: Sequence[CheckFinding]) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from wirewitness.conformance.result import at_the_caller, on_the_wire  # noqa: PLC0415

    console = _console()
    table = Table(box=None, title=f"wirewitness check {target}", title_justify="left", title_style="bold")
    table.add_column("scenario", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for heading in ("the wire saw", "the caller saw", "why"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = finding.result.mark.value
        verdict = Text(mark, _STYLES[mark])
        row = (on_the_wire(finding), at_the_caller(finding), finding.result.reason)
        table.add_row(finding.scenario.name, verdict, *map(Text, row))
    console.print(table)
    _sum_up(console, findings)


def _sum_up(console: Console, findings: Sequence[CheckFinding]) -> None:
    from wirewitness.conformance.result import summary  # noqa: PLC0415

    counts = ", ".join(f"{number} {mark}" for mark, number in summary(findings).items())
    console.print(f"\n{len(findings)} scenario{'' if len(findings) == 1 else 's'}: {counts}")
    failing = next((finding for finding in findings if finding.result.mark.value == "fail"), None)
    if failing is not None:
        console.print(f"Why it matters: wirewitness check --explain {failing.scenario.name}")
    for finding in findings:
        if finding.agreement.agrees is False:
            console.print(f"{finding.scenario.name}: the witness and the sink disagree: {finding.agreement.why}")
