"""
Forks: a child is born outside SQLite, and leaves its parent's files alone.
"""

from __future__ import annotations

import ctypes
import weakref

from typing import Any, Final, Protocol

from wirewitness import fork


class Forked(Protocol):
    """
    What is to be told.
    """

    def before_fork(self) -> None:
        """Let nobody be inside SQLite, whose locks would stay held in the child."""
        ...

    def after_fork(self) -> None:
        """Go on, in the parent."""
        ...

    def abandon(self) -> None:
        """Hold nothing, in the child."""
        ...


_LIVING: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def keep_for_ever(thing: object) -> None:
    """
    Have an object live on, even when the interpreter ends.

    A child that closed its copy of a connection would write to the parent's file, and remove its log.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def tell(spool: Forked) -> None:
    """
    Tell a spool of forks.
    """
    _LIVING.add(spool)


def _before() -> None:
    for spool in tuple(_LIVING):
        spool.before_fork()


def _in_parent() -> None:
    for spool in tuple(_LIVING):
        spool.after_fork()


def _in_child() -> None:
    for spool in tuple(_LIVING):
        spool.abandon()


fork.register(fork.Stage.SPOOLS, before=_before, in_parent=_in_parent, in_child=_in_child)
