"""
The dispatches that aren't settled yet, found by their payloads' bytes wherever these show up on the wire.
"""

from __future__ import annotations

import itertools
import threading
import time

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from wirewitness import fork
from wirewitness._current import CURRENT, Dispatch
from wirewitness.core.exchange import Address
from wirewitness.core.outcome import Reason
from wirewitness.core.verdict import Verdict, compare


class Flights:
    """
    Every dispatch with a known payload that isn't settled yet.

    The tap asks it whose a body is that was sent outside of the dispatch's own context: by an inner dispatcher's thread,
    or by a later call that flushes an inner dispatcher's queue.

    Attributes:
        by_body: The oldest dispatch of each payload, by the payload's bytes; empty when nothing is watched.

    Args:
        most: How many dispatches may wait for late evidence.
        most_bytes: How many bytes of payloads may wait.
    """

    def __init__(self, *, most: int = 10_000, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.by_body: dict[bytes, Dispatch] = {}
        self.forget_all()

    def forget_all(self) -> None:
        """
        Start empty: also in a child process, where what waits is the parent's and its locks may be held for ever.
        """
        self._lock = threading.RLock()
        self.by_body.clear()
        self._same: dict[bytes, deque[Dispatch]] = {}
        # Ordered ones: the first of a plain dict is slow to find once many before it are gone.
        self._waiting: OrderedDict[Dispatch, None] = OrderedDict()
        self._waiting_bytes = 0
        self._given_up: OrderedDict[int, None] = OrderedDict()
        self._redirected = threading.local()
        self._sweeper = _Sweeper(self)

    def add(self, dispatch: Dispatch) -> None:
        """
        Have a dispatch found by its payload from now on.
        """
        body = dispatch.body
        with self._lock:
            if self.by_body.setdefault(body, dispatch) is not dispatch:
                self._same.setdefault(body, deque()).append(dispatch)

    def discard(self, dispatch: Dispatch) -> None:
        """
        Forget a dispatch, known or not.
        """
        with self._lock:
            self.unlist(dispatch)
            if self._waiting.pop(dispatch, self) is None:
                self._waiting_bytes -= len(dispatch.body)

    def unlist(self, dispatch: Dispatch) -> None:
        """
        Have a dispatch found by its payload no more.
        """
        body = dispatch.body
        with self._lock:
            same = self._same.get(body)
            if same is not None:
                self._unlist_one_of(body, same, dispatch)
            elif self.by_body.get(body) is dispatch:
                del self.by_body[body]

    def _unlist_one_of(self, body: bytes, same: deque[Dispatch], dispatch: Dispatch) -> None:
        if self.by_body.get(body) is dispatch:
            self.by_body[body] = same.popleft()
        elif dispatch in same:
            same.remove(dispatch)
        if not same:
            del self._same[body]

    def wait(self, dispatch: Dispatch, seconds: float) -> None:
        """
        Keep a dispatch whose inner call has returned for late evidence, and give up the oldest where that's too many.
        """
        dispatch.deadline = time.monotonic() + seconds
        with self._lock:
            self._waiting[dispatch] = None
            self._waiting_bytes += len(dispatch.body)
        if dispatch.settlement is not None:  # by another thread's evidence, in between
            self.discard(dispatch)
        while len(self._waiting) > self._most or self._waiting_bytes > self._most_bytes:
            self._evict_oldest()
        self._sweeper.wake_at(dispatch.deadline)

    @staticmethod
    def extend(dispatch: Dispatch, seconds: float) -> None:
        """
        Wait for this long from now on.
        """
        dispatch.deadline = time.monotonic() + seconds

    def _evict_oldest(self) -> None:
        with self._lock:
            oldest = next(iter(self._waiting), None)
        if oldest is not None:
            self.give_up(oldest, Reason.EVICTED)

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """
        Have a dispatch settled without more evidence.
        """
        with self._lock:
            self._given_up[hash(dispatch.body)] = None
            if len(self._given_up) > self._most:
                self._given_up.popitem(last=False)
        dispatch.owner.give_up(dispatch, reason)
        # Its owner forgets what it settles, but neither what it couldn't nor what a parent process will.
        self.discard(dispatch)

    def redirected(self, dispatches: Sequence[Dispatch], to: Address) -> None:
        """
        A request for these dispatches was answered by a redirect, which its thread is expected to follow next.
        """
        self._redirected.expected = (to, dispatches)

    def following(self, asked: Address) -> list[Dispatch]:
        """
        The dispatches whose redirect this thread follows by its next request; none, if that asks for something else.

        A redirect that turned a POST into a GET (RFC 9110 section 15.4) carries no bytes by which it could be known.
        """
        to, dispatches = vars(self._redirected).pop("expected", (None, ()))
        return [dispatch for dispatch in dispatches if to == asked and dispatch.settlement is None]

    def was_given_up(self, body: bytes) -> bool:
        """
        Whether a body is the payload of a dispatch that was given up not long ago.
        """
        return hash(body) in self._given_up

    def waiting(self) -> list[Dispatch]:
        """
        The dispatches that wait for late evidence, in the order in which their calls returned.
        """
        with self._lock:
            return list(self._waiting)

    def whose(self, body: bytes) -> list[Dispatch]:
        """
        The dispatches whose payloads a body carries: the oldest with exactly these bytes, or all that it embeds.
        """
        with self._lock:
            oldest = self.by_body.get(body)
            if oldest is not None:
                same = (oldest, *self._same.get(body, ()))
                return [next((dispatch for dispatch in same if not dispatch.busy), oldest)]
            candidates = list(itertools.islice(self.by_body.values(), _MOST_SEARCHED_FOR))
        return list(_embedded(body, candidates))


# A body is searched for the oldest payloads only, so that the search is never a delay to be felt.
_MOST_SEARCHED_FOR: Final = 1000
_MOST_SEARCHED_BYTES: Final = 32 << 20


def _embedded(body: bytes, candidates: list[Dispatch]) -> Iterator[Dispatch]:
    smaller = (dispatch for dispatch in candidates if 0 < len(dispatch.body) < len(body))
    for dispatch in itertools.islice(smaller, _MOST_SEARCHED_BYTES // max(len(body), 1)):
        if dispatch.body in body and _compared(dispatch, body) is Verdict.EMBEDDED:
            yield dispatch


def _compared(dispatch: Dispatch, body: bytes) -> Verdict:
    return Verdict.UNOBSERVED if dispatch.payload is None else compare(dispatch.payload, body).verdict


class _Sweeper:
    """
    The thread that gives dispatches up when their time has come; it runs only while some wait.
    """

    _SHORTEST_SLEEP: Final = 0.02

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._sooner = threading.Event()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._wake = 0.0

    def wake_at(self, deadline: float) -> None:
        """
        Look again at ``deadline`` (monotonic seconds) at the latest.
        """
        with self._lock:
            if self._thread is None:
                self._wake = deadline
                thread = threading.Thread(target=self._run, name="wirewitness-sweeper", daemon=True)
                thread.start()
                self._thread = thread
            elif deadline < self._wake:
                # In this order: where waking it fails, whoever comes next tries again.
                self._sooner.set()
                self._wake = deadline

    def _run(self) -> None:
        while self._still_needed():
            self._sooner.wait(max(self._SHORTEST_SLEEP, self._wake - time.monotonic()))
            self._sooner.clear()
            now = time.monotonic()
            for dispatch in self._flights.waiting():
                if dispatch.deadline <= now:
                    self._flights.give_up(dispatch, Reason.NO_EVIDENCE)

    def _still_needed(self) -> bool:
        with self._lock:
            waiting = self._flights.waiting()
            if not waiting:
                self._thread = None
                return False
            self._wake = min(dispatch.deadline for dispatch in waiting)
            return True


FLIGHTS: Final = Flights()


def _start_empty_in_child() -> None:
    FLIGHTS.forget_all()
    CURRENT.set(None)


fork.register(fork.Stage.EVIDENCE, in_child=_start_empty_in_child)
