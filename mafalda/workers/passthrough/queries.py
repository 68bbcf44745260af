"""What an application that speaks the worker's channel may read, and what it asks that must not rest in the log.

What does not belong here: ordinary queries (``mafalda.workers.peers.queries``).
"""

from __future__ import annotations

from typing import Any

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.queries import QueryChannel
from mafalda.errors import NotFound, NotJoined
from mafalda.workers.passthrough.calls import accepted, body_of, perform, unscoped_dict
from mafalda.workers.passthrough.peer import Guest, guest_of
from mafalda.workers.peers.peer import PeerActor
from mafalda.workers.peers.queries import answer_query

_READS = frozenset(
    {
        "TRANSPORT_DUMP",
        "TRANSPORT_GET_STATS",
        "PRODUCER_DUMP",
        "PRODUCER_GET_STATS",
        "CONSUMER_DUMP",
        "CONSUMER_GET_STATS",
        "DATAPRODUCER_DUMP",
        "DATAPRODUCER_GET_STATS",
        "DATACONSUMER_DUMP",
        "DATACONSUMER_GET_STATS",
        "DATACONSUMER_GET_BUFFERED_AMOUNT",
    }
)


async def answer_any_query(actor: PeerActor, delivery: Delivery) -> Message:
    """Answer one query of a peer, an application's or an ordinary one.

    Raises:
        MafaldaError: Why not; the bus answers with it.
    """
    message = decode(delivery.data)
    if not isinstance(message.data, QueryChannel):
        return await answer_query(actor, delivery)
    if actor.is_over:
        raise NotJoined("the peer has no place here any more", peer=actor.peer)
    guest = guest_of(actor, actor.services.guests)
    answer = accepted(guest, message.data, await _read(guest, message.data.call))
    return actor.services.voice.answer(answer, delivery.reply or delivery.subject, message)


async def _read(guest: Guest, call: ChannelCall) -> dict[str, Any]:
    actor = guest.actor
    match call.method:
        case "ROUTER_DUMP":
            return await actor.router.dump()
        case "WEBRTCSERVER_DUMP":
            return await guest.house.listeners.dump(call.handler)
        case "WORKER_GET_RESOURCE_USAGE":
            return await actor.live.worker.request(call.method)
        case method if method in _READS:
            entity = guest.find(call.handler)
            if entity is None:
                raise NotFound(f"Channel request handler with ID {call.handler} not found [method:{method}]")
            answer = await actor.live.worker.request(method, entity.channel_id, body_of(call))
            return unscoped_dict(guest, answer)
    return await perform(guest, call)
