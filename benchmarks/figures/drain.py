"""
How fast an Outbox gets rid of what it holds: the rate at which a full spool is drained to a server on loopback.

Every turn is a process of its own, so that no contender's tap, telemetry or garbage weighs on another. What is sent is
made before; an Outbox accepts all of it before its sender begins. Each of its payloads is judged and counted in its book,
spans are sampled at 1 %, metrics are aggregated for a reader in memory. A turn fails unless all was delivered.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from figures.endpoints import Endpoint, fast, slow
from figures.events import SIZES, Event, events
from figures.late import check
from figures.row import Row, Scale, Tick, ratios
from wirewitness import Outcome, Verdict


TITLE = "Outbox 2  drain to a fast server"
TITLE_DURABLE = "Outbox 3  drain of a durable spool"
TITLE_SLOW = "Outbox 4  drain to a server that takes 50 ms"

CONNECTIONS = 64
LATENCY, MANY = 0.05, 256
SIZE = SIZES["0.7 kB"]

CALLS = {
    "pycurl": 15_000,
    "sender": 15_000,
    "curl": 8_000,
    "group": 8_000,
    "session": 1_000,
    "http": 1_000,
    "http_8": 1_000,
    "sdk": 500,
    "slow_pycurl": 10_000,
    "slow_curl": 10_000,
}
"""Payloads per turn, by contender."""

MOST_ROUNDS, QUICK_ROUNDS = 4, 2
"""By default and where it is to be quick: what a turn takes is mostly the start of its process."""


Spent = dict[str, list[float]]
"""Microseconds a payload, one value a round, by contender."""


class Took(NamedTuple):
    """
    What a turn took a payload, microseconds.

    Attributes:
        wall: Of wall time.
        cpu: Of this process's CPU time, all threads; the server's isn't in it.
    """

    wall: float
    cpu: float


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return _rounds_of(scale) * len(CALLS)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure all, interleaved.
    """
    with fast() as quick, slow(LATENCY) as lazy:
        spent, cpu = _rounds(scale, tick, {"slow": lazy, "": quick})
    yield _row(TITLE, "CurlSender / bare pycurl", spent, "curl", "pycurl", 0.35, 0.5, note=_note(spent, quick))
    yield _row(TITLE, "the same, CPU time", cpu, "curl", "pycurl")
    yield _row(TITLE, "no Outbox / bare pycurl", spent, "sender", "pycurl")
    yield _row(TITLE, "the same, CPU time", cpu, "sender", "pycurl")
    yield _row(TITLE, "CurlSender / SDK's own", spent, "curl", "sdk", 25)
    yield _row(TITLE, "HttpSender(1) / Session", spent, "http", "session", 0.8)
    yield _row(TITLE, "HttpSender(8) / Session", spent, "http_8", "session")
    yield _row(TITLE_DURABLE, "group / memory", spent, "group", "curl", 0.6)
    ideal = LATENCY / MANY * 1e6
    spent["ideal"] = [ideal] * _rounds_of(scale)
    yield _row(TITLE_SLOW, "CurlSender / 256 in 50 ms", spent, "slow_curl", "ideal", 0.8)
    yield _row(TITLE_SLOW, "pycurl / 256 in 50 ms", spent, "slow_pycurl", "ideal")


def _rounds_of(scale: Scale) -> int:
    return min(scale.rounds, QUICK_ROUNDS if scale.quick else MOST_ROUNDS)


def _rounds(scale: Scale, tick: Tick, where: dict[str, Endpoint]) -> tuple[Spent, Spent]:
    spent: Spent = {name: [] for name in CALLS}
    cpu: Spent = {name: [] for name in CALLS}
    names = list(CALLS)
    for number in range(_rounds_of(scale)):
        # Neighbours stay neighbours: on a machine with other things to do, a minute later is another machine.
        for name in names if number % 2 else reversed(names):
            endpoint = where["slow" if name.startswith("slow_") else ""]
            took = _turn(name, endpoint, scale.calls(CALLS[name]))
            spent[name].append(took.wall)
            cpu[name].append(took.cpu)
            tick()
    return spent, cpu


