"""
What happens in the demo, and how each dispatch must end: a table.
"""

from __future__ import annotations

import enum

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from optimizely.event_dispatcher import EventDispatcher

from wirewitness.cli.demo.senders import DemoSender, ReserialisingSender, TamperingSender, ThreadedSender
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.verdict import Evidence, Verdict


class Act(enum.Enum):
    """
    What the client is asked to do.
    """

    DECIDE = "decide"
    """Decide on the flag: an impression."""
    TRACK = "track"
    """Track an order: a conversion."""


class Ending(NamedTuple):
    """
    How a dispatch ends.

    Attributes:
        outcome: The outcome.
        verdict: What happened to the payload.
        evidence: How far it was followed.
        reason: Why.
    """

    outcome: Outcome
    verdict: Verdict
    evidence: Evidence
    reason: Reason = Reason.NONE

    def __str__(self) -> str:
        words = (self.outcome.name, self.verdict.name, self.evidence.value, self.reason.value)
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class DemoScenario:
    """
    One dispatch.

    Attributes:
        title: What happens, in the table.
        name: The dispatcher's name, in spans and metrics.
        sender: Makes the dispatcher.
        path: What is asked of the endpoint; None for a port where nobody listens.
        act: What makes the event.
        expected: How it must end.
        who: What the findings call the dispatcher.
    """

    title: str
    name: str
    sender: Callable[[], DemoSender | type[EventDispatcher]]
    path: str | None
    act: Act
    expected: Ending
    who: str = "one sender"


def _of_the_sdk(title: str, name: str, path: str | None, act: Act, expected: Ending) -> DemoScenario:
    return DemoScenario(
        title, f"optimizely-{name}", lambda: EventDispatcher, path, act, expected, "the SDK's dispatcher"
    )


_EVENTS: Final = "/v1/events"
_IDENTICAL: Final = Ending(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE)
_UNAVAILABLE: Final = Ending(Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.STATUS_5XX)
_REFUSED: Final = Ending(Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.REFUSED)
_BODY_LOST: Final = Ending(Outcome.REJECTED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BODY_LOST)
_EQUIVALENT: Final = Ending(Outcome.DELIVERED, Verdict.EQUIVALENT, Evidence.RESPONSE)
_TAMPERED: Final = Ending(Outcome.DELIVERED, Verdict.ALTERED, Evidence.RESPONSE, Reason.BYTES_DIFFER)

SCENARIOS: Final = (
    _of_the_sdk("all well", "all-well", _EVENTS, Act.DECIDE, _IDENTICAL),
    _of_the_sdk("503", "503", "/status/503", Act.TRACK, _UNAVAILABLE),
    _of_the_sdk("nobody listens", "refused", None, Act.DECIDE, _REFUSED),
    _of_the_sdk("a slow answer", "slow", "/slow/150", Act.TRACK, _IDENTICAL),
    _of_the_sdk("302", "302", "/redirect/302", Act.TRACK, _BODY_LOST),
    DemoScenario(
        "a sender re-serialises", "reserialising-sender", ReserialisingSender, _EVENTS, Act.DECIDE, _EQUIVALENT
    ),
    DemoScenario("a sender tampers", "tampering-sender", TamperingSender, _EVENTS, Act.TRACK, _TAMPERED),
    DemoScenario("a sender with a thread", "threaded-sender", ThreadedSender, _EVENTS, Act.TRACK, _IDENTICAL),
)
