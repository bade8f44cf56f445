"""
Delivery: lease, send, decide, acknowledge.

Every message that is being sent stands in one registry, :mod:`wirewitness.outbox.leases`, from the moment the spool gave it
until its attempt is decided. Whoever takes the lease out of the registry, by one ``pop``, decides about the message; whoever comes
second finds nothing and does nothing. So a message is settled once, however its attempt ends: in the sending thread, by
evidence that comes later in another one, by a thread that broke down, or by the end of the process.

A message has one writer at a time: the caller's thread until the spool has it, then whoever holds its lease.

Threads: :mod:`wirewitness.outbox.threads` runs :meth:`DeliveryLoop.run` in as many as the sender wants. In a forked child, the
Outbox makes a new loop; nothing in here survives a fork.
"""

from __future__ import annotations

import random
import threading

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from wirewitness import feedback
from wirewitness._clock import monotonic, wall_ns
from wirewitness._guard import fail_open
from wirewitness._observe import LISTENERS, OnSettle, tell
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.retry import Action, Decision, RetryPolicy, away, decide, pause_asked, says_something
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence
from wirewitness.dispatch import Dispatch
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ledger, Stage
from wirewitness.outbox.backpressure import BackPressure
from wirewitness.outbox.breaker import Breakers
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.leases import Leases
from wirewitness.outbox.message import Form, Message, Origin, origin_of_url
from wirewitness.outbox.results import OnDrop, attempt_of, by_answer, call_drop_hook, dropped, ending_of
from wirewitness.outbox.sender import Answer, Attempt, MultiplexingSender, Sender, Unsendable
from wirewitness.outbox.spool import Spool
from wirewitness.outbox.wakeup import Wakeup
from wirewitness.telemetry.metrics import Delivery
from wirewitness.telemetry.outbox import OutboxTelemetry
from wirewitness.watch import Watch


# However quiet it is, a thread looks after this many seconds: for what dead processes have left.
_LONGEST_WAIT: Final = 5.0
_ADOPT_EVERY: Final = 30.0
_MOST_AT_ONCE: Final = 256
# How long a thread rests whose sender broke down, and a message that it had.
_REST: Final = 1.0
# How long a message waits that left being a probe to another one.
_PASSED_OVER: Final = 0.05

_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503


