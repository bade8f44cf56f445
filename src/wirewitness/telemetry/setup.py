"""
A telemetry set-up for applications that have none: OpenTelemetry's providers and structlog, by the standard variables.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import os
import sys

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from wirewitness.errors import ConfigurationError, shown
from wirewitness.telemetry.exporters import log_failures_seldom


LogFormat = Literal["auto", "console", "json"]

_FORMATS: Final = ("auto", "console", "json")
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PACKAGES: Final = {
    "otlp_json_file": "wirewitness[files]",
    "otlp_proto_http": "wirewitness[otlp]",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "prometheus": "wirewitness[prometheus]",
}


def configure_telemetry(
    service_name: str = "unknown_service",
    *,
    files: str | os.PathLike[str] | None = None,
    logs: LogFormat | None = "auto",
) -> Callable[[], None]:
    """
    Set up OpenTelemetry's global providers, and structlog unless the application has configured it.

    What is exported where follows the standard variables: ``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER``
    (``otlp``, ``prometheus``, ``console``, ``none``, or any installed exporter's name; by default ``otlp``),
    ``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_EXPORTER_OTLP_PROTOCOL`` (by default ``http/protobuf``),
    ``OTEL_EXPORTER_PROMETHEUS_PORT``, ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_TRACES_SAMPLER``,
    ``OTEL_METRIC_EXPORT_INTERVAL``, ``OTEL_LOG_LEVEL`` and so on.

    Args:
        service_name: Used where no variable names the service.
        files: A folder for ``traces.jsonl`` and ``metrics.jsonl``, OTLP JSON lines, in place of all exporters.
        logs: How structlog renders: ``json``, ``console``, ``auto`` (console on a terminal), or None to leave it alone.

    Returns:
        A function that exports what is left and stops. It runs at exit by itself.

    Raises:
        ConfigurationError: If a global provider is set already, a variable or argument has a value that isn't known, or
            an exporter isn't installed.
    """
    if logs is not None and logs not in _FORMATS:
        msg = f"logs={shown(logs)}: must be one of {', '.join(_FORMATS)}, or None"
        raise ConfigurationError(msg)
    _refuse_second_setup()
    resource = _resource(service_name)
    spans, readers = _file_exporters(Path(files)) if files is not None else _exporters_by_variables()
    tracer_provider = TracerProvider(resource=resource)
    for exporter in spans:
        tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
    meter_provider = MeterProvider(metric_readers=readers, resource=resource)
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    log_failures_seldom()
    if logs is not None and not structlog.is_configured():
        _configure_structlog(logs)
    return _shutdown(tracer_provider, meter_provider)


def _refuse_second_setup() -> None:
    for name, provider in (("tracer", trace.get_tracer_provider()), ("meter", metrics.get_meter_provider())):
        if isinstance(provider, (TracerProvider, MeterProvider)):
            msg = f"a global {name} provider is set up already: wirewitness uses it, nothing is left to configure"
            raise ConfigurationError(msg)


def _resource(service_name: str) -> Resource:
    from_variables = Resource.create()
    # The SDK names an unnamed service itself, with this prefix.
    if not str(from_variables.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        return from_variables
    return from_variables.merge(Resource({"service.name": service_name}))


def _exporters_by_variables() -> tuple[list[Any], list[MetricReader]]:
    spans = [_make("traces", name) for name in _names("OTEL_TRACES_EXPORTER")]
    made = [_make("metrics", name) for name in _names("OTEL_METRICS_EXPORTER")]
    # Prometheus pulls: its exporter is a reader itself.
    return spans, [one if isinstance(one, MetricReader) else PeriodicExportingMetricReader(one) for one in made]


def _file_exporters(folder: Path) -> tuple[list[Any], list[MetricReader]]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traces.jsonl").touch()
    except OSError as error:
        msg = f"files=: can't write to this folder: {error.strerror}"
        raise ConfigurationError(msg) from error
    spans = _load("traces", "otlp_json_file")(folder / "traces.jsonl")
    exporter = _load("metrics", "otlp_json_file")(folder / "metrics.jsonl")
    return [spans], [PeriodicExportingMetricReader(exporter)]


def _names(variable: str) -> list[str]:
    names = [name.strip() for name in (os.environ.get(variable) or "otlp").split(",")]
    return [_otlp(name) for name in names if name not in {"", "none"}]


def _otlp(name: str) -> str:
    if name != "otlp":
        return name
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol not in _PROTOCOLS:
        msg = f"OTEL_EXPORTER_OTLP_PROTOCOL={shown(protocol)}: must be one of {', '.join(_PROTOCOLS)}"
        raise ConfigurationError(msg)
    return _PROTOCOLS[protocol]


def _make(signal: str, name: str) -> Any:
    return _load(signal, name)()


def _load(signal: str, name: str) -> Callable[..., Any]:
    group = f"opentelemetry_{signal}_exporter"
    found = list(entry_points(group=group, name=name))
    if found:
        return found[0].load()  # type: ignore[no-any-return]
    if name in _PACKAGES:
        msg = f"the {signal} exporter {name!r} isn't installed: pip install '{_PACKAGES[name]}'"
    else:
        known = sorted({point.name for point in entry_points(group=group)} | {"none", "otlp"})
        msg = f"OTEL_{signal.upper()}_EXPORTER names {shown(name)}: no such exporter is installed; there are {', '.join(known)}"
    raise ConfigurationError(msg)


def _configure_structlog(form: LogFormat) -> None:
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_trace_ids,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_log_level()),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _log_level() -> int:
    name = os.environ.get("OTEL_LOG_LEVEL") or "info"
    level = logging.getLevelName({"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"}.get(name, name.upper()))
    if not isinstance(level, int):
        msg = f"OTEL_LOG_LEVEL={shown(name)}: must be one of trace, debug, info, warn, error, fatal"
        raise ConfigurationError(msg)
    return level


def add_trace_ids(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """
    A structlog processor that adds the current span's ``trace_id`` and ``span_id``, unless the line has its own.
    """
    where = trace.get_current_span().get_span_context()
    if where.is_valid:
        event.setdefault("trace_id", f"{where.trace_id:032x}")
        event.setdefault("span_id", f"{where.span_id:016x}")
    return event


def _shutdown(tracer_provider: TracerProvider, meter_provider: MeterProvider) -> Callable[[], None]:
    def shutdown() -> None:
        tracer_provider.shutdown()
        meter_provider.shutdown()

    return shutdown
