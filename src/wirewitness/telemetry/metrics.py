"""
Metrics: histograms of what took how long, and counts that are read from the ledger when they're collected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
from opentelemetry.util.types import AttributeValue

from wirewitness._guard import INTERNAL_ERRORS, TAP_HEALTH
from wirewitness._version import __version__
from wirewitness.core.outcome import Outcome
from wirewitness.core.settlement import Settlement
from wirewitness.dispatch import Dispatch
from wirewitness.ledger import LedgerSnapshot, process_ledger
from wirewitness.telemetry.attributes import SCHEMA_URL, SCOPE, CardinalityLimit, exchange_error
from wirewitness.telemetry.snapshots import SnapshotGroup
from wirewitness.telemetry.spans import NO_SPAN


Books = dict[str, LedgerSnapshot]
Delivery = tuple[int, float, float]
"""A payload's length in bytes, and the seconds that it took, and its one request."""
Labels = dict[str, AttributeValue]

# From half a millisecond, a loopback answer, past 41 s, the longest that Optimizely's own dispatcher can take.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BYTES: Final = (256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 10485760.0)


def _accepted(books: Books) -> Iterator[Observation]:
    for name, book in books.items():
        yield Observation(book.accepted, {"dispatcher.name": name})


def _settled(books: Books) -> Iterator[Observation]:
    for name, book in books.items():
        for (outcome, reason), number in book.settled.items():
            yield Observation(
                number, {"dispatcher.name": name, "outcome": outcome.value, "reason": reason.value or "none"}
            )


def _pending(books: Books) -> Iterator[Observation]:
    for name, book in books.items():
        for stage, number in book.pending.items():
            yield Observation(number, {"dispatcher.name": name, "stage": stage.value})


def _verdicts(books: Books) -> Iterator[Observation]:
    for name, book in books.items():
        for verdict, number in book.verdicts.items():
            yield Observation(number, {"dispatcher.name": name, "verdict": verdict.value})


def _exchanges(books: Books) -> Iterator[Observation]:
    for name, book in books.items():
        yield Observation(book.exchanges, {"dispatcher.name": name})


def _internal_errors(_: CallbackOptions) -> Iterator[Observation]:
    for component, number in INTERNAL_ERRORS.counts().items():
        yield Observation(number, {"component": component})


def _taps(_: CallbackOptions) -> Iterator[Observation]:
    for tap, seeing in TAP_HEALTH.seeing.copy().items():
        yield Observation(int(seeing), {"tap": tap})


def _taps_restored(_: CallbackOptions) -> Iterator[Observation]:
    for tap, number in TAP_HEALTH.restored.copy().items():
        yield Observation(number, {"tap": tap})


class Metrics:
    """
    The instruments on one meter provider.

    Args:
        meter_provider: None for the global one.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        self._dispatch = _histogram(
            meter, "dispatch.duration", "s", "From a call's begin to its last evidence", SECONDS
        )
        self._exchange = _histogram(meter, "exchange.duration", "s", "From a request's begin to its status", SECONDS)
        self._payload = _histogram(meter, "payload.size", "By", "Length of the payloads", BYTES)
        self._host = CardinalityLimit()
        self._error = CardinalityLimit()
        _observe_ledger(meter, meter_provider)

    def settled(self, dispatch: Dispatch, settlement: Settlement, within: Context | None) -> None:
        """
        Record how long a dispatch and its exchanges took.

        Args:
            dispatch: What ended.
            settlement: How.
            within: A context with the dispatch's span, so that exemplars name it.
        """
        self.ended(dispatch.name, dispatch.duration, settlement, within)
        if dispatch.payload is not None:
            self.sized(dispatch.name, len(dispatch.payload.body))
        if dispatch.attempted:
            self.exchanges(dispatch, within)

    def exchanges(self, dispatch: Dispatch, within: Context | None) -> None:
        """
        Record how long the requests of a dispatch took.
        """
        for exchange in dispatch.exchanges:
            of: Labels = {"dispatcher.name": dispatch.name, "server.address": self._host(exchange.host)}
            if exchange.status is not None:
                of["http.response.status_code"] = exchange.status
            error = exchange_error(exchange)
            if error is not None:
                of["error.type"] = self._error(error)
            self._exchange.record(exchange.duration, of, within)

    def sized(self, name: str, size: int) -> None:
        """
        Record a payload's length in bytes.
        """
        self._payload.record(size, {"dispatcher.name": name}, NO_SPAN)

    def ended(self, name: str, duration: float, settlement: Settlement, within: Context | None) -> None:
        """
        Record the seconds that a payload took to its end.
        """
        labels: Labels = {"dispatcher.name": name, "outcome": settlement.outcome.value}
        if settlement.error_type is not None:
            labels["error.type"] = self._error(settlement.error_type)
        self._dispatch.record(duration, labels, within)

    def delivered(self, name: str, host: str, status: int, deliveries: Iterable[Delivery]) -> None:
        """
        Record plain successes, of which there is no other record.
        """
        ended: Labels = {"dispatcher.name": name, "outcome": Outcome.DELIVERED.value}
        exchanged: Labels = {
            "dispatcher.name": name,
            "server.address": self._host(host),
            "http.response.status_code": status,
        }
        sized: Labels = {"dispatcher.name": name}
        of_dispatch, of_exchange, of_payload = self._dispatch.record, self._exchange.record, self._payload.record
        for size, duration, exchange in deliveries:
            of_exchange(exchange, exchanged, NO_SPAN)
            of_dispatch(duration, ended, NO_SPAN)
            of_payload(size, sized, NO_SPAN)


def _histogram(meter: Meter, name: str, unit: str, description: str, buckets: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(
        f"{SCOPE}.{name}", unit, description, explicit_bucket_boundaries_advisory=list(buckets)
    )


def _observe_ledger(meter: Meter, meter_provider: MeterProvider | None) -> None:
    at = SnapshotGroup(lambda: process_ledger.books_shown_by(meter_provider))
    counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
    counter(f"{SCOPE}.ledger.accepted", [at.of(_accepted)], "{payload}", "Payloads taken")
    counter(f"{SCOPE}.ledger.settled", [at.of(_settled)], "{payload}", "Payloads whose end is known")
    gauge(f"{SCOPE}.ledger.pending", [at.of(_pending)], "{payload}", "Payloads whose end isn't known yet")
    counter(f"{SCOPE}.payload.verdicts", [at.of(_verdicts)], "{payload}", "What happened to the payloads' bytes")
    counter(f"{SCOPE}.exchanges", [at.of(_exchanges)], "{exchange}", "HTTP requests made for settled payloads")
    counter(f"{SCOPE}.internal.errors", [_internal_errors], "{error}", "Faults of wirewitness's own")
    gauge(
        f"{SCOPE}.tap.state", [_taps], "{tap}", "1 for a tap that sees the wire, 0 for one that another tool took away"
    )
    counter(f"{SCOPE}.tap.restored", [_taps_restored], "{time}", "Taps put back after another tool took them away")