class DeliveryLoop:
    """
    Leases messages to senders, and decides what comes next. Thread-safe: what has a lock of its own guards itself, and all
    else has one writer, who has the message's lease.

    Args:
        name: The Outbox's name.
        sender: What sends.
        spool: What holds the messages.
        retry: When to try again.
        breakers: Which origins to leave alone.
        ledger: The book.
        telemetry: Where it's shown.
        evidence_timeout: Seconds for which bytes are waited for that an inner dispatcher didn't send at once.
        on_drop: Called with every message that is dropped.
        on_settle: Called with every settled dispatch.

    Attributes:
        threads: How many are to call :meth:`run`.
    """

    def __init__(  # noqa: PLR0913 -- all that has a say in what comes next
        self,
        *,
        name: str,
        sender: Sender | MultiplexingSender,
        spool: Spool,
        retry: RetryPolicy,
        breakers: Breakers,
        ledger: Ledger,
        telemetry: OutboxTelemetry,
        evidence_timeout: float,
        on_drop: OnDrop | None,
        on_settle: OnSettle | None,
    ) -> None:
        self._name = name
        self._sender: Any = sender
        self._spool = spool
        self._retry = retry
        self.breakers = breakers
        self.back_pressure: BackPressure = BackPressure()
        self._ledger = ledger
        self._telemetry = telemetry
        self._on_drop = on_drop
        self._on_settle = on_settle
        self._watch = Watch(telemetry, evidence_timeout, self._late)
        self._awaited: dict[Dispatch, Message] = {}
        self._deciding: list[int] = []
        spare = int(getattr(sender, "spare", 0))
        self._leases = Leases(max(1, int(getattr(sender, "connections", sender.threads))) + spare, spare)
        # The spare places of a sender that sends one by one are threads, those of a multiplexing one are connections.
        self.threads: int = sender.threads + (spare if hasattr(sender, "send") else 0)
        self._drain_until: float | None = None
        self._adopt_at = monotonic() + _ADOPT_EVERY
        self.wakeup: Wakeup = Wakeup()
        self.stopped: bool = False
        self.recording: bool = False

    # The senders' side

    def run(self) -> None:
        """
        Send until told to stop, in the calling thread.
        """
        with feedback.delivering(self._telemetry.voice):
            if not hasattr(self._sender, "send"):
                self._sender.run(self)
                return
            while (messages := self.take(1, None)) is not None:
                for message in messages:
                    feedback.be_quiet(quiet=message.quiet)
                    attempt = self._attempt(message)
                    if attempt is not None:
                        self.done([attempt])

    def _attempt(self, message: Message) -> Attempt | None:
        """
        Send a message, and judge what became of it; None where that will be known later, see :meth:`_late`.
        """
        url = None if message.form is Form.QUERY else message.url
        dispatch = Dispatch(self._name, self._watch, method=message.method, url=url, payload=message.payload)
        token = self._telemetry.within(message.context)
        answer: Answer | None = None
        error: BaseException | None = None
        self._awaited[dispatch] = message
        self._watch.begin(dispatch)
        try:
            answer = self._sender.send(message)
        except KeyboardInterrupt as interrupt:
            error = interrupt
            if threading.current_thread() is threading.main_thread():
                raise
        except BaseException as raised:  # noqa: BLE001 -- an inner dispatcher's SystemExit ends an attempt, and no thread of ours
            error = raised
        finally:
            settlement = self._watch.end(dispatch, error)
            self._telemetry.without(token)
        if isinstance(error, Unsendable):
            EVIDENCE.discard(dispatch)
            settlement = dispatch.settlement = dropped(Reason.UNSENDABLE)
        elif isinstance(answer, Answer) and (settlement is None or settlement.outcome is Outcome.UNCONFIRMED):
            # The tap saw nothing, but the sender holds the response: that is evidence of the response, and of no bytes.
            if dispatch.settlement is None:
                dispatch.end(by_answer(answer), ())
                EVIDENCE.discard(dispatch)
            settlement = dispatch.settlement = by_answer(answer)
        elif settlement is None:
            self._leases.only_awaited(message)
            return None
        self._awaited.pop(dispatch, None)
        return attempt_of(message, dispatch, settlement, answer)

    def _late(self, dispatch: Dispatch, settlement: Settlement) -> None:
        message = self._awaited.pop(dispatch, None)
        if message is not None:
            self.done([attempt_of(message, dispatch, settlement, None)])

    def only_awaits(self, number: int) -> bool:
        """
        Whether so many attempts have returned and left no trace, and nothing else goes on.
        """
        awaited = tuple(self._awaited)
        return 0 < number == len(awaited) and not any(dispatch.open or dispatch.attempted for dispatch in awaited)

    def give_up_waiting(self) -> None:
        """
        Wait for no more evidence: attempts that nobody has seen are settled as such.
        """
        for dispatch in tuple(self._awaited):
            if not dispatch.open:
                EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)

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
        self._drain_until = monotonic() + seconds

    @property
    def _over(self) -> bool:
        until = self._drain_until
        return self.stopped or (until is not None and (monotonic() >= until or not self._spool.stats().size))

    # Lease

    def take(self, most: int, timeout: float | None) -> list[Message] | None:
        """
        Messages to be sent now: see :class:`wirewitness.outbox.sender.Lane`.
        """
        until = float("inf") if timeout is None else monotonic() + timeout
        while not self._over:
            messages = self._claim(most)
            if not messages and timeout != 0:
                messages = self.wakeup.wait_for(lambda: self._wanted(most), lambda: self._patience(until)) or []
            if messages or monotonic() >= until:
                return messages
        return None

    def _wanted(self, most: int) -> list[Message] | None:
        # Found nothing, but told to stop: that's an answer, too.
        return [] if self.stopped else self._claim(most) or None

    def _patience(self, until: float) -> float:
        now = monotonic()
        due = self._spool.next_due(self._closed_to(now))
        waits = [_LONGEST_WAIT, until - now, (self._drain_until or until) - now]
        if due is not None:
            waits.append(due - steady())
        waits += [when - now for when in (self.breakers.next_probe(now), self.back_pressure.next_free(now)) if when]
        return max(0.0, min(waits))

    def _closed_to(self, now: float) -> frozenset[Origin]:
        return (
            self.breakers.closed_to(now)
            | self.back_pressure.closed_to(now, self._leases.in_flight)
            | self._leases.closed_to()
        )

    @fail_open("outbox")
    def _claim(self, most: int) -> list[Message]:
        now, at = monotonic(), steady_ns()
        number = self._leases.at_once(min(most, _MOST_AT_ONCE))
        plain = number > 0 and self.breakers.all_closed and self.back_pressure.quiet
        if not plain:
            # Origins are held back: one by one, for each is asked for leave.
            number = 1
        claimed = self._spool.claim(number, at / 1e9, frozenset() if plain else self._closed_to(now))
        if not claimed:
            self._adopt(now)
            return claimed
        self._ledger.claim(len(claimed))
        if len(claimed) == number:
            # Whoever finds work wakes the next: there may be more.
            self.wakeup.wake_another()
        lifetime = self._retry.lifetime
        oldest = min([message.accepted_ns for message in claimed])
        if not plain or (lifetime is not None and at - oldest > lifetime * 1e9):
            claimed = [message for message in claimed if self._in_time(message, at) and self._let_through(message, now)]
        beyond = self._leases.add(claimed, now, threading.get_ident())
        if beyond:
            claimed = [message for message in claimed if message not in beyond]
            for message in beyond:
                self._spool.retry_at(message, 0.0)
                self._ledger.requeue(1)
        self._telemetry.waited(
            [message for message in claimed if message.context is not None and not message.attempts], at
        )
        self.recording = bool(LISTENERS) or self._on_settle is not None or self._telemetry.recording()
        return claimed

    def _adopt(self, now: float) -> None:
        if now >= self._adopt_at:
            self._adopt_at = now + _ADOPT_EVERY
            self._ledger.queue(self._spool.adopt())
        lost = self._spool.take_lost()
        if lost:
            self._ledger.end(ending_of(dropped(Reason.CORRUPT)), lost, stage=Stage.QUEUED)

    def _in_time(self, message: Message, at: int) -> bool:
        lifetime = self._retry.lifetime
        if lifetime is None or (at - message.accepted_ns) / 1e9 <= lifetime:
            return True
        settlement = message.last or dropped(Reason.EXPIRED)
        self._deciding.append(threading.get_ident())
        try:
            self._finish(message, settlement, Decision(Action.DEAD_LETTER, reason=Reason.EXPIRED.value), 0)
            self.announce(message, settlement)
        finally:
            self._deciding.remove(threading.get_ident())
        return False

    def _let_through(self, message: Message, now: float) -> bool:
        origin, due = message.origin, 0.0
        if origin is None or self.breakers.all_closed:
            if self.back_pressure.allow(origin, now, self._leases.in_flight):
                return True
        elif message.attempts and self.breakers.pass_over(origin, message.key, now):
            due = steady() + _PASSED_OVER
        elif self.breakers.allow(origin, now):
            return True
        self._spool.retry_at(message, due)
        self._ledger.requeue(1)
        return False

    # Decide

    @property
    def deciding(self) -> bool:
        """
        Whether another thread is about to count and tell what became of a message: the spool may have forgotten it already.
        """
        return any(thread != threading.get_ident() for thread in tuple(self._deciding))

    def done(self, attempts: Sequence[Attempt]) -> None:
        """
        Hear what became of messages: see :class:`wirewitness.outbox.sender.Lane`.
        """
        now = monotonic()
        plain: list[Attempt] = []
        self._deciding.append(threading.get_ident())
        try:
            for attempt in attempts:
                if self._leases.release(attempt.message, now) is None:
                    continue
                if attempt.dispatch is None:
                    plain.append(attempt)
                elif not self._decide(attempt, attempt.dispatch):
                    self._requeue(attempt.message)
            if plain:
                self._delivered(plain)
        finally:
            self._deciding.remove(threading.get_ident())
        if not self.back_pressure.quiet:
            # A window may have opened for those who wait.
            self.wakeup.wake_another()

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
                if not self.back_pressure.quiet:
                    for _ in deliveries:
                        self.back_pressure.taken(origin)

    @fail_open("outbox")
    def _decide(self, attempt: Attempt, dispatch: Dispatch) -> bool:
        message, settlement = attempt.message, attempt.settlement
        feedback.be_quiet(quiet=message.quiet)
        # A sender need not know whose it is.
        dispatch.name = self._name
        message.last = settlement
        alone = self._tell_origin(attempt)
        if alone or says_something(settlement, attempt.status, attempt.exchanges):
            message.answers += 1
        decision = decide(
            self._retry,
            settlement,
            status=attempt.status,
            attempts=message.attempts + 1,
            answers=message.answers,
            age=(attempt.ended_ns - message.accepted_ns) / 1e9,
            retry_after=attempt.retry_after,
            now=wall_ns() / 1e9,
            chance=random.random(),  # noqa: S311 -- jitter, not a secret
        )
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

    def _tell_origin(self, attempt: Attempt) -> bool:
        """
        Draw from an attempt what it says of the server, and only that: a message that could not be sent says nothing.

        Returns:
            Whether the server refuses this message, and took another one since it refused it before.
        """
        message, status, outcome = attempt.message, attempt.status, attempt.settlement.outcome
        origin = message.origin
        if origin is None or outcome is Outcome.DROPPED:
            return False
        now = monotonic()
        if status == _TOO_MANY or (status == _UNAVAILABLE and attempt.retry_after is not None):
            asked = pause_asked(self._retry, attempt.retry_after, wall_ns() / 1e9)
            pause = self._retry.delay(message.attempts + 1, 0.5) if asked is None else asked
            self.back_pressure.throttled(origin, now, pause)
            self.breakers.succeeded(origin, took=False)
        elif status is not None and status >= _SERVER_ERROR:
            self.breakers.failed(origin, now, refused=message.key)
            self.back_pressure.taken(origin)
            before, message.recoveries = message.recoveries, self.breakers.recoveries(origin)
            return before is not None and message.recoveries > before
        elif outcome is Outcome.FAILED:
            if attempt.settlement.evidence is not Evidence.CALL:
                # What breaks off after bytes have left may be the message's fault, as a 5xx may be.
                self.breakers.failed(origin, now, refused=message.key)
            elif attempt.exchanges and away(attempt.settlement, attempt.exchanges):
                self.breakers.failed(origin, now)
        else:
            # An unconfirmed one, too: a probe that nobody can see must not keep all others waiting forever.
            if not self.breakers.quiet:
                self.breakers.succeeded(origin, took=outcome is Outcome.DELIVERED)
            self.back_pressure.taken(origin)
        return False

    # End

    def _finish(self, message: Message, settlement: Settlement, decision: Decision, exchanges: int) -> None:
        if decision.action is Action.ACK:
            self._spool.ack([message])
        else:
            self._spool.dead_letter(message, decision.reason)
        self._ledger.end(ending_of(settlement), exchanges=exchanges)
        if settlement.outcome is Outcome.DROPPED and self._on_drop is not None:
            call_drop_hook(self._on_drop, message, settlement.reason)

    def announce(self, message: Message, settlement: Settlement) -> None:
        """
        Show the end of a message that no attempt led to.
        """
        dispatch = Dispatch(self._name, self._watch, method=message.method, url=message.url, payload=message.payload)
        dispatch.open = False
        dispatch.started_ns = message.accepted_ns
        dispatch.duration = max(0.0, (steady_ns() - message.accepted_ns) / 1e9)
        dispatch.end(settlement, ())
        span = self._telemetry.attempted(dispatch, settlement, message.context, waited=dispatch.duration, retry=None)
        self._telemetry.ended(len(message.body), dispatch.duration, settlement, span)
        self._tell(dispatch, settlement)

    def _tell(self, dispatch: Dispatch, settlement: Settlement) -> None:
        self._telemetry.notify(dispatch, settlement)
        tell(dispatch, self._on_settle)

    def put_back(self, thread: int) -> None:
        """
        Take back what a thread had when it broke down.
        """
        for message in self._leases.held(thread):
            if self._leases.release(message) is not None:
                self._requeue(message)

    @fail_open("outbox")
    def _requeue(self, message: Message) -> None:
        self._ledger.requeue(1)
        self._spool.retry_at(message, steady() + _REST)

    def keep(self) -> None:
        """
        Count what senders still have as queued: the spool keeps it, and gives it out again when it is started again.
        """
        for message in self._leases.held():
            if self._leases.release(message) is not None:
                self._ledger.requeue(1)

    def lose(self, messages: Iterable[Message]) -> int:
        """
        Settle messages that are lost with the spool.

        Returns:
            How many.
        """
        given = list(messages)
        for message in given:
            stage = Stage.QUEUED if self._leases.release(message) is None else Stage.IN_FLIGHT
            settlement = message.last or dropped(Reason.SHUTDOWN)
            self._ledger.end(ending_of(settlement), stage=stage)
            self.announce(message, settlement)
            if self._on_drop is not None:
                call_drop_hook(self._on_drop, message, Reason.SHUTDOWN)
        return len(given)
