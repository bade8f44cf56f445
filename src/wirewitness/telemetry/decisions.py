"""
What decisions leave behind for people to see: a counter by flag, variation, rule and reason, and an event on the request's span.
"""

from __future__ import annotations

import functools

from typing import Final, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.util.types import AttributeValue

from wirewitness._version import __version__
from wirewitness.telemetry.attributes import OTHER, SCHEMA_URL, SCOPE, CardinalityLimit
from wirewitness.telemetry.counters import LabelledCounter


LABELS: Final = ("type", "flag", "variation", "rule", "reason")
_known: Final = CardinalityLimit(most=2000)


class _Instruments:
    """
    The instruments of all clients on one meter provider.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider, SCHEMA_URL)
        self.made = LabelledCounter(*LABELS)
        meter.create_observable_counter(
            f"{SCOPE}.decisions", [self.made.observe], "{decision}", "Decisions that the SDK has made"
        )


@functools.cache
def decisions_on(meter_provider: MeterProvider | None = None) -> LabelledCounter:
    """
    The count of the decisions that a provider shows, None for the global one.
    """
    return _Instruments(meter_provider).made


class FlagDecision(NamedTuple):
    """
    A decision that can be made, and made again: who it was for is no part of it.

    Attributes:
        labels: The counter's label values, bounded.
        attributes: The span event's.
        counted: Where it's counted.
    """

    labels: tuple[str, ...]
    attributes: dict[str, AttributeValue]
    counted: LabelledCounter

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 -- the labels of one counter
        cls, kind: str, flag: str, variation: str, rule: str, reason: str, counted: LabelledCounter
    ) -> FlagDecision:
        """
        A decision by OpenTelemetry's semantic conventions, "Semantic conventions for feature flags in events".

        Args:
            kind: The SDK's name for the kind of decision.
            flag: The flag's key, or that of an experiment that has no flag.
            variation: The variation's key; empty where there's none.
            rule: The rule's key; empty where none applies.
            reason: A value of ``feature_flag.result.reason``.
            counted: Where it's counted: what :func:`decisions_on` returns.
        """
        labels = (kind, flag, variation, rule, reason)
        if _known("\0".join(labels)) == OTHER:
            labels = (kind, OTHER, OTHER, OTHER, reason)
        attributes: dict[str, AttributeValue] = {
            "feature_flag.key": flag,
            "feature_flag.provider.name": "optimizely",
            "feature_flag.result.reason": reason,
        }
        optional = {"feature_flag.result.variant": variation, f"{SCOPE}.rule": rule}
        attributes.update({name: value for name, value in optional.items() if value})
        return cls(labels, attributes, counted)

    def declare(self) -> None:
        """
        Have it counted from zero.
        """
        self.counted.declare(*self.labels)

    def made(self) -> None:
        """
        Count it, and put it on the current span.
        """
        self.counted.count(*self.labels)
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event("feature_flag.evaluation", self.attributes)
