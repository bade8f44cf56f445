"""
Delivery: lease, send, decide, acknowledge.

Every message that is being sent stands in one registry, :attr:`DeliveryLoop._leases`, from the moment the spool gave it until
its attempt is decided. Whoever takes the lease out of the registry, by one ``pop``, decides about the message; whoever comes
second finds nothing and does nothing. So a message is settled once, however its attempt ends: in the sending thread, by
evidence that comes later in another one, by a thread that broke down, or by the end of the process.

A message has one writer at a time: the caller's thread until the spool has it, then whoever holds its lease.

Threads: :class:`SenderThreads` runs :meth:`DeliveryLoop.run` in as many as the sender wants. In a forked child, the Outbox makes
a new loop; nothing in here survives a fork.
"""

from __future__ import annotations

import random
import threading
import time

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from wirewitness._clock import monotonic, wall_ns
from wirewitness._current import Dispatch
from wirewitness._guard import INTERNAL_ERRORS, fail_open
from wirewitness._observe import LISTENERS, OnSettle, tell
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome, Reason, reason_of_status
from wirewitness.core.retry import Action, Decision, RetryPolicy, away, decide, pause_asked, says_something
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ending, Ledger, Stage
from wirewitness.outbox.backpressure import BackPressure
from wirewitness.outbox.breaker import Breakers
from wirewitness.outbox.clock import steady, steady_ns
from wirewitness.outbox.message import Form, Message, Origin, origin_of_url
from wirewitness.outbox.sender import Answer, Attempt, MultiplexingSender, Sender, Unsendable
from wirewitness.outbox.spool import Spool
from wirewitness.outbox.wakeup import Wakeup
from wirewitness.telemetry.metrics import Delivery
from wirewitness.telemetry.outbox import OutboxTelemetry
from wirewitness.watch import Watch


OnDrop = Callable[[Message, Reason], object]

# However quiet it is, a thread looks after this many seconds: for what dead processes have left.
_LONGEST_WAIT: Final = 5.0
_ADOPT_EVERY: Final = 30.0
_MOST_AT_ONCE: Final = 256
# How long a thread rests whose sender broke down, and a message that it had.
_REST: Final = 1.0
# How long a message waits that left being a probe to another one.
_PASSED_OVER: Final = 0.05
# An origin is slow from an attempt of this many seconds on; and of so many origins it is known.
_SLOW: Final = 2.0
_MOST_ORIGINS: Final = 256

_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_FIRST_2XX, _FIRST_3XX = 200, 300


class _Lease(NamedTuple):
    """
    A message in the hands of a sender.

    Attributes:
        message: Which.
        origin: Where it goes.
        since: When the spool gave it, monotonic seconds.
        thread: The thread that sends it; 0 once the sender has returned and only its evidence is awaited.
    """

    message: Message
    origin: Origin | None
    since: float
    thread: int


