"""Bodies of requests and answers of the worker's channel, as they travel in messages."""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import ChannelAnswer
from mafalda.errors import InvalidParameters
from mafalda.mediasoup.base.ids import unscoped
from mafalda.mediasoup.codec.channel_json import from_json, to_json
from mafalda.workers.peers.session.session import PeerSession


def body_of(call: ChannelCall) -> dict[str, Any]:
    """The body of a call, in the shape that the driver's codec takes.

    Raises:
        InvalidParameters: It is not an object.
    """
    body = from_json(call.body or {})
    if not isinstance(body, dict):
        raise InvalidParameters("the body must be an object")
    return body


def channel_answer(
    session: PeerSession, request: Payload, body: dict[str, Any], target: str | None = None
) -> ChannelAnswer:
    """The worker's own answer to a request, as a result.

    Args:
        session: Of the peer.
        request: The intent or query.
        body: The worker's answer.
        target: The id of the transport that was made.
    """
    return ChannelAnswer(
        intent=request.action,
        target=target,
        generation=session.generation,
        accepted=True,
        body=to_json(body) or None,
    )


def with_public_ids(session: PeerSession, body: dict[str, Any]) -> dict[str, Any]:
    """A body of the worker with producer ids as the application knows them, without the router's scope."""
    found: dict[str, Any] = unscoped(body, session.router.scope)
    return found
