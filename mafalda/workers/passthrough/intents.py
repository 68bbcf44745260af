"""Intents of a peer: those that carry a call of the worker's channel, and ordinary ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.payload import Payload
from mafalda.contract.subjects import check_reply
from mafalda.errors import InvalidParameters
from mafalda.workers.core.instructions import Entry
from mafalda.workers.passthrough import creation
from mafalda.workers.passthrough.calls import request_channel
from mafalda.workers.passthrough.observers import remove_producer
from mafalda.workers.passthrough.peer import PassthroughPeer
from mafalda.workers.passthrough.registry import PassthroughPeers
from mafalda.workers.peers.intents.granted import check_granted
from mafalda.workers.peers.intents.handlers import handle_intent
from mafalda.workers.peers.intents.limited import check_limits
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.peers.session.session import PeerSession


async def handle_any_intent(peers: PassthroughPeers, session: PeerSession, entry: Entry) -> Outcome | None:
    """Do one intent of a passthrough peer or of any other; ``None`` if it is answered later.

    Raises:
        MafaldaError: The intent cannot be done; its code is the reason that the sender gets.
    """
    intent = entry.message.data
    await check_granted(session, entry)
    call = intent.call if isinstance(intent, intents.RequestChannel) else getattr(intent, "channel", None)
    if isinstance(call, ChannelCall):
        if entry.reply is None:
            raise InvalidParameters("an application that speaks the worker's channel needs an inbox")
        peer = peers.get_or_create(session, check_reply(entry.reply))
        return await _HANDLERS[type(intent)](peer, intent, call, entry)
    if isinstance(intent, intents.CloseConsumer) and intent.consumer in session.objects.observed:
        return await remove_producer(session, intent)
    check_limits(session, intent)
    outcome = await handle_intent(session, entry)
    if isinstance(intent, intents.Leave) and peers.get(session) is not None:
        await session.objects.close()  # before the answer: the application may use the ports again when it has that
    return outcome


_HANDLERS: dict[type[Payload], Callable[[PassthroughPeer, Any, ChannelCall, Entry], Awaitable[Outcome | None]]] = {
    intents.CreateTransport: creation.create_transport,
    intents.Produce: creation.produce,
    intents.ProduceData: creation.produce_data,
    intents.Consume: creation.consume,
    intents.ConsumeData: creation.consume_data,
    intents.RequestChannel: request_channel,
}
