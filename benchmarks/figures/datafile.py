"""
What a decision waits for its datafile: ``decide()`` by a stale one whose CDN hangs, beside one by a fresh datafile.

Wall-clock time of single calls, for a caller waits in wall-clock time. Both clients take turns call by call; each has a cached
datafile of the same bytes, one saved just now, the other an hour ago and being renewed all the time from a server that takes
the connection and never answers. Events are off.
"""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import statistics
import tempfile
import time

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optimizely.helpers.sdk_settings import OptimizelySdkSettings

from figures.row import Row, Scale, Tick, ratios
from wirewitness.optimizely import CachedConfigManager, Source


TITLE = "Optimizely  a decision by a stale datafile, the CDN hangs"
TARGET = 1.2
CALLS = 40_000
HOUR = 3600.0
DATAFILE = Path(__file__).parent.parent.parent / "examples" / "datafile.json"
WITHOUT_EVENT = ["DISABLE_DECISION_EVENT"]

Times = list[float]
"""Microseconds of each call, sorted."""


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure the 99th percentile, with the median beside it.
    """
    with _hanging() as url, tempfile.TemporaryDirectory() as folder:
        fresh = _client(url, Path(folder) / "fresh.json", age=0.0)
        stale = _client(url, Path(folder) / "stale.json", age=HOUR)
        _check(fresh, stale)
        calls = scale.calls(CALLS)
        _turns(fresh, stale, calls // 5)
        gc.collect()
        gc.freeze()
        rounds = []
        for _ in range(scale.rounds):
            rounds.append(_turns(fresh, stale, calls))
            tick()
        _check(fresh, stale)
        for client in (fresh, stale):
            client.close()
    yield _row("p99", rounds, 0.99, TARGET)
    yield _row("p50", rounds, 0.5, None)


@contextlib.contextmanager
def _hanging() -> Iterator[str]:
    # Connections wait to be accepted: that takes no thread of this process, and no CPU.
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/datafile.json"


def _client(url: str, path: Path, age: float) -> Any:
    _first(url, path)
    if age:
        stored = json.loads(path.read_text())
        path.write_text(json.dumps({**stored, "saved": time.time() - age}))
    manager = CachedConfigManager(url=url, cache_path=path, expires=HOUR / 4, wait=False, name=path.stem)
    return manager.client(settings=OptimizelySdkSettings(odp_disabled=True))


def _first(url: str, path: Path) -> None:
    # The file's own format, written as a first process would have written it.
    from wirewitness.optimizely.datafile_file import CacheFile, Stored  # noqa: PLC0415 -- no part of the front door

    CacheFile(path, url, 1 << 20).write(Stored(DATAFILE.read_text(), time.time(), None, None))


def _check(fresh: Any, stale: Any) -> None:
    ages = [client.config_manager.gauges() for client in (fresh, stale)]
    if [one.source for one in ages] != [Source.FILE] * 2 or not ages[0].age < HOUR / 4 < HOUR <= ages[1].age:
        msg = f"not one fresh and one stale datafile: {ages}"
        raise RuntimeError(msg)
    if None in {_decide(client)(0).variation_key for client in (fresh, stale)}:
        msg = "a client that decides nothing is fast, and no measure"
        raise RuntimeError(msg)


def _turns(fresh: Any, stale: Any, calls: int) -> tuple[Times, Times]:
    decide = [_decide(fresh), _decide(stale)]
    times: tuple[Times, Times] = ([], [])
    for number in range(calls):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter_ns()
            decide[which](number)
            times[which].append((time.perf_counter_ns() - began) / 1000)
    return sorted(times[0]), sorted(times[1])


def _decide(client: Any) -> Callable[[int], Any]:
    users = [client.create_user_context(f"visitor {number}") for number in range(100)]
    return lambda number: users[number % 100].decide("new_checkout", [*WITHOUT_EVENT])


def _at(times: Times, share: float) -> float:
    return times[int(share * (len(times) - 1))]


def _row(case: str, rounds: list[tuple[Times, Times]], share: float, target: float | None) -> Row:
    fresh, stale = ([_at(turn[which], share) for turn in rounds] for which in (0, 1))
    parts = {"control": statistics.median(fresh), "witness": statistics.median(stale)}
    return Row(TITLE, case, "x", ratios(stale, fresh), target, None, parts)
