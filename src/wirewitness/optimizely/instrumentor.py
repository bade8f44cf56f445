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
from wirewitness.optimizely.patches import Patches
from wirewitness.telemetry.instrumentor import BaseInstrumentor


_MADE_FOR: Final = ("optimizely-sdk >= 4, < 6",)


class OptimizelyInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """
    Instruments clients as they are made, and gives them back when it ends. Those that existed stay as they are: see
    :func:`wirewitness.optimizely.instrument`.

    ``instrument()`` takes ``tracer_provider`` and ``meter_provider``.
    """

    _patches: Patches | None = None
    _clients: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def instrumentation_dependencies(self) -> Collection[str]:
        """
        The SDK that this is made for.
        """
        return _MADE_FOR

    def _instrument(self, **options: Any) -> None:
        before: Callable[..., None] = Optimizely.__init__
        patches = Patches()
        options = {name: value for name, value in options.items() if name in ("tracer_provider", "meter_provider")}

        @functools.wraps(before)
        def init(client: Any, *args: Any, **kwargs: Any) -> None:
            before(client, *args, **kwargs)
            # Where another tool has wrapped this meanwhile, it stays in between, and is idle once it is taken off.
            if self._patches is patches:
                _observe(client, options, self._clients)

        self._patches = patches
        patches.set(Optimizely, "__init__", init)

    def _uninstrument(self, **_: Any) -> None:
        if self._patches is not None:
            patches, self._patches = self._patches, None
            patches.undo()
        while self._clients:
            uninstrument(self._clients.pop())


@fail_open("optimizely")
def _observe(client: Any, options: dict[str, Any], clients: weakref.WeakSet[Any]) -> None:
    instrument(client, **options)
    clients.add(client)
