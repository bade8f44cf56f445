"""
What ``opentelemetry-instrument`` loads instrumentors by, where it's installed.
"""

from __future__ import annotations

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]


__all__ = ["BaseInstrumentor"]
