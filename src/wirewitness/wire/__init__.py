"""
The taps: one file per wire library, each reports requests to the dispatch that they are made for.

Theory of operation
===================

A :class:`~wirewitness.wire.protocol.Wire` owns its library's look-up, its wrappers and their removal. All that this file
knows is the table :data:`WIRES`, and when each tap is put on:

- A library that has been imported by the time of the first witness is tapped then.
- Any other is tapped right after its import, or at the next dispatch where the import was not noticed. A tap never imports
  its library.
- After that the tap is proved once, with a request that goes nowhere (:mod:`wirewitness.wire.canary`). One that doesn't see
  it is taken off: a dispatch that nobody saw is ``UNOBSERVED``, and one that was half seen could be called ``ALTERED``.

To add a library see "Add a wire library" in CONTRIBUTING.md.
"""

from __future__ import annotations

import logging
import sys
import threading

from collections.abc import Callable, Iterable
from typing import Final

from wirewitness import fork
from wirewitness._guard import INTERNAL_ERRORS, TAP_HEALTH, fail_open, report_or_raise
from wirewitness.wire import canary, http_client, httpcore
from wirewitness.wire.patching import PatchPoint, Tap
from wirewitness.wire.protocol import TapState, Wire
from wirewitness.wire.recorder import Recorder, Server, begin, connect_failed


_log = logging.getLogger("wirewitness")


class Wires:
    """
    A table of wires, put on and taken off together. Installing is counted: the last uninstall takes them off.

    One lock guards all that changes; it is reentrant, for a garbage collection in here may run what wraps a dispatcher. A
    check takes no lock while nothing is to be done.

    Args:
        wires: The table.
    """

    def __init__(self, wires: Iterable[Wire]) -> None:
        self._all = tuple(wires)
        self._users = 0
        self._hooked: set[str] = set()
        self._off()
        self._new_lock()
        fork.register(fork.ForkStage.FAULTS, in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.RLock()

    def _off(self) -> None:
        # Each wire is in exactly one of these while the table is installed.
        self._absent: tuple[Wire, ...] = ()
        self._on: tuple[Wire, ...] = ()
        self._blind: tuple[Wire, ...] = ()
        # Those of the wires that are on, of which nothing has been proved yet.
        self._unproved: tuple[Wire, ...] = ()

    def install(self) -> None:
        """
        Tap every library that has been imported, and the others when they are.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._absent = self._all
                self._arrive()

    def uninstall(self) -> None:
        """
        Take the taps off, if this is the last of as many calls as of :meth:`install`.
        """
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            on, blind = self._on, self._blind
            self._off()
            for wire in on:
                _take_off(wire)
            for wire in blind:
                TAP_HEALTH.seeing.pop(wire.name, None)

    def add(self, wire: Wire) -> None:
        """
        Add a wire to the table, in the place of one with the same name, and tap its library if the others are tapped.
        """
        with self._lock:
            for each in self._on:
                if each.name == wire.name:
                    _take_off(each)
            for table in ("_all", "_absent", "_on", "_blind", "_unproved"):
                setattr(self, table, tuple([each for each in getattr(self, table) if each.name != wire.name]))
            self._all += (wire,)
            if self._users:
                self._absent += (wire,)
                self._arrive()

    def check(self) -> TapState:
        """
        Whether all taps see, and have seen since the last check: the worst of what they say. Costs a few comparisons.
        """
        for wire in self._absent:
            if wire.module in sys.modules:
                self._arrive(at_import=False)
                break
        worst = TapState.INTACT
        for wire in self._on:
            try:
                state = wire.check()
            except Exception as error:  # noqa: BLE001 -- as fail_open, which would cost a call per wire and dispatch
                report_or_raise("tap", error)
                state = TapState.LOST
            if state is not TapState.INTACT and worst is not TapState.LOST:
                worst = state
        if self._unproved:
            self._prove()
        return worst

    def states(self) -> dict[str, TapState]:
        """
        By each wire's name, how its tap is; empty while none is installed.
        """
        with self._lock:
            states = dict.fromkeys([wire.name for wire in self._absent], TapState.ABSENT)
            states |= dict.fromkeys([wire.name for wire in self._blind], TapState.BLIND)
            return states | {wire.name: wire.check() for wire in self._on}

    @fail_open("tap")
    def _arrive(self, *_: object, at_import: bool = True) -> None:
        """
        Tap the libraries that have been imported since the last look.

        Args:
            *_: The module, from the import system.
            at_import: Whether it is known that no import is under way in another thread.
        """
        with self._lock:
            for wire in self._absent:
                module = sys.modules.get(wire.module)
                if module is None:
                    self._hook(wire.module)
                elif module.__name__ != wire.module:
                    # An alias, as of httpx2.alias_httpx(): the library is another wire's.
                    self._absent = tuple([each for each in self._absent if each is not wire])
                elif at_import or not getattr(getattr(module, "__spec__", None), "_initializing", False):
                    self._absent = tuple([each for each in self._absent if each is not wire])
                    self._put_on(wire)
            self._prove()

    def _hook(self, module: str) -> None:
        if module not in self._hooked:
            import wrapt  # noqa: PLC0415 -- it loads asyncio, which an application that only imports this may not use

            self._hooked.add(module)
            wrapt.register_post_import_hook(self._arrive, module)

    @fail_open("tap")
    def _put_on(self, wire: Wire) -> None:
        wire.install()
        self._on += (wire,)
        self._unproved += (wire,)

    @fail_open("tap")
    def _prove(self) -> None:
        with self._lock:
            for wire in self._unproved:
                # While something stands in the place of the library's own, nothing can be proved of that.
                if wire.check() is TapState.LOST:
                    continue
                self._unproved = tuple([each for each in self._unproved if each is not wire])
                if _proved(wire):
                    continue
                self._on = tuple([each for each in self._on if each is not wire])
                self._blind += (wire,)
                _take_off(wire)
                TAP_HEALTH.seeing[wire.name] = False
                INTERNAL_ERRORS.count("tap")
                _log.warning(
                    "wirewitness: the tap on %s does not see what the installed version sends, and was taken off; "
                    "dispatches through it are not observed",
                    wire.name,
                )


@fail_open("tap")
def _proved(wire: Wire) -> bool:
    return wire.prove()


@fail_open("tap")
def _take_off(wire: Wire) -> None:
    wire.uninstall()


WIRES: Final = Wires((http_client.TAP, *httpcore.TAPS))
"""The libraries that are seen."""

install: Callable[[], None] = WIRES.install
uninstall: Callable[[], None] = WIRES.uninstall
check: Callable[[], TapState] = WIRES.check
states: Callable[[], dict[str, TapState]] = WIRES.states
add: Callable[[Wire], None] = WIRES.add

__all__ = [
    "PatchPoint",
    "Recorder",
    "Server",
    "Tap",
    "TapState",
    "Wire",
    "add",
    "begin",
    "canary",
    "check",
    "connect_failed",
    "install",
    "states",
    "uninstall",
]
