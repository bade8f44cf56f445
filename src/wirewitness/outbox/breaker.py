"""
Circuit breakers, one an origin: a server that doesn't answer is left alone for a while, and then tried with one message.
"""

from __future__ import annotations

import threading

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from wirewitness.core.limits import positive, seconds
from wirewitness.errors import ConfigurationError, shown
from wirewitness.outbox.message import Origin


CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2

_MOST_PASSED_OVER: Final = 256
# A run of bad messages before a good one must not take minutes: 4 times `failures` of them are asked for at one pace.
_PATIENCE: Final = 4

_NONE: Final[frozenset[Origin]] = frozenset()


class _Circuit:
    """
    What is known of an origin that has failed of late.

    Attributes:
        failures: How often in a row it could not be reached.
        refused: The messages that it answered with a 5xx, or broke off at, since its last success.
        doubled_at: How many these were when they last made the cooldown longer.
        cooldown: Seconds that it's left alone for.
        until: When that is over, monotonic seconds; None while it's closed.
        probe_until: Until when a probe is waited for; None if there's none.
        passed_over: The messages that were not taken as a probe, for they had failed before.
    """

    __slots__ = ("cooldown", "doubled_at", "failures", "passed_over", "probe_until", "refused", "until")

    def __init__(self, cooldown: float) -> None:
        self.failures = 0
        self.refused: set[Hashable] = set()
        self.doubled_at = 0
        self.cooldown = cooldown
        self.until: float | None = None
        self.probe_until: float | None = None
        self.passed_over: set[Hashable] = set()

    def refuses(self, now: float) -> bool:
        return self.until is not None and (
            now < self.until or (self.probe_until is not None and now < self.probe_until)
        )

    def open(self, now: float) -> None:
        self.until = now + self.cooldown
        self.doubled_at = self.doubled_at or len(self.refused)
        self.probe_until = None
        self.passed_over.clear()


