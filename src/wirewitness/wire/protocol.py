"""
What a wire is to the rest of wirewitness: one library through which requests leave the process, and the tap on it.
"""

from __future__ import annotations

import enum

from typing import Protocol


class TapState(enum.Enum):
    """
    What a look at a tap found.
    """

    INTACT = "intact"
    """The wrappers are where they were put, or what stands there leads to them."""
    RESTORED = "restored"
    """They had been taken away. They're back now; what happened in between wasn't seen."""
    LOST = "lost"
    """They can't be put on: something stands in the place of the library's method or class."""
    ABSENT = "absent"
    """The library has not been imported, so nothing can have been sent through it."""
    BLIND = "blind"
    """The installed version of the library doesn't send through the methods that are wrapped. The tap was taken off."""


class Wire(Protocol):
    """
    The tap on one library. :class:`~wirewitness.wire.patching.Tap` is one, made of a table of methods to be wrapped.

    Any thread may call any of these, also from a finalizer, and during an import of the library.
    """

    @property
    def name(self) -> str:
        """What it is called in telemetry."""
        ...

    @property
    def module(self) -> str:
        """The library's module: the tap is put on when this has been imported, and never imports it itself."""
        ...

    def install(self) -> None:
        """Put the tap on. Called once, before all else, when the library has been imported."""
        ...

    def uninstall(self) -> None:
        """Take it off again."""
        ...

    def check(self) -> TapState:
        """
        Whether the tap sees the library's requests, and has seen them since the last check; put it back where that can be
        done. Called twice per dispatch, so at most a microsecond while all is well.
        """
        ...

    def prove(self) -> bool:
        """
        Make a request through the library over a stream that goes nowhere, and say whether the tap saw it. Called once.
        """
        ...
