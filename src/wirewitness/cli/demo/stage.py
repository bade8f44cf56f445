"""
Where the scenarios are played: a client, an endpoint, and what the caller could see.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from optimizely.event.event_processor import ForwardingEventProcessor
from optimizely.event_builder import Event
from optimizely.helpers.sdk_settings import OptimizelySdkSettings
from optimizely.optimizely import Optimizely

from wirewitness._witness import ledger_of, witness
from wirewitness.cli.demo.datafile import DATAFILE, EVENT, FLAG, REVENUE
from wirewitness.cli.demo.scenarios import Act, DemoScenario, Ending
from wirewitness.conformance import Sink
from wirewitness.core.exchange import Exchange
from wirewitness.dispatch import Dispatch
from wirewitness.ledger import LedgerSnapshot
from wirewitness.telemetry import MeterProvider, TracerProvider


VISITOR: Final = "visitor-5d41402abc4b"
ATTRIBUTES: Final[Any] = {"plan": "gold"}
ORDER: Final[Any] = {"revenue": REVENUE}

EVIDENCE_TIMEOUT: Final = 5.0
"""Seconds for which a dispatch that was handed over to a thread is waited for."""


@dataclass(frozen=True)
class Run:
    """
    A scenario that was played.

    Attributes:
        scenario: The scenario.
        dispatch: The dispatch, settled; None where none was.
        returned: What the caller got.
        raised: The class of the exception that the caller got, or None.
        returned_ns: When, Unix nanoseconds.
        seconds: How long the caller was held.
        lines: How many lines the SDK's dispatcher logged.
        book: The dispatcher's book.
    """

    scenario: DemoScenario
    dispatch: Dispatch | None
    returned: object
    raised: str | None
    returned_ns: int
    seconds: float
    lines: int
    book: LedgerSnapshot

    @property
    def ending(self) -> Ending | None:
        """How the dispatch ended; None where it hasn't."""
        ended = None if self.dispatch is None else self.dispatch.settlement
        return None if ended is None else Ending(ended.outcome, ended.verdict, ended.evidence, ended.reason)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """What the wire saw."""
        return () if self.dispatch is None else self.dispatch.exchanges

    @property
    def late(self) -> float:
        """Seconds from the call's return to the first exchange's begin; negative where that came first."""
        return (self.exchanges[0].started_ns - self.returned_ns) / 1e9 if self.exchanges else 0.0


class Caller:
    """
    Stands where the client has its dispatcher, gives each event the endpoint's address, and notes what it was like.

    It touches the event's URL and nothing else. The SDK's table of endpoints stays as it is.

    Args:
        dispatcher: The witnessed dispatcher.
        url: The address.
    """

    def __init__(self, dispatcher: Any, url: str) -> None:
        self._dispatcher = dispatcher
        self._url = url
        self.returned: object = None
        self.raised: str | None = None
        self.returned_ns: int = 0
        self.seconds: float = 0.0

    def dispatch_event(self, event: Event) -> None:
        """
        Dispatch an event.
        """
        event.url = self._url
        begun = time.perf_counter()
        try:
            self.returned = self._dispatcher.dispatch_event(event)
        except Exception as error:
            self.raised = type(error).__name__
            raise
        finally:
            self.seconds = time.perf_counter() - begun
            self.returned_ns = time.time_ns()


class DemoStage:
    """
    Plays scenarios against an endpoint.

    Args:
        sink: The endpoint.
        tracer_provider: Takes the spans.
        meter_provider: Takes the metrics.
    """

    def __init__(self, sink: Sink, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self._sink = sink
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider

    def play(self, scenario: DemoScenario) -> Run:
        """
        Have a client make an event, and wait until its dispatch is settled.
        """
        settled: SimpleQueue[Dispatch] = SimpleQueue()
        sender = scenario.sender()
        witnessed = self._witnessed(scenario, sender, settled.put)
        with self._address(scenario) as url, lines_kept_off_the_screen() as lines:
            caller = Caller(witnessed, url)
            _act(scenario.act, caller)
            getattr(sender, "close", lambda: None)()
            dispatch = _next(settled)
        return Run(
            scenario,
            dispatch,
            caller.returned,
            caller.raised,
            caller.returned_ns,
            caller.seconds,
            lines.of_root,
            ledger_of(witnessed).book(),
        )

    def _witnessed(self, scenario: DemoScenario, sender: Any, on_settle: Any) -> Any:
        return witness(
            sender,
            name=scenario.name,
            evidence_timeout=EVIDENCE_TIMEOUT,
            on_settle=on_settle,
            tracer_provider=self._tracer_provider,
            meter_provider=self._meter_provider,
        )

    def _address(self, scenario: DemoScenario) -> contextlib.AbstractContextManager[str]:
        if scenario.path is None:
            return _where_nobody_listens()
        return contextlib.nullcontext(f"{self._sink.url}{scenario.path}")


def _next(settled: SimpleQueue[Dispatch]) -> Dispatch | None:
    try:
        return settled.get(timeout=EVIDENCE_TIMEOUT + 1.0)
    except Empty:
        return None


def _act(act: Act, caller: Caller) -> None:
    client = Optimizely(
        DATAFILE,
        # The SDK asks for its Protocol in a way that pyright does not follow.
        event_dispatcher=caller,  # pyright: ignore[reportArgumentType]
        event_processor=ForwardingEventProcessor(caller),  # pyright: ignore[reportArgumentType]
        settings=OptimizelySdkSettings(odp_disabled=True),
    )
    user = client.create_user_context(VISITOR, ATTRIBUTES)
    if user is not None and act is Act.DECIDE:
        user.decide(FLAG)
    elif user is not None:
        user.track_event(EVENT, ORDER)
    client.close()


@contextlib.contextmanager
def _where_nobody_listens() -> Iterator[str]:
    # The port is taken for as long, so that nobody else can listen there.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1/events"


@contextlib.contextmanager
def no_proxy_for_loopback() -> Iterator[None]:
    """
    Keep requests to 127.0.0.1 from a proxy that the environment names.
    """
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    hosts = ",".join(host for host in (*before.values(), "127.0.0.1", "localhost") if host)
    os.environ.update(dict.fromkeys(before, hosts))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class Lines(logging.Handler):
    """
    Counts log records.

    Attributes:
        of_root: How many were logged through the root logger itself, as the SDK's dispatcher does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_root: int = 0

    def emit(self, record: logging.LogRecord) -> None:
        """
        Count a record.
        """
        self.of_root += record.name == logging.root.name


@contextlib.contextmanager
def lines_kept_off_the_screen() -> Iterator[Lines]:
    """
    Take the place of the root logger's handlers inside the block.

    Without any handler there the SDK's ``logging.error`` would install one, for good.
    """
    lines = Lines()
    handlers = logging.root.handlers[:]
    logging.root.handlers[:] = [lines]
    try:
        yield lines
    finally:
        logging.root.handlers[:] = handlers
