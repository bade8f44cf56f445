"""
The only room that knows OpenTelemetry and structlog.

The set-up for applications that have none is ``wirewitness.telemetry.setup``: that alone loads the SDK.
"""

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from wirewitness.telemetry.facade import Telemetry


__all__ = ["MeterProvider", "Telemetry", "TracerProvider"]
