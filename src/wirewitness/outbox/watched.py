"""
Sends message by message, and judges every attempt by what the tap saw of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from wirewitness import wire
from wirewitness._current import Dispatch, Owner
from wirewitness._observe import Observer, Options
from wirewitness.core.exchange import Exchange
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ledger, ProcessLedger
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.desk import dropped, record_of
from wirewitness.outbox.message import Form, Message
from wirewitness.outbox.sender import Attempt, Desk
from wirewitness.telemetry.outbox import OutboxTelemetry
from wirewitness.typing import Intent


Prepared = Callable[[], object]
"""Sends one message, once."""


class Unfaithful(Exception):  # noqa: N818 -- named for what it says of the value
    """
    No value can be given to an inner dispatcher that ``json.dumps`` would turn into the payload's bytes again.
    """


class Carrier(Protocol):
    """
    Sends messages in whichever thread calls it.

    Attributes:
        threads: How many threads are to send.
    """

    @property
    def threads(self) -> int:
        """How many threads are to send."""

    def call(self) -> Callable[[Message], Prepared]:
        """
        A thread's own way to send, with its own connections: what makes a message ready raises :class:`Unfaithful` where
        it would have to send other bytes; sending raises whatever goes wrong.
        """


class WatchedSender:
    """
    Sends message by message, each thread its own, and judges every attempt by what the tap saw of it.

    Args:
        name: The Outbox's name.
        carrier: What sends.
        telemetry: Where attempts are shown.
        evidence_timeout: Seconds for which bytes are waited for that an inner dispatcher didn't send at once.
    """

    def __init__(self, name: str, carrier: Carrier, telemetry: OutboxTelemetry, evidence_timeout: float) -> None:
        wire.install()
        self.threads = carrier.threads
        self._name = name
        self._carrier = carrier
        self._telemetry = telemetry
        self._awaited: dict[Dispatch, tuple[Message, Desk]] = {}
        self._observer = Observer(
            name,
            _intent_of,
            Options(evidence_timeout=evidence_timeout, on_settle=self._settled),
            telemetry,
            Ledger(name, ProcessLedger()),
            (),
        )

    def run(self, desk: Desk) -> None:
        """
        Carry messages until told to stop.
        """
        call = self._carrier.call()
        while (messages := desk.take(1, None)) is not None:
            for message in messages:
                self._send(message, call, desk)

    def _send(self, message: Message, call: Callable[[Message], Prepared], desk: Desk) -> None:
        try:
            prepared = call(message)
        except Unfaithful:
            desk.done([_unsendable(self._name, message, self._observer)])
        else:
            self._attempt(message, prepared, desk)

    def _attempt(self, message: Message, send: Prepared, desk: Desk) -> None:
        token = self._telemetry.within(message.context)
        dispatch = self._observer.open((message,), {})
        if dispatch is not None:
            self._awaited[dispatch] = (message, desk)
        error: BaseException | None = None
        try:
            send()
        except BaseException as raised:
            error = raised
            if not isinstance(raised, Exception):
                raise
        finally:
            self._telemetry.without(token)
            self._observer.close(dispatch, error)
            if dispatch is None:
                desk.done([_unseen(self._name, message, self._observer)])

    def _settled(self, dispatch: Dispatch) -> None:
        message, desk = self._awaited.pop(dispatch)
        desk.done([attempt_of(message, dispatch)])

    def give_up(self) -> None:
        """
        Wait for no more evidence: attempts that nobody has seen are settled as such.
        """
        for dispatch in tuple(self._awaited):
            if not dispatch.open:
                EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)


def _intent_of(args: tuple[Any, ...], _: dict[str, Any]) -> Intent:
    message: Message = args[0]
    if message.form is Form.QUERY:
        return Intent(message.method, None, message.body)
    return Intent(message.method, message.url, message.body)


_UNSEEN: Final = Settlement(Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.NO_EVIDENCE)


def _unseen(name: str, message: Message, owner: Owner) -> Attempt:
    return _without_exchange(name, message, owner, _UNSEEN)


def _unsendable(name: str, message: Message, owner: Owner) -> Attempt:
    return _without_exchange(name, message, owner, dropped(Reason.UNSENDABLE))


def _without_exchange(name: str, message: Message, owner: Owner, settlement: Settlement) -> Attempt:
    dispatch = record_of(name, message, owner)
    dispatch.end(settlement, ())
    return Attempt(message, settlement, 0, 0.0, steady_ns(), dispatch=dispatch)


def attempt_of(message: Message, dispatch: Dispatch) -> Attempt:
    """
    What a settled record says of an attempt.
    """
    settlement = dispatch.settlement or _UNSEEN
    exchanges = dispatch.exchanges
    answered = _answer(settlement, exchanges)
    return Attempt(
        message,
        settlement,
        len(exchanges),
        dispatch.duration,
        steady_ns(),
        None if answered is None else answered.status,
        None if answered is None else answered.retry_after,
        dispatch,
    )


def _answer(settlement: Settlement, exchanges: tuple[Exchange, ...]) -> Exchange | None:
    # Not simply the last: a redirect that lost the body was followed by a request that carried nothing.
    said = settlement.error_type
    answered = [exchange for exchange in exchanges if exchange.status is not None]
    carrying = [exchange for exchange in answered if str(exchange.status) == said]
    return (carrying or answered or [None])[-1]  # type: ignore[list-item]
