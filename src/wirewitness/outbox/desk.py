"""
Where senders fetch messages and report, and where is decided what comes next.
"""

from __future__ import annotations

import random
import time

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wirewitness._current import Dispatch, Owner
from wirewitness._guard import fail_open
from wirewitness._observe import LISTENERS, OnSettle, call_hook
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.retry import Action, Decision, RetryPolicy, decide
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.ledger import Ending, Ledger, Stage
from wirewitness.outbox.breaker import Breakers
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.message import Message, Origin, origin_of_url
from wirewitness.outbox.sender import Attempt
from wirewitness.outbox.spool import Spool
from wirewitness.outbox.wakeup import Wakeup
from wirewitness.telemetry.metrics import Delivery
from wirewitness.telemetry.outbox import OutboxTelemetry


OnDrop = Callable[[Message, Reason], object]

# However quiet it is, a thread looks after this many seconds: for what dead processes have left.
_LONGEST_WAIT: Final = 5.0
_ADOPT_EVERY: Final = 30.0
_SERVER_ERROR: Final = 500
_MOST_AT_ONCE: Final = 256


class Desk:
    """
    The Outbox's side of its senders. Thread-safe; after a fork, the child makes a new one.

    Args:
        name: The Outbox's name.
        spool: What holds the messages.
        retry: When to try again.
        breakers: Which origins to leave alone.
        ledger: The book.
        telemetry: Where it's shown.
        on_drop: Called with every message that is dropped.
        on_settle: Called with every settled dispatch.
    """

    def __init__(  # noqa: PLR0913 -- all that has a say in what comes next
        self,
        *,
        name: str,
        spool: Spool,
        retry: RetryPolicy,
        breakers: Breakers,
        ledger: Ledger,
        telemetry: OutboxTelemetry,
        on_drop: OnDrop | None,
        on_settle: OnSettle | None,
    ) -> None:
        self._name = name
        self._spool = spool
        self._retry = retry
        self.breakers = breakers
        self._ledger = ledger
        self._telemetry = telemetry
        self._on_drop = on_drop
        self._on_settle = on_settle
        self._out: dict[int, Message] = {}
        self._drain_until: float | None = None
        self._adopt_at = time.monotonic() + _ADOPT_EVERY
        self.wakeup = Wakeup()
        self.stopped = False
        self.recording = False

    def stop(self) -> None:
        """
        Have the senders finish what they have, and return.
        """
        self.stopped = True
        self.wakeup.ring_all()

    def drain(self, seconds: float) -> None:
        """
        Have the senders return once nothing is left, or after so many seconds.
        """
        self._drain_until = time.monotonic() + seconds

    @property
    def _over(self) -> bool:
        until = self._drain_until
        return self.stopped or (until is not None and (time.monotonic() >= until or not self._spool.stats().size))

    def take(self, most: int, timeout: float | None) -> list[Message] | None:
        """
        Messages to be sent now: see :class:`wirewitness.outbox.sender.Desk`.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._over:
            messages = self._claim(most)
            if not messages and timeout != 0:
                messages = self.wakeup.wait_for(lambda: self._wanted(most), lambda: self._patience(until)) or []
            if messages or time.monotonic() >= until:
                return messages
        return None

    def _wanted(self, most: int) -> list[Message] | None:
        # Found nothing, but told to stop: that's an answer, too.
        return [] if self.stopped else self._claim(most) or None

    def _patience(self, until: float) -> float:
        now = time.monotonic()
        due = self._spool.next_due(self.breakers.closed_to(now))
        waits = [_LONGEST_WAIT, until - now, (self._drain_until or until) - now]
        if due is not None:
            waits.append(due - steady())
        probe = self.breakers.next_probe(now)
        if probe is not None:
            waits.append(probe - now)
        return max(0.0, min(waits))

    @fail_open("outbox")
    def _claim(self, most: int) -> list[Message]:
        now, at = time.monotonic(), steady_ns()
        claimed = self._spool.claim(min(most, _MOST_AT_ONCE), at / 1e9, self.breakers.closed_to(now))
        if not claimed:
            self._adopt(now)
            return claimed
        self._ledger.claim(len(claimed))
        if len(claimed) == most:
            self.wakeup.ring()
        kept = claimed if self._all_fit(claimed, at) else self._sorted_out(claimed, at, now)
        self._out.update([(id(message), message) for message in kept])
        self._telemetry.waited(
            [message for message in kept if message.context is not None and not message.attempts], at
        )
        self.recording = bool(LISTENERS) or self._on_settle is not None or self._telemetry.recording()
        return kept

    def _all_fit(self, claimed: list[Message], at: int) -> bool:
        # So it is nearly always, and then no message needs to be looked at.
        lifetime, oldest = self._retry.lifetime, min([message.accepted_ns for message in claimed])
        return self.breakers.all_closed and (lifetime is None or at - oldest <= lifetime * 1e9)

    def _sorted_out(self, claimed: list[Message], at: int, now: float) -> list[Message]:
        return [message for message in claimed if self._fit(message, at) and self._let_through(message, now)]

    def _adopt(self, now: float) -> None:
        if now >= self._adopt_at:
            self._adopt_at = now + _ADOPT_EVERY
            self._ledger.queue(self._spool.adopt())
        lost = self._spool.take_lost()
        if lost:
            self._ledger.end(ending_of(dropped(Reason.CORRUPT)), lost, stage=Stage.QUEUED)

    def _fit(self, message: Message, at: int) -> bool:
        lifetime = self._retry.lifetime
        if lifetime is None or (at - message.accepted_ns) / 1e9 <= lifetime:
            return True
        self._bury(message, message.last or dropped(Reason.EXPIRED), Reason.EXPIRED.value)
        return False

    def _let_through(self, message: Message, now: float) -> bool:
        if not self.breakers.all_closed and message.origin and not self.breakers.allow(message.origin, now):
            self._spool.retry_at(message, 0.0)
            self._ledger.requeue(1)
            return False
        return True

    def done(self, attempts: Sequence[Attempt]) -> None:
        """
        Hear what became of messages: see :class:`wirewitness.outbox.sender.Desk`.
        """
        plain: list[Attempt] = []
        for attempt in attempts:
            # Only once, and not what was given up in the meantime.
            if self._out.pop(id(attempt.message), None) is None:
                continue
            if attempt.dispatch is None:
                plain.append(attempt)
            elif not self._decide(attempt, attempt.dispatch):
                self._requeue(attempt.message)
        if plain:
            self._delivered(plain)

    @fail_open("outbox")
    def _delivered(self, plain: list[Attempt]) -> None:
        self._spool.ack([attempt.message for attempt in plain])
        # Counted by identity: plain successes share a settlement, and hashing its enumerations once a message would be felt.
        numbers = Counter([id(attempt.settlement) for attempt in plain])
        for settlement in {id(attempt.settlement): attempt.settlement for attempt in plain}.values():
            self._ledger.end(ending_of(settlement), numbers[id(settlement)])
        self._ledger.exchanged(sum([attempt.exchanges for attempt in plain]))
        by_answer: dict[tuple[Origin | None, int | None], list[Delivery]] = {}
        for message, _, _, duration, ended_ns, status, *_ in plain:
            delivery = (len(message.body), max(0, ended_ns - message.accepted_ns) / 1e9, duration)
            by_answer.setdefault((origin_of_url(message.url), status), []).append(delivery)
        for (origin, answer), deliveries in by_answer.items():
            if origin is not None and answer is not None:
                self._telemetry.delivered(origin.host, answer, deliveries)
                if not self.breakers.quiet:
                    self.breakers.succeeded(origin)

    @fail_open("outbox")
    def _decide(self, attempt: Attempt, dispatch: Dispatch) -> bool:
        message, settlement = attempt.message, attempt.settlement
        # A sender need not know whose it is.
        dispatch.name = self._name
        message.last = settlement
        self._tell_breaker(attempt)
        decision = self._decision(attempt)
        retry = decision.delay if decision.action is Action.RETRY else None
        waited = max(0.0, (dispatch.started_ns - message.accepted_ns) / 1e9)
        span = self._telemetry.attempted(dispatch, settlement, message.context, waited=waited, retry=retry)
        if decision.action is Action.RETRY:
            message.attempts += 1
            self._ledger.requeue(1, attempt.exchanges)
            self._spool.retry_at(message, steady() + decision.delay)
            return True
        self._finish(message, settlement, decision, attempt.exchanges)
        dispatch.duration = max(0.0, (attempt.ended_ns - message.accepted_ns) / 1e9)
        self._telemetry.ended(len(message.body), dispatch.duration, settlement, span)
        self._tell(dispatch, settlement)
        return True

    def _decision(self, attempt: Attempt) -> Decision:
        message = attempt.message
        return decide(
            self._retry,
            attempt.settlement,
            status=attempt.status,
            attempts=message.attempts + 1,
            age=(attempt.ended_ns - message.accepted_ns) / 1e9,
            retry_after=attempt.retry_after,
            now=time.time(),
            chance=random.random(),  # noqa: S311 -- jitter, not a secret
        )

    def _tell_breaker(self, attempt: Attempt) -> None:
        origin, outcome = attempt.message.origin, attempt.settlement.outcome
        if origin is None or outcome is Outcome.DROPPED:
            return
        if outcome is Outcome.FAILED or (attempt.status is not None and attempt.status >= _SERVER_ERROR):
            self.breakers.failed(origin, time.monotonic())
        elif not self.breakers.quiet:
            # An unconfirmed one, too: a probe that nobody can see must not keep all others waiting for ever.
            self.breakers.succeeded(origin)

    def _finish(self, message: Message, settlement: Settlement, decision: Decision, exchanges: int) -> None:
        if decision.action is Action.ACK:
            self._spool.ack([message])
        else:
            self._spool.bury(message, decision.reason)
        self._ledger.end(ending_of(settlement), exchanges=exchanges)
        if settlement.outcome is Outcome.DROPPED and self._on_drop is not None:
            call_drop_hook(self._on_drop, message, settlement.reason)

    def _bury(self, message: Message, settlement: Settlement, reason: str) -> None:
        self._finish(message, settlement, Decision(Action.BURY, reason=reason), 0)
        self.announce(message, settlement)

    def announce(self, message: Message, settlement: Settlement) -> None:
        """
        Show the end of a message that no attempt led to.
        """
        dispatch = record_of(self._name, message, self)
        dispatch.duration = max(0.0, (steady_ns() - message.accepted_ns) / 1e9)
        dispatch.end(settlement, ())
        span = self._telemetry.attempted(dispatch, settlement, message.context, waited=dispatch.duration, retry=None)
        self._telemetry.ended(len(message.body), dispatch.duration, settlement, span)
        self._tell(dispatch, settlement)

    def _tell(self, dispatch: Dispatch, settlement: Settlement) -> None:
        self._telemetry.told(dispatch, settlement)
        hooks = LISTENERS if self._on_settle is None else (self._on_settle, *LISTENERS)
        for hook in tuple(hooks):
            call_hook(hook, dispatch)

    def put_back(self, messages: Iterable[Message]) -> None:
        """
        Take back what a sender's thread had when it broke down.
        """
        for message in messages:
            if self._out.pop(id(message), None) is not None:
                self._requeue(message)

    @fail_open("outbox")
    def _requeue(self, message: Message) -> None:
        self._ledger.requeue(1)
        self._spool.retry_at(message, steady() + 1.0)

    def lose(self, messages: Iterable[Message]) -> int:
        """
        Settle messages that are lost with the spool.

        Returns:
            How many.
        """
        given = list(messages)
        for message in given:
            stage = Stage.QUEUED if self._out.pop(id(message), None) is None else Stage.IN_FLIGHT
            settlement = message.last or dropped(Reason.SHUTDOWN)
            self._ledger.end(ending_of(settlement), stage=stage)
            self.announce(message, settlement)
            if self._on_drop is not None:
                call_drop_hook(self._on_drop, message, Reason.SHUTDOWN)
        return len(given)

    def keep(self) -> None:
        """
        Count what senders still have as queued: the spool keeps it, and gives it out again when it is started again.
        """
        for key in tuple(self._out):
            if self._out.pop(key, None) is not None:
                self._ledger.requeue(1)

    # What an observer of attempts calls of the owner of a record.

    def reconsider(self, dispatch: Dispatch) -> None:
        """
        Late evidence of what has ended changes nothing.
        """

    def recognised(self, dispatch: Dispatch) -> None:
        """
        Nor does this.
        """

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """
        Nor can it be given up any more.
        """

    def ignores_requests(self, dispatch: Dispatch) -> bool:  # noqa: ARG002 -- the protocol's
        """
        No request is made for what was never attempted.
        """
        return True


def ending_of(settlement: Settlement) -> Ending:
    """
    What a settlement is counted by.
    """
    return (settlement.outcome, settlement.reason, settlement.verdict)


def dropped(reason: Reason) -> Settlement:
    """
    The settlement of a message that was never attempted.
    """
    return Settlement(Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, reason)


def record_of(name: str, message: Message, owner: Owner) -> Dispatch:
    """
    A closed record of a message.
    """
    dispatch = Dispatch(name, owner, method=message.method, url=message.url, payload=message.payload)
    dispatch.open = False
    dispatch.started_ns = message.accepted_ns
    return dispatch


@fail_open("hook")
def call_drop_hook(hook: OnDrop, message: Message, reason: Reason) -> None:
    """
    Call a user's hook.
    """
    hook(message, reason)
