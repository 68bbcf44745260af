"""What an application that speaks the worker's channel wants done, done on the real worker with its own bodies.

The objects become the peer's like any other's, so that relays, the log and the inventory know them. What does not
belong here: reading (``reading``), ordinary intents (``mafalda.workers.peers.intents``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.events import DataProducerOpened, ProducerOpened, ProducerPaused
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import (
    ChannelAnswer,
    ConsumeDataResult,
    ConsumeResult,
    Done,
    ProduceDataResult,
    ProduceResult,
)
from mafalda.contract.subjects import check_reply
from mafalda.errors import InvalidParameters, MalformedMessage, NotFound
from mafalda.media.rtp import RtpParameters, SctpStreamParameters
from mafalda.mediasoup import Transport
from mafalda.mediasoup.base.ids import unscoped
from mafalda.mediasoup.codec.channel_json import from_json, to_json
from mafalda.mediasoup.router import passthrough
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.workers.core.instructions import Entry
from mafalda.workers.passthrough.addresses import map_listen_info, map_options
from mafalda.workers.passthrough.peer import Guest, guest_of
from mafalda.workers.peers.consuming import Wanted, check_free, find_producer, when_here
from mafalda.workers.peers.intents import handle_intent
from mafalda.workers.peers.peer import Heard, Outcome, PeerActor
from mafalda.workers.peers.producers import claim, hold
from mafalda.workers.relays.targets import Mirror

#: What may be asked of an object of the peer's own, besides what has an intent of its own.
ALLOWED = frozenset(
    {
        "TRANSPORT_CONNECT",
        "TRANSPORT_SET_MAX_INCOMING_BITRATE",
        "TRANSPORT_SET_MAX_OUTGOING_BITRATE",
        "TRANSPORT_SET_MIN_OUTGOING_BITRATE",
        "TRANSPORT_RESTART_ICE",
        "TRANSPORT_ENABLE_TRACE_EVENT",
        "PLAINTRANSPORT_CONNECT",
        "PIPETRANSPORT_CONNECT",
        "WEBRTCTRANSPORT_CONNECT",
        "PRODUCER_ENABLE_TRACE_EVENT",
        "CONSUMER_SET_PREFERRED_LAYERS",
        "CONSUMER_SET_PRIORITY",
        "CONSUMER_REQUEST_KEY_FRAME",
        "CONSUMER_ENABLE_TRACE_EVENT",
        "DATACONSUMER_PAUSE",
        "DATACONSUMER_RESUME",
        "DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD",
        "DATACONSUMER_SEND",
        "DATACONSUMER_SET_SUBCHANNELS",
        "DATACONSUMER_ADD_SUBCHANNEL",
        "DATACONSUMER_REMOVE_SUBCHANNEL",
        "RTPOBSERVER_PAUSE",
        "RTPOBSERVER_RESUME",
    }
)


async def handle_any_intent(actor: PeerActor, entry: Entry) -> Outcome | None:
    """Do one intent, an application's or an ordinary one.

    Raises:
        MafaldaError: Why not.
    """
    intent = entry.message.data
    call = getattr(intent, "channel", None) or (intent.call if isinstance(intent, intents.RequestChannel) else None)
    if isinstance(call, ChannelCall):
        if entry.reply is None:
            raise InvalidParameters("an application that speaks the worker's channel needs an inbox")
        guest = guest_of(actor, actor.services.guests)
        guest.inbox = check_reply(entry.reply)
        return await _HANDLERS[type(intent)](guest, intent, call, entry)
    if isinstance(actor.guest, Guest):
        match intent:
            case intents.CloseConsumer(consumer=consumer) if consumer in actor.guest.observed:
                return await _unobserve(actor.guest, intent)
            case intents.Leave():
                outcome = await handle_intent(actor, entry)
                await actor.close_objects()  # before it is answered: its ports may be wanted again
                return outcome
    return await handle_intent(actor, entry)


def body_of(call: ChannelCall) -> dict[str, Any]:
    """The body, as the driver's codec has it.

    Raises:
        InvalidParameters: It is none.
    """
    body = from_json(call.body or {})
    if not isinstance(body, dict):
        raise InvalidParameters("the body must be an object")
    return body


def accepted(guest: Guest, intent: Payload, answer: dict[str, Any], target: str | None = None) -> ChannelAnswer:
    """The worker's own answer."""
    return ChannelAnswer(
        intent=intent.action,
        target=target,
        generation=guest.actor.generation,
        accepted=True,
        body=to_json(answer) or None,
    )


# --- transports -----------------------------------------------------------------------------------


