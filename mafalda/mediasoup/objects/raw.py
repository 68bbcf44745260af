"""Objects made with request bodies that somebody else's library wrote, and the worker's own answers to them.

An application that speaks the worker's channel gets exactly what its worker would say; what it makes is adopted as an
object of the driver as well, so that whoever else uses the router finds it. Ids of producers in bodies are public ones.

What does not belong here: where bodies come from (``mafalda.workers``), JSON (``channel_json``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mafalda.media.rtp import ConsumerLayers, ConsumerScore, RtpMapping, RtpParameters
from mafalda.mediasoup import ortc
from mafalda.mediasoup.channel.channel import Undo
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import AlreadyExists, InvalidParameters
from mafalda.mediasoup.objects.entity import Entity, JsonObject
from mafalda.mediasoup.objects.router import Router
from mafalda.mediasoup.objects.scopes import unscoped
from mafalda.mediasoup.objects.worker import Worker
from mafalda.mediasoup.observers.active_speaker_observer import ActiveSpeakerObserver
from mafalda.mediasoup.observers.audio_level_observer import AudioLevelObserver
from mafalda.mediasoup.observers.rtp_observer import RtpObserver
from mafalda.mediasoup.transports.bodies import mapped_ssrcs_of, stream_of
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.mediasoup.transports.pipe_transport import PipeTransport
from mafalda.mediasoup.transports.plain_transport import PlainTransport
from mafalda.mediasoup.transports.transport import Transport
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport

Tap = Callable[[str, JsonObject], None]

TRANSPORTS: Mapping[str, type[Transport]] = {
    "ROUTER_CREATE_WEBRTCTRANSPORT": WebRtcTransport,
    "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER": WebRtcTransport,
    "ROUTER_CREATE_PLAINTRANSPORT": PlainTransport,
    "ROUTER_CREATE_PIPETRANSPORT": PipeTransport,
    "ROUTER_CREATE_DIRECTTRANSPORT": DirectTransport,
}
OBSERVERS: Mapping[str, type[RtpObserver]] = {
    "ROUTER_CREATE_ACTIVESPEAKEROBSERVER": ActiveSpeakerObserver,
    "ROUTER_CREATE_AUDIOLEVELOBSERVER": AudioLevelObserver,
}


def tap(entity: Entity, listener: Tap) -> None:
    """Give every notification for an object to ``listener`` first. Called in the moment in which it was made."""

    def deliver(event: str, body: JsonObject) -> None:
        listener(event, body)
        entity._on_notification(event, body)

    entity._channel.subscribe(entity.channel_id, deliver)


async def request(worker: Worker, method: str, handler: str, body: Mapping[str, Any] | None) -> JsonObject:
    """A request as it is, whatever it does."""
    return await worker._channel.request(method, handler, body)


def notify(worker: Worker, event: str, handler: str, body: Mapping[str, Any] | None) -> None:
    """A notification as it is."""
    worker._channel.notify(event, handler, body)


def send_data(producer: DataProducer, body: Mapping[str, Any] | None) -> None:
    """A message by a direct data producer, with the library's own body.

    Raises:
        InvalidParameters: The body does not fit.
    """
    producer._channel.notify("DATAPRODUCER_SEND", producer.channel_id, body)


async def create_transport(router: Router, method: str, body: Mapping[str, Any]) -> tuple[Transport, JsonObject]:
    """Make a transport; and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit.
        AlreadyExists: The id is taken.
        WorkerRequestFailed: The worker says why.
    """
    id = _id(body, "transportId")
    if id in router.transports:
        raise AlreadyExists("a Transport with same transportId already exists", id=id)
    undo = Undo("ROUTER_CLOSE_TRANSPORT", router.id, {"transportId": id})
    answer = await router._create(method, id, dict(body), undo)
    transport = TRANSPORTS[method](router._channel, id, None, router, shapes.transport_dump(answer))
    router._transports[id] = transport
    transport._subscribe()
    router._emit(router.NEW_TRANSPORT, transport)
    return transport, answer


async def create_observer(router: Router, method: str, body: Mapping[str, Any]) -> tuple[RtpObserver, JsonObject]:
    """Make an RTP observer; and the worker's answer."""
    id = _id(body, "rtpObserverId")
    if id in router.rtp_observers:
        raise AlreadyExists("an RtpObserver with same rtpObserverId already exists", id=id)
    undo = Undo("ROUTER_CLOSE_RTPOBSERVER", router.id, {"rtpObserverId": id})
    answer = await router._create(method, id, dict(body), undo)
    observer = OBSERVERS[method](router._channel, id, None, router)
    router._rtp_observers[id] = observer
    observer._subscribe()
    router._emit(router.NEW_RTP_OBSERVER, observer)
    return observer, answer


