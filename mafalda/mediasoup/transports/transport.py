"""What all transports have in common: producing, consuming, statistics, bitrates, tracing.

What does not belong here: how a kind of transport is connected (its own file), negotiation (``ortc``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mafalda.media.rtp import (
    ConsumerLayers,
    ConsumerScore,
    MediaKind,
    RtcpParameters,
    RtpCapabilities,
    RtpEncodingParameters,
    RtpMapping,
    RtpParameters,
    SctpParameters,
    SctpStreamParameters,
)
from mafalda.mediasoup import ortc
from mafalda.mediasoup.channel.channel import Channel, Undo
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
from mafalda.mediasoup.endpoints.data_producer import DataProducer, DataType
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import InvalidParameters, ObjectClosed
from mafalda.mediasoup.objects.entity import CloseCause, Entity, JsonObject, check_list, check_trace_types, new_id
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.transports.bodies import (
    consume_body,
    consume_data_body,
    mapped_ssrcs_of,
    produce_body,
    produce_data_body,
    reliability,
    stream_of,
    with_mapped_ssrcs,
)
from mafalda.mediasoup.transports.stream_ids import StreamIds

if TYPE_CHECKING:
    from mafalda.mediasoup.objects.router import Router

SctpState = Literal["new", "connecting", "connected", "failed", "closed"]
TransportType = Literal["webrtc", "plain", "pipe", "direct"]
TRACE_TYPES = frozenset({"probation", "bwe"})
# Up to 8 digits, because a MID of more than 8 bytes does not fit the header extension that workers write.
_MID_LIMIT = 100_000_000


class Transport(Entity):
    """Base of WebRtcTransport, PlainTransport, PipeTransport and DirectTransport."""

    TRACE: ClassVar = Event[JsonObject]("trace")
    SCTP_STATE_CHANGE: ClassVar = Event[SctpState]("sctpstatechange")
    NEW_PRODUCER: ClassVar = Event[Producer]("newproducer")
    NEW_CONSUMER: ClassVar = Event[Consumer]("newconsumer")
    NEW_DATA_PRODUCER: ClassVar = Event[DataProducer]("newdataproducer")
    NEW_DATA_CONSUMER: ClassVar = Event[DataConsumer]("newdataconsumer")
    ROUTER_CLOSE: ClassVar = Event[None]("routerclose")

    type: ClassVar[TransportType]
    _stats_type: ClassVar[str]

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        router: Router,
        dump: JsonObject,
    ) -> None:
        super().__init__(channel, id, app_data, router._forget_transport)
        self._router = router
        self._producers: dict[str, Producer] = {}
        self._consumers: dict[str, Consumer] = {}
        self._data_producers: dict[str, DataProducer] = {}
        self._data_consumers: dict[str, DataConsumer] = {}
        self._cname: str | None = None
        self._next_mid = 0
        self._stream_ids = StreamIds()
        sctp = dump.get("sctpParameters")
        self.sctp_parameters = SctpParameters.model_validate(sctp) if sctp is not None else None
        self._sctp_state: SctpState | None = dump.get("sctpState")
        self._sctp_negotiated: JsonObject | None = None

    @property
    def sctp_state(self) -> SctpState | None:
        """State of the SCTP association; None without SCTP."""
        return self._sctp_state

    @property
    def sctp_negotiated_capabilities(self) -> JsonObject | None:
        """Numbers of streams that both sides agreed on; None until then."""
        return self._sctp_negotiated

    @property
    def producers(self) -> Mapping[str, Producer]:
        """Its open producers by id."""
        return self._producers

    @property
    def consumers(self) -> Mapping[str, Consumer]:
        """Its open consumers by id."""
        return self._consumers

    @property
    def data_producers(self) -> Mapping[str, DataProducer]:
        """Its open data producers by id."""
        return self._data_producers

    @property
    def data_consumers(self) -> Mapping[str, DataConsumer]:
        """Its open data consumers by id."""
        return self._data_consumers

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return shapes.transport_dump(await self._request("TRANSPORT_DUMP"))

    async def get_stats(self) -> list[JsonObject]:
        """Its counters and bitrates, as a list of one."""
        return [shapes.transport_stats(await self._request("TRANSPORT_GET_STATS"), self._stats_type)]

    async def set_max_incoming_bitrate(self, bitrate: int) -> None:
        """Limit what the endpoint is told to send, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MAX_INCOMING_BITRATE", {"maxIncomingBitrate": bitrate})

    async def set_max_outgoing_bitrate(self, bitrate: int) -> None:
        """Limit the estimated outgoing bandwidth, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MAX_OUTGOING_BITRATE", {"maxOutgoingBitrate": bitrate})

    async def set_min_outgoing_bitrate(self, bitrate: int) -> None:
        """Never estimate less outgoing bandwidth than this, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MIN_OUTGOING_BITRATE", {"minOutgoingBitrate": bitrate})

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; none switches it off."""
        await self._request("TRANSPORT_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    async def produce(
        self,
        *,
        kind: MediaKind,
        rtp_parameters: RtpParameters | Mapping[str, Any],
        id: str | None = None,
        paused: bool = False,
        key_frame_request_delay: int | None = None,
        enable_mediasoup_packet_id_header_extension: bool = False,
        rtp_mapping: RtpMapping | None = None,
        mapped_ssrcs: Sequence[int] | None = None,
        app_data: Mapping[str, Any] | None = None,
    ) -> Producer:
        """Let media into the router.

        Args:
            kind: Audio or video.
            rtp_parameters: What the endpoint sends.
            id: Of the producer; None is a fresh UUID4.
            paused: Whether it starts paused.
            key_frame_request_delay: After a key frame was asked for, do not ask again for this long, in ms.
            enable_mediasoup_packet_id_header_extension: Number the packets for mediasoup's own use.
            rtp_mapping: How it is to be mapped, whatever the router's capabilities are; None: as they say.
            mapped_ssrcs: SSRCs under which the router's consumers know the encodings, one for each; None: random
                ones. A relay passes the pipe consumer's, so that they are the origin's in every router.
            app_data: The application's own.

        Raises:
            InvalidParameters: They are malformed.
            AlreadyExists: The id is taken.
            UnsupportedError: The router cannot take them.
        """
        self._check_open()
        if kind not in ("audio", "video"):
            raise InvalidParameters("kind must be audio or video")
        parameters = self._with_cname(ortc.validate_rtp_parameters(rtp_parameters))
        if rtp_mapping is None:
            capabilities = self._router.rtp_capabilities
            mapping = ortc.get_producer_rtp_parameters_mapping(parameters, capabilities)
        else:
            mapping = rtp_mapping
            capabilities = ortc.capabilities_of_mapping(kind, parameters, mapping)
        if mapped_ssrcs is not None:
            mapping = with_mapped_ssrcs(mapping, mapped_ssrcs)
        consumable = ortc.get_consumable_rtp_parameters(kind, parameters, capabilities, mapping)
        public_id = new_id(id)
        producer_id = self._router.scoped(public_id)
        body = produce_body(
            producer_id,
            kind,
            parameters,
            mapping,
            paused=paused,
            key_frame_request_delay=key_frame_request_delay,
            packet_ids=enable_mediasoup_packet_id_header_extension,
        )
        answer = await self._create("TRANSPORT_PRODUCE", producer_id, body, "TRANSPORT_CLOSE_PRODUCER", "producerId")
        producer = Producer(
            self._channel,
            producer_id,
            app_data,
            self._forget_producer,
            transport_id=self._id,
            kind=kind,
            type=answer["type"],
            rtp_parameters=parameters,
            consumable_rtp_parameters=consumable,
            paused=paused,
            given_mapping=rtp_mapping,
            public_id=public_id,
        )
        self._adopt(producer, self._producers, "newproducer")
        return producer

    async def consume(
        self,
        *,
        producer_id: str,
        rtp_capabilities: RtpCapabilities | Mapping[str, Any],
        id: str | None = None,
        paused: bool = False,
        mid: str | None = None,
        preferred_layers: ConsumerLayers | Mapping[str, Any] | None = None,
        ignore_dtx: bool = False,
        enable_rtx: bool | None = None,
        pipe: bool = False,
        app_data: Mapping[str, Any] | None = None,
    ) -> Consumer:
        """Send a producer of the same router to the endpoint.

        Args:
            producer_id: Which one.
            rtp_capabilities: What the endpoint can receive.
            id: Of the consumer; None is a fresh UUID4.
            paused: Whether it starts paused; recommended for video, until the endpoint is ready.
            mid: Of the media section; None is the next number.
            preferred_layers: For simulcast and SVC.
            ignore_dtx: Forward as if the producer did not use discontinuous transmission.
            enable_rtx: Retransmit; None: for video only.
            pipe: Send all layers at once, as a pipe does.
            app_data: The application's own.

        Raises:
            NotFound: The router has no such producer.
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is taken.
            UnsupportedError: The endpoint cannot receive it.
        """
        self._check_open()
        if mid is not None and (not isinstance(mid, str) or not mid):
            raise InvalidParameters("mid must be a text that is not empty")
        capabilities = ortc.validate_rtp_capabilities(rtp_capabilities)
        layers = ortc.parse(ConsumerLayers, preferred_layers) if preferred_layers is not None else None
        producer = self._router.require_producer(producer_id)
        with_rtx = producer.kind == "video" if enable_rtx is None else enable_rtx
        parameters = ortc.get_consumer_rtp_parameters(producer.consumable_rtp_parameters, capabilities, pipe, with_rtx)
        if not pipe:
            parameters = parameters.model_copy(update={"mid": mid or self._take_mid()})
        return await self._consume(producer, parameters, id, paused, layers, ignore_dtx, pipe, app_data)

    async def _consume(
        self,
        producer: Producer,
        parameters: RtpParameters,
        id: str | None,
        paused: bool,
        layers: ConsumerLayers | None,
        ignore_dtx: bool,
        pipe: bool,
        app_data: Mapping[str, Any] | None,
    ) -> Consumer:
        consumer_id = new_id(id)
        body = consume_body(
            consumer_id, producer, parameters, paused=paused, layers=layers, ignore_dtx=ignore_dtx, pipe=pipe
        )
        answer = await self._create("TRANSPORT_CONSUME", consumer_id, body, "TRANSPORT_CLOSE_CONSUMER", "consumerId")
        chosen = answer.get("preferredLayers")
        consumer = Consumer(
            self._channel,
            consumer_id,
            app_data,
            self._forget_consumer,
            transport_id=self._id,
            producer_id=producer.id,
            kind=producer.kind,
            type="pipe" if pipe else producer.type,
            rtp_parameters=parameters,
            mapped_ssrcs=mapped_ssrcs_of(producer.consumable_rtp_parameters),
            paused=answer["paused"],
            producer_paused=answer["producerPaused"],
            score=ConsumerScore.model_validate(answer["score"]),
            preferred_layers=ConsumerLayers.model_validate(chosen) if chosen is not None else None,
        )
        self._adopt(consumer, self._consumers, "newconsumer")
        return consumer

    async def produce_data(
        self,
        *,
        sctp_stream_parameters: SctpStreamParameters | Mapping[str, Any] | None = None,
        label: str = "",
        protocol: str = "",
        id: str | None = None,
        paused: bool = False,
        app_data: Mapping[str, Any] | None = None,
    ) -> DataProducer:
        """Let messages into the router.

        Args:
            sctp_stream_parameters: Of the endpoint's stream; ignored on a direct transport.
            label: Of the data channel.
            protocol: Of the data channel.
            id: Of the data producer; None is a fresh UUID4.
            paused: Whether it starts paused.
            app_data: The application's own.

        Raises:
            InvalidParameters: They are missing or malformed.
            AlreadyExists: The id is taken.
            WorkerRequestFailed: The transport has no SCTP.
        """
        self._check_open()
        stream: SctpStreamParameters | None = None
        if self.type != "direct":
            if sctp_stream_parameters is None:
                raise InvalidParameters("sctp_stream_parameters are required on this transport")
            stream = ortc.validate_sctp_stream_parameters(sctp_stream_parameters)
        public_id = new_id(id)
        data_producer_id = self._router.scoped(public_id)
        body = produce_data_body(
            data_producer_id, self._data_type, stream, label=label, protocol=protocol, paused=paused
        )
        answer = await self._create(
            "TRANSPORT_PRODUCE_DATA", data_producer_id, body, "TRANSPORT_CLOSE_DATAPRODUCER", "dataProducerId"
        )
        data_producer = DataProducer(
            self._channel,
            data_producer_id,
            app_data,
            self._forget_data_producer,
            transport_id=self._id,
            type=answer["type"],
            sctp_stream_parameters=stream_of(answer),
            label=answer["label"],
            protocol=answer["protocol"],
            paused=paused,
            public_id=public_id,
        )
        self._adopt(data_producer, self._data_producers, "newdataproducer")
        return data_producer

    async def consume_data(
        self,
        *,
        data_producer_id: str,
        ordered: bool | None = None,
        max_packet_life_time: int | None = None,
        max_retransmits: int | None = None,
        id: str | None = None,
        paused: bool = False,
        subchannels: Sequence[int] = (),
        app_data: Mapping[str, Any] | None = None,
    ) -> DataConsumer:
        """Send a data producer of the same router to the endpoint.

        Args:
            data_producer_id: Which one.
            ordered: Whether messages keep their order; None: as the data producer's stream.
            max_packet_life_time: Milliseconds after which a message is given up; makes it unordered.
            max_retransmits: How often a message is sent again; makes it unordered.
            id: Of the data consumer; None is a fresh UUID4.
            paused: Whether it starts paused.
            subchannels: That it listens to; empty: everything that is sent to all.
            app_data: The application's own.

        Raises:
            NotFound: The router has no such data producer.
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is taken.
            WorkerRequestFailed: The transport has no SCTP, or no stream is free.
        """
        self._check_open()
        data_producer = self._router.require_data_producer(data_producer_id)
        data_consumer_id = new_id(id)
        wanted_subchannels = check_list(subchannels, "subchannels")
        stream_id: int | None = None
        stream: JsonObject | None = None
        if self.type != "direct":
            stream_id = self._stream_ids.take()
            stream = reliability(data_producer, stream_id, ordered, max_packet_life_time, max_retransmits)
        body = consume_data_body(
            data_consumer_id, data_producer, self._data_type, stream, paused=paused, subchannels=wanted_subchannels
        )
        try:
            answer = await self._create(
                "TRANSPORT_CONSUME_DATA", data_consumer_id, body, "TRANSPORT_CLOSE_DATACONSUMER", "dataConsumerId"
            )
        except BaseException:
            if stream_id is not None:
                self._stream_ids.give_back(stream_id)
            raise
        data_consumer = DataConsumer(
            self._channel,
            data_consumer_id,
            app_data,
            self._forget_data_consumer,
            transport_id=self._id,
            data_producer_id=data_producer.id,
            type=answer["type"],
            sctp_stream_parameters=stream_of(answer),
            label=answer["label"],
            protocol=answer["protocol"],
            paused=answer["paused"],
            data_producer_paused=answer["dataProducerPaused"],
            subchannels=answer["subchannels"],
        )
        self._adopt(data_consumer, self._data_consumers, "newdataconsumer")
        return data_consumer

    @property
    def _data_type(self) -> DataType:
        return "direct" if self.type == "direct" else "sctp"

    def _with_cname(self, parameters: RtpParameters) -> RtpParameters:
        """Give encodings and the CNAME that the worker wants: one per transport, but each its own on a pipe."""
        cname = parameters.rtcp.cname
        if self.type == "pipe":
            cname = cname or uuid.uuid4().hex[:8]
        else:
            self._cname = self._cname or cname or uuid.uuid4().hex[:8]
            cname = self._cname
        rtcp = RtcpParameters(cname=cname, reduced_size=parameters.rtcp.reduced_size)
        encodings = parameters.encodings or (RtpEncodingParameters(),)
        return parameters.model_copy(update={"rtcp": rtcp, "encodings": encodings})

    def _take_mid(self) -> str:
        mid = str(self._next_mid)
        self._next_mid = (self._next_mid + 1) % _MID_LIMIT
        return mid

    async def _create(self, method: str, id: str, body: JsonObject, undo_method: str, id_key: str) -> JsonObject:
        answer = await self._channel.request(
            method, self._id, body, creates=id, undo=Undo(undo_method, self._id, {id_key: id})
        )
        if self._closed:
            # It closed while the answer was on its way, and what it had went with it.
            self._channel.unsubscribe(id)
            raise ObjectClosed("closed meanwhile", kind=type(self).__name__, object_id=self._id)
        return answer

    def _adopt(self, child: Any, children: dict[str, Any], event: str) -> None:
        children[child.id] = child
        child._subscribe()
        self._router._adopt_child(child)
        self._emit(event, child)

    def _forget_producer(self, producer: Producer) -> None:
        self._producers.pop(producer.id, None)
        self._router._forget_producer(producer)

    def _forget_consumer(self, consumer: Consumer) -> None:
        self._consumers.pop(consumer.id, None)

    def _forget_data_producer(self, data_producer: DataProducer) -> None:
        self._data_producers.pop(data_producer.id, None)
        self._router._forget_data_producer(data_producer)

    def _forget_data_consumer(self, data_consumer: DataConsumer) -> None:
        self._data_consumers.pop(data_consumer.id, None)
        if data_consumer.sctp_stream_parameters is not None:
            self._stream_ids.give_back(data_consumer.sctp_stream_parameters.stream_id)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        for children in (self._producers, self._consumers, self._data_producers, self._data_consumers):
            for child in children.values():
                yield child, "transportclose"

    def _ending(self) -> None:
        if self._sctp_state is not None:
            self._sctp_state = "closed"

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "ROUTER_CLOSE_TRANSPORT", self._router.id, {"transportId": self._id}

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "TRANSPORT_TRACE":
                self._emit(self.TRACE, shapes.trace(body))
            case "TRANSPORT_SCTP_STATE_CHANGE":
                state: SctpState = body["sctpState"]
                self._sctp_state = state
                self._emit(self.SCTP_STATE_CHANGE, state)
            case "TRANSPORT_SCTP_NEGOTIATED_CAPABILITIES":
                self._sctp_negotiated = body["negotiatedCapabilities"]
                self._stream_ids.limit(body["negotiatedCapabilities"]["negotiatedMaxOutboundStreams"])
