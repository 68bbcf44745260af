"""Counters of refused intents and of unreadable log entries. Exported only where OTLP is configured.

Source: https://opentelemetry.io/docs/specs/semconv/general/naming/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from mafalda.telemetry.tracing import exports, resource

_meter = metrics.get_meter("mafalda")
_rejections = _meter.create_counter(
    "mafalda.rejections", unit="{rejection}", description="Intents that were answered with an error."
)
_unreadable = _meter.create_counter(
    "mafalda.unreadable_messages", unit="{message}", description="Log entries that could not be read or were misplaced."
)
_joins_waiting = _meter.create_gauge(
    "mafalda.joins.waiting", unit="{join}", description="Joins that wait for capacity, as one allocator sees them."
)


def set_joins_waiting(count: int) -> None:
    """Set how many joins wait for capacity."""
    _joins_waiting.set(count)


def count_rejection(component: str, action: str, code: str) -> None:
    """Count an intent that was refused; ``code`` is the error's word on the wire."""
    _rejections.add(1, {"mafalda.component": component, "mafalda.action": action, "error.type": code})


def count_unreadable(component: str, code: str) -> None:
    """Count a log entry that was skipped."""
    _unreadable.add(1, {"mafalda.component": component, "error.type": code})


@contextmanager
def metering(service: str, *, instance: str | None = None) -> Iterator[None]:
    """Export this process's counters while the block runs, as ``tracing`` does its spans."""
    if not exports(signal="METRICS"):
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # costs 0.1 s to import

    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    provider = MeterProvider([reader], resource=resource(service, instance))
    metrics.set_meter_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
