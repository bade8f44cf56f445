"""
What witness() makes of a call: it is read, watched, counted, shown and told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wirewitness import fork
from wirewitness._guard import fail_open, report_or_raise
from wirewitness.core.exchange import Origin
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import QUERY_METHODS, Encode, Payload, freeze, freeze_query
from wirewitness.core.settlement import Settlement
from wirewitness.core.verdict import Verdict
from wirewitness.dispatch import Dispatch, current
from wirewitness.errors import IntegrityError, UnsupportedPayload
from wirewitness.evidence import EVIDENCE
from wirewitness.ledger import Ledger
from wirewitness.typing import Adapter, Intent
from wirewitness.watch import GIVEN_UP, Watch


if TYPE_CHECKING:
    from wirewitness.telemetry import Telemetry


OnSettle = Callable[[Dispatch], Any]

LISTENERS: Final[list[OnSettle]] = []
"""Called with every settled dispatch of this process, as :func:`wirewitness.testing.capture` does."""


@dataclass(frozen=True)
class ObserverOptions:
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
    Has the calls of one wrapped dispatcher watched, and accounts for them. None of its methods raises, but in strict mode.

    Args:
        name: The dispatcher's name.
        adapter: Reads a call's arguments.
        options: How to observe.
        telemetry: Where it is shown.
    """

    def __init__(self, name: str, adapter: Adapter, options: ObserverOptions, telemetry: Telemetry) -> None:
        self.ledger = Ledger(name, shown_by=telemetry.shown_by)
        self._name = name
        self._adapter = adapter
        self._options = options
        self._telemetry = telemetry
        self._watch = Watch(telemetry, options.evidence_timeout, self._account, options.receivers)

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Dispatch | None:
        """
        A call comes in.

        Returns:
            The dispatch, now the current one; None where an outer witness counts this payload already.
        """
        dispatch: Dispatch | None = None
        try:
            fork.check()
            dispatch = self._read(args, kwargs, _outer()) or Dispatch(self._name, self._watch)
            if _counted_by_outer(dispatch):
                return None
            self.ledger.accept(dispatch)
            self._watch.begin(dispatch)
        except BaseException as error:  # noqa: BLE001 -- passed on where it is not ours
            # The inner call goes unseen, or is never made where it was interrupted: nobody has heard of this dispatch.
            if dispatch is not None:
                try:
                    self.ledger.withdraw_dispatch(dispatch)
                    self._watch.undo(dispatch)
                except Exception:  # noqa: BLE001, S110 -- whatever it was that failed is counted
                    pass
            try:  # noqa: SIM105 -- suppress() needs stack, too
                report_or_raise("witness", error)
            except RecursionError:
                pass
            return None
        return dispatch

    @fail_open("adapter")
    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any], parent: Dispatch | None) -> Dispatch:
        intent = self._adapter(args, kwargs)
        known = parent is not None and parent.source is intent.params
        payload, unknown = (None, Reason.NONE) if known else self._freeze(intent) or (None, Reason.UNKNOWN_PAYLOAD)
        return Dispatch(
            self._name,
            self._watch,
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

    def leave(self, dispatch: Dispatch | None) -> None:
        """
        The inner code has stopped for now: the caller's own context is back.
        """
        if dispatch is not None:
            self._watch.leave(dispatch)

    def enter(self, dispatch: Dispatch | None) -> None:
        """
        The inner code goes on.
        """
        if dispatch is not None:
            self._watch.enter(dispatch)

    def close(self, dispatch: Dispatch | None, error: BaseException | None) -> None:
        """
        The inner call is over.

        Raises:
            IntegrityError: In strict mode, where the payload was ``ALTERED`` and the inner call raised nothing.
        """
        if dispatch is None:
            return
        try:
            settlement = self._watch.end(dispatch, error)
            if settlement is None:
                self.ledger.await_evidence(dispatch)
            else:
                self._account(dispatch, settlement)
        except BaseException as raised:  # noqa: BLE001 -- passed on where it is not ours
            # The stack has run out, or an exception from outside passes: the dispatch must not stay open. One call of depth is
            # left for certain, since the beginning needed more: so the book comes first, and in steps of that depth.
            try:
                waits = dispatch.deadline and dispatch in EVIDENCE.waiting()
                given_up = not waits and dispatch.end(GIVEN_UP, ())
                if dispatch.settlement is not None:
                    self.ledger.settle(dispatch, dispatch.settlement, 0)
                if given_up:
                    EVIDENCE.discard(dispatch)
                self._watch.undo(dispatch)
            except Exception:  # noqa: BLE001, S110 -- whatever it was that failed is counted
                pass
            try:  # noqa: SIM105 -- suppress() needs stack, too
                report_or_raise("witness", raised)
            except RecursionError:
                pass
        if self._options.strict and error is None and dispatch.verdict is Verdict.ALTERED:
            at = "" if dispatch.offset is None else f", first at byte {dispatch.offset}"
            msg = f"{self._name} altered the payload: {dispatch.reason.value}{at}"
            raise IntegrityError(msg)

    def _account(self, dispatch: Dispatch, settlement: Settlement) -> None:
        # A forked child closes what its parent opened, and has to leave that to the parent's book.
        if self.ledger.settle(dispatch, settlement, len(dispatch.exchanges)):
            self._telemetry.settled(dispatch, settlement)
            tell(dispatch, self._options.on_settle)


def tell(dispatch: Dispatch, own: OnSettle | None) -> None:
    """
    Call everybody's hooks with a settled dispatch.

    Args:
        dispatch: What is settled.
        own: The dispatcher's own hook, which is called first.
    """
    for hook in (*(() if own is None else (own,)), *LISTENERS):
        _call(hook, dispatch)


@fail_open("hook")
def _call(hook: OnSettle, dispatch: Dispatch) -> None:
    hook(dispatch)


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