def _row(  # noqa: PLR0913, PLR0917 -- a line of the report
    title: str,
    case: str,
    spent: Spent,
    ours: str,
    control: str,
    target: float | None = None,
    aim: float | None = None,
    note: str = "",
) -> Row:
    """How many times the control's rate ours is."""
    parts = {"control": statistics.median(spent[control]), "witness": statistics.median(spent[ours])}
    return Row(title, case, "x", ratios(spent[control], spent[ours]), target, aim, parts, note, at_least=True)


def _note(spent: Spent, endpoint: Endpoint) -> str:
    rates = ", ".join(f"{name} {1e6 / statistics.median(values):,.0f}" for name, values in spent.items())
    return f"Wall time, microseconds a payload. Payloads a second: {rates}. Fast server: {endpoint.name}."


def _turn(name: str, endpoint: Endpoint, calls: int) -> Took:
    before = 0 if endpoint.served is None else endpoint.served()
    command = [sys.executable, "-m", "figures.drain", name, endpoint.url, str(calls)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    if endpoint.served is not None and (served := endpoint.served() - before - 1) != calls:
        msg = f"{name}: the server had {served} requests in place of {calls}"
        raise RuntimeError(msg)
    return Took(*json.loads(done.stdout))


Go = Callable[[], None]


def pycurl_loop(batch: list[Event], connections: int) -> Go:
    """
    The control: libcurl's multi interface and nothing round it, each status looked at.
    """
    import pycurl  # noqa: PLC0415 -- an extra's

    bodies = [json.dumps(event.params).encode() for event in batch]
    bodies.reverse()
    multi: Any = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, connections)
    free = [_handle(pycurl, batch[0]) for _ in range(connections)]

    def go() -> None:
        running = 0
        while bodies or running:
            while free and bodies:
                curl = free.pop()
                curl.setopt(pycurl.POSTFIELDS, bodies.pop())
                multi.add_handle(curl)
            _, running = multi.perform()
            if not _collected(pycurl, multi, free):
                multi.select(1.0)

    return go


def _handle(pycurl: Any, event: Event) -> Any:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, event.url)
    curl.setopt(pycurl.POST, 1)
    curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
    curl.setopt(pycurl.WRITEFUNCTION, len)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TCP_NODELAY, 1)
    return curl


def _collected(pycurl: Any, multi: Any, free: list[Any]) -> int:
    _, succeeded, failed = multi.info_read()
    for curl in succeeded:
        multi.remove_handle(curl)
        if curl.getinfo(pycurl.RESPONSE_CODE) != 204:  # noqa: PLR2004 -- what the server answers
            raise RuntimeError
        free.append(curl)
    if failed:
        raise RuntimeError(failed)
    return len(succeeded)


def sender_alone(batch: list[Event], connections: int) -> Go:
    """
    CurlSender without an Outbox: what its own evidence costs.
    """
    from wirewitness.outbox import CurlSender, Form, Message  # noqa: PLC0415 -- which imports much

    headers = tuple(batch[0].headers.items())
    bodies = [json.dumps(event.params).encode() for event in batch]
    tray = _Tray([Message("POST", batch[0].url, headers, body, Form.VALUE, 1) for body in reversed(bodies)])
    sender = CurlSender(connections=connections)

    def go() -> None:
        sender.run(tray)
        if tray.delivered != len(batch):
            raise RuntimeError(tray.delivered)

    return go


class _Tray:
    recording = False

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages
        self.delivered = 0

    def take(self, most: int, timeout: float | None) -> list[Any] | None:  # noqa: ARG002 -- the protocol's
        taken = self._messages[-most:]
        del self._messages[-most:]
        return taken or None

    def done(self, attempts: Any) -> None:
        self.delivered += sum([attempt.settlement.verdict is Verdict.IDENTICAL for attempt in attempts])


class _Gated:
    """
    A sender that waits until it may begin.
    """

    def __init__(self, sender: Any) -> None:
        self.threads = sender.threads
        self.begin = threading.Event()
        self._sender = sender

    def run(self, desk: Any) -> None:
        self.begin.wait()
        self._sender.run(desk)


def curl_outbox(batch: list[Event], connections: int) -> Go:
    """
    An Outbox with a CurlSender and its spool in memory.
    """
    from wirewitness.outbox import MemorySpool  # noqa: PLC0415 -- which imports much

    return _gated_outbox(batch, connections, MemorySpool(most=len(batch), most_bytes=1 << 32))