class DeliveryLoop:
    """
    Leases messages to senders, and decides what comes next. Thread-safe: the registry and the counters beside it are guarded
    by ``_lock``; nothing is called while it is held.

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
        spare: How many threads there are beyond the sender's own. No origin alone gets them, so that one that answers slowly
            cannot keep the first message for another one waiting.
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
        self._lock = threading.RLock()
        self._leases: dict[int, _Lease] = {}
        self._in_flight: Counter[Origin | None] = Counter()
        self._slow: OrderedDict[Origin | None, bool] = OrderedDict()
        self._awaited: dict[Dispatch, Message] = {}
        self._deciding: list[int] = []
        self.spare: int = int(getattr(sender, "spare", 0))
        self._slots = max(1, int(getattr(sender, "connections", sender.threads))) + self.spare
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
        if not hasattr(self._sender, "send"):
            self._sender.run(self)
            return
        while (messages := self.take(1, None)) is not None:
            for message in messages:
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
            with self._lock:
                lease = self._leases.get(id(message))
                if lease is not None and lease.thread:
                    self._leases[id(message)] = lease._replace(thread=0)
                    self._count_out(lease)
            return None
        self._awaited.pop(dispatch, None)
        return attempt_of(message, dispatch, settlement, answer)

    def _late(self, dispatch: Dispatch, settlement: Settlement) -> None:
        message = self._awaited.pop(dispatch, None)
        if message is not None:
            self.done([attempt_of(message, dispatch, settlement, None)])

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
            | self.back_pressure.closed_to(now, self._in_flight)
            | frozenset([origin for origin in tuple(self._slow) if origin is not None and self._has_its_share(origin)])
        )

    def _takes_the_spare(self, message: Message) -> bool:
        return self._in_flight[origin_of_url(message.url)] >= self._slots - self.spare

    def _has_its_share(self, origin: Origin | None) -> bool:
        # Where there are others, no origin holds every place, and one that is slow a quarter of them: the others would wait.
        if self.spare and self._in_flight[origin] >= self._slots - self.spare:
            return True
        if len(self._slow) < 2 or self._slots < 2:  # noqa: PLR2004 -- itself and another one
            return False
        quarter = max(1, self._slots // 4)
        return self._in_flight[origin] >= (quarter if self._slow.get(origin) else self._slots - quarter)

    @fail_open("outbox")
    def _claim(self, most: int) -> list[Message]:
        now, at = monotonic(), steady_ns()
        alone = not self.spare and (len(self._slow) < 2 or self._slots < 2)  # noqa: PLR2004
        plain = alone and self.breakers.all_closed and self.back_pressure.quiet
        # Where origins are held back, one by one: each is asked for leave.
        number = min(most, _MOST_AT_ONCE) if plain else 1
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
        thread = threading.get_ident()
        with self._lock:
            # Asked again: another thread may have leased one for the same origin since.
            beyond = [message for message in claimed if self.spare and self._takes_the_spare(message)]
            claimed = [message for message in claimed if message not in beyond] if beyond else claimed
            for message in claimed:
                origin = origin_of_url(message.url)
                self._leases[id(message)] = _Lease(message, origin, now, thread)
                self._in_flight[origin] += 1
                if origin not in self._slow:
                    self._slow[origin] = False
                    if len(self._slow) > _MOST_ORIGINS:
                        self._slow.popitem(last=False)
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
            self._finish(message, settlement, Decision(Action.BURY, reason=Reason.EXPIRED.value), 0)
            self.announce(message, settlement)
        finally:
            self._deciding.remove(threading.get_ident())
        return False

    def _let_through(self, message: Message, now: float) -> bool:
        origin, due = message.origin, 0.0
        if origin is None or self.breakers.all_closed:
            if self.back_pressure.allow(origin, now, self._in_flight):
                return True
        elif message.attempts and self.breakers.pass_over(origin, message.id, now):
            due = steady() + _PASSED_OVER
        elif self.breakers.allow(origin, now):
            return True
        self._spool.retry_at(message, due)
        self._ledger.requeue(1)
        return False

    def _release(self, message: Message) -> _Lease | None:
        """
        Take a lease out of the registry: only who gets it decides about the message.
        """
        with self._lock:
            lease = self._leases.pop(id(message), None)
            if lease is not None and lease.thread:
                self._count_out(lease)
        return lease

    def _count_out(self, lease: _Lease) -> None:
        self._in_flight[lease.origin] -= 1
        if self._in_flight[lease.origin] <= 0:
            del self._in_flight[lease.origin]

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
                lease = self._release(attempt.message)
                if lease is None:
                    continue
                if lease.thread:
                    self._slow[lease.origin] = now - lease.since >= _SLOW
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
        # A sender need not know whose it is.
        dispatch.name = self._name
        message.last = settlement
        self._tell_origin(attempt)
        if says_something(settlement, attempt.status, attempt.exchanges):
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

    def _tell_origin(self, attempt: Attempt) -> None:
        """
        Draw from an attempt what it says of the server, and only that: a message that could not be sent says nothing.
        """
        origin, status, outcome = attempt.message.origin, attempt.status, attempt.settlement.outcome
        if origin is None or outcome is Outcome.DROPPED:
            return
        now = monotonic()
        if status == _TOO_MANY or (status == _UNAVAILABLE and attempt.retry_after is not None):
            asked = pause_asked(self._retry, attempt.retry_after, wall_ns() / 1e9)
            pause = self._retry.delay(attempt.message.attempts + 1, 0.5) if asked is None else asked
            self.back_pressure.throttled(origin, now, pause)
            self.breakers.succeeded(origin)
        elif status is not None and status >= _SERVER_ERROR:
            self.breakers.failed(origin, now, refused=attempt.message.id)
            self.back_pressure.taken(origin)
        elif outcome is Outcome.FAILED:
            if attempt.settlement.evidence is not Evidence.CALL:
                # What breaks off after bytes have left may be the message's fault, as a 5xx may be.
                self.breakers.failed(origin, now, refused=attempt.message.id)
            elif attempt.exchanges and away(attempt.settlement, attempt.exchanges):
                self.breakers.failed(origin, now)
        else:
            # An unconfirmed one, too: a probe that nobody can see must not keep all others waiting forever.
            if not self.breakers.quiet:
                self.breakers.succeeded(origin)
            self.back_pressure.taken(origin)

    # End

    def _finish(self, message: Message, settlement: Settlement, decision: Decision, exchanges: int) -> None:
        if decision.action is Action.ACK:
            self._spool.ack([message])
        else:
            self._spool.bury(message, decision.reason)
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
        self._telemetry.told(dispatch, settlement)
        tell(dispatch, self._on_settle)

    def put_back(self, thread: int) -> None:
        """
        Take back what a thread had when it broke down.
        """
        for lease in list(self._leases.values()):
            if lease.thread == thread and self._release(lease.message) is not None:
                self._requeue(lease.message)

    @fail_open("outbox")
    def _requeue(self, message: Message) -> None:
        self._ledger.requeue(1)
        self._spool.retry_at(message, steady() + _REST)

    def keep(self) -> None:
        """
        Count what senders still have as queued: the spool keeps it, and gives it out again when it is started again.
        """
        for lease in tuple(self._leases.values()):
            if self._release(lease.message) is not None:
                self._ledger.requeue(1)

    def lose(self, messages: Iterable[Message]) -> int:
        """
        Settle messages that are lost with the spool.

        Returns:
            How many.
        """
        given = list(messages)
        for message in given:
            stage = Stage.QUEUED if self._release(message) is None else Stage.IN_FLIGHT
            settlement = message.last or dropped(Reason.SHUTDOWN)
            self._ledger.end(ending_of(settlement), stage=stage)
            self.announce(message, settlement)
            if self._on_drop is not None:
                call_drop_hook(self._on_drop, message, Reason.SHUTDOWN)
        return len(given)


class SenderThreads:
    """
    The threads that send, and that are started again where one is missing. ``_lock`` guards the list.

    Args:
        name: The Outbox's name, for the threads'.
        number: How many.
        loop: What they run.
    """

    def __init__(self, name: str, number: int, loop: DeliveryLoop) -> None:
        self._name = name
        self._number = number
        self._loop = loop
        self._lock = threading.RLock()
        self._threads: set[threading.Thread] = set()
        self._missing = number
        self._prepared = False

    def ensure(self) -> bool:
        """
        Start those that are missing. Cheap where none is: called with every message.

        Returns:
            Whether at least one runs. Where the system has no thread left, or the interpreter shuts down, the next call tries
            again.
        """
        if self._missing and not self._loop.stopped and self._lock.acquire(blocking=False):
            try:
                if not self._prepared:
                    # First the flag: a signal handler that dispatches may come here again, and threads wait by then.
                    self._prepared = True
                    self._loop.wakeup.prepare()
                while len(self._threads) < self._number:
                    thread = threading.Thread(
                        target=self._work, name=f"wirewitness-{self._name}-{len(self._threads)}", daemon=True
                    )
                    try:
                        thread.start()
                    except (RuntimeError, MemoryError):
                        break
                    self._threads.add(thread)
                self._missing = self._number - len(self._threads)
            finally:
                self._lock.release()
        return bool(self._threads)

    def _work(self) -> None:
        try:
            self.run_here()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
                self._missing = self._number - len(self._threads)

    def run_here(self) -> None:
        """
        Send in the calling thread, where no other can be started any more.
        """
        while not self._loop.stopped:
            try:
                self._loop.run()
            except Exception as error:  # noqa: BLE001 -- the sender's fault; what it held goes back, and others are sent
                INTERNAL_ERRORS.report("outbox", error)
            except BaseException as error:
                if threading.current_thread() is threading.main_thread():
                    raise
                INTERNAL_ERRORS.report("outbox", error)
            else:
                return
            finally:
                self._loop.put_back(threading.get_ident())
            time.sleep(_REST)

    @property
    def running(self) -> bool:
        """Whether any thread lives."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    def join(self, timeout: float) -> bool:
        """
        Wait for them to end.

        Returns:
            Whether they have.
        """
        deadline = monotonic() + timeout
        for thread in tuple(self._threads):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))
        return not self.running


