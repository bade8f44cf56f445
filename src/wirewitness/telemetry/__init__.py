"""
The only room that knows OpenTelemetry and structlog.
"""

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from wirewitness.telemetry.facade import Telemetry
from wirewitness.telemetry.setup import configure_telemetry


__all__ = ["MeterProvider", "Telemetry", "TracerProvider", "configure_telemetry"]
