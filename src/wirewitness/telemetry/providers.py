"""
The providers' place in the order in which a process ends.
"""

from __future__ import annotations

import atexit
import contextlib

from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider, _internal
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

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
    for provider in (tracer_provider or global_tracer_provider(), meter_provider or global_meter_provider()):
        if provider is None or id(provider) in _HELD:
            continue
        handler = getattr(provider, "_atexit_handler", None)
        if handler is not None:
            _HELD[id(provider)] = provider
            atexit.unregister(handler)


# Not by get_tracer_provider() and its like: where no provider was set, these look into the environment each time, which costs as
# much as half of all that is done for a dispatch without an SDK.
_HAS_NAMES: Final = hasattr(trace, "_TRACER_PROVIDER") and hasattr(_internal, "_METER_PROVIDER")


def global_tracer_provider() -> TracerProvider | None:
    """
    The global provider of tracers, or None where none was set.
    """
    if _HAS_NAMES:
        return trace._TRACER_PROVIDER  # noqa: SLF001 -- see above
    provider = trace.get_tracer_provider()
    return None if type(provider) is ProxyTracerProvider else provider


def global_meter_provider() -> MeterProvider | None:
    """
    The global provider of meters, or None where none was set.
    """
    return _internal._METER_PROVIDER if _HAS_NAMES else metrics.get_meter_provider()  # noqa: SLF001 -- see above


def _shut_down() -> None:
    for provider in tuple(_HELD.values()):
        # The application may have shut it down itself.
        if getattr(provider, "_atexit_handler", None) is not None:
            with contextlib.suppress(Exception):
                provider.shutdown()
    _HELD.clear()


ending.on_last(ending.Last.PROVIDERS, _shut_down)
