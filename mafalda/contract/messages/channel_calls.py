"""Requests, answers and notifications of an application that speaks the worker's own channel (``docs/dropin.md``).

The bodies are mediasoup's, as the worker's schema has them: a table is an object, bytes are ``{"$bytes": base64}``, a
union is ``{"$union": [member, object]}``. Before a body is sent to a worker it must be checked against that schema.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from mafalda.media.model import Model

Word = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Handler = Annotated[str, StringConstraints(max_length=255)]
Body = dict[str, Any]
#: The event of a notice that carries a line of a worker's log: ``line``, whose first character is the level.
LOG_EVENT = "WORKER_LOG"


class SharedListener(Model):
    """A WebRtcServer of the application: any worker that needs it opens it."""

    id: Handler
    listen_infos: list[Body] = Field(description="As the application wanted them.")


class ChannelCall(Model):
    """A request to a mediasoup-worker, as the application's own library made it."""

    method: Word
    handler: Handler = ""
    body: Body | None = Field(None, repr=False)
    home: list[str] = Field(
        default_factory=list,
        description="Listen addresses in the body that are the application's own host's; a server without such an "
        "address takes its own instead.",
    )
    listener: SharedListener | None = None


class ChannelNotice(Model):
    """A notification from or to a mediasoup-worker."""

    event: Word
    handler: Handler
    body: Body | None = Field(None, repr=False)
