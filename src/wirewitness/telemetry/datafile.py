"""
What a cached datafile leaves behind for people to see: spans and durations of its fetches, its age, revision and source.
"""

from __future__ import annotations

import enum
import functools
import logging
import threading
import weakref

from collections.abc import Callable, Iterator
from contextvars import Token
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry import context, metrics, trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from wirewitness import fork
from wirewitness._guard import methods_fail_open
from wirewitness._version import __version__
from wirewitness.telemetry.attributes import SCHEMA_URL, SCOPE, CardinalityLimit
from wirewitness.telemetry.counters import LabelledCounter
from wirewitness.telemetry.logs import RateLimit
from wirewitness.telemetry.logs import _enabled as writer_at
from wirewitness.telemetry.metrics import SECONDS
from wirewitness.telemetry.spans import NO_SPAN


class DatafileSource(enum.StrEnum):
    """
    Where the datafile that is served has come from.
    """

    CDN = "cdn"
    FILE = "file"
    """The cache file: a fetch of an earlier process, or of another one on this host."""
    FALLBACK = "fallback"
    NONE = "none"


class Fault(enum.StrEnum):
    """
    What is wrong with a fetch, or with what was fetched. The values are bounded, so they can label metrics.
    """

    NONE = ""

    TIMEOUT = "timeout"
    """Not whole within the timeout, however slowly it came."""
    CONNECTION = "connection"
    """No answer: refused, reset, no such host, no valid certificate."""
    REDIRECTS = "redirects"
    """More redirects than are followed, or one that leads nowhere or from https to http."""
    STATUS = "status"
    """An answer other than 2xx, and other than a 304 that was asked for."""
    TRUNCATED = "truncated"
    """The connection ended before the body did."""
    TOO_LARGE = "too_large"

    NOT_JSON = "not_json"
    """HTML, half a datafile, or nothing at all."""
    NOT_DATAFILE = "not_datafile"
    """JSON that the SDK takes for no datafile."""
    VERSION = "version"
    """A datafile of a version that the SDK doesn't know."""
    PROJECT = "project"
    """Another project's datafile."""

    FILE_READ = "file_read"
    """The cache file can't be read, isn't this user's own, or doesn't hold what was written to it."""
    FILE_WRITE = "file_write"
    FALLBACK = "fallback"
    """The fallback was needed, and there was none that can be used."""


class Fetched(enum.StrEnum):
    """
    What a fetch has brought.
    """

    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True)
class Fetch:
    """
    One fetch of a datafile, as ``on_fetch`` is told of it.

    Attributes:
        name: The config manager's name.
        outcome: What it has brought.
        duration: Seconds from its begin to its end, the datafile's validation included.
        fault: What went wrong; ``Fault.NONE`` if nothing did.
        status: The answer's status code, or None where there was none.
        error_type: The class of an exception, the status code of a refusal, or the fault; None if nothing went wrong.
        source: What is served from now on.
        revision: The revision that is served from now on, or None.
    """

    name: str
    outcome: Fetched
    duration: float
    fault: Fault = Fault.NONE
    status: int | None = None
    error_type: str | None = None
    source: DatafileSource = DatafileSource.NONE
    revision: str | None = None


class DatafileGauges(NamedTuple):
    """
    What a cached datafile shows of itself at one instant.

    Attributes:
        age: Seconds since it was last known to be what the CDN has.
        revision: Its revision as a number; 0 where it's none, or where there's no datafile.
        source: Where it has come from.
    """

    age: float
    revision: float
    source: DatafileSource


class MeasuredSupply(Protocol):
    """
    A cached datafile, as its gauges see it.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def gauges(self) -> DatafileGauges:
        """What it shows."""
        ...


class _Datafiles:
    """
    The cached datafiles on one meter provider that still live and haven't been stopped.
    """

    def __init__(self) -> None:
        self._living: weakref.WeakSet[MeasuredSupply] = weakref.WeakSet()
        self.renew()
        _DATAFILES.append(self)

    def renew(self) -> None:
        self._lock = threading.RLock()

    def add(self, datafile: MeasuredSupply) -> None:
        with self._lock:
            self._living.add(datafile)

    def discard(self, datafile: MeasuredSupply) -> None:
        with self._lock:
            self._living.discard(datafile)

    def gauges(self) -> dict[str, list[DatafileGauges]]:
        with self._lock:
            living = list(self._living)
        by_name: dict[str, list[DatafileGauges]] = {}
        for datafile in living:
            by_name.setdefault(datafile.name, []).append(datafile.gauges())
        return by_name

    def observe(
        self, read: Callable[[list[DatafileGauges]], float]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observations(_: CallbackOptions) -> Iterator[Observation]:
            for name, gauges in self.gauges().items():
                yield Observation(read(gauges), {"datafile": name})

        return observations

    def sources(self, _: CallbackOptions) -> Iterator[Observation]:
        for name, gauges in self.gauges().items():
            for source in DatafileSource:
                number = sum(one.source is source for one in gauges)
                yield Observation(number, {"datafile": name, "source": source.value})


_DATAFILES: Final[list[_Datafiles]] = []


def _renew_in_child() -> None:
    for datafiles in _DATAFILES:
        datafiles.renew()


fork.register(fork.ForkStage.TELEMETRY, in_child=_renew_in_child)


class _Instruments:
    """
    The instruments of all cached datafiles on one meter provider.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        self.datafiles = _Datafiles()
        self.faults = LabelledCounter("datafile", "reason")
        seen, prefix = self.datafiles.observe, f"{SCOPE}.datafile"
        self.duration = meter.create_histogram(
            f"{prefix}.fetch.duration",
            "s",
            "From a fetch's begin to its end",
            explicit_bucket_boundaries_advisory=list(SECONDS),
        )
        meter.create_observable_gauge(
            f"{prefix}.age", [seen(lambda all_: max(of.age for of in all_))], "s", "Since the CDN was known to have it"
        )
        meter.create_observable_gauge(
            f"{prefix}.revision",
            [seen(lambda all_: min(of.revision for of in all_))],
            "",
            "The revision that is served",
        )
        meter.create_observable_up_down_counter(
            f"{prefix}.source", [self.datafiles.sources], "{datafile}", "Datafiles served from there"
        )
        meter.create_observable_counter(f"{prefix}.faults", [self.faults.observe], "{fault}", "What went wrong")


