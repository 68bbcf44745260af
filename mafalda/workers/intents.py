"""What each intent of a placed peer does to its own objects.

What does not belong here: consuming (``consuming``), order and answering (``peers``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mafalda.contract import intents
from mafalda.contract.errors import AlreadyExists, NotFound
from mafalda.contract.events import (
    ClosedReason,
    DataProducerClosed,
    DataProducerOpened,
    Event,
    PeerLeft,
    ProducerClosed,
    ProducerOpened,
    ProducerPaused,
    ProducerResumed,
    TransportClosed,
)
from mafalda.contract.payload import Payload
from mafalda.contract.results import Done, ProduceDataResult, ProduceResult, TransportResult
from mafalda.contract.subjects import check_reply
from mafalda.mediasoup import Consumer, DataProducer, Producer, SctpLimits, WebRtcTransport
from mafalda.workers.consuming import consume, consume_data
from mafalda.workers.machine.instructions import Entry, MirrorKey
from mafalda.workers.peers import Heard, Outcome, PeerActor


async def handle_intent(actor: PeerActor, entry: Entry) -> Outcome | None:
    """Do one intent; None if its answer comes later.

    Raises:
        MafaldaError: Why not.
    """
    if entry.reply is not None:
        check_reply(entry.reply)
    handler = _HANDLERS[type(entry.message.data)]
    return await handler(actor, entry.message.data, entry)


# --- transports -----------------------------------------------------------------------------------


async def _create_transport(actor: PeerActor, intent: intents.CreateTransport, _: Entry) -> Outcome:
    if intent.transport in actor.transports:
        raise AlreadyExists("the peer has such a transport", transport=intent.transport)
    config, server = actor.services.config, actor.live.webrtc_server
    tcp = intent.enable_tcp and config.enable_tcp
    where: dict[str, Any] = (
        {"webrtc_server": server}
        if server is not None
        else {"listen_infos": config.webrtc_listen_infos(slot=None, tcp=tcp)}
    )
    transport = await actor.router.create_webrtc_transport(
        **where,
        enable_tcp=tcp,
        prefer_tcp=intent.prefer_tcp and tcp,
        prefer_udp=not intent.prefer_tcp,
        enable_sctp=intent.enable_sctp,
        sctp_limits=SctpLimits(
            max_receive_message_size=intent.max_sctp_message_size, max_send_message_size=intent.max_sctp_message_size
        ),
        initial_available_outgoing_bitrate=intent.initial_available_outgoing_bitrate,
        app_data={"room": actor.room, "peer": actor.peer, "transport": intent.transport},
    )
    actor.transports[intent.transport] = transport
    _watch(actor, intent.transport, transport)
    return _transport_outcome(actor, intent.transport, transport)


def _watch(actor: PeerActor, id: str, transport: WebRtcTransport) -> None:
    """Notice when its client goes away."""

    def dtls_changed(state: str) -> None:
        if state in ("failed", "closed") and not transport.closed:
            reason = "dtls-failed" if state == "failed" else "dtls-closed"
            actor.post(lambda: _lose_transport(actor, id, transport, reason))

    def ended(_: str) -> None:
        if actor.transports.get(id) is transport:
            del actor.transports[id]
        actor.note_connectedness()

    transport.on(transport.ICE_STATE_CHANGE, lambda _: actor.note_connectedness())
    transport.on(transport.DTLS_STATE_CHANGE, dtls_changed)
    transport.on(transport.CLOSE, ended)


async def _lose_transport(actor: PeerActor, id: str, transport: WebRtcTransport, reason: Any) -> None:
    """A transport ended from its client's side."""
    if actor.transports.get(id) is not transport:
        return
    closed = _producers_closed(actor, transport, "transport-closed")
    await transport.close()
    lost = TransportClosed(transport=id, generation=actor.generation, reason=reason)
    await asyncio.gather(*(actor.tell_room(event) for event in closed), actor.tell_peer(lost))


