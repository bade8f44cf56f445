"""
Figure 2: the same round a real exchange.

It goes over a kept-alive urllib3 pool, which ends in http.client, so that wirewitness's tap and the control's
opentelemetry-instrumentation-urllib3 see the same request. The instrumentation is on in the control's turns only, the tap
in the witness's only.
"""

from __future__ import annotations

import json
import logging

from collections.abc import Callable, Iterator

import urllib3

from handwritten import handwritten
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

from figures.at_once import row
from figures.events import SIZES, Event, events
from figures.late import check
from figures.loopback import server
from figures.rounds import Turn, interleaved
from figures.row import Row, Scale, Tick
from figures.sdk import Sdk, configure_structlog, count_of, sdk
from wirewitness import Outcome, ledger_of, wire, witness


TITLE = "2  a real exchange"
TARGET, AIM = 0.75, 0.6

CALLS = {"0.7 kB": 100, "10 kB": 60, "1 MB": 4}
BLOCKS = {"0.7 kB": 6, "10 kB": 5, "1 MB": 3}
WARM = {"0.7 kB": 30, "10 kB": 20, "1 MB": 1}

Dispatch = Callable[[Event], None]


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds * len(SIZES)


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure it for all sizes.
    """
    configure_structlog(logging.INFO)
    with server() as port, urllib3.PoolManager() as pool:
        for size in SIZES:
            yield _case(size, f"http://127.0.0.1:{port}/v1/events", pool, scale, tick)


def _sender(pool: urllib3.PoolManager) -> Dispatch:
    def dispatch_event(event: Event) -> None:
        pool.request(event.http_verb, event.url, body=json.dumps(event.params), headers=event.headers, retries=False)

    return dispatch_event


def _case(size: str, url: str, pool: urllib3.PoolManager, scale: Scale, tick: Tick) -> Row:
    telemetry = sdk()
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    batch = events(scale.calls(CALLS[size]), SIZES[size], url)
    bare = _sender(pool)
    # wirewitness says DELIVERED at level DEBUG, and so does the control what it takes for that; both lines are filtered.
    control = handwritten(bare, name="Sender", level=logging.DEBUG, **providers)
    ours = witness(bare, name="Sender", **providers)
    wire.uninstall()
    warm = batch[: WARM[size]]
    turns = _turns({"bare": bare, "control": control, "witness": ours}, batch, warm, telemetry)
    spent = interleaved(turns, calls=len(batch), rounds=scale.rounds, blocks=BLOCKS[size], tick=tick)
    check(ledger_of(ours).book(), Outcome.DELIVERED)
    _check_instrumented(telemetry, (len(batch) + len(warm)) * (1 + scale.rounds * BLOCKS[size]))
    return row(TITLE, size, spent, TARGET, AIM)


def _turns(dispatchers: dict[str, Dispatch], batch: list[Event], warm: list[Event], telemetry: Sdk) -> list[Turn]:
    instrumentation = URLLib3Instrumentor()

    def instrument() -> None:
        instrumentation.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)

    around = {"control": (instrument, instrumentation.uninstrument), "witness": (wire.install, wire.uninstall)}
    return [
        Turn(name, _calls(dispatch, batch), *around.get(name, (_nothing, _nothing)), _calls(dispatch, warm))
        for name, dispatch in dispatchers.items()
    ]


def _nothing() -> None:
    pass


def _calls(dispatch: Dispatch, batch: list[Event]) -> Callable[[], None]:
    def run() -> None:
        for event in batch:
            dispatch(event)

    return run


def _check_instrumented(telemetry: Sdk, requests: int) -> None:
    seen = count_of(telemetry.reader, "http.client.duration")
    if seen != requests:
        msg = f"the control's instrumentation saw {seen} of its {requests} requests"
        raise RuntimeError(msg)
