"""What a placed peer may ask, and what it is told. Nothing here changes anything.

What does not belong here: what operators ask (``inventory``).
"""

from __future__ import annotations

from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.channels import fits
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import QueryRoom, QueryStats, QueryTransport, Stats
from mafalda.errors import MalformedMessage, NotFound, NotJoined
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, Producer, Transport
from mafalda.telemetry.tracing import handling
from mafalda.workers.peers.peer import PeerActor
from mafalda.workers.peers.room_pages import snapshot
from mafalda.workers.peers.transports import transport_result


async def answer_query(actor: PeerActor, delivery: Delivery) -> Message:
    """Answer one query of a peer.

    Raises:
        MafaldaError: Why not; the bus answers with it.
    """
    message = decode(delivery.data)
    address = subjects.parse(delivery.subject)
    if address is None or not fits(address, message.data):
        raise MalformedMessage("this is no query", type=message.type)
    with handling(message, f"agent.query-{message.data.action}", {"mafalda.room": actor.room}):
        if actor.is_over:
            raise NotJoined("the peer has no place here any more", peer=actor.peer)
        answer = await _answer(actor, message.data)
        return actor.services.publisher.reply(answer, delivery.reply or delivery.subject, message)


async def _answer(actor: PeerActor, query: Payload) -> Payload:
    match query:
        case QueryRoom():
            rooms = actor.services.rooms
            return snapshot(rooms.room(actor.room), rooms.room_seq(actor.room), after=query.after)
        case QueryTransport(transport=transport):
            return transport_result(actor, transport, actor.transport(transport))
        case QueryStats():
            return Stats(stats=await _stats(actor, query))
    raise MalformedMessage("unknown query", action=query.action)


async def _stats(actor: PeerActor, query: QueryStats) -> list[dict[str, object]]:
    heard = actor.consumers.get(query.id)
    found: Transport | Producer | Consumer | DataProducer | DataConsumer | None = None
    match query.target:
        case "transport":
            found = actor.transports.get(query.id)
        case "producer":
            found = actor.producers.get(query.id)
        case "data-producer":
            found = actor.data_producers.get(query.id)
        case "consumer" if heard and isinstance(heard.consumer, Consumer):
            found = heard.consumer
        case "data-consumer" if heard and not isinstance(heard.consumer, Consumer):
            found = heard.consumer
    if found is None:
        raise NotFound(f"the peer has no such {query.target}", id=query.id)
    return await found.get_stats()
