"""
Attributes that are set on living objects, and given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


_MARK: Final = "_wirewitness"
_ABSENT: Final = object()


class Patches:
    """
    What was put into place, and what was there before.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        """
        Set an attribute of an object for as long as this is in place.
        """
        before = vars(target).get(name, _ABSENT)
        setattr(target, name, value)
        self.later(lambda: _give_back(target, name, value, before))

    def later(self, undo: Callable[[], Any]) -> None:
        """
        Have this called at the end.
        """
        self._undo.append(undo)

    def undo(self) -> None:
        """
        Give everything back, last first.
        """
        while self._undo:
            self._undo.pop()()


def _give_back(target: Any, name: str, value: Any, before: Any) -> None:
    if vars(target).get(name) is not value:
        return  # somebody has wrapped it once more, or set another
    if before is _ABSENT:
        delattr(target, name)
    else:
        setattr(target, name, before)


class Shared(Patches):
    """
    Patches of an object that several clients can hold: put into place for the first, and undone for the last of them.
    """

    watch: Any = None
    _holders = 0

    @classmethod
    def on(cls, target: Any, put: Callable[[Any, Shared], Any], patches: Patches) -> Any:
        """
        Put patches on an object, unless they are.

        Args:
            target: The object.
            put: Puts them, and returns what watches it.
            patches: Whose end ends this, too.

        Returns:
            What watches the object.
        """
        shared: Shared | None = vars(target).get(_MARK)
        if shared is None:
            shared = cls()
            try:
                shared.watch = put(target, shared)
            except BaseException:
                shared.undo()
                raise
            setattr(target, _MARK, shared)
        shared._holders += 1
        patches.later(lambda: shared._release(target))
        return shared.watch

    def _release(self, target: Any) -> None:
        self._holders -= 1
        if self._holders == 0:
            vars(target).pop(_MARK, None)
            self.undo()
