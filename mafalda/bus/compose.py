"""Put a payload into its envelope."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload
from mafalda.telemetry.tracing import current_traceparent, new_traceparent


def compose(
    payload: Payload,
    *,
    subject: str,
    source: str,
    cause: Message | None = None,
    id: str | None = None,
) -> Message:
    """A message with ``payload``, as of now.

    Args:
        payload: Its data.
        subject: Where it will be published.
        source: The CloudEvents source, such as ``/mafalda/agent/s1``.
        cause: The message that this one answers: it gives the correlation, and the trace if no span is current.
        id: The message's id, where the same thing, done twice, must be stored once (``derived_id``); ``None``: random.
    """
    own = id or uuid4().hex
    return Message(
        id=own,
        source=source,
        type=payload.type_name(),
        subject=subject,
        time=datetime.now(UTC),
        dataschema=payload.schema_uri(),
        correlationid=cause.correlation if cause else own,
        causationid=cause.id if cause else None,
        traceparent=current_traceparent() or (cause and cause.traceparent) or new_traceparent(),
        data=payload,
    )
