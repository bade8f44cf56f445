"""
``python -m conformance.targets``: play the scenarios against the targets, and write the results down.

Each target's result is kept as JSON, in the form of ``wirewitness check --json``, so that a target can be played again
alone. The page is made from all that are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import platform
import sys

from pathlib import Path
from typing import Any, Final

from conformance.targets import TARGETS, Entry
from conformance.targets.envelope import LARGE, SILENT
from conformance.targets.page import page

from wirewitness.conformance import Received
from wirewitness.conformance.observation import not_applicable
from wirewitness.conformance.result import as_json
from wirewitness.conformance.runner import Aim, CheckFinding, check
from wirewitness.conformance.suite import choose


_ROOT: Final = Path(__file__).parents[2]
_NO_PLACE: Final = not_applicable("the SDK decides about the method, the header fields and the content's type")


_PASSED_BY: Final = not_applicable("decided in a part of the SDK that the adapter goes round")
_TOO_LARGE: Final = not_applicable("the SDK takes no event of 1 MB, which payload/1_mb is about")
_OF_BYTES: Final = frozenset({"payload", "headers"})


def versions(entry: Entry) -> dict[str, str]:
    """
    The versions of what is tried.

    Raises:
        importlib.metadata.PackageNotFoundError: If something isn't installed.
    """
    return {
        name: platform.python_version() if name == "python" else importlib.metadata.version(name)
        for name in entry.packages
    }


def judged_anew(finding: CheckFinding, entry: Entry) -> CheckFinding:
    """
    The finding, judged by the payloads inside the envelopes; and by their values, where bytes are not what it is about.
    """
    if entry.embeds and finding.scenario.name in SILENT:
        return dataclasses.replace(finding, result=_NO_PLACE)
    if entry.embeds and finding.scenario.name in getattr(importlib.import_module(entry.module), "passed_by", ()):
        return dataclasses.replace(finding, result=_PASSED_BY)
    report = finding.seen.report
    played_out = report.calls or finding.seen.requests
    if finding.seen.died is not None or report.problem or report.skipped or not played_out:
        return finding
    requests = finding.seen.requests
    if entry.embeds and finding.scenario.name in LARGE and not requests:
        return dataclasses.replace(finding, result=_TOO_LARGE)
    if entry.embeds:
        cut_out = importlib.import_module(entry.module).carried
        requests = tuple(payload for request in requests for payload in cut_out(request))
    if finding.scenario.group not in _OF_BYTES:
        requests = tuple(map(_as_dumps, requests))
    seen = dataclasses.replace(finding.seen, requests=requests)
    return dataclasses.replace(finding, result=finding.scenario.judge(finding.scenario, seen))


def _as_dumps(request: Received) -> Received:
    try:
        body = json.dumps(json.loads(request.body)).encode("utf-8")
    except (ValueError, RecursionError):
        return request
    return dataclasses.replace(request, body=body)


def played(name: str, only: tuple[str, ...], jobs: int, timeout: float) -> dict[str, Any]:
    """
    Play the scenarios against a target.

    Returns:
        What is to be kept of it.
    """
    entry = TARGETS[name]
    known = versions(entry)
    findings = check(Aim(entry.spec, timeout=timeout), choose(only), jobs, lambda finding: _say(name, finding))
    judged = [judged_anew(finding, entry) if entry.embeds or entry.encodes else finding for finding in findings]
    seen = as_json(entry.spec, findings)["scenarios"]
    kept = as_json(entry.spec, judged)
    for one, before in zip(kept["scenarios"], seen, strict=True):
        # What arrived is told as it arrived.
        one["wire"] = before["wire"]
    return {"name": name, "embeds": entry.embeds, "encodes": entry.encodes, "versions": known, **kept}


def _say(name: str, finding: CheckFinding) -> None:
    print(f"{name:<20}{finding.scenario.name:<32}{finding.seconds:6.1f} s", file=sys.stderr, flush=True)


def main() -> None:
    """
    Play what is asked for, and make the page.
    """
    parser = argparse.ArgumentParser(prog="python -m conformance.targets", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"all by default: {', '.join(TARGETS)}")
    parser.add_argument("--only", action="append", default=[], help="a scenario or a group; more than once for more")
    parser.add_argument("--jobs", type=int, default=4, help="scenarios at once")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a scenario")
    parser.add_argument("--kept", type=Path, default=_ROOT / "build" / "conformance", help="where results are kept")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "conformance-results.md")
    parser.add_argument("--no-play", action="store_true", help="only make the page from what is kept")
    asked = parser.parse_args()
    asked.kept.mkdir(parents=True, exist_ok=True)
    (asked.kept / ".gitignore").write_text("*\n", encoding="utf-8")
    for name in () if asked.no_play else asked.names or TARGETS:
        _keep(name, asked)
    kept = [path for name in TARGETS if (path := asked.kept / f"{name}.json").exists()]
    asked.page.write_text(page([json.loads(path.read_text()) for path in kept]), encoding="utf-8")


def _keep(name: str, asked: argparse.Namespace) -> None:
    try:
        result = played(name, tuple(asked.only), asked.jobs, asked.timeout)
    except importlib.metadata.PackageNotFoundError as missing:
        print(f"{name}: {missing.name} is not installed, so nothing is said of it", file=sys.stderr)
        return
    (asked.kept / f"{name}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
