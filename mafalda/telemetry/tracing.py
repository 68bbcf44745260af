"""Trace context: in each message, always; recorded and exported only where OTLP is configured.

Set up from the standard ``OTEL_*`` environment alone. Without an endpoint no SDK is installed: a message's
``traceparent`` is carried on as it came (so that a sampled trace of others is not cut), and a first message gets a
valid one that is not sampled. What does not belong here: log lines (``mafalda.telemetry.logs``), particular spans.

Sources: https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from secrets import randbits
from typing import Any, Literal

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from mafalda.contract.messages.envelope import Message

Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def exports(environ: Mapping[str, str] | None = None, *, signal: Literal["TRACES", "METRICS"] = "TRACES") -> bool:
    """Whether the environment asks for spans, or for metrics, to be exported."""
    environ = os.environ if environ is None else environ
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environ.get(name) for name in endpoints)


def resource(service: str, instance: str | None) -> Resource:
    """Who this process is.

    Args:
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` says another.
        instance: ``service.instance.id``, such as a server's id.
    """
    own = {"service.namespace": "mafalda"} | ({"service.instance.id": instance} if instance else {})
    if not os.environ.get("OTEL_SERVICE_NAME"):
        own["service.name"] = service
    return Resource.create(own)


@contextmanager
def tracing(service: str, *, instance: str | None = None) -> Iterator[None]:
    """Export this process's spans by OTLP over HTTP while the block runs, if the environment says where to.

    Call it once a process: OpenTelemetry's provider is global and cannot be replaced. On exit what is buffered is
    sent; that blocks for as long as the exporter's own deadline (``OTEL_EXPORTER_OTLP_TIMEOUT``).

    Args:
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` says another.
        instance: ``service.instance.id``, such as a server's id.
    """
    if not exports():
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # costs 0.1 s to import

    provider = TracerProvider(resource=resource(service, instance))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def is_recording() -> bool:
    """Whether spans of this process go anywhere."""
    return isinstance(trace.get_tracer_provider(), TracerProvider)


def parse_traceparent(text: str | None) -> SpanContext | None:
    """W3C's header as a remote parent; ``None`` if there is none or it is invalid."""
    match = _TRACEPARENT.fullmatch(text) if text else None
    if match is None or match[1] == "ff":
        return None
    context = SpanContext(
        int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=TraceFlags(int(match[4], 16))
    )
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str:
    """W3C's header for a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current_traceparent() -> str | None:
    """The header of the span that is current in this task, if one is."""
    context = trace.get_current_span().get_span_context()
    return format_traceparent(context) if context.is_valid else None


def new_traceparent() -> str:
    """A trace of its own: sampled if this process exports, so that what follows is seen."""
    flags = TraceFlags.SAMPLED if is_recording() else TraceFlags.DEFAULT
    return f"00-{randbits(127) + 1:032x}-{randbits(63) + 1:016x}-{flags:02x}"


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    traceparent: str | None = None,
) -> Iterator[Span]:
    """A span that is current while the block runs.

    Args:
        name: Low cardinality: no ids.
        attributes: Where ids go.
        kind: OpenTelemetry's.
        traceparent: The remote parent; ``None`` means the current span, or a new trace.
    """
    parent = parse_traceparent(traceparent)
    context = trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent else None
    started = trace.get_tracer("mafalda").start_span(name, context, kind, attributes=dict(attributes or {}))
    if not started.get_span_context().is_valid:  # no SDK and no parent: the chain begins here, unrecorded
        fresh = parse_traceparent(new_traceparent())
        assert fresh is not None
        started = NonRecordingSpan(fresh)
    with trace.use_span(started, end_on_exit=True):
        yield started


@contextmanager
def handling(message: Message | None, name: str, attributes: Attributes | None = None) -> Iterator[Span]:
    """Handle one received message: a consumer span under its ``traceparent``; log lines get its ids.

    Args:
        message: ``None`` for one that could not be read: the span starts a trace of its own.
        name: What is done, such as ``allocator.decide``.
        attributes: More than those of the message.
    """
    known: dict[str, Any] = {"messaging.system": "nats", "messaging.operation.type": "process", **(attributes or {})}
    if message is None:
        with span(name, known, kind=SpanKind.CONSUMER) as opened:
            yield opened
        return
    known |= {
        "messaging.operation.name": message.type,
        "messaging.message.id": message.id,
        "messaging.message.conversation_id": message.correlation,
    }
    if message.subject:
        known["messaging.destination.name"] = message.subject
    bound = structlog.contextvars.bound_contextvars(
        message_id=message.id, correlation_id=message.correlation, causation_id=message.causationid
    )
    with bound, span(name, known, kind=SpanKind.CONSUMER, traceparent=message.traceparent) as opened:
        yield opened
