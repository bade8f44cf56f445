"""
Which messages are in the hands of senders, and how many of them each server may have.

Where there are others, no server holds every place:

- The last ``spare`` places are for no server alone, so that one which is slow from the very first cannot keep the first message
  for another one waiting.
- Once two servers are known, one that is slow gets a quarter of the places at most, and the others leave it a quarter.
"""

from __future__ import annotations

import threading

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from wirewitness.outbox.message import Message, Origin, origin_of_url


# A server is slow from an attempt of this many seconds on; and of so many servers it is known.
_SLOW: Final = 2.0
_MOST_ORIGINS: Final = 256

_NONE: Final[frozenset[Origin]] = frozenset()


class Lease(NamedTuple):
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


class Leases:
    """
    The registry of leases. Thread-safe: ``_lock`` guards all of it, and nothing is called while it is held.

    Args:
        places: How many messages the sender sends at once.
        spare: How many of them no server alone gets.
    """

    def __init__(self, places: int, spare: int) -> None:
        self._places = places
        self._spare = spare
        self._lock = threading.RLock()
        self._leases: dict[int, Lease] = {}
        self._sending = 0
        self._slow: OrderedDict[Origin | None, bool] = OrderedDict()
        self.in_flight: Counter[Origin | None] = Counter()

    def at_once(self, most: int) -> int:
        """
        How many messages may be leased together, to whatever servers they go; 0 where each server has to be looked at.
        """
        if len(self._slow) > 1 and self._places > 1:
            return 0
        return min(most, self._places - self._spare - self._sending) if self._spare else most

    def closed_to(self) -> frozenset[Origin]:
        """
        The servers that have their share.
        """
        full = [origin for origin in tuple(self._slow) if origin is not None and self._has_its_share(origin)]
        return frozenset(full) if full else _NONE

    def _has_its_share(self, origin: Origin) -> bool:
        held = self.in_flight[origin]
        if self._spare and held >= self._places - self._spare:
            return True
        if len(self._slow) < 2 or self._places < 2:  # noqa: PLR2004 -- itself and another one
            return False
        quarter = max(1, self._places // 4)
        return held >= (quarter if self._slow.get(origin) else self._places - quarter)

    def add(self, messages: Sequence[Message], now: float, thread: int) -> list[Message]:
        """
        Lease messages to a thread.

        Returns:
            Those whose servers have had the last place meanwhile, by another thread. They are not leased.
        """
        beyond: list[Message] = []
        most = self._places - self._spare if self._spare else None
        with self._lock:
            for message in messages:
                origin = origin_of_url(message.url)
                if most is not None and self.in_flight[origin] >= most:
                    beyond.append(message)
                    continue
                self._leases[id(message)] = Lease(message, origin, now, thread)
                self.in_flight[origin] += 1
                self._sending += 1
                if origin not in self._slow:
                    self._slow[origin] = False
                    if len(self._slow) > _MOST_ORIGINS:
                        self._slow.popitem(last=False)
        return beyond

    def release(self, message: Message, now: float | None = None) -> Lease | None:
        """
        Take a lease out of the registry: only who gets it decides about the message.

        Args:
            message: Whose.
            now: Where its sender has reported: when, monotonic seconds.
        """
        with self._lock:
            lease = self._leases.pop(id(message), None)
            if lease is not None and lease.thread:
                self._count_out(lease)
                if now is not None:
                    self._slow[lease.origin] = now - lease.since >= _SLOW
        return lease

    def only_awaited(self, message: Message) -> None:
        """
        The sender has returned, and evidence is awaited: it holds no place any more.
        """
        with self._lock:
            lease = self._leases.get(id(message))
            if lease is not None and lease.thread:
                self._leases[id(message)] = lease._replace(thread=0)
                self._count_out(lease)

    def _count_out(self, lease: Lease) -> None:
        self._sending -= 1
        self.in_flight[lease.origin] -= 1
        if self.in_flight[lease.origin] <= 0:
            del self.in_flight[lease.origin]

    def held(self, thread: int | None = None) -> list[Message]:
        """
        What a thread has, or all of them.
        """
        return [lease.message for lease in list(self._leases.values()) if thread is None or lease.thread == thread]
