"""
Plays scenarios, each in a process of its own, so that no dispatcher can hurt more than its own scenario.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from wirewitness.conformance.agreement import Agreement, agreement
from wirewitness.conformance.endpoints import Endpoint, endpoint
from wirewitness.conformance.forkserver import POSSIBLE, Lost, server
from wirewitness.conformance.load import BadTarget
from wirewitness.conformance.observation import (
    EMPTY,
    Observation,
    Report,
    Result,
    Scenario,
    failed,
    not_applicable,
    usual,
)
from wirewitness.conformance.payloads import bytes_of
from wirewitness.conformance.suite import PLAIN


_LATE: Final = 0.5
_ENDED_BY_SIGTERM: Final = frozenset({"shutdown/sigterm"})
_LOADING: Final = 60.0
# A dispatcher can take the server with it, and what was asked of that meanwhile is asked of the next.
_SERVERS: Final = 5
_WORKER: Final = (sys.executable, "-m", "wirewitness.conformance.worker")


@dataclass(frozen=True)
class Aim:
    """
    The dispatcher to be tried, and how.

    Attributes:
        target: ``module:attribute``.
        shape: What it's called with: ``auto``, ``event`` or ``three``.
        kwargs: What a class or factory is called with.
        timeout: Seconds for a scenario.
        settle: Seconds for which late deliveries are waited for, where the dispatcher can't be asked to flush.
        spawn: Whether each process is started anew, in place of forked from one that has wirewitness loaded. Without a safe
            fork() it always is.
    """

    target: str
    shape: str = "auto"
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout: float = 30.0
    settle: float = 2.0
    spawn: bool = False


@dataclass(frozen=True)
class CheckFinding:
    """
    A scenario that was played.

    Attributes:
        scenario: The scenario.
        result: Its judgement.
        seen: What it was judged by.
        agreement: Whether the witness and the sink agree.
        seconds: How long it took.
    """

    scenario: Scenario
    result: Result
    seen: Observation
    agreement: Agreement
    seconds: float = 0.0


def check(
    aim: Aim, scenarios: Sequence[Scenario], jobs: int = 2, played: Callable[[CheckFinding], None] = lambda _: None
) -> list[CheckFinding]:
    """
    Play scenarios, and judge them.

    Args:
        aim: The dispatcher.
        scenarios: What to play.
        jobs: How many at once.
        played: Called with each finding, in the order of the scenarios.

    Raises:
        BadTarget: If the dispatcher can't be had at all.
    """
    probe(aim)
    findings = []
    with ThreadPoolExecutor(jobs) as pool:
        success = usual(*(finding.seen.report for finding in pool.map(partial(play, aim, PLAIN), (EMPTY, EMPTY))))
        for finding in pool.map(lambda scenario: play(aim, scenario, success), scenarios):
            played(finding)
            findings.append(finding)
    return findings


def probe(aim: Aim) -> None:
    """
    See whether the dispatcher can be had.

    Raises:
        BadTarget: If not.
    """
    # Importing may take longer than a scenario is given.
    report, died = _run(replace(aim, timeout=max(aim.timeout, _LOADING)), "", Endpoint())
    if report.problem or died:
        raise BadTarget(report.problem or f"{aim.target} can't be loaded: {died}")


def play(aim: Aim, scenario: Scenario, success: Report) -> CheckFinding:
    """
    Play one scenario.

    Args:
        aim: The dispatcher.
        scenario: What to play.
        success: The report of a success; an empty one if this is it.
    """
    began = time.monotonic()
    with endpoint(scenario.endpoint) as there:
        if there.missing:
            return CheckFinding(scenario, not_applicable(there.missing), Observation(()), Agreement(None))
        report, died = _run(aim, scenario.name, there)
        if there.sink is not None and died is None:
            there.sink.wait_for(scenario.expects, _LATE)
        requests = tuple(there.sink.requests) if there.sink is not None else ()
    seen = Observation(_wanted(scenario), requests, report, died, report if success is EMPTY else success)
    return CheckFinding(scenario, _judged(scenario, seen), seen, agreement(seen), time.monotonic() - began)


def _judged(scenario: Scenario, seen: Observation) -> Result:
    if seen.died is not None:
        return failed(seen.died)
    if seen.report.problem:
        return failed(seen.report.problem)
    return not_applicable(seen.report.skipped) if seen.report.skipped else scenario.judge(scenario, seen)


def _wanted(scenario: Scenario) -> tuple[bytes, ...]:
    with contextlib.suppress(TypeError):
        return tuple(bytes_of(params) for params in scenario.payloads())
    return ()


def _run(aim: Aim, name: str, there: Endpoint) -> tuple[Report, str | None]:
    with tempfile.TemporaryDirectory(prefix="wirewitness-") as folder:
        path = Path(folder, "report.json")
        orders = {
            "target": aim.target,
            "shape": aim.shape,
            "kwargs": dict(aim.kwargs),
            "scenario": name,
            "origin": there.origin,
            "report": str(path),
            "settle": aim.settle,
        }
        code = _process(aim, orders, there, Path(folder, "output"))
        report = _read(path)
    if report is None and name in _ENDED_BY_SIGTERM and code == -signal.SIGTERM:
        # It has drained and died of the signal, as a good program does: what it did, the sink knows.
        return Report(skipped=None), None
    return report or EMPTY, _death(code, aim.timeout, reported=report is not None)


def _read(path: Path) -> Report | None:
    # A dispatcher may have patched whatever the report is written with.
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        return Report.of(json.loads(path.read_text()))
    return None


def _process(aim: Aim, orders: Mapping[str, Any], there: Endpoint, output: Path) -> int | None:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**kept, **there.environment}
    for _ in range(_SERVERS if POSSIBLE and not aim.spawn else 0):
        with contextlib.suppress(Lost), server(kept) as found:
            return found.run(orders, environment, output, aim.timeout)
    with (
        output.open("wb") as sunk,
        subprocess.Popen(  # noqa: S603 -- this interpreter, and a module of this package
            _WORKER, stdin=subprocess.PIPE, stdout=sunk, stderr=sunk, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            process.communicate(json.dumps(orders).encode("utf-8"), aim.timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill(process)
        return process.returncode


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Its children, too: what it has forked holds its sockets.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _death(code: int | None, timeout: float, *, reported: bool) -> str | None:
    if code is None:
        return f"hangs: not over after {timeout:g} s"
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return (
        None
        if reported and code == 0
        else f"the process exited with code {code}" + ("" if reported else ", without a word")
    )


def worst(findings: Iterable[CheckFinding]) -> int:
    """
    The exit code: 0, 1 where a scenario failed, 3 where witness and sink disagree.
    """
    known = list(findings)
    if any(finding.agreement.agrees is False for finding in known):
        return 3
    return int(any(finding.result.mark == "fail" for finding in known))
