"""W3C trace context in every message; spans are recorded and exported only where OTLP is configured.

Configured by the standard ``OTEL_*`` environment alone. Without an endpoint no SDK is installed: the ``traceparent`` of
a message is passed on as it came, so that a sampled trace of others is not cut, and a first message gets a valid one
that is not sampled. Reading and writing the header is left to OpenTelemetry (``docs/decisions/0005-trace-context.md``).

Sources: https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mafalda.contract.messages.envelope import Message

if TYPE_CHECKING:  # the SDK is loaded where spans are exported; all other processes would wait for it
    from opentelemetry.sdk.resources import Resource

Attributes = Mapping[str, str | int | float | bool]

_HEADER = "traceparent"
_NOTHING = Context()
_propagator = TraceContextTextMapPropagator()


def exports(environ: Mapping[str, str] | None = None, *, signal: Literal["TRACES", "METRICS"] = "TRACES") -> bool:
    """Whether the environment asks for spans, or for metrics, to be exported."""
    environ = os.environ if environ is None else environ
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environ.get(name) for name in endpoints)


def resource(service: str, instance: str | None) -> Resource:
    """OpenTelemetry's description of this process.

    Args:
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` says another.
        instance: ``service.instance.id``, such as a server's id.
    """
    from opentelemetry.sdk.resources import Resource

    own = {"service.namespace": "mafalda"} | ({"service.instance.id": instance} if instance else {})
    if not os.environ.get("OTEL_SERVICE_NAME"):
        own["service.name"] = service
    return Resource.create(own)


@contextmanager
def tracing(service: str, *, instance: str | None = None) -> Iterator[None]:
    """Export this process's spans by OTLP over HTTP while the block runs, if the environment names an endpoint.

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
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource(service, instance))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def is_recording() -> bool:
    """Whether spans of this process go anywhere."""
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    return sdk is not None and isinstance(trace.get_tracer_provider(), sdk.TracerProvider)


def parse_traceparent(text: str | None) -> SpanContext | None:
    """The remote parent that a ``traceparent`` header names; ``None`` if there is none or it is invalid."""
    if not text:
        return None
    context = trace.get_current_span(_propagator.extract({_HEADER: text}, _NOTHING)).get_span_context()
    return context if context.is_valid else None


def current_traceparent() -> str | None:
    """The ``traceparent`` header of the span that is current in this task, if one is."""
    return _header_of(None)


def new_traceparent() -> str:
    """The header of a new trace: sampled if this process exports, so that what follows is recorded."""
    header = _header_of(trace.set_span_in_context(NonRecordingSpan(_new_context()), _NOTHING))
    assert header is not None
    return header


def _random_id(bits: int) -> int:
    """Zero would be invalid."""
    return random.getrandbits(bits) or 1


def _new_context() -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if is_recording() else TraceFlags.DEFAULT)
    return SpanContext(_random_id(128), _random_id(64), is_remote=False, trace_flags=flags)


def _header_of(context: Context | None) -> str | None:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return carrier.get(_HEADER)


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
    context = trace.set_span_in_context(NonRecordingSpan(parent), _NOTHING) if parent else None
    started = trace.get_tracer("mafalda").start_span(name, context, kind, attributes=dict(attributes or {}))
    if not started.get_span_context().is_valid:  # no SDK and no parent: the trace begins here, unrecorded
        started = NonRecordingSpan(_new_context())
    with trace.use_span(started, end_on_exit=True):
        yield started


@contextmanager
def handling(message: Message | None, name: str, attributes: Attributes | None = None) -> Iterator[Span]:
    """A consumer span under the ``traceparent`` of a received message; log lines in it carry the message's ids.

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
