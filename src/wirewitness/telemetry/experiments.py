"""
What experiments leave behind for people to see: how often which variation was served, and a mark on the request's span.
"""

from __future__ import annotations

import enum
import functools

from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider

from wirewitness._guard import methods_fail_open
from wirewitness._version import __version__
from wirewitness.telemetry.attributes import OTHER, SCHEMA_URL, SCOPE, CardinalityLimit
from wirewitness.telemetry.counters import LabelledCounter
from wirewitness.telemetry.logs import RateLimit
from wirewitness.telemetry.logs import _enabled as writer_at


class Chosen(enum.StrEnum):
    """
    Who chose the variation that was served.
    """

    SDK = "sdk"
    PRIMARY = "primary"
    """Nobody: the primary is what is served else."""


class ExperimentFault(enum.StrEnum):
    """
    Why an experiment couldn't do what it was asked for. The values are bounded, so they can label metrics.
    """

    UNKNOWN_VARIATION = "unknown_variation"
    """The SDK chose a variation that no callable was declared for."""
    NO_PRIMARY = "no_primary"
    """Nothing was run: no variation was chosen, and none is declared the primary."""
    NO_VISITOR = "no_visitor"
    """No visitor is set in this context."""
    SDK_ERROR = "sdk_error"
    """The SDK raised."""
    NO_VALUE = "no_value"
    """The SDK has no such variable, or one of another type: the default was returned."""


_experiments: Final = CardinalityLimit()
_variations: Final = CardinalityLimit(most=1000)
_LINES: Final = RateLimit(most=10, seconds=60.0)


class _Instruments:
    """
    The instruments of all experiments on one meter provider.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        self.counts = LabelledCounter("experiment", "variation", "chosen")
        self.slips = LabelledCounter("experiment", "reason")
        meter.create_observable_counter(
            f"{SCOPE}.experiment.served", [self.counts.observe], "{visit}", "Variations that were served"
        )
        meter.create_observable_counter(
            f"{SCOPE}.experiment.faults", [self.slips.observe], "{fault}", "Visits that didn't get what was asked for"
        )


@functools.cache
def _instruments(meter_provider: MeterProvider | None) -> _Instruments:
    return _Instruments(meter_provider)


@methods_fail_open("telemetry")
class ExperimentTelemetry:
    """
    What an experiment, or a feature, shows. Nothing in here raises. No visitor is in any of it.

    Args:
        key: The experiment's.
        meter_provider: None for the global one.
    """

    def __init__(self, key: str, meter_provider: MeterProvider | None = None) -> None:
        self._key = _experiments(key)
        self._named = key
        self._counted = _instruments(meter_provider)
        for slip in ExperimentFault:
            self._counted.slips.declare(self._key, slip.value)

    def declare(self, variation: str) -> None:
        """
        Have a variation counted from zero.
        """
        for chosen in Chosen:
            self._counted.counts.declare(self._key, self._bounded(variation), chosen.value)

    def served(self, variation: str, chosen: Chosen) -> None:
        """
        Count what was served, and put it on the current span.
        """
        shown = self._bounded(variation)
        self._counted.counts.count(self._key, shown, chosen.value)
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute(f"{SCOPE}.experiment.{self._key}", variation)
            attributes = {"experiment": self._named, "variation": variation, "chosen": chosen.value}
            span.add_event(
                f"{SCOPE}.experiment.served", {f"{SCOPE}.{name}": value for name, value in attributes.items()}
            )

    def slipped(self, slip: ExperimentFault) -> None:
        """
        Count what went wrong, and write a line now and then.
        """
        self._counted.slips.count(self._key, slip.value)
        write = writer_at(30)
        suppressed = None if write is None else _LINES.take()
        if write is not None and suppressed is not None:
            write("experiment.fault", experiment=self._named, reason=slip.value, suppressed=suppressed)

    def _bounded(self, variation: str) -> str:
        # CardinalityLimit together with its experiment's key: how many series there are, and not how many words.
        return variation if _variations(f"{self._key}\0{variation}") != OTHER else OTHER