async def _create_transport(guest: Guest, intent: intents.CreateTransport, call: ChannelCall, _: Entry) -> Outcome:
    actor, house = guest.actor, guest.house
    if call.method not in passthrough.TRANSPORTS:
        raise MalformedMessage("this makes no transport", method=call.method)
    body = body_of(call)
    options = body.get("options")
    if not isinstance(options, dict) or body.get("transportId") != intent.transport:
        raise InvalidParameters("the body is not that of this intent", path="options")
    own = house.own_addresses()
    body["options"] = map_options(options, call.home, own, house.config)
    if call.listener is not None:
        infos = [map_listen_info(info, call.home, own, house.config) for info in from_json(call.listener.listen_infos)]
        await house.listeners.lease(call.listener.id, infos, actor.live, intent.transport)
        guest.leases[intent.transport] = call.listener.id
    transport, answer = await passthrough.create_transport(actor.router, call.method, body)
    guest.watch(transport)
    actor.transports[intent.transport] = transport
    if isinstance(transport, DirectTransport):
        await guest.listen()
    full = accepted(guest, intent, answer, intent.transport)
    return Outcome(full.without_secrets(), secret=full)


def _transport(guest: Guest, id: str) -> Transport:
    found = guest.actor.transports.get(id)
    if found is None:
        raise NotFound("the peer has no such transport", transport=id)
    return found


# --- producers ------------------------------------------------------------------------------------


async def _produce(guest: Guest, intent: intents.Produce, call: ChannelCall, _: Entry) -> Outcome:
    actor = guest.actor
    transport = _transport(guest, intent.transport)
    claim(actor, intent.producer)
    try:
        producer, answer = await passthrough.produce(transport, {**body_of(call), "producerId": intent.producer})
    except BaseException:
        actor.services.claimed.discard((actor.room, intent.producer))
        raise
    guest.watch(producer)
    hold(actor, actor.producers, intent.producer, producer)
    opened = ProducerOpened(
        peer=actor.peer,
        producer=intent.producer,
        transport=intent.transport,
        server=actor.place.server,
        worker=actor.place.worker,
        generation=actor.generation,
        media_kind=producer.kind,
        type=producer.type,
        paused=producer.paused,
        app_data=intent.app_data,
    )
    result = ProduceResult(
        producer=intent.producer, transport=intent.transport, generation=actor.generation, type=producer.type
    )
    return Outcome(result, [opened], accepted(guest, intent, answer), secret_last=True)


async def _produce_data(guest: Guest, intent: intents.ProduceData, call: ChannelCall, _: Entry) -> Outcome:
    actor = guest.actor
    transport = _transport(guest, intent.transport)
    claim(actor, intent.data_producer)
    try:
        producer, answer = await passthrough.produce_data(
            transport, {**body_of(call), "dataProducerId": intent.data_producer}
        )
    except BaseException:
        actor.services.claimed.discard((actor.room, intent.data_producer))
        raise
    guest.watch(producer)
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
    paused = [ProducerPaused(peer=actor.peer, producer=intent.data_producer)] if producer.paused else []
    result = ProduceDataResult(
        data_producer=intent.data_producer, transport=intent.transport, generation=actor.generation
    )
    return Outcome(result, [opened, *paused], accepted(guest, intent, answer), secret_last=True)


# --- consumers ------------------------------------------------------------------------------------


async def _consume(guest: Guest, intent: intents.Consume, call: ChannelCall, entry: Entry) -> Outcome | None:
    actor = guest.actor
    check_free(actor, intent.consumer)
    producer = find_producer(actor, intent.producer, data=False)
    if call.method == "RTPOBSERVER_ADD_PRODUCER":
        return await when_here(
            actor, entry, producer, intent.consumer, lambda mirror: _observe(guest, intent, call, mirror)
        )
    _transport(guest, intent.transport)
    return await when_here(
        actor, entry, producer, intent.consumer, lambda mirror: _open_consumer(guest, intent, call, mirror)
    )


async def _open_consumer(guest: Guest, intent: intents.Consume, call: ChannelCall, mirror: Mirror | None) -> Outcome:
    actor = guest.actor
    body = {**body_of(call), "consumerId": intent.consumer, "producerId": intent.producer}
    with Wanted(actor, intent.producer, intent.consumer, mirror, paused=intent.paused) as wanted:
        consumer, answer = await passthrough.consume(_transport(guest, intent.transport), body)
        wanted.keep()
    score = consumer.score
    if mirror is None:
        guest.watch(consumer)
    else:
        guest.watch_relayed(consumer, mirror.key)
        score = actor.services.scores.shown(mirror.key, consumer)
        answer = {**answer, "score": score.to_json_dict()}
    actor.adopt_consumer(intent.consumer, Heard(consumer, intent.producer, intent.transport, mirror))
    result = ConsumeResult(
        consumer=intent.consumer,
        producer=intent.producer,
        transport=intent.transport,
        generation=actor.generation,
        media_kind=consumer.kind,
        type=consumer.type,
        rtp_parameters=consumer.rtp_parameters,
        paused=consumer.paused,
        producer_paused=consumer.producer_paused,
        relayed=mirror is not None,
        score=score,
    )
    return Outcome(result, secret=accepted(guest, intent, answer))


async def _consume_data(guest: Guest, intent: intents.ConsumeData, call: ChannelCall, entry: Entry) -> Outcome | None:
    actor = guest.actor
    check_free(actor, intent.data_consumer)
    _transport(guest, intent.transport)
    producer = find_producer(actor, intent.data_producer, data=True)
    return await when_here(
        actor, entry, producer, intent.data_consumer, lambda mirror: _open_data_consumer(guest, intent, call, mirror)
    )


