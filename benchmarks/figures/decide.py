"""
What instrumentation adds to a ``decide()``, whose events are off: the same client's twin, uninstrumented, beside it.

CPU time of this process. Nobody collects metrics during the turns; spans are looked for and there is none, as outside of a
request. The last row has a recording span around, which gets an event for each decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from optimizely.helpers.sdk_settings import OptimizelySdkSettings
from optimizely.optimizely import Optimizely

from figures.rounds import Turn, interleaved
from figures.row import Row, Scale, Tick, ratios
from wirewitness.optimizely import instrument


TITLE = "Optimizely  a decision of an instrumented client"
TARGET = 1.15
CALLS = 4_000
DATAFILE = Path(__file__).parent.parent.parent / "examples" / "datafile.json"
WITHOUT_EVENT = ["DISABLE_DECISION_EVENT"]


class _Nowhere:
    def dispatch_event(self, event: object) -> None:
        """
        Nothing: events are off.
        """


def steps(scale: Scale) -> int:
    """
    How many ticks the figure makes.
    """
    return scale.rounds


def measure(scale: Scale, tick: Tick) -> Iterator[Row]:
    """
    Measure decisions of both clients in turns.
    """
    bare, watched = _client(), instrument(_client())
    calls = scale.calls(CALLS)
    turns = [
        Turn("bare", _decisions(bare, calls)),
        Turn("instrumented", _decisions(watched, calls)),
        Turn("in a span", _in_a_span(_decisions(watched, calls))),
    ]
    spent = interleaved(turns, calls=calls, rounds=scale.rounds, tick=tick)
    for client in (bare, watched):
        client.close()
    yield _row("no span", spent, "instrumented", TARGET)
    yield _row("in a recording span", spent, "in a span", None)


def _client() -> Any:
    settings = OptimizelySdkSettings(odp_disabled=True)
    return Optimizely(DATAFILE.read_text(), event_dispatcher=_Nowhere(), settings=settings)


def _decisions(client: Any, calls: int) -> Callable[[], None]:
    users = [client.create_user_context(f"visitor {number}") for number in range(100)]
    if None in {user.decide("new_checkout", [*WITHOUT_EVENT]).variation_key for user in users}:
        msg = "a client that decides nothing is fast, and no measure"
        raise RuntimeError(msg)

    def run() -> None:
        for number in range(calls):
            users[number % 100].decide("new_checkout", [*WITHOUT_EVENT])

    return run


def _in_a_span(run: Callable[[], None]) -> Callable[[], None]:
    tracer = TracerProvider().get_tracer("application")

    def within() -> None:
        with trace.use_span(tracer.start_span("request"), end_on_exit=True):
            run()

    return within


def _row(case: str, spent: dict[str, list[float]], which: str, target: float | None) -> Row:
    parts = {"control": median(spent["bare"]), "witness": median(spent[which])}
    return Row(TITLE, case, "x", ratios(spent[which], spent["bare"]), target, None, parts)
