"""What a peer's token does not permit, where no NATS subject can say so (docs/decisions/0011-credentials.md)."""

from __future__ import annotations

from mafalda.contract.grants import Grants
from mafalda.contract.messages import intents
from mafalda.contract.messages.payload import Payload
from mafalda.contract.permissions import MODERATE, inbox_prefix, may_publish
from mafalda.errors import IllegalReplySubject, NotGranted
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.session.session import PeerSession

_SENDING = (intents.Produce, intents.ProduceData)


async def check_granted(session: PeerSession, entry: Entry) -> None:
    """Check an intent against what its peer was granted last, if anything depends on it.

    Raises:
        NotGranted: The token does not permit it.
        IllegalReplySubject: The reply subject is not the peer's own inbox.
        BusUnavailable: What was granted cannot be known now.
    """
    intent = entry.message.data
    # A moderator publishes some for others, and names its own inbox; nothing of their results is private.
    reply = None if isinstance(intent, MODERATE) and entry.batch is None else entry.reply
    is_batched = entry.batch is not None  # NATS has seen the subject of the batch alone
    if not is_batched and not _depends_on_grants(intent) and not _is_foreign(reply, session.room, session.peer):
        return
    grants = await session.granted_now(entry.batch)
    if grants is None:
        return
    if is_batched and not may_publish(grants, intent.action):
        raise NotGranted("the token does not permit this intent", intent=intent.action)
    refuse_unless_granted(grants, intent, reply)
    if isinstance(intent, _SENDING) and session.lacks_promotion(grants):
        raise NotGranted("the token permits to be of the audience only", peer=session.peer)


def refuse_unless_granted(grants: Grants, intent: Payload, reply: str | None) -> None:
    """Raise what ``check_granted`` raises. Pure."""
    if isinstance(intent, intents.RequestChannel) or getattr(intent, "channel", None) is not None:
        raise NotGranted("a participant cannot call the worker's channel")
    if isinstance(intent, intents.Produce) and intent.media_kind not in grants.publish:
        raise NotGranted("the token does not permit to publish this kind", media_kind=intent.media_kind)
    if all(_is_foreign(reply, room, grants.peer) for room in grants.rooms):
        raise IllegalReplySubject("a participant's reply subject must be below its own inbox", subject=str(reply)[:80])


def _depends_on_grants(intent: Payload) -> bool:
    return isinstance(intent, (*_SENDING, intents.RequestChannel)) or getattr(intent, "channel", None) is not None


def _is_foreign(reply: str | None, room: str, peer: str) -> bool:
    return reply is not None and not reply.startswith(f"{inbox_prefix(room, peer)}.")
