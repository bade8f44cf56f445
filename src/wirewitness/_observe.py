"""
One dispatch under observation: accept, open, close, settle.
"""

from __future__ import annotations

import functools

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wirewitness import ending, fork, wire
from wirewitness._current import CURRENT, Dispatch, current
from wirewitness._guard import fail_open
from wirewitness.core.exchange import Exchange, Origin
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import QUERY_METHODS, Encode, Payload, freeze, freeze_query
from wirewitness.core.settlement import Settlement, judge
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.errors import IntegrityError, UnsupportedPayload
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ledger
from wirewitness.typing import Adapter, Intent


if TYPE_CHECKING:
    from wirewitness.telemetry import Telemetry


OnSettle = Callable[[Dispatch], Any]

LISTENERS: Final[list[OnSettle]] = []
"""Called with every settled dispatch of this process, as :func:`wirewitness.testing.capture` does."""


@dataclass(frozen=True)
class Options:
    """
    How dispatches are observed.

    Attributes:
        encode: Makes the payload's bytes from the parameters; None for ``json.dumps``.
        evidence_timeout: Seconds for which a returned call waits for evidence from elsewhere.
        on_settle: Called with every settled dispatch.
        strict: Whether an ``ALTERED`` payload raises to the caller, after the dispatch.
        receivers: The origins whose word on what they received is taken.
    """

    encode: Encode | None = None
    evidence_timeout: float = 60.0
    on_settle: OnSettle | None = None
    strict: bool = False
    receivers: frozenset[Origin] = frozenset()


