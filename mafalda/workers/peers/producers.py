"""What a peer wants of its producers and data producers.

What does not belong here: who consumes them (``consuming``), relays (``mirrors``, ``sources``).
"""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.events import (
    ClosedReason,
    DataProducerClosed,
    DataProducerOpened,
    Event,
    ProducerClosed,
    ProducerOpened,
    ProducerPaused,
    ProducerResumed,
)
from mafalda.contract.messages.results import ProduceDataResult, ProduceResult
from mafalda.errors import AlreadyExists, NotFound
from mafalda.mediasoup import DataProducer, Producer, WebRtcTransport
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.peer import Outcome, PeerActor, done


def claim(actor: PeerActor, producer: str) -> None:
    """Take a producer id for this room, which the fold shows a moment later.

    Raises:
        AlreadyExists: Somebody in the room has it.
    """
    room = actor.services.rooms.room(actor.room)
    key = (actor.room, producer)
    if key in actor.services.claimed or (room is not None and producer in room.producers):
        raise AlreadyExists("the room has a producer with this id", producer=producer)
    actor.services.claimed.add(key)


def hold(actor: PeerActor, held: dict[str, Any], id: str, producer: Producer | DataProducer) -> None:
    held[id] = producer

    def ended(_: str) -> None:
        if held.get(id) is producer:
            del held[id]
        actor.services.claimed.discard((actor.room, id))

    producer.on(producer.CLOSE, ended)


async def produce(actor: PeerActor, intent: intents.Produce, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    claim(actor, intent.producer)
    try:
        producer = await transport.produce(
            id=intent.producer,
            kind=intent.media_kind,
            rtp_parameters=intent.rtp_parameters,
            paused=intent.paused,
            key_frame_request_delay=intent.key_frame_request_delay_ms,
        )
    except BaseException:
        actor.services.claimed.discard((actor.room, intent.producer))
        raise
    hold(actor, actor.producers, intent.producer, producer)
    opened = ProducerOpened(
        peer=actor.peer,
        producer=intent.producer,
        transport=intent.transport,
        server=actor.place.server,
        worker=actor.place.worker,
        generation=actor.generation,
        media_kind=intent.media_kind,
        type=producer.type,
        paused=intent.paused,
        app_data=intent.app_data,
    )
    result = ProduceResult(
        producer=intent.producer, transport=intent.transport, generation=actor.generation, type=producer.type
    )
    return Outcome(result, [opened])


async def produce_data(actor: PeerActor, intent: intents.ProduceData, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    claim(actor, intent.data_producer)
    try:
        producer = await transport.produce_data(
            id=intent.data_producer,
            sctp_stream_parameters=intent.sctp_stream_parameters,
            label=intent.label,
            protocol=intent.protocol,
        )
    except BaseException:
        actor.services.claimed.discard((actor.room, intent.data_producer))
        raise
    hold(actor, actor.data_producers, intent.data_producer, producer)
    opened = DataProducerOpened(
        peer=actor.peer,
        data_producer=intent.data_producer,
        transport=intent.transport,
        server=actor.place.server,
        worker=actor.place.worker,
        generation=actor.generation,
        sctp_stream_parameters=intent.sctp_stream_parameters,
        label=intent.label,
        protocol=intent.protocol,
        app_data=intent.app_data,
    )
    result = ProduceDataResult(
        data_producer=intent.data_producer, transport=intent.transport, generation=actor.generation
    )
    return Outcome(result, [opened])


def _producer(actor: PeerActor, producer: str) -> Producer | DataProducer:
    if found := actor.producers.get(producer) or actor.data_producers.get(producer):
        return found
    raise NotFound("the peer has no such producer", producer=producer)


async def pause_producer(actor: PeerActor, intent: intents.PauseProducer, _: Entry) -> Outcome:
    producer = _producer(actor, intent.producer)
    outcome = done(actor, intent, intent.producer)
    if not producer.paused:
        await producer.pause()
        outcome.events.append(ProducerPaused(peer=actor.peer, producer=intent.producer))
    return outcome


async def resume_producer(actor: PeerActor, intent: intents.ResumeProducer, _: Entry) -> Outcome:
    producer = _producer(actor, intent.producer)
    outcome = done(actor, intent, intent.producer)
    if producer.paused:
        await producer.resume()
        outcome.events.append(ProducerResumed(peer=actor.peer, producer=intent.producer))
    return outcome


async def close_producer(actor: PeerActor, intent: intents.CloseProducer, _: Entry) -> Outcome:
    producer = actor.producers.get(intent.producer)
    if producer is None:
        raise NotFound("the peer has no such producer", producer=intent.producer)
    await producer.close()
    outcome = done(actor, intent, intent.producer)
    outcome.events.append(_producer_closed(actor, intent.producer, "closed"))
    return outcome


async def close_data_producer(actor: PeerActor, intent: intents.CloseDataProducer, _: Entry) -> Outcome:
    producer = actor.data_producers.get(intent.data_producer)
    if producer is None:
        raise NotFound("the peer has no such data producer", data_producer=intent.data_producer)
    await producer.close()
    outcome = done(actor, intent, intent.data_producer)
    outcome.events.append(_data_producer_closed(actor, intent.data_producer, "closed"))
    return outcome


async def yield_producer(actor: PeerActor, id: str) -> None:
    """Another peer of the room has had this id a moment earlier: close ours."""
    producer = actor.producers.get(id) or actor.data_producers.get(id)
    if producer is not None:
        await producer.close()


def _producer_closed(actor: PeerActor, id: str, reason: ClosedReason) -> Event:
    return ProducerClosed(peer=actor.peer, producer=id, generation=actor.generation, reason=reason)


def _data_producer_closed(actor: PeerActor, id: str, reason: ClosedReason) -> Event:
    return DataProducerClosed(peer=actor.peer, data_producer=id, generation=actor.generation, reason=reason)


def producers_closed(actor: PeerActor, transport: WebRtcTransport | None, reason: ClosedReason) -> list[Event]:
    """What the room is told of the producers of a transport (None: of all) that is about to close."""
    media = [id for id, it in actor.producers.items() if transport is None or it.id in transport.producers]
    data = [id for id, it in actor.data_producers.items() if transport is None or it.id in transport.data_producers]
    return [_producer_closed(actor, id, reason) for id in media] + [
        _data_producer_closed(actor, id, reason) for id in data
    ]
