"""
Whose bytes are these? The dispatches that aren't settled yet, found by their payloads wherever these show up on the wire.

Theory of operation
===================

The tap asks :meth:`EvidenceIndex.match` about each body that was sent outside of the dispatch's own context: by an inner
dispatcher's thread, or by a later call that flushes an inner dispatcher's queue. Three rules keep the answer honest:

- *Where matters.* A dispatch with a known target is found at its target only, or where it was redirected to.
- *Small bodies prove little.* A payload shorter than 32 bytes is found at its own target only: anybody posts ``{}``.
- *A search has an end.* It costs time in proportion to the body (:mod:`wirewitness.core.pieces`). A search that is given
  up is told to the dispatches that may have been in the body, as the reason why nothing was seen of them.

What nobody waits for costs nothing: a request to an address that no dispatch expects isn't recorded at all.
"""

from __future__ import annotations

import threading

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from itertools import chain, islice
from typing import Final, NamedTuple

from wirewitness import fork
from wirewitness._clock import Clock, monotonic
from wirewitness.core.exchange import Address
from wirewitness.core.outcome import Reason
from wirewitness.core.payload import SMALL
from wirewitness.core.pieces import TooMuch, pieces_of
from wirewitness.dispatch import CURRENT, Dispatch


_LEAST_RECORDED: Final = 4 << 20
_MOST_PER_WAITING_BYTE: Final = 16


class Match(NamedTuple):
    """
    Whose payloads a body carries.

    Attributes:
        dispatches: The one with exactly these bytes, or all whose payloads it embeds.
        embedded: The payloads that stand inside the body as values or lines of it.
    """

    dispatches: list[Dispatch]
    embedded: frozenset[bytes] = frozenset()


class _Equal:
    """Dispatches of equal payloads, by their targets, the oldest first: any of them goes at the same cost."""

    __slots__ = ("by_target",)

    def __init__(self) -> None:
        self.by_target: dict[Address | None, OrderedDict[Dispatch, None]] = {}

    def add(self, dispatch: Dispatch) -> None:
        self.by_target.setdefault(dispatch.target, OrderedDict())[dispatch] = None

    def remove(self, dispatch: Dispatch) -> bool:
        same = self.by_target.get(dispatch.target)
        if same is None or dispatch not in same:
            return False
        del same[dispatch]
        if not same:
            del self.by_target[dispatch.target]
        return True


