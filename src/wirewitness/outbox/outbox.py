"""
The Outbox: a dispatcher that never blocks its caller, never raises, and doesn't forget.
"""

from __future__ import annotations

import contextlib
import enum
import threading

from typing import Any, Final, Self, TypeVar

from wirewitness import ending, feedback, fork, wire
from wirewitness._clock import Deadline, monotonic
from wirewitness._guard import fail_open, raised_from_outside
from wirewitness._observe import OnSettle
from wirewitness.core.limits import seconds
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import Encode
from wirewitness.core.retry import RetryPolicy
from wirewitness.errors import ConfigurationError, UnsupportedPayload, shown
from wirewitness.ledger import Ledger, Stage
from wirewitness.outbox import lifetime
from wirewitness.outbox.breaker import Breakers
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.delivery import DeliveryLoop
from wirewitness.outbox.dispatcher import DispatcherSender
from wirewitness.outbox.flush_result import FlushResult
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.overflow import Overflow, Spill, SpillingSpool, policy
from wirewitness.outbox.request import message_of, read
from wirewitness.outbox.results import OnDrop, call_drop_hook, dropped, ending_of
from wirewitness.outbox.spool import MemorySpool, Spool, check_spool
from wirewitness.outbox.threads import SenderThreads
from wirewitness.shapes import method_of
from wirewitness.telemetry import MeterProvider, TracerProvider
from wirewitness.telemetry.outbox import OutboxGauges, OutboxTelemetry


K = TypeVar("K")

_POLL: Final = 0.005