async def _open_data_consumer(
    guest: Guest, intent: intents.ConsumeData, call: ChannelCall, mirror: Mirror | None
) -> Outcome:
    actor = guest.actor
    body = {**body_of(call), "dataConsumerId": intent.data_consumer, "dataProducerId": intent.data_producer}
    with Wanted(actor, intent.data_producer, intent.data_consumer, mirror, paused=False) as wanted:
        consumer, answer = await passthrough.consume_data(_transport(guest, intent.transport), body)
        wanted.keep()
    guest.watch(consumer)
    actor.adopt_consumer(intent.data_consumer, Heard(consumer, intent.data_producer, intent.transport, mirror))
    result = ConsumeDataResult(
        data_consumer=intent.data_consumer,
        data_producer=intent.data_producer,
        transport=intent.transport,
        generation=actor.generation,
        sctp_stream_parameters=consumer.sctp_stream_parameters or SctpStreamParameters(stream_id=0, ordered=True),
        label=consumer.label,
        protocol=consumer.protocol,
        relayed=mirror is not None,
    )
    return Outcome(result, secret=accepted(guest, intent, answer))


# --- observers ------------------------------------------------------------------------------------


async def _observe(guest: Guest, intent: intents.Consume, call: ChannelCall, mirror: Mirror | None) -> Outcome:
    actor = guest.actor
    observer = guest.observers.get(intent.transport)
    if observer is None:
        raise NotFound("the peer has no such observer", observer=intent.transport)
    producer = actor.router.require_producer(intent.producer)
    with Wanted(actor, intent.producer, intent.consumer, mirror, paused=False) as wanted:
        await observer.add_producer(producer_id=intent.producer)
        wanted.keep()
    guest.observe(intent.consumer, intent.transport, intent.producer)
    producer.on(producer.CLOSE, lambda _: guest.unobserve(intent.consumer))
    result = ConsumeResult(
        consumer=intent.consumer,
        producer=intent.producer,
        transport=intent.transport,
        generation=actor.generation,
        media_kind=producer.kind,
        type="simple",
        rtp_parameters=RtpParameters(codecs=()),
        paused=False,
        producer_paused=producer.paused,
        relayed=mirror is not None,
    )
    return Outcome(result, secret=accepted(guest, intent, {}))


async def _unobserve(guest: Guest, intent: intents.CloseConsumer) -> Outcome:
    observer_id, producer = guest.observed[intent.consumer]
    observer = guest.observers.get(observer_id)
    if observer is not None and guest.actor.router.get_producer(producer) is not None:
        await observer.remove_producer(producer_id=producer)
    guest.unobserve(intent.consumer)
    return Outcome(Done(intent=intent.action, target=intent.consumer, generation=guest.actor.generation))


# --- everything else ------------------------------------------------------------------------------


async def _request(guest: Guest, intent: intents.RequestChannel, call: ChannelCall, _: Entry) -> Outcome:
    full = accepted(guest, intent, await perform(guest, call))
    return Outcome(full.without_secrets(), secret=full)


async def perform(guest: Guest, call: ChannelCall) -> dict[str, Any]:
    """Ask the worker for one of the peer's objects; its answer.

    Raises:
        MafaldaError: Why not.
    """
    actor, house = guest.actor, guest.house
    if call.method in passthrough.OBSERVERS:
        observer, answer = await passthrough.create_observer(actor.router, call.method, body_of(call))
        guest.watch(observer)
        guest.observers[observer.id] = observer
        return answer
    if call.method == "WORKER_CREATE_WEBRTCSERVER":
        body = body_of(call)
        id, infos = body.get("webRtcServerId"), body.get("listenInfos")
        if not isinstance(id, str) or not isinstance(infos, list):
            raise InvalidParameters("a WebRtcServer needs an id and listen infos")
        own = house.own_addresses()
        mapped = [map_listen_info(info, call.home, own, house.config) for info in infos]
        await house.listeners.open(id, mapped, actor.live)
        guest.listener = id
        return {}
    if call.method not in ALLOWED:
        raise MalformedMessage("not to be asked this way", method=call.method)
    entity = guest.find(call.handler)
    if entity is None:
        raise NotFound(f"Channel request handler with ID {call.handler} not found [method:{call.method}]")
    answer = await actor.live.worker.request(call.method, entity.channel_id, body_of(call))
    return unscoped_dict(guest, answer)


def unscoped_dict(guest: Guest, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer with the ids that the application knows."""
    found: dict[str, Any] = unscoped(answer, guest.actor.router.scope)
    return found


_HANDLERS: dict[type[Payload], Callable[[Guest, Any, ChannelCall, Entry], Awaitable[Outcome | None]]] = {
    intents.CreateTransport: _create_transport,
    intents.Produce: _produce,
    intents.ProduceData: _produce_data,
    intents.Consume: _consume,
    intents.ConsumeData: _consume_data,
    intents.RequestChannel: _request,
}