async def produce(transport: Transport, body: Mapping[str, Any]) -> tuple[Producer, JsonObject]:
    """Make a producer with the mapping in its body; relays of it keep that mapping's SSRCs."""
    router, id = transport._router, _id(body, "producerId")
    parameters = ortc.parse(RtpParameters, body.get("rtpParameters"))
    mapping = ortc.parse(RtpMapping, body.get("rtpMapping"))
    kind = body.get("kind")
    if kind != "audio" and kind != "video":
        raise InvalidParameters("kind must be audio or video")
    if len(mapping.encodings) != len(parameters.encodings):
        raise InvalidParameters("there is not one mapping for each encoding")
    capabilities = ortc.capabilities_of_mapping(kind, parameters, mapping)
    consumable = ortc.get_consumable_rtp_parameters(kind, parameters, capabilities, mapping)
    channel_id = router.scoped(id)
    answer = await transport._create(
        "TRANSPORT_PRODUCE",
        channel_id,
        {**body, "producerId": channel_id},
        "TRANSPORT_CLOSE_PRODUCER",
        "producerId",
    )
    producer = Producer(
        transport._channel,
        channel_id,
        None,
        transport._forget_producer,
        transport_id=transport.id,
        kind=kind,
        type=answer["type"],
        rtp_parameters=parameters,
        consumable_rtp_parameters=consumable,
        paused=bool(body.get("paused")),
        given_mapping=mapping,
        public_id=id,
    )
    transport._adopt(producer, transport._producers, "newproducer")
    return producer, answer


async def consume(transport: Transport, body: Mapping[str, Any]) -> tuple[Consumer, JsonObject]:
    """Make a consumer with the parameters in its body."""
    id, producer_id = _id(body, "consumerId"), _id(body, "producerId")
    producer = transport._router.require_producer(producer_id)
    parameters = ortc.parse(RtpParameters, body.get("rtpParameters"))
    answer = await transport._create(
        "TRANSPORT_CONSUME",
        id,
        {**body, "producerId": producer.channel_id},
        "TRANSPORT_CLOSE_CONSUMER",
        "consumerId",
    )
    chosen = answer.get("preferredLayers")
    consumer = Consumer(
        transport._channel,
        id,
        None,
        transport._forget_consumer,
        transport_id=transport.id,
        producer_id=producer_id,
        kind=producer.kind,
        type=body["type"],
        rtp_parameters=parameters,
        paused=answer["paused"],
        producer_paused=answer["producerPaused"],
        score=ConsumerScore.model_validate(answer["score"]),
        preferred_layers=ConsumerLayers.model_validate(chosen) if chosen is not None else None,
        mapped_ssrcs=mapped_ssrcs_of(producer.consumable_rtp_parameters),
    )
    transport._adopt(consumer, transport._consumers, "newconsumer")
    return consumer, answer


async def produce_data(transport: Transport, body: Mapping[str, Any]) -> tuple[DataProducer, JsonObject]:
    """Make a data producer."""
    router, id = transport._router, _id(body, "dataProducerId")
    channel_id = router.scoped(id)
    answer = await transport._create(
        "TRANSPORT_PRODUCE_DATA",
        channel_id,
        {**body, "dataProducerId": channel_id},
        "TRANSPORT_CLOSE_DATAPRODUCER",
        "dataProducerId",
    )
    producer = DataProducer(
        transport._channel,
        channel_id,
        None,
        transport._forget_data_producer,
        transport_id=transport.id,
        type=answer["type"],
        sctp_stream_parameters=stream_of(answer),
        label=answer["label"],
        protocol=answer["protocol"],
        paused=bool(body.get("paused")),
        public_id=id,
    )
    transport._adopt(producer, transport._data_producers, "newdataproducer")
    return producer, unscoped(answer, router.scope)


async def consume_data(transport: Transport, body: Mapping[str, Any]) -> tuple[DataConsumer, JsonObject]:
    """Make a data consumer."""
    router = transport._router
    id, producer_id = _id(body, "dataConsumerId"), _id(body, "dataProducerId")
    producer = router.require_data_producer(producer_id)
    answer = await transport._create(
        "TRANSPORT_CONSUME_DATA",
        id,
        {**body, "dataProducerId": producer.channel_id},
        "TRANSPORT_CLOSE_DATACONSUMER",
        "dataConsumerId",
    )
    consumer = DataConsumer(
        transport._channel,
        id,
        None,
        transport._forget_data_consumer,
        transport_id=transport.id,
        data_producer_id=producer_id,
        type=answer["type"],
        sctp_stream_parameters=stream_of(answer),
        label=answer["label"],
        protocol=answer["protocol"],
        paused=answer["paused"],
        data_producer_paused=answer["dataProducerPaused"],
        subchannels=answer["subchannels"],
    )
    transport._adopt(consumer, transport._data_consumers, "newdataconsumer")
    return consumer, unscoped(answer, router.scope)


def _id(body: Mapping[str, Any], key: str) -> str:
    found = body.get(key)
    if not isinstance(found, str) or not found:
        raise InvalidParameters("an id is missing", path=key)
    return found
