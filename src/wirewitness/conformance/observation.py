"""
What was seen of one scenario: by the sink, by the caller, and by the witness.
"""

from __future__ import annotations

import enum

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from wirewitness.conformance.sink import Received


class Mark(enum.StrEnum):
    """
    How a dispatcher did in a scenario.
    """

    PASS = "pass"  # noqa: S105 -- no password
    FAIL = "fail"
    WARN = "warn"
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True)
class Result:
    """
    A scenario's judgement.

    Attributes:
        mark: The verdict.
        reason: One line that says why.
    """

    mark: Mark
    reason: str


def passed(reason: str) -> Result:
    """
    The contract was kept.
    """
    return Result(Mark.PASS, reason)


def failed(reason: str) -> Result:
    """
    The contract was broken.
    """
    return Result(Mark.FAIL, reason)


def warned(reason: str) -> Result:
    """
    Nothing was lost, or the caller could know; but it could hurt.
    """
    return Result(Mark.WARN, reason)


def not_applicable(reason: str) -> Result:
    """
    The scenario doesn't fit the dispatcher, or can't run here.
    """
    return Result(Mark.NOT_APPLICABLE, reason)


@dataclass(frozen=True)
class Report:
    """
    What the process that held the dispatcher says.

    Attributes:
        calls: For each call: ``returned`` and ``raised`` as texts, ``seconds`` until it came back.
        mutated: Whether the payload that the caller gave was changed in place.
        told: What the dispatcher said afterwards, by who was asked: ``flush()``, ``close()``, ``stop()``, ``its ledger``.
        logged: Log records at WARNING and above.
        dispatches: The witness's: ``outcome``, ``verdict``, ``reason`` and ``exchanges`` of each.
        counted: The HTTP requests in the dispatcher's own book, if it has one that holds the last exchanges only.
        three: Whether it's called with a verb, a URL and parameters, and so without header fields.
        problem: Why the dispatcher couldn't be had, if so.
        skipped: Why the scenario can't run here, if so.
    """

    calls: tuple[Mapping[str, Any], ...] = ()
    mutated: bool = False
    told: Mapping[str, str] = field(default_factory=dict)
    logged: int = 0
    dispatches: tuple[Mapping[str, Any], ...] = ()
    counted: int | None = None
    three: bool = False
    problem: str | None = None
    skipped: str | None = None

    @classmethod
    def of(cls, read: Mapping[str, Any]) -> Report:
        """
        A report from its JSON.
        """
        known = {name: value for name, value in read.items() if name in cls.__dataclass_fields__}
        lists = {name: tuple(known[name]) for name in ("calls", "dispatches") if name in known}
        return cls(**dict(known, **lists))

    @property
    def blocked(self) -> float:
        """The longest time that a call took, seconds."""
        return max((float(call["seconds"]) for call in self.calls), default=0.0)

    @property
    def raised(self) -> str | None:
        """The class of the first exception that came out of a call, or None."""
        return next((call["raised"] for call in self.calls if call["raised"]), None)

    @property
    def returned(self) -> str:
        """What the last call returned."""
        return str(self.calls[-1]["returned"]) if self.calls else ""

    @property
    def exchanges(self) -> list[Mapping[str, Any]]:
        """The exchanges that the witness saw, each once: a call within a call and a batch give one to several dispatches."""
        outer = [dispatch for dispatch in self.dispatches if not dispatch.get("nested")]
        found = [exchange for dispatch in outer for exchange in dispatch["exchanges"]]
        moments = [exchange.get("started_ns", -number) for number, exchange in enumerate(found)]
        return list(dict(zip(moments, found, strict=True)).values())


EMPTY: Final = Report()

VARIES: Final = "something else every time"
"""What differs between two successes, such as an id: it tells no failure."""


def usual(one: Report, other: Report) -> Report:
    """
    What two successes have in common.
    """
    told = {who: said if other.told.get(who) == said else VARIES for who, said in one.told.items()}
    returned = one.returned if other.returned == one.returned else VARIES
    calls = tuple({**call, "returned": returned} for call in one.calls)
    return replace(one, told=told, calls=calls)


@dataclass(frozen=True)
class Observation:
    """
    All that is known of one run of a scenario.

    Attributes:
        wanted: The bytes that the caller meant, one for each event.
        requests: What arrived at the sink.
        report: What the dispatcher's process said.
        died: How that process ended, if not as it should.
        success: The report of the plain scenario, which tells what success looks like to the caller.
    """

    wanted: tuple[bytes, ...]
    requests: tuple[Received, ...] = ()
    report: Report = EMPTY
    died: str | None = None
    success: Report = EMPTY

    @property
    def complete(self) -> list[Received]:
        """The requests that arrived whole."""
        return [request for request in self.requests if request.complete]

    @property
    def telling(self) -> str | None:
        """
        How the caller can know that something went wrong; None if it can't. A log record tells no caller.
        """
        if self.report.raised:
            return f"raised {self.report.raised}"
        usual = self.success.returned
        other = [call["returned"] for call in self.report.calls if usual not in {call["returned"], VARIES}]
        if other:
            return f"returned {other[0]}"
        known = self.success.told
        told = [f"{who} said {said}" for who, said in self.report.told.items() if known.get(who) not in {said, VARIES}]
        return told[0] if told else None

    @property
    def silence(self) -> str:
        """What to say where nobody was told."""
        return "nobody told (it was logged)" if self.report.logged else "nobody told"


@dataclass(frozen=True)
class Scenario:
    """
    One thing that can happen to a dispatcher.

    Attributes:
        name: The group and what happens, as in ``status/503``.
        summary: One line.
        explanation: Why it matters, and what a dispatcher should do.
        judge: Decides from what was seen.
        path: The path to send to; it tells the sink what to do.
        params: Makes the payload.
        verb: The HTTP method asked for.
        headers: The header fields asked for.
        act: What is done with the dispatcher.
        endpoint: What is at the other end: ``sink``, ``refused``, ``tls``, ``dns`` or ``proxy``.
        events: How many events there are.
        expects: How many requests are waited for.
    """

    name: str
    summary: str
    explanation: str
    judge: Callable[[Scenario, Observation], Result]
    path: str = "/v1/events"
    params: Callable[[], Any] = dict
    verb: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    act: str = "one"
    endpoint: str = "sink"
    events: int = 1
    expects: int = 1

    @property
    def group(self) -> str:
        """What it's about: the part of the name before the slash."""
        return self.name.partition("/")[0]

    def payloads(self) -> list[Any]:
        """
        What is dispatched, made anew: of several events, each has its number.
        """
        if self.events == 1:
            return [self.params()]
        return [{**self.params(), "number": number} for number in range(self.events)]