def group_outbox(batch: list[Event], connections: int) -> Go:
    """
    The same with its spool on disk, until all is acknowledged there, too.
    """
    from wirewitness.outbox import SqliteSpool  # noqa: PLC0415 -- which imports much

    return _gated_outbox(batch, connections, SqliteSpool("spool", durability="group"))


def _gated_outbox(batch: list[Event], connections: int, spool: Any) -> Go:
    from wirewitness.outbox import CurlSender, Outbox  # noqa: PLC0415 -- which imports much

    sender = _Gated(CurlSender(connections=connections))
    outbox = Outbox(sender, spool=spool, **_telemetry())
    for event in batch:
        outbox.dispatch_event(event)
    spool.sync(60.0)

    def go() -> None:
        sender.begin.set()
        outbox.flush(600.0)
        _check(outbox, len(batch))

    return go


def _telemetry() -> dict[str, Any]:
    tracer_provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.01)), shutdown_on_exit=False)
    tracer_provider.add_span_processor(SpanProcessor())
    reader = InMemoryMetricReader()
    return {"tracer_provider": tracer_provider, "meter_provider": MeterProvider([reader], shutdown_on_exit=False)}


def _check(outbox: Any, calls: int) -> None:
    book = outbox.ledger.book()
    check(book, Outcome.DELIVERED)
    if book.accepted != calls or book.verdicts.get(Verdict.IDENTICAL) != calls:
        msg = f"of {calls} payloads: {book}"
        raise RuntimeError(msg)


def http_outbox(batch: list[Event], connections: int) -> Go:
    """
    An Outbox with requests as its sender, a connection a thread.
    """
    from wirewitness.outbox import HttpSender, MemorySpool, Outbox  # noqa: PLC0415 -- which imports much

    def go() -> None:
        # Not gated: HttpSender is known to the Outbox by its class, and next to a request accepting costs nothing.
        outbox = Outbox(HttpSender(threads=connections), spool=MemorySpool(most=len(batch)), **_telemetry())
        for event in batch:
            outbox.dispatch_event(event)
        outbox.flush(600.0)
        _check(outbox, len(batch))

    return go


def session_loop(batch: list[Event], _: int) -> Go:
    """
    A control: one kept-alive Session.
    """
    bodies = [json.dumps(event.params) for event in batch]

    def go() -> None:
        with requests.Session() as session:
            for event, body in zip(batch, bodies, strict=True):
                session.post(event.url, data=body, headers=event.headers, timeout=10).raise_for_status()

    return go


def sdk_loop(batch: list[Event], _: int) -> Go:
    """
    A control: Optimizely's own dispatcher.
    """
    from optimizely.event_dispatcher import EventDispatcher  # noqa: PLC0415 -- an extra's

    def go() -> None:
        for event in batch:
            EventDispatcher.dispatch_event(event)

    return go


class Contender(NamedTuple):
    """
    What has a turn.

    Attributes:
        make: Makes everything ready for a batch, and returns what is timed.
        connections: How many it has.
    """

    make: Callable[[list[Event], int], Go]
    connections: int = CONNECTIONS


CONTENDERS = {
    "pycurl": Contender(pycurl_loop),
    "sender": Contender(sender_alone),
    "curl": Contender(curl_outbox),
    "group": Contender(group_outbox),
    "session": Contender(session_loop),
    "http": Contender(http_outbox, 1),
    "http_8": Contender(http_outbox, 8),
    "sdk": Contender(sdk_loop),
    "slow_pycurl": Contender(pycurl_loop, MANY),
    "slow_curl": Contender(curl_outbox, MANY),
}


def timed(name: str, url: str, calls: int) -> Took:
    """
    Make one turn.
    """
    contender = CONTENDERS[name]
    go = contender.make(events(calls, SIZE, url), contender.connections)
    gc.collect()
    gc.freeze()
    started, spent = time.perf_counter_ns(), time.process_time_ns()
    go()
    wall, cpu = time.perf_counter_ns() - started, time.process_time_ns() - spent
    return Took(wall / 1000 / calls, cpu / 1000 / calls)


def _main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("name", choices=CONTENDERS)
    arguments.add_argument("url")
    arguments.add_argument("calls", type=int)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(json.dumps(timed(given.name, given.url, given.calls)), flush=True)
    # Closing is not what's measured, and its files are gone.
    os._exit(0)


if __name__ == "__main__":
    _main()
