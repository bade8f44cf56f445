"""
What was seen of one scenario: by the sink, by the caller, and by the witness.
"""

from __future__ import annotations

import enum
import hashlib
import re

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from wirewitness.conformance.sink import Received
from wirewitness.errors import shown


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


class Said(NamedTuple):
    """
    What a dispatcher returned.

    Attributes:
        returned: What may be shown of it: a type and a length, a number as small as a status code, a word that says success
            or failure. Whatever else stands in it can be a payload or a key.
        digest: Tells it from another that is shown alike.
    """

    returned: str
    digest: str


_WORDS: Final = frozenset(
    [
        "ok",
        "success",
        "succeeded",
        "accepted",
        "queued",
        "enqueued",
        "sent",
        "delivered",
        "done",
        "failed",
        "failure",
        "error",
        "rejected",
        "dropped",
        "lost",
        "timeout",
        "retry",
        "pending",
        "true",
        "false",
        "yes",
        "no",
    ]
)
_SHORT: Final = 1000


def described(value: Any) -> Said:
    """
    A returned value, as far as it tells success from failure.
    """
    kind = type(value).__name__
    try:
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        return Said(_shown(value), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    except Exception:  # noqa: BLE001 -- what a returned value does when it is looked at is no exception of the call's
        return Said(kind, kind)


def _shown(value: Any) -> str:
    for name in ("status_code", "status", "code"):
        status = getattr(value, name, None)
        if isinstance(status, int):
            return f"{type(value).__name__} {int(status)}" if abs(status) < _SHORT else type(value).__name__
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value).__module__.partition(".")[0] == "wirewitness":
        return str(value)
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return value.strip()
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < _SHORT):
        return repr(value)
    return type(value).__name__ if isinstance(value, (int, float)) else shown(value)


@dataclass(frozen=True)
class Report:
    """
    What the process that held the dispatcher says.

    Attributes:
        calls: For each call: ``returned`` and ``raised`` as texts that may be shown, ``digest`` of what was returned, to tell
            it from another that is shown alike, ``seconds`` until it came back.
        mutated: Whether the payload that the caller gave was changed in place.
        told: What the dispatcher said afterwards, by who was asked: ``flush()``, ``close()``, ``stop()``, ``its ledger``.
        digests: Of what ``told`` says, by who was asked.
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
    digests: Mapping[str, str] = field(default_factory=dict)
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
    def result(self) -> str:
        """What tells the last call's returned value from another."""
        return identity(self.calls[-1]) if self.calls else ""

    def answer(self, who: str) -> str | None:
        """
        What tells from another what somebody said, if asked.
        """
        return self.digests.get(who, self.told.get(who))

    @property
    def exchanges(self) -> list[Mapping[str, Any]]:
        """The exchanges that the witness saw, each once: a call within a call and a batch give one to several dispatches."""
        outer = [dispatch for dispatch in self.dispatches if not dispatch.get("nested")]
        found = [exchange for dispatch in outer for exchange in dispatch["exchanges"]]
        moments = [exchange.get("started_ns", -number) for number, exchange in enumerate(found)]
        return list(dict(zip(moments, found, strict=True)).values())


def identity(call: Mapping[str, Any]) -> str:
    """
    What tells a call's returned value from another.
    """
    return str(call.get("digest", call["returned"]))


EMPTY: Final = Report()

VARIES: Final = "something else every time"
"""What differs between two successes, such as an id: it tells no failure."""


def usual(one: Report, other: Report) -> Report:
    """
    What two successes have in common.
    """
    told = {who: said if other.answer(who) == one.answer(who) else VARIES for who, said in one.told.items()}
    calls = one.calls
    if one.result != other.result:
        calls = tuple({**call, "returned": VARIES, "digest": VARIES} for call in calls)
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

    wanted: tuple[bytes, ...] = field(repr=False)
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
        success, report = self.success, self.report
        if success.returned != VARIES:
            for call in report.calls:
                if identity(call) != success.result:
                    return f"returned {call['returned']}"
        for who, said in report.told.items():
            if success.told.get(who) != VARIES and success.answer(who) != report.answer(who):
                return f"{who} said {said}"
        return None

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
