"""
Putting wrappers on a library's methods, and knowing whether they are still there.

Theory of operation
===================

Other tools wrap the same methods, before and after, and take their wrappers off again in ways that can take ours with
them: by following ``__wrapped__``, by putting back what they saved, or by putting another class in the place of the real
one for a while. A tap that is gone without knowing it would report that nothing was sent. So:

- Wrappers go on the real class, which is found also where its name stands for something else at the time.
- They have no ``__wrapped__`` that could be followed.
- :meth:`Tap.check` runs at each dispatch. As long as the very wrappers stand where they were put, it costs a few
  comparisons. If something else stands there, it looks through that: where it leads to our wrapper, all is well; where it
  leads to the library's own method, ours goes on top of it; where it leads to neither, it is a stand-in that sends
  nothing, or nobody can tell. The tap leaves that alone, and is lost until it goes.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import is_, itemgetter
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple, cast

from wirewitness import fork
from wirewitness._guard import TAP_HEALTH, fail_open
from wirewitness.wire.canary import sees
from wirewitness.wire.protocol import TapState


Method = Callable[..., Any]

_log = logging.getLogger("wirewitness")


class PatchPoint(NamedTuple):
    """
    A method to be wrapped.

    Attributes:
        module: Where its class is.
        cls: The class's name.
        name: The method's name.
        wrap: Makes the wrapper from the original.
        vital: Whether nothing can be seen without it.
        optional: Whether the library may be installed without its module, which is then not imported.
    """

    module: str
    cls: str
    name: str
    wrap: Callable[[Method], Method]
    vital: bool = True
    optional: bool = False


@dataclass
class _Seat:
    """
    One patch point, and what is known of it.

    Attributes:
        point: The point.
        cls: The real class, once it has been found.
        stands: What stood there at the last look; None before the first.
        sound: Whether that leads to our wrapper.
        ours: The wrapper put on last.
        original: What stood there before it.
        made: All wrappers made for this point: another tool may put back an earlier one.
    """

    point: PatchPoint
    cls: type | None = None
    stands: Any = None
    sound: bool = False
    ours: Method | None = None
    original: Any = None
    made: list[Method] = field(default_factory=list)


class Tap:
    """
    The wrappers of one library: a :class:`~wirewitness.wire.protocol.Wire`.

    One lock guards all of it; it is reentrant, for a garbage collection in here may run what wraps a dispatcher. A check
    of an intact tap takes no lock. A forked child has a new one.

    Args:
        name: What the tap is called in telemetry.
        points: What to wrap. One that isn't there any more is counted as an internal error, and the others still work.
        attributes: What else is set on the classes.
        module: The library's module, by default that of the first point.
        canaries: The requests by which the tap is proved, each as :func:`wirewitness.wire.canary.sees` takes it.
    """

    def __init__(
        self,
        name: str,
        points: tuple[PatchPoint, ...],
        attributes: Mapping[str, object] | None = None,
        *,
        module: str | None = None,
        canaries: tuple[Callable[[], object], ...] = (),
    ) -> None:
        self.name = name
        self.module: str = module or points[0].module
        self._points = points
        self._attributes = dict(attributes or {})
        self.canaries: tuple[Callable[[], object], ...] = canaries
        self._seats: tuple[_Seat, ...] = ()
        # What check() compares: what gets all methods that are wrapped, and the real class by its name; and what has to be there.
        self._methods: Callable[[], tuple[Any, ...]] = tuple
        self._named: Callable[[], Any] = lambda: None
        self._expected: tuple[tuple[Any, ...], Any] = ((), None)
        self._state = TapState.INTACT
        self._said = False
        self._new_lock()
        fork.register(fork.ForkStage.FAULTS, in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.RLock()

    def install(self) -> None:
        """
        Wrap the methods, unless they're wrapped.
        """
        with self._lock:
            if not self._seats:
                self._seats = tuple(
                    [_Seat(point) for point in self._points if not point.optional or point.module in sys.modules]
                )
                self._look_again(counts=False)

    def uninstall(self) -> None:
        """
        Put the originals back where the wrapper is still ours; one that somebody has wrapped again stays, and is idle.
        """
        with self._lock:
            for seat in self._seats:
                if (
                    seat.cls is not None
                    and seat.ours is not None
                    and seat.cls.__dict__.get(seat.point.name) is seat.ours
                ):
                    setattr(seat.cls, seat.point.name, seat.original)
            self._seats = ()
            self._methods, self._named, self._expected = tuple, lambda: None, ((), None)
            self._state = TapState.INTACT
            TAP_HEALTH.seeing.pop(self.name, None)

    def prove(self) -> bool:
        """
        Whether the tap sees its canaries.

        Where another tool's wrapper stands on the same methods, it would take the canary for a request of the
        application: then it is not tried, and the tap is believed.
        """
        alone = all(seat.sound and _is_its_own(seat.original, seat.point) for seat in self._seats)
        return not alone or all(sees(request) for request in self.canaries)

    def check(self) -> TapState:
        """
        Whether the tap sees the wire, and has seen it since the last check. It is put back where that can be done.
        """
        # Twice per dispatch: so it is done in C, and by identity alone.
        methods, named = self._expected
        try:
            intact = self._named() is named and all(map(is_, self._methods(), methods))
        except KeyError:
            intact = False
        return TapState.INTACT if intact and self._state is TapState.INTACT else self._look_again()

    def _door(self) -> tuple[Mapping[str, Any], str, Any]:
        # Where the real class is made use of by its name.
        point = self._points[0]
        names = sys.modules[point.module].__dict__ if point.module in sys.modules else {}
        return names, point.cls, names.get(point.cls)

    def _stood_in(self) -> bool:
        # Whether new connections are made of something else than the real class, as recorders of HTTP do.
        real, stands = self._seats[0].cls, self._door()[2]
        return real is not None and stands is not real and not (_is_class(stands) and issubclass(stands, real))

    def _look_again(self, *, counts: bool = True) -> TapState:
        with self._lock:
            restored = [seat for seat in self._seats if self._mend(seat) and counts]
            lost = self._stood_in() or not all(seat.sound for seat in self._seats if seat.point.vital)
            vital = [(seat.cls, seat) for seat in self._seats if seat.cls is not None and seat.point.vital]
            self._methods = _getter([(cls, seat.point.name) for cls, seat in vital])
            where, name, real = self._door()
            self._named = partial(where.get, name)
            self._expected = tuple([seat.stands for _, seat in vital]), real
            self._state = TapState.LOST if lost else TapState.INTACT
            TAP_HEALTH.seeing[self.name] = not lost
            TAP_HEALTH.restored[self.name] = TAP_HEALTH.restored.get(self.name, 0) + bool(restored)
            if (restored or lost) and counts and not self._said:
                self._said = True
                _log.warning(
                    "wirewitness: another tool took the tap on %s away%s; further times are only counted",
                    self.name,
                    ", and dispatches are not observed until it gives HTTP back" if lost else ", and it was put back",
                )
            if lost:
                return TapState.LOST
            return TapState.RESTORED if any(seat.point.vital for seat in restored) else TapState.INTACT

    @fail_open("tap")
    def _mend(self, seat: _Seat) -> bool:
        """
        Look at one patch point, and put the wrapper on where it's missing.

        Returns:
            Whether it was missing.
        """
        point = seat.point
        if seat.cls is None:
            seat.cls = real_class(point.module, point.cls)
            for name, value in self._attributes.items():
                # On the class, so that asking a connection that has none costs no failed look-up.
                setattr(seat.cls, name, value)
        stands = seat.cls.__dict__.get(point.name)
        if stands is seat.stands and seat.stands is not None:
            return False
        seat.stands = stands
        seat.sound = bool(seat.made) and leads_to(stands, lambda found: any(found is each for each in seat.made))
        if seat.sound:
            return False
        if stands is not None and not leads_to(stands, lambda found: _is_its_own(found, point)):
            return False
        first = seat.ours is None
        if stands is None or stands is not seat.original or seat.ours is None:
            # By the class, and not out of its dictionary: some tools' wrappers are descriptors, and are called bound.
            # Where nothing stands there any more, the class inherits another method than it had.
            below = getattr(seat.cls, point.name) if stands is not None or first else seat.original
            seat.original = below if stands is None else stands
            seat.ours = _without_trace(point.wrap(below), below)
            seat.made.append(seat.ours)
        setattr(seat.cls, point.name, seat.ours)
        seat.stands, seat.sound = seat.ours, True
        return not first


def _is_its_own(method: Any, point: PatchPoint) -> bool:
    return (
        type(method) is FunctionType
        and method.__globals__ is sys.modules[point.module].__dict__
        and method.__name__ == point.name
    )


def _getter(places: list[tuple[type, str]]) -> Callable[[], tuple[Any, ...]]:
    # In C, where all methods are one class's and more than one, as with all taps by now.
    if len({cls for cls, _ in places}) == 1 and len(places) > 1:
        return partial(itemgetter(*[name for _, name in places]), places[0][0].__dict__)
    return lambda: tuple([cls.__dict__[name] for cls, name in places])


def _without_trace(wrapper: Method, original: Any) -> Method:
    # As functools.wraps does, but for __wrapped__: other tools follow that to take wrappers off, and would take ours.
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(original, name):
            setattr(wrapper, name, getattr(original, name))
    return wrapper


def real_class(module: str, name: str) -> type:
    """
    The class that a module defines under a name, also while something else stands there.

    Raises:
        LookupError: If the module has defined no such class.
    """
    found = getattr(importlib.import_module(module), name, None)
    if _is_defined_as(found, module, name):
        return cast("type", found)
    for cls in _all_classes():
        if _is_defined_as(cls, module, name):
            return cls
    msg = f"{module} has no class {name}"
    raise LookupError(msg)


def _is_class(found: Any) -> bool:
    return issubclass(type(found), type)  # and not isinstance(): a mock can claim to be a class


def _is_defined_as(found: Any, module: str, name: str) -> bool:
    # Some libraries rename their classes' module to the package that users import them from.
    return (
        _is_class(found)
        and (found.__module__ == module or module.startswith(f"{found.__module__}."))
        and found.__qualname__ == name
    )


def _all_classes() -> Iterator[type]:
    seen: set[type] = set()
    left: list[type] = [object]
    while left:
        cls = left.pop()
        if cls not in seen:
            seen.add(cls)
            yield cls
            left += type.__subclasses__(cls)


_MOST_LOOKED_AT: Final = 500
_LEAVES: Final = (type, ModuleType, CodeType, str, bytes, int, float, type(None))


def leads_to(start: Any, is_it: Callable[[FunctionType], bool]) -> bool:
    """
    Whether a callable is a function that is looked for, or holds one that it may call: in its closure, in what it wraps,
    in the module's names that it uses, or in the object that it's bound to.
    """
    seen: set[int] = set()
    left = [start]
    while left and len(seen) < _MOST_LOOKED_AT:
        found = left.pop(0)
        # By its type: a proxy claims to be an instance of what it wraps.
        kind = type(found)
        if issubclass(kind, _LEAVES) or id(found) in seen:
            continue
        seen.add(id(found))
        if kind is FunctionType:
            if is_it(found):
                return True
            used = [found.__globals__[name] for name in found.__code__.co_names if name in found.__globals__]
            left += [*_contents(found.__closure__ or ()), *(found.__defaults__ or ()), *vars(found).values(), *used]
        else:
            left += gc.get_referents(found)
    return False


def _contents(cells: tuple[Any, ...]) -> Iterator[Any]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
