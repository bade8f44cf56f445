"""
No code at all: ``opentelemetry-instrument python app.py`` observes every client that the application makes.
"""

from __future__ import annotations

import functools
import weakref

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

from optimizely.optimizely import Optimizely

from wirewitness._guard import fail_open
from wirewitness.optimizely.instrument import instrument, uninstrument
from wirewitness.telemetry.instrumentor import BaseInstrumentor


_MADE_FOR: Final = ("optimizely-sdk >= 4, < 6",)


class OptimizelyInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """
    Instruments clients as they are made, and gives them back when it ends. Those that existed stay as they are: see
    :func:`wirewitness.optimizely.instrument`.

    ``instrument()`` takes ``tracer_provider`` and ``meter_provider``.
    """

    _before: Callable[..., None] | None = None
    _clients: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def instrumentation_dependencies(self) -> Collection[str]:
        """
        The SDK that this is made for.
        """
        return _MADE_FOR

    def _instrument(self, **options: Any) -> None:
        before: Callable[..., None] = Optimizely.__init__
        options = {name: value for name, value in options.items() if name in ("tracer_provider", "meter_provider")}

        @functools.wraps(before)
        def init(client: Any, *args: Any, **kwargs: Any) -> None:
            before(client, *args, **kwargs)
            _observe(client, options, self._clients)

        self._before = before
        setattr(Optimizely, "__init__", init)  # noqa: B010 -- a checker knows no other way

    def _uninstrument(self, **_: Any) -> None:
        if self._before is not None:
            setattr(Optimizely, "__init__", self._before)  # noqa: B010 -- as above
            self._before = None
        while self._clients:
            uninstrument(self._clients.pop())


@fail_open("optimizely")
def _observe(client: Any, options: dict[str, Any], clients: weakref.WeakSet[Any]) -> None:
    instrument(client, **options)
    clients.add(client)
