"""
Watching one call: it begins, requests are made for it, and it ends with a settlement.

:meth:`Watch.end` returns the settlement to whoever made the call. Where evidence is still awaited it returns None, and the
settlement is handed over later, in whichever thread the evidence turns up. Each dispatch is settled exactly once: by whoever
wins :meth:`Dispatch.end`. Nothing in here counts or keeps anything; that is for whoever asked.
"""

from __future__ import annotations

import functools

from collections.abc import Callable
from typing import Final, Protocol

from wirewitness import ending, wire
from wirewitness._guard import fail_open
from wirewitness.core.exchange import Exchange, Origin
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.settlement import Settlement, judge
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.dispatch import CURRENT, Dispatch
from wirewitness.evidence import EVIDENCE


class Shows(Protocol):
    """
    What shows a call while it runs.
    """

    def opened(self, dispatch: Dispatch) -> object:
        """The call begins."""
        ...

    def closed(self, dispatch: Dispatch) -> object:
        """The inner code has stopped, at its end or for now."""
        ...

    def entered(self, dispatch: Dispatch) -> object:
        """The inner code goes on."""
        ...

    def recognised(self, dispatch: Dispatch) -> object:
        """Its bytes are on the wire in the current context, which is another's."""
        ...

    def ignores(self, dispatch: Dispatch) -> bool:
        """Whether requests made right now are a telemetry exporter's own."""
        ...

    def expect_more(self) -> object:
        """A settlement will come later, perhaps at the end of the process."""
        ...


