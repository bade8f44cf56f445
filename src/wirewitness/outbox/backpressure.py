"""
Back-pressure, shared by an origin: where one payload is told to come back later, all others for that server wait too.

An origin that answers 429, or 503 with ``Retry-After``, is paused. After the pause it is tried carefully:

- Before anything is known of its limit, with one request in flight, then two, then four.
- Once a second such answer has shown how many requests it takes in a time, at that rate. The rate grows by 5 % per second, and
  after ten seconds without such an answer it doubles every second, so that a limit that is gone is soon forgotten.

So a backlog of thousands costs a few requests more than it has payloads, however low the limit is.
"""

from __future__ import annotations

import threading

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from wirewitness.outbox.message import Origin


_NONE: Final[frozenset[Origin]] = frozenset()

_LEAST_PAUSE: Final = 0.05
_LEAST_RATE: Final = 1.0
_GROWTH: Final = 1.05
_CAREFUL_SECONDS: Final = 10.0
# At this many requests in flight, or per second, nothing is held back any more.
_MOST_IN_FLIGHT: Final = 256
_MOST_RATE: Final = 2000.0
_MOST_ORIGINS: Final = 1000


class _Pace:
    """
    How fast an origin may be asked.

    Attributes:
        until: When its pause is over, monotonic seconds.
        began: When the current stretch without a pause began.
        taken: How many requests it took in that stretch.
        window: How many may be in flight, as long as no rate is known.
        rate: How many per second it took, or None.
        next_at: When the next may go, where a rate is known.
    """

    __slots__ = ("began", "next_at", "rate", "taken", "until", "window")

    def __init__(self, until: float) -> None:
        self.until = self.began = self.next_at = until
        self.taken = 0
        self.window = 1
        self.rate: float | None = None

    def current_rate(self, now: float) -> float | None:
        if self.rate is None:
            return None
        careful = now - self.began
        doublings = min(max(0.0, careful - _CAREFUL_SECONDS), 64.0)
        return float(self.rate * _GROWTH ** min(careful, _CAREFUL_SECONDS) * 2.0**doublings)


class BackPressure:
    """
    Which origins have asked for less. Thread-safe; all times are monotonic seconds. Its lock guards all of its state.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """
        Know nothing: also in a forked child, where the parent's lock may be held forever.
        """
        self._lock = threading.RLock()
        self._paces: OrderedDict[Origin, _Pace] = OrderedDict()

    @property
    def quiet(self) -> bool:
        """Whether no origin has asked for less of late."""
        return not self._paces

    def throttled(self, origin: Origin, now: float, seconds: float) -> None:
        """
        An origin has asked not to be sent to for so many seconds.
        """
        pause = max(_LEAST_PAUSE, seconds)
        with self._lock:
            pace = self._paces.get(origin)
            if pace is None:
                while len(self._paces) >= _MOST_ORIGINS:
                    self._paces.popitem(last=False)
                self._paces[origin] = _Pace(now + pause)
            elif now < pace.until:
                # Another answer to what went out before the pause: it tells nothing new of the rate.
                pace.until = pace.began = pace.next_at = max(pace.until, now + pause)
            else:
                if pace.taken:
                    pace.rate = max(_LEAST_RATE, pace.taken / (now - pace.began + pause))
                else:
                    pace.rate = max(_LEAST_RATE, pace.rate / 2) if pace.rate else None
                pace.taken, pace.window = 0, 1
                pace.until = pace.began = pace.next_at = now + pause

    def taken(self, origin: Origin) -> None:
        """
        An origin has answered, and did not ask for less.
        """
        with self._lock:
            pace = self._paces.get(origin)
            if pace is None:
                return
            pace.taken += 1
            pace.window *= 2
            if pace.rate is None and pace.window >= _MOST_IN_FLIGHT:
                del self._paces[origin]

    def closed_to(self, now: float, in_flight: Mapping[Origin | None, int]) -> frozenset[Origin]:
        """
        The origins that nothing may be sent to now.

        Args:
            now: Monotonic seconds.
            in_flight: How many requests are under way, by origin.
        """
        if not self._paces:
            return _NONE
        with self._lock:
            return frozenset(
                [origin for origin, pace in self._paces.items() if not self._open(origin, pace, now, in_flight)]
            )

    @staticmethod
    def _open(origin: Origin, pace: _Pace, now: float, in_flight: Mapping[Origin | None, int]) -> bool:
        if now < pace.until:
            return False
        if pace.rate is None:
            return in_flight.get(origin, 0) < pace.window
        return now >= pace.next_at

    def allow(self, origin: Origin | None, now: float, in_flight: Mapping[Origin | None, int]) -> bool:
        """
        Whether one more may be sent now; where it may, it is counted as sent.
        """
        if origin is None or origin not in self._paces:
            return True
        with self._lock:
            pace = self._paces.get(origin)
            if pace is None:
                return True
            if not self._open(origin, pace, now, in_flight):
                return False
            rate = pace.current_rate(now)
            if rate is not None:
                pace.next_at = now + 1.0 / rate
                if rate > _MOST_RATE:
                    del self._paces[origin]
            return True

    def next_free(self, now: float) -> float | None:
        """
        When the next origin may be sent to again; None where only answers can tell, or none waits.
        """
        if not self._paces:
            return None
        with self._lock:
            times = [max(pace.until, pace.next_at) for pace in self._paces.values()]
        return min([when for when in times if when > now], default=None)
