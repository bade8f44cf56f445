"""
What is done with a dispatcher in a scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import threading
import time

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from wirewitness.conformance.load import LoadEvent, Target
from wirewitness.conformance.observation import Said, Scenario, described
from wirewitness.dispatch import Dispatch
from wirewitness.testing import Captured


PATIENCE: Final = 2.0
"""Seconds for which late deliveries are waited for, where the dispatcher can't be asked to flush."""
_FLUSH: Final = 8.0
_LOST: Final = ("rejected", "failed", "dropped", "unconfirmed")


class DriverStage:
    """
    A dispatcher, a scenario, and what became of the one in the other.

    Args:
        target: The dispatcher.
        scenario: The scenario.
        origin: Where its path is.
        captured: The witness's settled dispatches.
        seen: What to say of each.
    """

    def __init__(
        self, target: Target, scenario: Scenario, origin: str, captured: Captured, seen: Callable[[Dispatch], Any]
    ) -> None:
        self.target = target
        self.scenario = scenario
        self.patience = PATIENCE
        self.captured = captured
        self.seen = seen
        self.events: list[LoadEvent] = [self._event(origin, params) for params in scenario.payloads()]
        self.said: dict[str, Any] = {"calls": [], "mutated": False, "told": {}, "digests": {}, "three": target.three}
        self._given: list[tuple[LoadEvent, str]] = []

    def _event(self, origin: str, params: Any) -> LoadEvent:
        scenario = self.scenario
        return LoadEvent(origin + scenario.path, params, scenario.verb, dict(scenario.headers))

    def call(self, event: LoadEvent, send: Callable[[LoadEvent], Any] | None = None) -> None:
        """
        Hand one event over, as a client would.
        """
        self._given.append((event, _snapshot(event)))
        raised, returned, began = None, Said("", ""), time.perf_counter()
        try:
            returned = described(_awaited((send or self.target.send)(event)))
        except Exception as error:  # noqa: BLE001 -- whatever comes out is what the caller sees
            raised = type(error).__name__
        seconds = time.perf_counter() - began
        self.said["calls"].append({**returned._asdict(), "raised": raised, "seconds": seconds})

    def settle(self, *, close: bool = True) -> None:
        """
        Wait for late deliveries, and hear what the dispatcher says of them.
        """
        raw, told = self.target.raw, self.said["told"]
        asked = [self._ask(raw, name) for name in (("flush", "close", "stop") if close else ("flush",))]
        if not any(asked):
            self.captured.wait_for(len(self.said["calls"]), self.patience)
        if self.target.witnessed:
            book = raw.ledger.book()
            ends = {
                ended.value: sum(n for (o, _), n in book.settled.items() if o is ended) for ended, _ in book.settled
            }
            lost = [f"{name} {ends[name]}" for name in _LOST if ends.get(name)]
            told["its ledger"] = ", ".join(lost) or "nothing lost"
        # Now, not behind the call: a thread of the dispatcher's may have done it.
        self.said["mutated"] = any(_snapshot(event) != before for event, before in self._given)

    def _ask(self, raw: Any, name: str) -> bool:
        method = getattr(raw, name, None)
        if isinstance(raw, type) or not callable(method):
            return False
        try:
            answer = described(_awaited(method(_FLUSH) if _takes_one(method) else method()))
            self.said["told"][f"{name}()"], self.said["digests"][f"{name}()"] = answer
        except Exception as error:  # noqa: BLE001 -- it tells by raising
            self.said["told"][f"{name}()"] = f"raised {type(error).__name__}"
        return True

    def counted(self) -> int | None:
        """
        The HTTP requests in the dispatcher's own book.
        """
        return int(self.target.raw.ledger.book().exchanges) if self.target.witnessed else None


def _snapshot(event: LoadEvent) -> str:
    try:
        return json.dumps([event.params, event.headers, event.url, event.http_verb])
    except (TypeError, ValueError):
        return repr((event.params, event.headers, event.url))


def _takes_one(method: Any) -> bool:
    try:
        inspect.signature(method).bind(_FLUSH)
    except (TypeError, ValueError):
        return False
    return True


_loop: list[asyncio.AbstractEventLoop] = []


def _awaited(value: Any) -> Any:
    if not inspect.isawaitable(value):
        return value
    if not _loop:
        _loop.append(asyncio.new_event_loop())
    return _loop[0].run_until_complete(value)


def _one(stage: DriverStage) -> None:
    for event in stage.events:
        stage.call(event)
    stage.settle()


def _pause(stage: DriverStage) -> None:
    first, *others = stage.events
    stage.call(first)
    stage.settle(close=False)
    time.sleep(0.1)
    for event in others:
        stage.call(event)
    stage.settle()


def _keyword(stage: DriverStage) -> None:
    for event in stage.events:
        stage.call(event, stage.target.keyword)
    stage.settle()


def _change_after(stage: DriverStage) -> None:
    (event,) = stage.events
    stage.call(event)
    event.params["account_id"] = "changed by the caller after the call"
    stage.settle()


def _threads(stage: DriverStage) -> None:
    start = threading.Barrier(len(stage.events))

    def run(event: LoadEvent) -> None:
        start.wait()
        stage.call(event)

    threads = [threading.Thread(target=run, args=(event,)) for event in stage.events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.settle()


def _fork(stage: DriverStage) -> None:
    if not hasattr(os, "fork"):
        stage.said["skipped"] = "there is no fork() here"
        return
    before, after = stage.events
    stage.call(before)
    stage.settle(close=False)
    known = len(stage.captured)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _child(stage, after, known, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        stage.said["child"] = json.loads(pipe.read() or "{}")
    os.waitpid(child, 0)
    stage.settle()


def _child(stage: DriverStage, event: LoadEvent, known: int, writer: int) -> None:
    stage.call(event)
    if not stage._ask(stage.target.raw, "flush"):  # noqa: SLF001 -- our own
        stage.captured.wait_for(known + 1, stage.patience)
    with os.fdopen(writer, "w") as pipe:
        said = {"dispatches": [stage.seen(dispatch) for dispatch in stage.captured[known:]], "counted": stage.counted()}
        json.dump(said, pipe)
    os._exit(0)


def _signal(stage: DriverStage) -> None:
    if not hasattr(signal, "setitimer"):
        stage.said["skipped"] = "there are no interval timers here"
        return
    outer, inner = stage.events
    signal.signal(signal.SIGALRM, lambda *_: stage.call(inner))
    signal.setitimer(signal.ITIMER_REAL, 0.15)
    stage.call(outer)
    with contextlib.suppress(AttributeError):
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            time.sleep(0.01)
    stage.settle()


def _exit(stage: DriverStage) -> None:
    for event in stage.events:
        stage.call(event)


def _terminate(stage: DriverStage) -> None:
    # As servers do: the signal ends the program in an orderly way.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _exit(stage)
    os.kill(os.getpid(), signal.SIGTERM)


_DRIVERS: Final[Mapping[str, Callable[[DriverStage], None]]] = MappingProxyType(
    {
        "one": _one,
        "pause": _pause,
        "keyword": _keyword,
        "change_after": _change_after,
        "threads": _threads,
        "fork": _fork,
        "signal": _signal,
        "exit": _exit,
        "terminate": _terminate,
    }
)


ENDINGS: Final = frozenset({"exit", "terminate"})
"""The acts after which nobody waits for anything: the program ends."""


def perform(stage: DriverStage) -> None:
    """
    Do what the scenario says.
    """
    _DRIVERS[stage.scenario.act](stage)