class _State(enum.Enum):
    """
    ========  ==============  ==================================================================
    state     what leads on   to
    ========  ==============  ==================================================================
    OPEN      ``close()``     CLOSING, in the calling thread
    CLOSING   time, or done   CLOSED: no thread and no file is left. What comes meanwhile is taken
    CLOSED    a payload       OPEN, and at once CLOSING, in a thread, so that it is delivered or kept
    any       a fork          OPEN and empty, in the child
    ========  ==============  ==================================================================
    """

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Outbox:
    """
    Takes payloads at once, and delivers them from threads of its own: queued, retried by what the wire says, untouched.

    It is a dispatcher of every shape: ``outbox.dispatch_event(event)``, ``outbox.dispatchEvent(http_verb, url, params)``
    and ``outbox(http_verb, url, params)``. The payload is frozen at the door, on the caller's thread; every attempt sends
    those bytes.

    Args:
        sender: A sender such as :class:`HttpSender`, or any dispatcher, whose attempts are watched on the wire.
        name: Its name in spans, metrics and logs.
        spool: Where payloads wait; by default 10,000 of them and 64 MiB, in memory.
        retry: When to try again, and when to give up.
        overflow: What to do when the spool is full: ``drop_newest``, ``drop_oldest``, ``block`` (for 0.1 s), or a
            :class:`~wirewitness.outbox.Block` or :class:`~wirewitness.outbox.Spill`.
        breakers: When to leave an origin alone that doesn't answer.
        workers: How many threads call an inner dispatcher; more than one only if it may be called so.
        encode: Makes the payload's bytes from the parameters; None for ``json.dumps``.
        evidence_timeout: Seconds for which bytes are waited for that an inner dispatcher didn't send at once.
        exit_timeout: Seconds that the end of the interpreter may be delayed by, to deliver what is left.
        on_drop: Called with every message that's dropped, and the reason.
        on_settle: Called with the :class:`Dispatch` of every payload whose end is known.
        tracer_provider: None for the global one.
        meter_provider: None for the global one.

    Attributes:
        name: Its name.
        ledger: Its book: ``accepted = delivered + rejected + failed + dropped + unconfirmed + pending``.
        spool: Where its payloads wait.

    Raises:
        ConfigurationError: If something can't work.
    """

    def __init__(  # noqa: PLR0913 -- every option has a default
        self,
        sender: Any,
        *,
        name: str = "outbox",
        spool: Spool | None = None,
        retry: RetryPolicy | None = None,
        overflow: str | Overflow = "drop_newest",
        breakers: Breakers | None = None,
        workers: int = 1,
        encode: Encode | None = None,
        evidence_timeout: float = 10.0,
        exit_timeout: float = 5.0,
        on_drop: OnDrop | None = None,
        on_settle: OnSettle | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.name = name
        self._overflow = policy(overflow)
        self.spool: Spool = _spool(spool, self._overflow)
        self._sender = _sender(sender, workers)
        wire.install()
        self._retry = _one_of("retry", RetryPolicy, retry)
        self._breakers = _one_of("breakers", Breakers, breakers)
        self._encode, self._on_drop, self._on_settle = _hooks(encode=encode, on_drop=on_drop, on_settle=on_settle)
        self._evidence_timeout = seconds("evidence_timeout", evidence_timeout)
        self.exit_timeout: float = seconds("exit_timeout", exit_timeout)
        self.ledger: Ledger = Ledger(name, shown_by=meter_provider)
        self._telemetry = OutboxTelemetry(self, tracer_provider=tracer_provider, meter_provider=meter_provider)
        self._empty()
        self._start_spool()
        lifetime.register(self)
        if self.ledger.book().open:
            self._start()

    def renew(self) -> None:
        """
        Start empty, in a forked child: what the parent accepted is the parent's to deliver.
        """
        self.spool.abandon()
        self._empty()

    def _empty(self) -> None:
        # New locks, too: in a child, those of the parent may be held for ever.
        self._lock = threading.RLock()
        self._state = _State.OPEN
        self._closer: int | None = None
        self._was_closed = False
        self._interrupted = False
        self._notify_feedback = False
        self._closes_again = False
        self._left = FlushResult()
        self._starting = False
        self._breakers.renew()
        self._begin()

    def _begin(self) -> None:
        self._threads: SenderThreads | None = None
        self._spool_started = False
        self._loop = DeliveryLoop(
            name=self.name,
            sender=self._sender,
            spool=self.spool,
            retry=self._retry,
            breakers=self._breakers,
            ledger=self.ledger,
            telemetry=self._telemetry,
            evidence_timeout=self._evidence_timeout,
            on_drop=self._on_drop,
            on_settle=self._on_settle,
        )

    def dispatch_event(self, event: Any) -> None:
        """
        Take an event to be sent, as Optimizely's SDK gives it. Returns at once, and never raises.

        Args:
            event: With ``url``, ``params``, ``http_verb`` and ``headers``, as attributes or keys.
        """
        self._accept((event,), {})

    def dispatchEvent(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 -- the classic dispatcher's name
        """
        Take an event, or a verb, a URL and parameters, to be sent.
        """
        self._accept(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """
        Take an event, or a verb, a URL and parameters, to be sent.
        """
        self._accept(args, kwargs)

    def _accept(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        fork.check()
        cause = self._cause()
        if cause is feedback.Cause.OWN_LINE:
            self._cut_off()
            return
        read = self._read(args, kwargs)
        message, reason = read if read is not None else (_nothing(), Reason.UNREADABLE)
        message.quiet = cause is not None
        # One entry while the payload is in the book and has no end.
        counted: list[int] = []
        try:
            self.ledger.queue(1, counted)
            if reason is None and not self._queue(message, counted):
                reason = Reason.SPOOL_FAILED
            if reason is not None and counted and not message.id:
                self._dropped(message, reason, counted)
        except BaseException:
            # Raised into the caller's thread from outside. Either the spool has the message, or nobody has heard of it.
            self._interrupted = True
            if counted and not message.id:
                self.ledger.withdraw()
            raise

    @fail_open("outbox")
    def _cause(self) -> feedback.Cause | None:
        return feedback.cause(self._telemetry.voice)

    @fail_open("outbox")
    def _cut_off(self) -> None:
        self.ledger.queue(1)
        self.ledger.end(ending_of(dropped(Reason.FEEDBACK)), stage=Stage.QUEUED)
        if not self._notify_feedback:
            # First the flag: this line is handled as all others, and comes back here.
            self._notify_feedback = True
            self._telemetry.notify_feedback()

    @fail_open("outbox")
    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Message, Reason | None]:
        try:
            message = message_of(*read(args, kwargs), self._encode)
        except UnsupportedPayload as unsupported:
            if raised_from_outside(unsupported) is not None:
                raise
            return _nothing(), Reason(unsupported.reason)
        message.context = self._telemetry.caller()
        return message, None

    @fail_open("outbox")
    def _queue(self, message: Message, counted: list[int]) -> bool:
        refused: Reason | None = None
        if self._state is _State.OPEN:
            if self._threads is None:
                self._start()
            else:
                self._threads.ensure()
            refused = self._put(message)
        if self._state is not _State.OPEN and not message.id:
            refused = self._put_late(message)
        if refused is not None:
            self._dropped(message, refused, counted)
        self._loop.wakeup.ring()
        if self._was_closed:
            self._close_again()
        return True

    def _put_late(self, message: Message) -> Reason | None:
        # With the lock, since close() may be about to close the spool.
        with self._lock:
            if self._state is _State.CLOSED:
                self._begin()
                self._start()
                self._state = _State.OPEN
                lifetime.register(self)
            return self._put(message)

    def _close_again(self) -> None:
        """
        Deliver what comes after close(), within ``exit_timeout``, and let go of threads and files once more.
        """
        with self._lock:
            if self._state is not _State.OPEN or self._closes_again:
                # Whoever closes it waits for this one, too; where it comes too late for that, it is queued again.
                return
            if not ending.has_begun():
                close = threading.Thread(
                    target=self.close, args=(self.exit_timeout,), name=f"wirewitness-{self.name}-close", daemon=True
                )
                with contextlib.suppress(RuntimeError):
                    close.start()
                    self._closes_again = True
                return
        # Nobody comes later than this thread: it must see to it itself.
        lifetime.spend(self, self.close, lifetime.seconds_left(self))

    def _put(self, message: Message) -> Reason | None:
        refused = self.spool.put(message)
        if refused is not Reason.QUEUE_FULL:
            return refused
        overflow: Overflow = self._overflow
        return overflow(self.spool, message, lambda oldest: self._dropped(oldest, Reason.QUEUE_FULL))

    @fail_open("outbox")
    def _dropped(self, message: Message, reason: Reason, counted: list[int] | None = None) -> None:
        settlement = message.last or dropped(reason)
        self.ledger.end(ending_of(settlement), stage=Stage.QUEUED, counted=counted)
        self._loop.announce(message, settlement)
        if self._on_drop is not None:
            call_drop_hook(self._on_drop, message, reason)

    def _start(self) -> None:
        with self._lock:
            # A dispatch inside a garbage collection in here leaves the starting to whom it has interrupted.
            if self._starting:
                return
            self._starting = True
            try:
                ending.watch()
                self._telemetry.expect_more()
                self._start_spool()
                self._start_threads()
            finally:
                self._starting = False

    def _start_spool(self) -> None:
        if not self._spool_started:
            self._spool_started = True
            # What was kept when it was closed is in the book already.
            self.ledger.queue(max(0, self.spool.start() - self._left.kept))
            self._left = FlushResult()

    def _start_threads(self) -> None:
        # At interpreter shutdown none can be started: then close() sends in its own thread.
        if self._threads is None:
            self._threads = SenderThreads(self.name, self._loop.threads, self._loop)
        self._threads.ensure()

    def gauges(self) -> OutboxGauges:
        """
        What it shows of itself.
        """
        fork.check()
        stats = self.spool.stats()
        age = 0.0 if stats.oldest_ns is None else max(0.0, (steady_ns() - stats.oldest_ns) / 1e9)
        return OutboxGauges(stats.size, stats.capacity, stats.utilization, age, self._breakers.state(monotonic()))

    def flush(self, timeout: float = 10.0) -> FlushResult:
        """
        Wait until every payload's end is known.

        What an inner dispatcher took without a trace is waited for as long as another thread could be sending it. Where there
        is none, as in a test that mocks HTTP, it is left, and this returns at once.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            What was left.
        """
        fork.check()
        if self._state is _State.CLOSED:
            return self._left
        deadline = Deadline(timeout)
        # What cannot be delivered in time is at least on disk then, if the spool has one.
        self.spool.sync(deadline.left)
        while (self.spool.stats().size or self._loop.deciding) and deadline.nap(_POLL):
            if self._threads is not None:
                self._threads.ensure()
            if self._loop.only_awaits(self.spool.stats().size) and lifetime.is_alone():
                # HTTP is mocked, or the dispatcher sends when it is told to: nothing comes as long as this thread waits.
                break
        # And what was delivered is off the disk, where the process may end without another word: nothing is sent again.
        self.spool.sync(deadline.left)
        return self._remains()

    def drain(self, timeout: float) -> None:
        """
        Wait at an end of the process until what is accepted is delivered, and stay open for what still comes.

        Args:
            timeout: Seconds to wait at most.
        """
        threads = self._threads
        if threads is not None and threads.running:
            self.flush(timeout)

    def _remains(self, lost: int = 0) -> FlushResult:
        stats = self.spool.stats()
        waiting = stats.size - stats.claimed - stats.later
        for_what = "circuit_open" if self._breakers.closed_to(monotonic()) else "queued"
        why = {for_what: waiting, "retrying": stats.later, "in_flight": stats.claimed}
        return FlushResult(stats.size, why, stats.durable, lost, stats.dead)

    def close(self, timeout: float = 10.0) -> FlushResult:
        """
        Deliver what is left, and let go of threads and files.

        Payloads that come afterwards are not lost: they open the Outbox once more, and are delivered within
        ``exit_timeout``, or kept by a spool on disk. Only without one they are dropped then, as ``shutdown``.

        Args:
            timeout: Seconds to wait for deliveries at most.

        Returns:
            What was left: ``kept`` on disk for the next process, or ``lost`` with the memory.
        """
        fork.check()
        deadline = Deadline(timeout)
        with self._lock:
            closes = self._state is _State.OPEN
            if closes:
                self._state = _State.CLOSING
                self._closes_again = False
                self._closer = threading.get_ident()
        if not closes:
            # In the same thread, it is a signal handler that has interrupted the closing.
            while self._state is _State.CLOSING and self._closer != threading.get_ident() and deadline.nap(_POLL):
                pass
            return self._left if self._state is _State.CLOSED else self._remains()
        try:
            if self._threads is not None and not self._threads.running:
                self._loop.drain(timeout)
                self._threads.run_here()
            self.flush(deadline.left)
            self._loop.give_up_waiting()
        finally:
            # Whatever came in between, such as Ctrl-C: threads and files are let go.
            remains = self._let_go(deadline)
        return remains

    def _let_go(self, deadline: Deadline) -> FlushResult:
        flushed_ns = steady_ns()
        self._loop.stop()
        if self._threads is not None:
            self._threads.join(max(1.0, deadline.left))
        before = self._remains()
        with self._lock:
            given_back = self.spool.close()
            late = [message for message in given_back if message.accepted_ns >= flushed_ns]
            lost = self._loop.lose(message for message in given_back if message.accepted_ns < flushed_ns)
            self._loop.keep()
            # What closing a spool does not give back, it has written.
            kept = max(0, before.remaining - lost - len(late))
            left = self._left = FlushResult(kept, before.why, kept, lost, before.dead)
            pending = self.ledger.book().open - kept - len(late)
            if self._interrupted and pending > 0:
                # Somebody was interrupted between making room by an old message and counting that.
                self.ledger.end(ending_of(dropped(Reason.QUEUE_FULL)), pending, stage=Stage.QUEUED)
            self._interrupted = False
            self._was_closed = True
            self._state = _State.CLOSED
            lifetime.unregister(self)
        for message in late:
            # It came when the senders had stopped, and had no chance yet.
            self._queue(message, [1])
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Outbox {self.name}: {self.ledger.book()}>"


def _nothing() -> Message:
    return Message("", "", (), b"", Form.BYTES, steady_ns())


def _spool(given: Spool | None, overflow: Overflow) -> Spool:
    first = MemorySpool() if given is None else given
    check_spool("spool", first)
    return SpillingSpool(first, overflow.to) if isinstance(overflow, Spill) else first


def _sender(given: Any, workers: int) -> Any:
    if hasattr(given, "threads") and (callable(getattr(given, "send", None)) or callable(getattr(given, "run", None))):
        return given
    if (
        method_of(given) is None
        and not callable(given)
        and any(hasattr(given, name) for name in ("threads", "send", "run"))
    ):
        missing = "threads" if hasattr(given, "send") or hasattr(given, "run") else "send"
        msg = f"sender={shown(given)}: is no sender, it has no {missing}; see wirewitness.outbox.Sender"
        raise ConfigurationError(msg)
    return DispatcherSender(given, threads=workers)


def _one_of(name: str, kind: type[K], given: K | None) -> K:
    if given is not None and not isinstance(given, kind):
        msg = f"{name}={shown(given)}: must be a {kind.__name__}"
        raise ConfigurationError(msg)
    return kind() if given is None else given


def _hooks(**hooks: Any) -> list[Any]:
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            msg = f"{name}={shown(hook)}: must be a callable"
            raise ConfigurationError(msg)
    return list(hooks.values())