class Breakers:
    """
    A circuit breaker for each origin that messages go to. Thread-safe; all times are monotonic seconds.

    An origin that fails ``failures`` times in a row is left alone for ``cooldown`` seconds. Then one message goes, as a
    probe: where that succeeds, all others follow; where the origin can't be reached, the cooldown doubles. Where the answer is a
    5xx, or breaks off, that may be the messages' fault, and the next one may be a good one: then the cooldown doubles only with
    ``4 * failures`` messages more that were refused, without one that was taken. So a server that refuses all messages, however
    many come, gets about a hundred requests before it is asked once in each ``ceiling``.

    A message's fault is not its origin's. What could not be sent at all is never told to a breaker, a 5xx or a broken connection
    counts once per message, and a probe is a message that has not failed yet, wherever there is one.

    Args:
        failures: How many failures in a row open a circuit. A failure is an origin that can't be reached, or a 5xx or
            a broken connection for another message.
        cooldown: Seconds.
        ceiling: The longest cooldown, seconds.
        most: How many origins that fail are remembered. Those are forgotten first whose circuit is still closed, and of
            those the ones that have not failed for longest.

    Raises:
        ConfigurationError: If a limit can't work.
    """

    def __init__(self, *, failures: int = 5, cooldown: float = 1.0, ceiling: float = 60.0, most: int = 1000) -> None:
        self._failures = positive("failures", failures)
        self._cooldown = seconds("cooldown", cooldown)
        self._ceiling = seconds("ceiling", ceiling)
        self._most = positive("most", most)
        if ceiling < cooldown:
            msg = f"ceiling={shown(ceiling)}: must not be less than cooldown={shown(cooldown)}"
            raise ConfigurationError(msg)
        self.renew()

    def renew(self) -> None:
        """
        Know nothing: also in a forked child, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()
        self._circuits: OrderedDict[Origin, _Circuit] = OrderedDict()
        self._open = 0
        # By origin, the number of its last recovery, of all origins' recoveries so far.
        self._recoveries: OrderedDict[Origin, int] = OrderedDict()
        self._recovered = 0

    @property
    def quiet(self) -> bool:
        """Whether nothing has failed of late, so that no success needs to be told."""
        return not self._circuits

    @property
    def all_closed(self) -> bool:
        """Whether every origin may be sent to."""
        return not self._open

    def closed_to(self, now: float) -> frozenset[Origin]:
        """
        The origins that nothing is to be sent to now.
        """
        if not self._open:
            return _NONE
        with self._lock:
            return frozenset(origin for origin, circuit in self._circuits.items() if circuit.refuses(now))

    def allow(self, origin: Origin, now: float) -> bool:
        """
        Whether a message may go. After a cooldown that's true once, until the probe has ended or is lost.
        """
        with self._lock:
            circuit = self._circuits.get(origin)
            if circuit is None or circuit.until is None:
                return True
            if circuit.refuses(now):
                return False
            circuit.probe_until = now + self._ceiling
            return True

    def succeeded(self, origin: Origin, *, took: bool = True) -> None:
        """
        The origin has answered: its circuit is closed.

        Args:
            origin: Which.
            took: Whether it took a message, and not only answered.
        """
        with self._lock:
            circuit = self._circuits.pop(origin, None)
            if circuit is not None and circuit.until is not None:
                self._open -= 1
            if circuit is not None and took:
                self._recovered += 1
                self._recoveries[origin] = self._recovered
                self._recoveries.move_to_end(origin)
                if len(self._recoveries) > self._most:
                    self._recoveries.popitem(last=False)

    def recoveries(self, origin: Origin) -> int:
        """
        A number that grows whenever the origin takes a message after a failure.

        A message that is refused, and refused again after it has grown, is refused while others are taken.
        """
        return self._recoveries.get(origin, 0)

    def failed(self, origin: Origin, now: float, refused: Hashable = None) -> None:
        """
        The origin has not answered, or with a 5xx.

        Args:
            origin: Which.
            now: Monotonic seconds.
            refused: The key of the message that it answered with a 5xx, or broke off at; None where it could not be reached.
        """
        with self._lock:
            circuit = self._circuits.get(origin) or self._add(origin)
            self._circuits.move_to_end(origin)
            if refused is None:
                circuit.failures += 1
            elif circuit.until is None or circuit.cooldown < self._ceiling:
                circuit.refused.add(refused)
            if circuit.until is None:
                if circuit.failures + len(circuit.refused) >= self._failures:
                    self._open += 1
                    circuit.open(now)
            elif circuit.probe_until is not None:
                if refused is None or len(circuit.refused) >= circuit.doubled_at + self._failures * _PATIENCE:
                    circuit.cooldown = min(circuit.cooldown * 2, self._ceiling)
                    circuit.doubled_at = len(circuit.refused)
                circuit.open(now)

    def pass_over(self, origin: Origin, message: Hashable, now: float) -> bool:
        """
        Whether a message that has failed before should leave being the probe to another one: once in each cooldown.
        """
        with self._lock:
            circuit = self._circuits.get(origin)
            if circuit is None or circuit.until is None or circuit.refuses(now):
                return False
            if message in circuit.passed_over or len(circuit.passed_over) >= _MOST_PASSED_OVER:
                return False
            circuit.passed_over.add(message)
            return True

    def _add(self, origin: Origin) -> _Circuit:
        while len(self._circuits) >= self._most:
            known = list(self._circuits)
            self.succeeded(next((each for each in known if self._circuits[each].until is None), known[0]), took=False)
        circuit = self._circuits[origin] = _Circuit(self._cooldown)
        return circuit

    def next_probe(self, now: float) -> float | None:
        """
        When the next origin may be tried again; None if none is left alone.
        """
        if not self._open:
            return None
        with self._lock:
            times = [self._free_at(circuit) for circuit in self._circuits.values() if circuit.refuses(now)]
            return min(times, default=None)

    @staticmethod
    def _free_at(circuit: _Circuit) -> float:
        return circuit.probe_until or circuit.until or 0.0

    def state(self, now: float) -> int:
        """
        The worst of all circuits: 0 closed, 1 half-open, 2 open.
        """
        with self._lock:
            untils = [circuit.until for circuit in self._circuits.values() if circuit.until is not None]
        return max((OPEN if now < until else HALF_OPEN for until in untils), default=CLOSED)