_UNSEEN: Final = Settlement(Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)


def by_answer(answer: Answer) -> Settlement:
    """
    What a response says that only its sender has seen: how it ended, and nothing of the bytes.
    """
    if _FIRST_2XX <= answer.status < _FIRST_3XX:
        return Settlement(Outcome.DELIVERED, Verdict.UNOBSERVED, Evidence.RESPONSE)
    return Settlement(
        Outcome.REJECTED,
        Verdict.UNOBSERVED,
        Evidence.RESPONSE,
        reason_of_status(answer.status),
        error_type=str(answer.status),
    )


def attempt_of(message: Message, dispatch: Dispatch, settlement: Settlement, answer: Answer | None) -> Attempt:
    """
    What a settled record, and the response in its sender's hands, say of an attempt.
    """
    exchanges = dispatch.exchanges
    answered = [exchange for exchange in exchanges if exchange.status is not None]
    # Not simply the last: a redirect that lost the body was followed by a request that carried nothing.
    carrying = [exchange for exchange in answered if str(exchange.status) == settlement.error_type]
    seen: Exchange | None = (carrying or answered or [None])[-1]  # type: ignore[list-item]
    status, retry_after = (None, None) if seen is None else (seen.status, seen.retry_after)
    if isinstance(answer, Answer):
        status, retry_after = answer
    return Attempt(
        message,
        settlement,
        len(exchanges) or isinstance(answer, Answer),
        dispatch.duration,
        steady_ns(),
        status,
        retry_after,
        dispatch,
    )


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


@fail_open("hook")
def call_drop_hook(hook: OnDrop, message: Message, reason: Reason) -> None:
    """
    Call a user's hook.
    """
    hook(message, reason)
