"""
One dispatch, and the ContextVar that holds the current one.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import EllipsisType
from typing import Any, Final, Protocol

from wirewitness._clock import Clock, plausible
from wirewitness.core.exchange import Address, Exchange, address_of
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import Payload
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict


class ObservedRequest(Protocol):
    """
    What a tap hangs on a dispatch when a request begins, and fills in until it's over.
    """

    @property
    def over(self) -> bool:
        """Whether a response or a failure has ended it."""
        ...

    def exchange(self, resend_count: int) -> Exchange:
        """What is known of it by now."""
        ...


class Owner(Protocol):
    """
    Whoever opened a dispatch, and settles it.
    """

    def reconsider(self, dispatch: Dispatch) -> None:
        """Late evidence has come in."""
        ...

    def recognised(self, dispatch: Dispatch) -> None:
        """Its bytes have shown up in a context that isn't its own, which is the current one now."""
        ...

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """No more evidence is waited for."""
        ...

    def ignores_requests(self, dispatch: Dispatch) -> bool:
        """Whether requests made right now are nobody's business, such as those of a telemetry exporter."""
        ...


class Dispatch:
    """
    One call of a dispatcher: the only object here that changes.

    Attributes:
        name: The dispatcher's name.
        owner: Whoever opened it.
        method: The HTTP method that the caller asked for, or an empty string.
        payload: What was meant, or None where it couldn't be known.
        body: The payload's bytes, empty where it couldn't be known.
        unknown: Why there's no payload, if there's none.
        source: The very object that the payload was read from, while the call runs.
        parent: The dispatch within whose inner call this one began, or None.
        started_ns: When the call began, Unix nanoseconds.
        duration: Seconds from the call's begin to its return, or to its last evidence if that came later.
        open: Whether the inner call runs.
        settlement: How it ended; None while it hasn't.
        unseen: Why nothing may have been seen of it.
        redirected_to: Where late requests for it were redirected to.
        deadline: Until when late evidence is waited for, monotonic seconds.
        trace: What telemetry keeps of it.
        outside: The dispatch that is current again when this one is left.
    """

    # Most dispatches leave most of these alone: as class attributes they cost no time to set.
    duration: float = 0.0
    open = True
    settlement: Settlement | None = None
    unseen = Reason.NO_EVIDENCE
    redirected_to: tuple[Address, ...] = ()
    deadline: float = 0.0
    trace: Any = None
    outside: Dispatch | None = None
    _exchanges: tuple[Exchange, ...] | None = None
    _target: Address | EllipsisType | None = Ellipsis

    def __init__(  # noqa: PLR0913 -- one call, one place that makes it
        self,
        name: str,
        owner: Owner,
        *,
        method: str = "",
        url: object = None,
        payload: Payload | None = None,
        unknown: Reason = Reason.UNKNOWN_PAYLOAD,
        source: object = None,
        parent: Dispatch | None = None,
    ) -> None:
        self.name = name
        self.owner = owner
        self.method = method
        self.payload = payload
        self.body: bytes = b"" if payload is None else payload.body
        self.unknown = unknown
        self.source = source
        self.parent = parent
        self._url = url
        self._attempts: list[ObservedRequest] = []
        self.started_ns: int = Clock.wall_ns()
        self._clock = Clock.perf_counter()

    @property
    def target(self) -> Address | None:
        """Where the caller asked it to go, or None."""
        if self._target is ...:
            self._target = _address_in(self._url)
        return self._target

    def expects(self, address: Address) -> bool:
        """
        Whether a request to this address can be this dispatch's: any can where no target is known.
        """
        target = self.target
        return target is None or target == address or address in self.redirected_to

    def attach(self, attempt: ObservedRequest) -> None:
        """
        Count a request as made for this dispatch, and for those that it is nested in.
        """
        self._attempts.append(attempt)
        if self.parent is not None and self.parent.open:
            self.parent.attach(attempt)

    def detach(self, attempt: ObservedRequest) -> None:
        """
        Take a request back that turned out to be another dispatch's.
        """
        if attempt in self._attempts:
            self._attempts.remove(attempt)
        if self.parent is not None:
            self.parent.detach(attempt)

    def touch(self) -> None:
        """
        Something happened: the dispatch lasts at least until now.
        """
        self.duration = plausible(Clock.perf_counter() - self._clock)

    def end(self, settlement: Settlement, exchanges: tuple[Exchange, ...]) -> bool:
        """
        Close the record: what it was judged by, and how.

        Returns:
            Whether it was this call that did so: two threads may have evidence at one instant.
        """
        once = object()
        # One step of the interpreter: whoever comes second finds the first one's.
        if vars(self).setdefault("_ended", once) is not once:
            return False
        self._exchanges = exchanges
        self._attempts = []
        self.settlement = settlement
        return True

    @property
    def attempted(self) -> bool:
        """Whether any request was made for it."""
        return bool(self._attempts or self._exchanges)

    @property
    def busy(self) -> bool:
        """Whether a request is under way for it."""
        return any(not attempt.over for attempt in self._attempts)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The requests made for it, in order."""
        if self._exchanges is not None:
            return self._exchanges
        return tuple(attempt.exchange(index) for index, attempt in enumerate(self._attempts))

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it hasn't."""
        return None if self.settlement is None else self.settlement.outcome

    @property
    def verdict(self) -> Verdict:
        """What happened to the payload; ``UNOBSERVED`` while nothing is known."""
        return Verdict.UNOBSERVED if self.settlement is None else self.settlement.verdict

    @property
    def evidence(self) -> Evidence:
        """How far the payload was followed."""
        return Evidence.CALL if self.settlement is None else self.settlement.evidence

    @property
    def reason(self) -> Reason:
        """Why it ended as it did."""
        return Reason.NONE if self.settlement is None else self.settlement.reason

    @property
    def offset(self) -> int | None:
        """Index of the first byte that the wire didn't carry, for an ``ALTERED`` whose bytes differ."""
        return None if self.settlement is None else self.settlement.offset

    def __repr__(self) -> str:
        if self.settlement is None:
            return f"<Dispatch {self.name} pending>"
        ended = self.settlement
        words = (ended.outcome.name, ended.verdict.name, ended.evidence.value, ended.reason.value)
        return f"<Dispatch {self.name} {' '.join(word for word in words if word)}>"


def _address_in(url: object) -> Address | None:
    # Some callers' URLs are objects of their HTTP library, whose text is the URL.
    try:
        return None if url is None else address_of(url if isinstance(url, str) else _text(url))
    except Exception:  # noqa: BLE001 -- it's the caller's object: one that has no text is no URL
        return None


def _text(url: object) -> str:
    return url.decode("latin-1") if isinstance(url, bytes) else str(url)


CURRENT: Final[ContextVar[Dispatch | None]] = ContextVar("wirewitness_current", default=None)


def current() -> Dispatch | None:
    """
    The dispatch whose inner call runs in this context, or None.

    A context copied into a task or thread can outlive the call; then the dispatch in it no longer counts.
    """
    dispatch = CURRENT.get()
    return dispatch if dispatch is not None and dispatch.open else None