class Observer:
    """
    Watches the calls of one wrapped dispatcher. None of its methods raises, but in strict mode.

    Args:
        name: The dispatcher's name.
        adapter: Reads a call's arguments.
        options: How to observe.
        telemetry: Where it is shown.
        ledger: Where it is counted; None for a book of its own in the process-wide one.
        listeners: Called with every settled dispatch beside the options' own hook.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what a witness is made of
        self,
        name: str,
        adapter: Adapter,
        options: Options,
        telemetry: Telemetry,
        ledger: Ledger | None = None,
        listeners: Sequence[OnSettle] = LISTENERS,
    ) -> None:
        self.ledger = Ledger(name) if ledger is None else ledger
        self._listeners = listeners
        self._name = name
        self._adapter = adapter
        self._options = options
        self._telemetry = telemetry

    @fail_open("witness")
    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Dispatch | None:
        """
        A call comes in.

        Returns:
            The dispatch, now the current one; None where an outer witness counts this payload already.
        """
        fork.check()
        state = wire.check()
        dispatch = self._read(args, kwargs, _outer()) or Dispatch(self._name, self)
        if _counted_by_outer(dispatch):
            return None
        if state is wire.TapState.LOST:
            dispatch.unseen = Reason.TAP_LOST
        self.ledger.accept(dispatch)
        if dispatch.payload is not None:
            EVIDENCE.add(dispatch)
        self._telemetry.opened(dispatch)
        dispatch.token = CURRENT.set(dispatch)
        return dispatch

    @fail_open("adapter")
    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any], parent: Dispatch | None) -> Dispatch:
        intent = self._adapter(args, kwargs)
        known = parent is not None and parent.source is intent.params
        payload, unknown = (None, Reason.NONE) if known else self._freeze(intent) or (None, Reason.UNKNOWN_PAYLOAD)
        return Dispatch(
            self._name,
            self,
            method=intent.method,
            url=intent.url,
            payload=payload,
            unknown=unknown,
            source=intent.params,
            parent=parent,
        )

    @fail_open("adapter")
    def _freeze(self, intent: Intent) -> tuple[Payload | None, Reason]:
        try:
            if intent.method in QUERY_METHODS:
                return freeze_query(intent.url, intent.params), Reason.NONE
            return freeze(intent.params, encode=self._options.encode), Reason.NONE
        except UnsupportedPayload as unsupported:
            return None, Reason.UNREADABLE if unsupported.reason == Reason.UNREADABLE else Reason.UNSERIALIZABLE

    def close(self, dispatch: Dispatch | None, error: BaseException | None) -> None:
        """
        The inner call is over.

        Raises:
            IntegrityError: In strict mode, where the payload was ``ALTERED`` and the inner call raised nothing.
        """
        if dispatch is None:
            return
        if not self._close(dispatch, error):
            # Not in a guarded method: where the stack has run out, there's no more of it than opening needed.
            try:
                if self.ledger.settle(dispatch, _GIVEN_UP, 0):
                    dispatch.end(_GIVEN_UP, ())
                EVIDENCE.discard(dispatch)
            except Exception:  # noqa: BLE001 -- whatever it was that failed is counted
                return
        if self._options.strict and error is None and dispatch.verdict is Verdict.ALTERED:
            at = "" if dispatch.offset is None else f", first at byte {dispatch.offset}"
            msg = f"{self._name} altered the payload: {dispatch.reason.value}{at}"
            raise IntegrityError(msg)

    @fail_open("witness")
    def _close(self, dispatch: Dispatch, error: BaseException | None) -> bool:
        dispatch.open = False
        dispatch.source = None
        dispatch.touch()
        self._telemetry.closed(dispatch)
        try:
            CURRENT.reset(dispatch.token)
        except ValueError:  # a coroutine that was closed in another context than it ran in
            CURRENT.set(None)
        self._conclude(dispatch, error)
        return True

    def _conclude(self, dispatch: Dispatch, error: BaseException | None) -> None:
        if not dispatch.attempted:
            if wire.check() is not wire.TapState.INTACT:
                dispatch.unseen = Reason.TAP_LOST
            elif error is None and dispatch.payload is not None:
                self._wait(dispatch)
                return
        exchanges = dispatch.exchanges
        settlement = self._judge(dispatch, exchanges, error)
        if not settlement.final and dispatch.payload is not None:
            self._wait(dispatch)
        else:
            self._settle(dispatch, settlement, exchanges)

    def _wait(self, dispatch: Dispatch) -> None:
        self.ledger.await_evidence(dispatch)
        ending.watch()
        self._telemetry.expect_more()
        EVIDENCE.wait(dispatch, self._options.evidence_timeout)

    def recognised(self, dispatch: Dispatch) -> None:
        """
        Its bytes have shown up in another context: its span is linked to what goes on there.
        """
        self._telemetry.recognised(dispatch)

    @fail_open("witness")
    def reconsider(self, dispatch: Dispatch) -> None:
        """
        Evidence has come in after the call returned: settle if that is success, else wait on, for a retry may follow.
        """
        exchanges = dispatch.exchanges
        settlement = self._judge(dispatch, exchanges)
        dispatch.touch()
        if settlement.outcome is Outcome.DELIVERED:
            self._settle(dispatch, settlement, exchanges)
        else:
            EVIDENCE.extend(dispatch, self._options.evidence_timeout)

    @fail_open("witness")
    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """
        Settle by what is known.
        """
        exchanges = dispatch.exchanges
        unseen = reason if dispatch.unseen is Reason.NO_EVIDENCE else dispatch.unseen
        settlement = self._judge(dispatch, exchanges) if exchanges else _nothing_seen(unseen)
        self._settle(dispatch, settlement, exchanges)

    def _judge(
        self, dispatch: Dispatch, exchanges: tuple[Exchange, ...], error: BaseException | None = None
    ) -> Settlement:
        return judge(
            dispatch.payload,
            exchanges,
            target=dispatch.target,
            error=error,
            unknown=dispatch.unknown,
            unseen=dispatch.unseen,
            receivers=self._options.receivers,
        )

    def _settle(self, dispatch: Dispatch, settlement: Settlement, exchanges: tuple[Exchange, ...]) -> None:
        if not self.ledger.settle(dispatch, settlement, len(exchanges)):
            return
        dispatch.end(settlement, exchanges)
        EVIDENCE.forget(dispatch)
        self._telemetry.settled(dispatch, settlement)
        self._tell(dispatch)
        if dispatch.deadline:
            # Last, so that whoever waits until nothing waits any more has been told of everything.
            EVIDENCE.discard(dispatch)

    def _tell(self, dispatch: Dispatch) -> None:
        own = self._options.on_settle
        if own is not None:
            call_hook(own, dispatch)
        for listener in tuple(self._listeners):
            call_hook(listener, dispatch)

    def ignores_requests(self, dispatch: Dispatch) -> bool:
        """
        Whether requests made right now are a telemetry exporter's own.
        """
        return self._telemetry.ignores(dispatch)


def _outer() -> Dispatch | None:
    # A call that begins while the thread waits within another one's request, in a signal handler or a garbage collection,
    # interrupts that one and is no part of it.
    dispatch = current()
    return None if dispatch is None or dispatch.busy else dispatch


def _counted_by_outer(dispatch: Dispatch) -> bool:
    outer = dispatch.parent
    if outer is None:
        return False
    return outer.source is dispatch.source or (dispatch.payload is not None and outer.payload == dispatch.payload)


@functools.cache
def _nothing_seen(reason: Reason) -> Settlement:
    return Settlement(Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, reason)


_GIVEN_UP: Final = _nothing_seen(Reason.NO_EVIDENCE)


def _give_up_all() -> None:
    for dispatch in EVIDENCE.waiting():
        EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)


# Last of all: a dispatcher's own flush at exit, wherever in the order it is, may bring the evidence.
ending.on_last(ending.Last.EVIDENCE, _give_up_all)


@fail_open("hook")
def call_hook(hook: OnSettle, dispatch: Dispatch) -> None:
    """
    Call somebody's hook with a settled dispatch.
    """
    hook(dispatch)