class EvidenceIndex:
    """
    Every dispatch with a known payload that isn't settled yet.

    One lock guards all of it. Any thread may call anything here, also from a signal handler or a finalizer: the lock is
    reentrant, and each method leaves the tables whole before it runs foreign code. A forked child starts empty.

    Attributes:
        by_body: By the payload's bytes; empty when nothing is watched.

    Args:
        most: How many dispatches may wait for late evidence.
        most_bytes: How many bytes of payloads may wait.
    """

    def __init__(self, *, most: int = 10_000, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.by_body: dict[bytes, Dispatch | _Equal] = {}
        self.forget_all()

    def forget_all(self) -> None:
        """
        Start empty: also in a child process, where what waits is the parent's and its locks may be held for ever.
        """
        self._lock = threading.RLock()
        self.by_body.clear()
        self._targets: dict[Address | None, int] = {}
        self._redirects: dict[Address, OrderedDict[Dispatch, None]] = {}
        self._bytes = 0
        # Ordered ones: the first of a plain dict is slow to find once many before it are gone.
        self._waiting: OrderedDict[Dispatch, None] = OrderedDict()
        self._waiting_bytes = 0
        self._given_up: OrderedDict[int, None] = OrderedDict()
        self._sweeper = _Sweeper(self)

    def add(self, dispatch: Dispatch) -> None:
        """
        Have a dispatch found by its payload from now on.
        """
        body, target = dispatch.body, dispatch.target
        with self._lock:
            first = self.by_body.setdefault(body, dispatch)
            if first is not dispatch:
                if not isinstance(first, _Equal):
                    self.by_body[body] = equal = _Equal()
                    equal.add(first)
                    first = equal
                first.add(dispatch)
            targets = self._targets
            targets[target] = targets.get(target, 0) + 1
            self._bytes += len(body)

    def discard(self, dispatch: Dispatch) -> None:
        """
        Neither find a dispatch any more nor wait for it, known or not.
        """
        with self._lock:
            self.forget(dispatch)
            if self._waiting.pop(dispatch, self) is None:
                self._waiting_bytes -= len(dispatch.body)

    def forget(self, dispatch: Dispatch) -> None:
        """
        Have a dispatch found by its payload no more.
        """
        body = dispatch.body
        if body not in self.by_body:
            # What is settled is forgotten several times.
            return
        with self._lock:
            found = self.by_body.get(body)
            if found is dispatch:
                del self.by_body[body]
            elif not isinstance(found, _Equal) or not found.remove(dispatch):
                return
            elif not found.by_target:
                del self.by_body[body]
            target = dispatch.target
            left = self._targets[target] - 1
            if left:
                self._targets[target] = left
            else:
                del self._targets[target]
            self._bytes -= len(body)
            for to in dispatch.redirected_to:
                redirected = self._redirects[to]
                del redirected[dispatch]
                if not redirected:
                    del self._redirects[to]

    def wait(self, dispatch: Dispatch, seconds: float) -> None:
        """
        Keep a dispatch whose inner call has returned for late evidence, and give up the oldest where that's too many.
        """
        dispatch.deadline = Clock.monotonic() + seconds
        with self._lock:
            self._waiting[dispatch] = None
            self._waiting_bytes += len(dispatch.body)
        if dispatch.settlement is not None:  # by another thread's evidence, in between
            self.discard(dispatch)
        while len(self._waiting) > self._most or self._waiting_bytes > self._most_bytes:
            with self._lock:
                oldest = next(iter(self._waiting), None)
            if oldest is not None:
                self.give_up(oldest, Reason.EVICTED)
        self._sweeper.wake_at(dispatch.deadline)

    @staticmethod
    def extend(dispatch: Dispatch, seconds: float) -> None:
        """
        Wait for this long from now on.
        """
        dispatch.deadline = Clock.monotonic() + seconds

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
        if dispatch in self._waiting or dispatch.body in self.by_body:
            self.discard(dispatch)

    def redirected(self, dispatches: Sequence[Dispatch], to: Address) -> None:
        """
        A request for these dispatches was answered by a redirect, which its context is expected to follow next.
        """
        _REDIRECTED.set((self, to, tuple(dispatches)))
        with self._lock:
            for dispatch in dispatches:
                if to not in dispatch.redirected_to and self._is_found(dispatch):
                    dispatch.redirected_to = (*dispatch.redirected_to, to)
                    self._redirects.setdefault(to, OrderedDict())[dispatch] = None

    def _is_found(self, dispatch: Dispatch) -> bool:
        found = self.by_body.get(dispatch.body)
        return found is dispatch or (isinstance(found, _Equal) and dispatch in found.by_target.get(dispatch.target, ()))

    def following(self, asked: Address) -> list[Dispatch]:
        """
        The dispatches whose redirect this context follows by its next request; none, if that asks for something else.

        A redirect that turned a POST into a GET (RFC 9110 section 15.4) carries no bytes by which it could be known.
        """
        index, to, dispatches = _REDIRECTED.get()
        if index is None:
            return []
        _REDIRECTED.set(_NO_REDIRECT)
        return [each for each in dispatches if index is self and to == asked and each.settlement is None]

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

    def most_recorded(self, address: Address) -> int:
        """
        How many bytes of a request to this address are worth recording for the sake of what may be in it.
        """
        targets = self._targets
        if address in targets or None in targets or address in self._redirects:
            return max(_LEAST_RECORDED, _MOST_PER_WAITING_BYTE * self._bytes)
        return 0

    def match(self, body: bytes, address: Address, *, in_query: bool = False) -> Match:
        """
        Whose payloads a body carries that was sent to an address.

        Of dispatches with equal payloads it's the oldest that has no request under way, or else the oldest of all.

        Args:
            body: The content of a request, or its query.
            address: Where it went.
            in_query: Whether it's the query.
        """
        with self._lock:
            same = self._candidates(body, address, in_query=in_query)
            oldest = next(same, None)
            if oldest is not None:
                free = oldest if not oldest.busy else next((each for each in same if not each.busy), oldest)
                return Match([free])
            wanted = frozenset(self.by_body)
        if in_query or not wanted or not self.most_recorded(address):
            return Match([])
        try:
            pieces = pieces_of(body, wanted)
        except TooMuch:
            self._search_was_given_up(address)
            return Match([])
        found: dict[Dispatch, bytes] = {}
        with self._lock:
            # A payload that stands in the body several times is that many dispatches' of equal payloads. One that has a
            # request under way comes last: it may be this very request.
            each_of: dict[bytes, Iterator[Dispatch]] = {}
            for piece in pieces:
                if piece not in each_of:
                    busy: list[Dispatch] = []
                    candidates = self._candidates(piece, address, in_query=False)
                    each_of[piece] = chain(_those_not_busy(candidates, busy), busy)
                found.update(dict.fromkeys(islice(each_of[piece], 1), piece))
        return Match(list(found), frozenset(found.values()))

    def _candidates(self, body: bytes, address: Address, *, in_query: bool) -> Iterator[Dispatch]:
        found = self.by_body.get(body)
        if found is None:
            return iter(())
        if isinstance(found, _Equal):
            anywhere = found.by_target.get(None, ()) if len(body) >= SMALL else ()
            redirected = (each for each in self._redirects.get(address, ()) if each.body == body)
            return (
                each
                for each in chain(found.by_target.get(address, ()), redirected, anywhere)
                if each.payload is not None and each.payload.in_query == in_query
            )
        here = found.expects(address) if found.target is not None else len(body) >= SMALL
        return iter((found,) if here and found.payload is not None and found.payload.in_query == in_query else ())

    def _search_was_given_up(self, address: Address) -> None:
        with self._lock:
            for dispatch in self._waiting:
                if dispatch.target is None or dispatch.expects(address):
                    dispatch.unseen = Reason.SEARCH_GIVEN_UP


def _those_not_busy(candidates: Iterator[Dispatch], busy: list[Dispatch]) -> Iterator[Dispatch]:
    for each in candidates:
        if each.busy:
            busy.append(each)
        else:
            yield each


_Redirected = tuple[EvidenceIndex | None, Address, tuple[Dispatch, ...]]
_NO_REDIRECT: Final[_Redirected] = (None, ("", "", 0, ""), ())
# A context's own: on an event loop, another task's request must not take the redirect that this one follows.
_REDIRECTED: Final[ContextVar[_Redirected]] = ContextVar("wirewitness_redirected", default=_NO_REDIRECT)


class _Sweeper:
    """
    The thread that gives dispatches up when their time has come; it runs only while some wait.
    """

    _SHORTEST_SLEEP: Final = 0.02

    def __init__(self, index: EvidenceIndex) -> None:
        self._index = index
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
                # Made when it is needed: by then a library such as gevent may have replaced it.
                self._sooner = threading.Event()
                thread = threading.Thread(target=self._run, name="wirewitness-sweeper", daemon=True)
                thread.start()
                self._thread = thread
            elif deadline < self._wake:
                # In this order: where waking it fails, whoever comes next tries again.
                self._sooner.set()
                self._wake = deadline

    def _run(self) -> None:
        while self._still_needed():
            self._sooner.wait(max(self._SHORTEST_SLEEP, self._wake - monotonic()))
            self._sooner.clear()
            now = monotonic()
            for dispatch in self._index.waiting():
                if dispatch.deadline <= now:
                    self._index.give_up(dispatch, Reason.NO_EVIDENCE)

    def _still_needed(self) -> bool:
        with self._lock:
            waiting = self._index.waiting()
            if not waiting:
                self._thread = None
                return False
            self._wake = min(dispatch.deadline for dispatch in waiting)
            return True


EVIDENCE: Final = EvidenceIndex()


def _start_empty_in_child() -> None:
    EVIDENCE.forget_all()
    CURRENT.set(None)


fork.register(fork.ForkStage.EVIDENCE, in_child=_start_empty_in_child)
