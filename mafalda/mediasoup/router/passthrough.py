"""Objects created with request bodies that another mediasoup library wrote, and the worker's own answers to them.

An application that speaks the worker's channel itself gets exactly what its worker would answer. What it creates is an
object of the driver as well, so that the router's other users find it. Ids in bodies and answers are public ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mafalda.media.rtp import RtpMapping, RtpParameters, without_zero_channels
from mafalda.mediasoup import ortc
from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.base.ids import unscoped
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import AlreadyExists, InvalidParameters
from mafalda.mediasoup.router.active_speaker_observer import ActiveSpeakerObserver
from mafalda.mediasoup.router.audio_level_observer import AudioLevelObserver
from mafalda.mediasoup.router.router import Router
from mafalda.mediasoup.router.rtp_observer import RtpObserver
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.mediasoup.transports.pipe_transport import PipeTransport
from mafalda.mediasoup.transports.plain_transport import PlainTransport
from mafalda.mediasoup.transports.transport import Transport
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport

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


async def create_transport(router: Router, method: str, body: Mapping[str, Any]) -> tuple[Transport, JsonObject]:
    """Create a transport.

    Args:
        router: Of the transport.
        method: A key of ``TRANSPORTS``.
        body: The request's body.

    Returns:
        The transport, and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit the schema.
        AlreadyExists: The id is in use.
        WorkerRequestFailed: The worker refused.
    """
    id = _id(body, "transportId")
    if id in router.transports:
        raise AlreadyExists("a Transport with same transportId already exists", id=id)
    return await router.make_transport(TRANSPORTS[method], method, dict(body))


async def create_observer(router: Router, method: str, body: Mapping[str, Any]) -> tuple[RtpObserver, JsonObject]:
    """Create an RTP observer; ``method`` is a key of ``OBSERVERS``. Otherwise as ``create_transport``."""
    id = _id(body, "rtpObserverId")
    if id in router.rtp_observers:
        raise AlreadyExists("an RtpObserver with same rtpObserverId already exists", id=id)
    return await router.make_observer(OBSERVERS[method], method, dict(body))


async def produce(transport: Transport, body: Mapping[str, Any]) -> tuple[Producer, JsonObject]:
    """Create a producer with the RTP mapping in its body; relays of it keep that mapping's SSRCs.

    Returns:
        The producer, and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit the schema, or its mapping does not fit its RTP parameters.
        AlreadyExists: The id is in use.
    """
    _id(body, "producerId")
    parameters = ortc.parse(RtpParameters, without_zero_channels(body.get("rtpParameters")))
    mapping = ortc.parse(RtpMapping, body.get("rtpMapping"))
    kind = body.get("kind")
    if kind != "audio" and kind != "video":
        raise InvalidParameters("kind must be audio or video")
    if len(mapping.encodings) != len(parameters.encodings):
        raise InvalidParameters("there is not one mapping for each encoding")
    capabilities = ortc.capabilities_of_mapping(kind, parameters, mapping)
    return await transport.make_producer(
        body,
        rtp_parameters=parameters,
        consumable_rtp_parameters=ortc.get_consumable_rtp_parameters(kind, parameters, capabilities, mapping),
        given_mapping=mapping,
    )


async def consume(transport: Transport, body: Mapping[str, Any]) -> tuple[Consumer, JsonObject]:
    """Create a consumer with the RTP parameters in its body.

    Returns:
        The consumer, and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit the schema.
        NotFound: The router has no such producer.
        AlreadyExists: The id is in use.
    """
    _id(body, "consumerId")
    producer = transport.router_context.producers.require(_id(body, "producerId"))
    parameters = ortc.parse(RtpParameters, without_zero_channels(body.get("rtpParameters")))
    return await transport.make_consumer(body, producer, parameters)


async def produce_data(transport: Transport, body: Mapping[str, Any]) -> tuple[DataProducer, JsonObject]:
    """Create a data producer.

    Returns:
        The data producer, and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit the schema.
        AlreadyExists: The id is in use.
    """
    _id(body, "dataProducerId")
    producer, answer = await transport.make_data_producer(body)
    return producer, unscoped(answer, transport.router_context.scope)


async def consume_data(transport: Transport, body: Mapping[str, Any]) -> tuple[DataConsumer, JsonObject]:
    """Create a data consumer.

    Returns:
        The data consumer, and the worker's answer.

    Raises:
        InvalidParameters: The body does not fit the schema.
        NotFound: The router has no such data producer.
        AlreadyExists: The id is in use.
    """
    _id(body, "dataConsumerId")
    producer = transport.router_context.data_producers.require(_id(body, "dataProducerId"))
    consumer, answer = await transport.make_data_consumer(body, producer)
    return consumer, unscoped(answer, transport.router_context.scope)


def _id(body: Mapping[str, Any], key: str) -> str:
    found = body.get(key)
    if not isinstance(found, str) or not found:
        raise InvalidParameters("an id is missing", path=key)
    return found
