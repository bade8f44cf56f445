"""
The process that holds a dispatcher through one scenario: ``python -m wirewitness.conformance.worker``.

It reads its orders as JSON from standard input and leaves its report as JSON in a file, at its very end. With ``--serve`` it
forks such processes, see :mod:`wirewitness.conformance.forkserver`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys

from collections.abc import Mapping
from json import dumps  # by name: a dispatcher may patch the module
from json import load as read
from pathlib import Path
from typing import Any, Final

from wirewitness.conformance.drivers import ENDINGS, DriverStage, perform
from wirewitness.conformance.forkserver import SERVE, serve
from wirewitness.conformance.load import BadTarget, Target, load
from wirewitness.conformance.observation import Scenario
from wirewitness.conformance.suite import find
from wirewitness.dispatch import Dispatch
from wirewitness.testing import Captured, capture


_OWN: Final = "wirewitness"


class _Loud(logging.Handler):
    """
    Counts the records of others at WARNING and above.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """
        Count one.
        """
        self.count += not record.name.startswith(_OWN)


class _Desk:
    """
    Gathers the report, and writes it when everything else is over.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.said: dict[str, Any] = {}
        self.loud = _Loud()
        self.dispatches: list[Dispatch] = []
        self.stage: DriverStage | None = None
        self.window: contextlib.AbstractContextManager[Captured] | None = None
        # The first to be registered is the last to be called.
        atexit.register(self.write)

    def write(self) -> None:
        """
        Leave the report.
        """
        stage = self.stage
        if stage is not None:
            self.said |= stage.said | {"counted": stage.counted()}
        self.said["logged"] = self.loud.count
        self.said["dispatches"] = [seen(dispatch) for dispatch in self.dispatches]
        child = self.said.pop("child", {})
        self.said["dispatches"] += child.get("dispatches", [])
        if child.get("counted") is not None:
            self.said["counted"] += child["counted"]
        partial = self._path.with_suffix(".partial")
        partial.write_text(dumps(self.said))
        partial.rename(self._path)


def seen(dispatch: Dispatch) -> dict[str, Any]:
    """
    What the witness says of a dispatch.
    """
    return {
        "outcome": dispatch.outcome.value if dispatch.outcome else None,
        "verdict": dispatch.verdict.value,
        "reason": dispatch.reason.value,
        "nested": dispatch.parent is not None,
        "payload": dispatch.payload.digest.hex() if dispatch.payload is not None else None,
        "in_query": dispatch.payload is not None and dispatch.payload.in_query,
        "exchanges": [
            {
                "started_ns": exchange.started_ns,
                "method": exchange.method,
                "path": exchange.path,
                "status": exchange.status,
                "digest": exchange.digest.hex() if exchange.digest is not None else None,
                "complete": exchange.complete,
                "failure": exchange.failure.value if exchange.failure else None,
            }
            for exchange in dispatch.exchanges
        ],
    }


def main() -> None:
    """
    Play one scenario; without one, only see whether the target can be had.
    """
    orders = serve(int(sys.argv[2])) if sys.argv[1:2] == [SERVE] else read(sys.stdin)
    if orders is None:
        return
    desk = _Desk(orders["report"])
    logging.getLogger().addHandler(desk.loud)
    try:
        target = load(orders["target"], orders["shape"], orders["kwargs"])
    except BadTarget as bad:
        desk.said["problem"] = str(bad)
        return
    if orders["scenario"]:
        _play(desk, target, find(orders["scenario"]), orders)


def _play(desk: _Desk, target: Target, scenario: Scenario, orders: Mapping[str, Any]) -> None:
    desk.window = capture(timeout=0.2)
    desk.dispatches = captured = desk.window.__enter__()
    desk.stage = DriverStage(target, scenario, orders["origin"], captured, seen)
    desk.stage.patience = orders["settle"]
    perform(desk.stage)
    # At the end of the interpreter, what is delivered then is still to be seen.
    if scenario.act not in ENDINGS:
        desk.window.__exit__(None, None, None)


if __name__ == "__main__":
    main()
