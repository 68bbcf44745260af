"""Queries of a peer: reads that change nothing and are not stored."""

from __future__ import annotations

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import (
    QueryRoom,
    QueryScores,
    QuerySpeakers,
    QueryStats,
    QuerySubscription,
    QueryTransport,
    ReportStatistics,
    Stats,
)
from mafalda.contract.reading import read_message
from mafalda.contract.subjects import check_reply
from mafalda.errors import MalformedMessage, NotFound
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, Producer, Transport
from mafalda.telemetry.tracing import handling
from mafalda.workers.peers.intents.subscribed import subscription_snapshot
from mafalda.workers.peers.intents.transports import transport_result
from mafalda.workers.peers.room_pages import room_page
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.peers.statistics import scores, take_statistics


async def answer_query(session: PeerSession, delivery: Delivery) -> Message:
    """Answer one query.

    Raises:
        MafaldaError: It cannot be answered; the bus replies with the error.
    """
    _, message = read_message(delivery.subject, delivery.data)
    with handling(message, f"agent.query-{message.data.action}", {"mafalda.room": session.room}):
        answer = await _answer(session, message.data)
        return session.services.publisher.reply(answer, delivery.reply or delivery.subject, message)


async def _answer(session: PeerSession, query: Payload) -> Payload:
    match query:
        case QueryRoom():
            rooms = session.services.rooms
            room, seq = rooms.room(session.room), rooms.room_seq(session.room)
            return room_page(room, seq, after=query.after, audience=query.audience)
        case QueryTransport(transport=id):
            return transport_result(session, id, session.objects.webrtc_transport(id))
        case QuerySubscription(subscription=id):
            return subscription_snapshot(session, id)
        case QueryStats():
            return Stats(stats=await _stats(session, query))
        case ReportStatistics():
            return take_statistics(session, query)
        case QueryScores():
            return scores(session)
        case QuerySpeakers(inbox=inbox):
            return session.services.speakers.listen(session.room, check_reply(inbox))
    raise MalformedMessage("unknown query", action=query.action)


async def _stats(session: PeerSession, query: QueryStats) -> list[dict[str, object]]:
    objects = session.objects
    consumer = objects.consumers.get(query.id)
    found: Transport | Producer | Consumer | DataProducer | DataConsumer | None = None
    match query.target:
        case "transport":
            found = objects.transports.get(query.id)
        case "producer":
            found = objects.producers.get(query.id)
        case "data-producer":
            found = objects.data_producers.get(query.id)
        case "consumer" if consumer and isinstance(consumer.consumer, Consumer):
            found = consumer.consumer
        case "data-consumer" if consumer and not isinstance(consumer.consumer, Consumer):
            found = consumer.consumer
    if found is None:
        raise NotFound(f"the peer has no such {query.target}", id=query.id)
    return await found.get_stats()
