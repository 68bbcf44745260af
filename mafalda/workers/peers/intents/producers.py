"""Intents about a peer's producers and data producers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from mafalda.contract.messages import intents
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import (
    ClosedReason,
    DataProducerClosed,
    DataProducerOpened,
    Event,
    ProducerClosed,
    ProducerLayersChanged,
    ProducerOpened,
    ProducerPaused,
    ProducerResumed,
)
from mafalda.contract.messages.results import ProduceDataResult, ProduceResult, Result
from mafalda.errors import AlreadyExists, AudienceCannotProduce, MafaldaError, NotFound
from mafalda.mediasoup import DataProducer, Producer, Transport
from mafalda.mediasoup.ortc.scalability import parse_scalability_mode
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.core.layers import NO_LAYERS
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession

#: Makes a producer on the worker; returns it with a result for the sender's inbox alone, if there is one.
MakeProducer = Callable[[], Awaitable[tuple[Producer, Result | None]]]
MakeDataProducer = Callable[[], Awaitable[tuple[DataProducer, Result | None]]]


# --- opening --------------------------------------------------------------------------------------


async def open_producer(session: PeerSession, intent: intents.Produce, make: MakeProducer) -> Outcome:
    """Open a producer for a peer, however it is made on the worker.

    Args:
        session: Of the peer.
        intent: The produce intent.
        make: Makes the producer. The sender gets its private result only when the room's events are in the log.

    Raises:
        AudienceCannotProduce: The peer is audience.
        AlreadyExists: Somebody in the room has a producer with this id.
        MafaldaError: Whatever ``make`` raises.
    """
    _check_may_produce(session)
    with _claimed(session, intent.producer):
        await session.services.relay_targets.wait_closed(_relay_key(session, intent.producer))
        producer, private = await make()
    _add(session, intent.producer, producer)
    opened = ProducerOpened(
        peer=session.peer,
        producer=intent.producer,
        transport=intent.transport,
        server=session.place.server,
        worker=session.place.worker,
        generation=session.generation,
        media_kind=producer.kind,
        type=producer.type,
        paused=producer.paused,
        app_data=intent.app_data,
    )
    result = ProduceResult(
        producer=intent.producer, transport=intent.transport, generation=session.generation, type=producer.type
    )
    return Outcome(result, [opened], private, private_last=True)


def _check_may_produce(session: PeerSession) -> None:
    if session.responder.audience:
        raise AudienceCannotProduce("a peer of the audience only receives", room=session.room, peer=session.peer)


async def open_data_producer(session: PeerSession, intent: intents.ProduceData, make: MakeDataProducer) -> Outcome:
    """Open a data producer for a peer, however it is made on the worker. As ``open_producer``."""
    _check_may_produce(session)
    with _claimed(session, intent.data_producer):
        await session.services.relay_targets.wait_closed(_relay_key(session, intent.data_producer))
        producer, private = await make()
    _add(session, intent.data_producer, producer)
    events: list[Event] = [
        DataProducerOpened(
            peer=session.peer,
            data_producer=intent.data_producer,
            transport=intent.transport,
            server=session.place.server,
            worker=session.place.worker,
            generation=session.generation,
            sctp_stream_parameters=intent.sctp_stream_parameters,
            label=intent.label,
            protocol=intent.protocol,
            app_data=intent.app_data,
        )
    ]
    if producer.paused:  # ``DataProducerOpened`` has no field for it
        events.append(ProducerPaused(peer=session.peer, producer=intent.data_producer))
    result = ProduceDataResult(
        data_producer=intent.data_producer, transport=intent.transport, generation=session.generation
    )
    return Outcome(result, events, private, private_last=True)


def _relay_key(session: PeerSession, producer: str) -> RelayKey:
    """The key of a relay that brought a producer to the peer's worker before the peer came to it."""
    return RelayKey(session.room, producer, session.place.worker)


@contextmanager
def _claimed(session: PeerSession, producer: str) -> Iterator[None]:
    """Take a producer id of the room before the room's state shows the producer; given back if making it fails.

    Raises:
        AlreadyExists: Somebody in the room has it.
    """
    room = session.services.rooms.room(session.room)
    claimed, key = session.services.claimed, (session.room, producer)
    if key in claimed or (room is not None and producer in room.producers):
        raise AlreadyExists("the room has a producer with this id", producer=producer)
    claimed.add(key)
    try:
        yield
    except BaseException:
        claimed.discard(key)
        raise


def _add(session: PeerSession, id: str, producer: Producer | DataProducer) -> None:
    """Keep the producer and its claimed id until it closes."""
    session.objects.add_producer(id, producer)
    producer.on(producer.CLOSE, lambda _: session.services.claimed.discard((session.room, id)))


async def produce(session: PeerSession, intent: intents.Produce, _: Entry) -> Outcome:
    """Open a producer with the parameters in the intent."""
    transport = session.objects.webrtc_transport(intent.transport)

    async def make() -> tuple[Producer, None]:
        producer = await transport.produce(
            id=intent.producer,
            kind=intent.media_kind,
            rtp_parameters=intent.rtp_parameters,
            paused=intent.paused,
            key_frame_request_delay=intent.key_frame_request_delay_ms,
        )
        if intent.report_layers and producer.kind == "video":
            _report_layers(session, intent.producer, producer)
        return producer, None

    return await open_producer(session, intent, make)