@functools.cache
def _instruments(meter_provider: MeterProvider | None) -> _Instruments:
    return _Instruments(meter_provider)


class Fetching(NamedTuple):
    """
    What a fetch's telemetry needs until it has ended.
    """

    span: Span
    token: Token[Context]


@methods_fail_open("telemetry")
class DatafileTelemetry:
    """
    What a cached datafile shows. Nothing in here raises. Neither URL nor SDK key are in any of it.

    Args:
        datafile: The cached datafile.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
    """

    def __init__(
        self,
        datafile: MeasuredSupply,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._name = datafile.name
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider, SCHEMA_URL)
        self._instruments = _instruments(meter_provider)
        self._duration = self._instruments.duration
        self._error = CardinalityLimit()
        self.renew()
        for fault in Fault:
            if fault is not Fault.NONE:
                self._instruments.faults.declare(self._name, fault.value)
        self._instruments.datafiles.add(datafile)

    def stopped(self, datafile: MeasuredSupply) -> None:
        """
        It's renewed no more: its age is nobody's trouble.
        """
        self._instruments.datafiles.discard(datafile)

    def renew(self) -> None:
        """
        Begin anew, as in a forked child, where the parent's locks may be held for ever.
        """
        self._lines = {fault: RateLimit(most=1, seconds=600.0) for fault in Fault}

    def began(self, host: str, port: int) -> Fetching:
        """
        A fetch begins: other HTTP instrumentation, which would show the SDK key in the URL, stays off until it has ended.
        """
        attributes: dict[str, AttributeValue] = {
            "http.request.method": "GET",
            "server.address": host,
            "server.port": port,
            "peer.service": host,
            "service.peer.name": host,
            "wirewitness.datafile.name": self._name,
        }
        span = self._tracer.start_span(f"datafile {self._name}", kind=SpanKind.CLIENT, attributes=attributes)
        within = context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True)  # noqa: FBT003 -- OpenTelemetry's
        return Fetching(span, context.attach(trace.set_span_in_context(span, within)))

    def ended(self, fetching: Fetching | None, fetch: Fetch) -> None:
        """
        A fetch has ended: its span ends, and its duration is recorded.
        """
        within = NO_SPAN
        if fetching is not None:
            context.detach(fetching.token)
            _end(fetching.span, fetch)
            within = trace.set_span_in_context(fetching.span, NO_SPAN)
        labels: dict[str, AttributeValue] = {"datafile": self._name, "outcome": fetch.outcome.value}
        if fetch.status is not None:
            labels["http.response.status_code"] = fetch.status
        if fetch.error_type is not None:
            labels["error.type"] = self._error(fetch.error_type)
        self._duration.record(fetch.duration, labels, within)
        if fetch.outcome is Fetched.UPDATED:
            self._say(logging.INFO, "datafile.updated", revision=fetch.revision)

    def fault(self, fault: Fault, error_type: str | None, source: DatafileSource) -> None:
        """
        Count what went wrong, and write a line of each kind once in ten minutes.
        """
        self._instruments.faults.count(self._name, fault.value)
        suppressed = self._lines[fault].take()
        if suppressed is not None:
            fields = {"reason": fault.value, "error_type": error_type, "serving": source.value}
            self._say(logging.WARNING, "datafile.fault", **fields, suppressed=suppressed)

    def _say(self, level: int, event: str, **fields: Any) -> None:
        write = writer_at(level)
        if write is not None:
            write(event, datafile=self._name, **fields)


def _end(span: Span, fetch: Fetch) -> None:
    attributes: dict[str, AttributeValue | None] = {
        "http.response.status_code": fetch.status,
        "error.type": fetch.error_type,
        "wirewitness.datafile.outcome": fetch.outcome.value,
        "wirewitness.datafile.source": fetch.source.value,
        "wirewitness.datafile.revision": fetch.revision,
        "wirewitness.reason": fetch.fault.value or None,
    }
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
    if fetch.fault is not Fault.NONE:
        span.set_status(Status(StatusCode.ERROR, fetch.fault.value))
    span.end()