class Watch:
    """
    Watches calls, of one dispatcher or of one Outbox. Thread-safe: it keeps nothing of its own.

    Args:
        shows: Shows a call while it runs.
        evidence_timeout: Seconds for which a returned call waits for evidence from elsewhere.
        on_late: Called with a settlement that came after :meth:`end` had returned None.
        receivers: The origins whose word on what they received is taken.
    """

    def __init__(
        self,
        shows: Shows,
        evidence_timeout: float,
        on_late: Callable[[Dispatch, Settlement], object],
        receivers: frozenset[Origin] = frozenset(),
    ) -> None:
        self._receivers = receivers
        self._shows = shows
        self._evidence_timeout = evidence_timeout
        self._on_late = on_late

    def begin(self, dispatch: Dispatch) -> None:
        """
        Make a dispatch the current one: requests in this context are its own, and its bytes are looked for everywhere.
        """
        if wire.check() is wire.TapState.LOST:
            dispatch.unseen = Reason.TAP_LOST
        if dispatch.payload is not None:
            EVIDENCE.add(dispatch)
        self._shows.opened(dispatch)
        dispatch.outside = CURRENT.get()
        CURRENT.set(dispatch)

    @fail_open("witness")
    def leave(self, dispatch: Dispatch) -> None:
        """
        The inner code has stopped, at its end or for now: the caller's own context is back.
        """
        # Where another dispatch is the current one, this was begun in another context than it is left in: by the garbage
        # collection, perhaps in the middle of that dispatch. That one's context is none of this one's.
        if CURRENT.get() is dispatch:
            CURRENT.set(dispatch.outside)
            dispatch.outside = None
            self._shows.closed(dispatch)

    @fail_open("witness")
    def enter(self, dispatch: Dispatch) -> None:
        """
        The inner code goes on after :meth:`leave`, perhaps in another context.
        """
        if dispatch.open:
            self._shows.entered(dispatch)
            dispatch.outside = CURRENT.get()
            CURRENT.set(dispatch)

    def undo(self, dispatch: Dispatch) -> None:
        """
        Leave a dispatch whose beginning or end was interrupted: nothing leads to it any more.
        """
        dispatch.open = False
        if dispatch.settlement is None and not dispatch.deadline:
            EVIDENCE.discard(dispatch)
        if CURRENT.get() is dispatch:
            self._shows.closed(dispatch)
            CURRENT.set(dispatch.parent)

    def end(self, dispatch: Dispatch, error: BaseException | None) -> Settlement | None:
        """
        The inner call is over. Raises only what is raised into the thread from outside.

        Args:
            dispatch: What :meth:`begin` was given.
            error: What the inner call raised.

        Returns:
            How it ended; None where evidence is awaited, or where evidence has settled it in another thread.
        """
        ended = self._end(dispatch, error)
        if ended is not None:
            return ended[0]
        # Not in a guarded method: where the stack has run out, there's no more of it than the beginning needed.
        if not dispatch.end(GIVEN_UP, ()):
            return None
        try:  # noqa: SIM105 -- suppress() needs stack, too
            EVIDENCE.discard(dispatch)
        except Exception:  # noqa: BLE001, S110 -- whatever it was that failed is counted
            pass
        return GIVEN_UP

    @fail_open("witness")
    def _end(self, dispatch: Dispatch, error: BaseException | None) -> tuple[Settlement | None]:
        dispatch.open = False
        dispatch.source = None
        dispatch.touch()
        self.leave(dispatch)
        if not dispatch.attempted:
            if wire.check() is not wire.TapState.INTACT:
                dispatch.unseen = Reason.TAP_LOST
            elif error is None and dispatch.payload is not None:
                self._wait(dispatch)
                return (None,)
        exchanges = dispatch.exchanges
        settlement = self._judge(dispatch, exchanges, error)
        if not settlement.final and dispatch.payload is not None:
            self._wait(dispatch)
            return (None,)
        return (_conclude(dispatch, settlement, exchanges),)

    def _wait(self, dispatch: Dispatch) -> None:
        ending.watch()
        self._shows.expect_more()
        EVIDENCE.wait(dispatch, self._evidence_timeout)

    # What the tap and the index of waiting payloads call, of a dispatch's owner.

    def recognised(self, dispatch: Dispatch) -> None:
        """
        Its bytes have shown up in another context: its span is linked to what goes on there.
        """
        self._shows.recognised(dispatch)

    def ignores_requests(self, dispatch: Dispatch) -> bool:
        """
        Whether requests made right now are a telemetry exporter's own.
        """
        return self._shows.ignores(dispatch)

    @fail_open("witness")
    def reconsider(self, dispatch: Dispatch) -> None:
        """
        Evidence has come in after the call returned: settle if that is success, else wait on, for a retry may follow.
        """
        exchanges = dispatch.exchanges
        settlement = self._judge(dispatch, exchanges)
        dispatch.touch()
        if settlement.outcome is Outcome.DELIVERED:
            self._settle_late(dispatch, settlement, exchanges)
        else:
            EVIDENCE.extend(dispatch, self._evidence_timeout)

    @fail_open("witness")
    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """
        Settle by what is known.
        """
        exchanges = dispatch.exchanges
        unseen = reason if dispatch.unseen is Reason.NO_EVIDENCE else dispatch.unseen
        settlement = self._judge(dispatch, exchanges) if exchanges else nothing_seen(unseen)
        self._settle_late(dispatch, settlement, exchanges)

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
            receivers=self._receivers,
        )

    def _settle_late(self, dispatch: Dispatch, settlement: Settlement, exchanges: tuple[Exchange, ...]) -> None:
        if _conclude(dispatch, settlement, exchanges) is not None:
            self._on_late(dispatch, settlement)
            # Last, so that whoever waits until nothing waits any more has been told of everything.
            EVIDENCE.discard(dispatch)


def _conclude(dispatch: Dispatch, settlement: Settlement, exchanges: tuple[Exchange, ...]) -> Settlement | None:
    # The end comes last: whatever goes wrong before it leaves the dispatch to be given up.
    EVIDENCE.forget(dispatch)
    return settlement if dispatch.end(settlement, exchanges) else None


@functools.cache
def nothing_seen(reason: Reason) -> Settlement:
    """
    The settlement of a call that left no evidence either way.
    """
    return Settlement(Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, reason)


GIVEN_UP: Final = nothing_seen(Reason.NO_EVIDENCE)


def _give_up_all() -> None:
    for dispatch in EVIDENCE.waiting():
        EVIDENCE.give_up(dispatch, Reason.SHUTDOWN)


# Last of all: a dispatcher's own flush at exit, wherever in the order it is, may bring the evidence.
ending.on_last(ending.Last.EVIDENCE, _give_up_all)