def _report_layers(session: PeerSession, id: str, producer: Producer) -> None:
    """Tell the peer, until the producer closes, which of its layers anybody receives."""

    def tell(layer: int) -> None:
        event = ProducerLayersChanged(
            producer=id, generation=session.generation, spatial_layer=None if layer == NO_LAYERS else layer
        )
        if not session.is_over:
            session.jobs.add(lambda: session.responder.append_peer_event(event))

    encodings = producer.rtp_parameters.encodings
    layers = len(encodings)
    if layers == 1:
        layers = parse_scalability_mode(encodings[0].scalability_mode).spatial_layers
    end = session.services.relay_targets.origins.watch(_relay_key(session, id), layers - 1, tell)
    producer.on(producer.CLOSE, lambda _: end())


async def produce_data(session: PeerSession, intent: intents.ProduceData, _: Entry) -> Outcome:
    """Open a data producer with the parameters in the intent."""
    transport = session.objects.webrtc_transport(intent.transport)

    async def make() -> tuple[DataProducer, None]:
        producer = await transport.produce_data(
            id=intent.data_producer,
            sctp_stream_parameters=intent.sctp_stream_parameters,
            label=intent.label,
            protocol=intent.protocol,
        )
        return producer, None

    return await open_data_producer(session, intent, make)


# --- pausing and closing --------------------------------------------------------------------------


def _find(session: PeerSession, producer: str) -> Producer | DataProducer:
    if found := session.objects.producers.get(producer) or session.objects.data_producers.get(producer):
        return found
    raise NotFound("the peer has no such producer", producer=producer)


async def pause_producer(session: PeerSession, intent: intents.PauseProducer, _: Entry) -> Outcome:
    """Pause a producer or data producer."""
    producer = _find(session, intent.producer)
    outcome = done(session.placement, intent, intent.producer)
    if not producer.paused:
        await producer.pause()
        outcome.events.append(ProducerPaused(peer=session.peer, producer=intent.producer, by=intent.by))
    return outcome


async def resume_producer(session: PeerSession, intent: intents.ResumeProducer, _: Entry) -> Outcome:
    """Resume a producer or data producer."""
    producer = _find(session, intent.producer)
    outcome = done(session.placement, intent, intent.producer)
    if producer.paused:
        await producer.resume()
        outcome.events.append(ProducerResumed(peer=session.peer, producer=intent.producer))
    return outcome


async def close_producer(session: PeerSession, intent: intents.CloseProducer, _: Entry) -> Outcome:
    """Close a producer."""
    producer = session.objects.producers.get(intent.producer)
    if producer is None:
        raise NotFound("the peer has no such producer", producer=intent.producer)
    await producer.close()
    outcome = done(session.placement, intent, intent.producer)
    outcome.events.append(_producer_closed(session, intent.producer, "closed"))
    return outcome


async def close_data_producer(session: PeerSession, intent: intents.CloseDataProducer, _: Entry) -> Outcome:
    """Close a data producer."""
    producer = session.objects.data_producers.get(intent.data_producer)
    if producer is None:
        raise NotFound("the peer has no such data producer", data_producer=intent.data_producer)
    await producer.close()
    outcome = done(session.placement, intent, intent.data_producer)
    outcome.events.append(_data_producer_closed(session, intent.data_producer, "closed"))
    return outcome


async def close_all(session: PeerSession) -> list[Event]:
    """Close all that the peer sends; returns the room events for it."""
    closed = producers_closed(session, None, "closed")
    for producer in (*session.objects.producers.values(), *session.objects.data_producers.values()):
        await session.objects.close_one(producer)
    return closed


async def withdraw_producer(session: PeerSession, id: str, error: MafaldaError) -> Event:
    """Close the peer's producer or data producer against its will, and tell the peer why; returns the room's event."""
    found = session.objects.producers.get(id) or session.objects.data_producers[id]
    closed = (_producer_closed if isinstance(found, Producer) else _data_producer_closed)(session, id, "closed")
    await session.objects.close_one(found)
    await session.responder.append_peer_event(closed.model_copy(update={"error": ErrorInfo.of(error)}))
    return closed


async def yield_producer(session: PeerSession, id: str) -> None:
    """Close the peer's producer because the log shows that another peer of the room opened the id first.

    Only this peer is told: for the room, the producer with this id is the other's, and stays open.
    """
    is_data = id in session.objects.data_producers
    if not await close_silently(session, id):
        return
    closed = (_data_producer_closed if is_data else _producer_closed)(session, id, "closed")
    error = AlreadyExists("another peer of the room opened a producer with this id first", producer=id)
    await session.responder.append_peer_event(closed.model_copy(update={"error": ErrorInfo.of(error)}))


async def close_silently(session: PeerSession, id: str) -> bool:
    """Close a producer or data producer without an event; whether there was one."""
    producer = session.objects.producers.get(id) or session.objects.data_producers.get(id)
    if producer is not None:
        await producer.close()
    return producer is not None


def _producer_closed(session: PeerSession, id: str, reason: ClosedReason) -> ProducerClosed:
    return ProducerClosed(peer=session.peer, producer=id, generation=session.generation, reason=reason)


def _data_producer_closed(session: PeerSession, id: str, reason: ClosedReason) -> DataProducerClosed:
    return DataProducerClosed(peer=session.peer, data_producer=id, generation=session.generation, reason=reason)


def producers_closed(session: PeerSession, transport: Transport | None, reason: ClosedReason) -> list[Event]:
    """Room events for the producers that close with a transport; ``None``: for all that the peer has.

    Call it before the transport closes.
    """
    producers, data_producers = session.objects.producers, session.objects.data_producers
    media = [id for id, it in producers.items() if transport is None or it.id in transport.producers]
    data = [id for id, it in data_producers.items() if transport is None or it.id in transport.data_producers]
    closed: list[Event] = [_producer_closed(session, id, reason) for id in media]
    return closed + [_data_producer_closed(session, id, reason) for id in data]
