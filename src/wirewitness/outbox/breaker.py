"""
Circuit breakers, one an origin: a server that doesn't answer is left alone for a while, and then tried with one message.
"""

from __future__ import annotations

import threading

from collections import OrderedDict
from typing import Final

from wirewitness.core.limits import positive, seconds
from wirewitness.errors import ConfigurationError
from wirewitness.outbox.message import Origin


CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2

_NONE: Final[frozenset[Origin]] = frozenset()


class _Circuit:
    """
    What is known of an origin that has failed of late.

    Attributes:
        failures: How often in a row.
        cooldown: Seconds that it's left alone for.
        until: When that is over, monotonic seconds; None while it's closed.
        probe_until: Until when a probe is waited for; None if there's none.
    """

    __slots__ = ("cooldown", "failures", "probe_until", "until")

    def __init__(self, cooldown: float) -> None:
        self.failures = 0
        self.cooldown = cooldown
        self.until: float | None = None
        self.probe_until: float | None = None

    def refuses(self, now: float) -> bool:
        return self.until is not None and (
            now < self.until or (self.probe_until is not None and now < self.probe_until)
        )

    def open(self, now: float) -> None:
        self.until = now + self.cooldown
        self.probe_until = None


class Breakers:
    """
    A circuit breaker for each origin that messages go to. Thread-safe; all times are monotonic seconds.

    An origin that fails ``failures`` times in a row is left alone for ``cooldown`` seconds. Then one message goes, as a
    probe: where that succeeds, all others follow; where it fails, the cooldown doubles.

    Args:
        failures: How many failures in a row open a circuit. A failure is no answer at all, or a 5xx.
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
            msg = f"ceiling={ceiling!r}: must not be less than cooldown={cooldown!r}"
            raise ConfigurationError(msg)
        self.renew()

    def renew(self) -> None:
        """
        Know nothing: also in a forked child, where the parent's lock may be held for ever.
        """
        self._lock = threading.RLock()
        self._circuits: OrderedDict[Origin, _Circuit] = OrderedDict()
        self._open = 0

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

    def succeeded(self, origin: Origin) -> None:
        """
        The origin has answered: its circuit is closed.
        """
        with self._lock:
            circuit = self._circuits.pop(origin, None)
            if circuit is not None and circuit.until is not None:
                self._open -= 1

    def failed(self, origin: Origin, now: float) -> None:
        """
        The origin has not answered, or with a 5xx.
        """
        with self._lock:
            circuit = self._circuits.get(origin) or self._add(origin)
            self._circuits.move_to_end(origin)
            circuit.failures += 1
            if circuit.until is None and circuit.failures >= self._failures:
                self._open += 1
                circuit.open(now)
            elif circuit.probe_until is not None:
                circuit.cooldown = min(circuit.cooldown * 2, self._ceiling)
                circuit.open(now)

    def _add(self, origin: Origin) -> _Circuit:
        while len(self._circuits) >= self._most:
            known = list(self._circuits)
            self.succeeded(next((each for each in known if self._circuits[each].until is None), known[0]))
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