def transport_result(actor: PeerActor, id: str, transport: WebRtcTransport) -> TransportResult:
    """A transport as its client needs it. Holds the ICE password."""
    return TransportResult(
        transport=id,
        generation=actor.generation,
        ice_parameters=transport.ice_parameters,
        ice_candidates=list(transport.ice_candidates),
        dtls_parameters=transport.dtls_parameters,
        sctp_parameters=transport.sctp_parameters,
    )


def _transport_outcome(actor: PeerActor, id: str, transport: WebRtcTransport) -> Outcome:
    full = transport_result(actor, id, transport)
    return Outcome(full.without_secrets(), secret=full)


async def _connect_transport(actor: PeerActor, intent: intents.ConnectTransport, _: Entry) -> Outcome:
    await actor.transport(intent.transport).connect(dtls_parameters=intent.dtls_parameters)
    return _done(actor, intent, intent.transport)


async def _restart_ice(actor: PeerActor, intent: intents.RestartIce, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    await transport.restart_ice()
    return _transport_outcome(actor, intent.transport, transport)


async def _close_transport(actor: PeerActor, intent: intents.CloseTransport, _: Entry) -> Outcome:
    transport = actor.transport(intent.transport)
    outcome = _done(actor, intent, intent.transport)
    outcome.events += _producers_closed(actor, transport, "transport-closed")
    await transport.close()
    return outcome


# --- producers ------------------------------------------------------------------------------------


def claim(actor: PeerActor, producer: str) -> None:
    """Take a producer id for this room, which the fold shows a moment later.

    Raises:
        AlreadyExists: Somebody in the room has it.
    """
    room = actor.services.machine.room(actor.room)
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


async def _produce(actor: PeerActor, intent: intents.Produce, _: Entry) -> Outcome:
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


async def _produce_data(actor: PeerActor, intent: intents.ProduceData, _: Entry) -> Outcome:
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


async def _pause_producer(actor: PeerActor, intent: intents.PauseProducer, _: Entry) -> Outcome:
    producer = _producer(actor, intent.producer)
    outcome = _done(actor, intent, intent.producer)
    if not producer.paused:
        await producer.pause()
        outcome.events.append(ProducerPaused(peer=actor.peer, producer=intent.producer))
    return outcome


async def _resume_producer(actor: PeerActor, intent: intents.ResumeProducer, _: Entry) -> Outcome:
    producer = _producer(actor, intent.producer)
    outcome = _done(actor, intent, intent.producer)
    if producer.paused:
        await producer.resume()
        outcome.events.append(ProducerResumed(peer=actor.peer, producer=intent.producer))
    return outcome


async def _close_producer(actor: PeerActor, intent: intents.CloseProducer, _: Entry) -> Outcome:
    producer = actor.producers.get(intent.producer)
    if producer is None:
        raise NotFound("the peer has no such producer", producer=intent.producer)
    await producer.close()
    outcome = _done(actor, intent, intent.producer)
    outcome.events.append(_producer_closed(actor, intent.producer, "closed"))
    return outcome


async def _close_data_producer(actor: PeerActor, intent: intents.CloseDataProducer, _: Entry) -> Outcome:
    producer = actor.data_producers.get(intent.data_producer)
    if producer is None:
        raise NotFound("the peer has no such data producer", data_producer=intent.data_producer)
    await producer.close()
    outcome = _done(actor, intent, intent.data_producer)
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


def _producers_closed(actor: PeerActor, transport: WebRtcTransport | None, reason: ClosedReason) -> list[Event]:
    """What the room is told of the producers of a transport (None: of all) that is about to close."""
    media = [id for id, it in actor.producers.items() if transport is None or it.id in transport.producers]
    data = [id for id, it in actor.data_producers.items() if transport is None or it.id in transport.data_producers]
    return [_producer_closed(actor, id, reason) for id in media] + [
        _data_producer_closed(actor, id, reason) for id in data
    ]


# --- consumers ------------------------------------------------------------------------------------


def _heard(actor: PeerActor, consumer: str) -> Heard:
    if found := actor.consumers.get(consumer):
        return found
    raise NotFound("the peer has no such consumer", consumer=consumer)


def _consumer(actor: PeerActor, consumer: str) -> Consumer:
    found = _heard(actor, consumer).consumer
    if not isinstance(found, Consumer):
        raise NotFound("the peer has no such consumer, but a data consumer", consumer=consumer)
    return found


def _want(actor: PeerActor, consumer: str, *, paused: bool) -> None:
    """Tell the relay that feeds a consumer, if one does."""
    heard = actor.consumers.get(consumer)
    if heard and heard.mirror and actor.services.mirrors.by_key.get(heard.mirror.key) is heard.mirror:
        key = MirrorKey(actor.room, heard.producer, actor.place.worker)
        actor.services.mirrors.want(key, (actor.peer, consumer), paused=paused)


async def _pause_consumer(actor: PeerActor, intent: intents.PauseConsumer, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).pause()
    _want(actor, intent.consumer, paused=True)
    return _done(actor, intent, intent.consumer)


async def _resume_consumer(actor: PeerActor, intent: intents.ResumeConsumer, _: Entry) -> Outcome:
    consumer = _consumer(actor, intent.consumer)
    _want(actor, intent.consumer, paused=False)
    await consumer.resume()
    return _done(actor, intent, intent.consumer)


async def _close_consumer(actor: PeerActor, intent: intents.CloseConsumer, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).close()
    return _done(actor, intent, intent.consumer)


async def _close_data_consumer(actor: PeerActor, intent: intents.CloseDataConsumer, _: Entry) -> Outcome:
    heard = _heard(actor, intent.data_consumer)
    if isinstance(heard.consumer, Consumer):
        raise NotFound("the peer has no such data consumer, but a consumer", data_consumer=intent.data_consumer)
    await heard.consumer.close()
    return _done(actor, intent, intent.data_consumer)


async def _set_preferred_layers(actor: PeerActor, intent: intents.SetPreferredLayers, _: Entry) -> Outcome:
    consumer = _consumer(actor, intent.consumer)
    await consumer.set_preferred_layers(spatial_layer=intent.spatial_layer, temporal_layer=intent.temporal_layer)
    return _done(actor, intent, intent.consumer)


async def _set_priority(actor: PeerActor, intent: intents.SetPriority, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).set_priority(intent.priority)
    return _done(actor, intent, intent.consumer)


async def _request_key_frame(actor: PeerActor, intent: intents.RequestKeyFrame, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).request_key_frame()
    return _done(actor, intent, intent.consumer)


# --- the peer -------------------------------------------------------------------------------------


async def _leave(actor: PeerActor, intent: intents.Leave, _: Entry) -> Outcome:
    outcome = _done(actor, intent, None)
    outcome.events = _producers_closed(actor, None, "peer-left")
    outcome.events.append(PeerLeft(peer=actor.peer, generation=actor.generation))
    actor.finish()
    return outcome


def _done(actor: PeerActor, intent: intents.Intent, target: str | None) -> Outcome:
    return Outcome(Done(intent=intent.action, target=target, generation=actor.generation))


_HANDLERS: dict[type[Payload], Callable[[PeerActor, Any, Entry], Awaitable[Outcome | None]]] = {
    intents.Leave: _leave,
    intents.CreateTransport: _create_transport,
    intents.ConnectTransport: _connect_transport,
    intents.RestartIce: _restart_ice,
    intents.CloseTransport: _close_transport,
    intents.Produce: _produce,
    intents.ProduceData: _produce_data,
    intents.Consume: consume,
    intents.ConsumeData: consume_data,
    intents.PauseProducer: _pause_producer,
    intents.ResumeProducer: _resume_producer,
    intents.CloseProducer: _close_producer,
    intents.CloseDataProducer: _close_data_producer,
    intents.PauseConsumer: _pause_consumer,
    intents.ResumeConsumer: _resume_consumer,
    intents.CloseConsumer: _close_consumer,
    intents.CloseDataConsumer: _close_data_consumer,
    intents.SetPreferredLayers: _set_preferred_layers,
    intents.SetPriority: _set_priority,
    intents.RequestKeyFrame: _request_key_frame,
}
