"""
The providers' place in the order in which a process ends.
"""

from __future__ import annotations

import atexit
import contextlib

from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from wirewitness import ending


_HELD: Final[dict[int, Any]] = {}


def shut_down_last(tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
    """
    Have providers that shut themselves down at exit do so after all that is still to be told to them.

    The SDK's providers register their shutdown with ``atexit``, which calls what is registered last first. A dispatcher's own
    flush, registered before, then comes after the last export. So these functions take their place at the very end.

    Args:
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
    """
    for provider in (tracer_provider or trace.get_tracer_provider(), meter_provider or metrics.get_meter_provider()):
        handler = getattr(provider, "_atexit_handler", None)
        if handler is not None and id(provider) not in _HELD:
            _HELD[id(provider)] = provider
            atexit.unregister(handler)


def _shut_down() -> None:
    for provider in tuple(_HELD.values()):
        # The application may have shut it down itself.
        if getattr(provider, "_atexit_handler", None) is not None:
            with contextlib.suppress(Exception):
                provider.shutdown()
    _HELD.clear()


ending.on_last(ending.Last.PROVIDERS, _shut_down)
