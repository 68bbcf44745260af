"""Replies to requests: the message that a handler returned, or ``Rejected`` with the error that it raised."""

from __future__ import annotations

import structlog

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Delivery, Handler
from mafalda.contract.messages.envelope import Message, decode, encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.results import Rejected
from mafalda.contract.subjects import check_reply, parse
from mafalda.errors import IllegalReplySubject, MafaldaError, NotFound

_log = structlog.get_logger(__name__)


def read_reply(raw: bytes) -> Message:
    """Decode a reply.

    Raises:
        MafaldaError: The error that the other side replied with, as its own class.
        BadInput: The data is no message.
    """
    reply = decode(raw)
    if isinstance(reply.data, Rejected):
        raise reply.data.error.to_error()
    return reply


def may_be_served(request: Delivery) -> bool:
    """Whether a request is handled: its reply subject is an inbox, or it has none.

    Any other is where its sender wants the server to publish in its own name. Nobody can be told, so it is logged.
    """
    if not request.reply:
        return True
    try:
        check_reply(request.reply)
    except IllegalReplySubject as error:
        _log.warning("request refused", action="request_refused", subject=request.subject, reason=str(error))
        return False
    return True


async def reply_to(request: Delivery, handler: Handler, source: str) -> bytes | None:
    """Run the handler of a request and encode its reply; ``None``: somebody else replies.

    Args:
        request: As it came.
        handler: What returns the reply. Its ``MafaldaError`` becomes ``Rejected``; of any other exception the requester
            learns only that there was one.
        source: The CloudEvents source of a refusal.
    """
    try:
        reply = await handler(request)
        return None if reply is None else encode(reply)
    except MafaldaError as error:
        refusal = error
    except Exception:
        _log.exception("handler-failed", action="handler_failed", subject=request.subject)
        refusal = MafaldaError("the request failed inside")
    return _refuse(request, refusal, source)


def refuse_unserved(request: Delivery, source: str) -> bytes:
    """Encode the reply to a request that nobody serves any more."""
    return _refuse(request, NotFound("nobody answers here any more"), source)


def _refuse(request: Delivery, refusal: MafaldaError, source: str) -> bytes:
    address = parse(request.subject)
    rejected = Rejected(intent=address.action if address else "request", error=ErrorInfo.of(refusal))
    return encode(compose(rejected, subject=request.subject, source=source))
