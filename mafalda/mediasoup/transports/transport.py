"""Producing and consuming on a transport: negotiation, and the requests' bodies."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mafalda.media.rtp import (
    ConsumerLayers,
    MediaKind,
    RtcpParameters,
    RtpCapabilities,
    RtpEncodingParameters,
    RtpMapping,
    RtpParameters,
    SctpStreamParameters,
)
from mafalda.mediasoup import ortc
from mafalda.mediasoup.base.checks import check_list
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.ids import new_id
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
from mafalda.mediasoup.endpoints.data_endpoint import DataType
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.transports.bodies import (
    consume_body,
    consume_data_body,
    produce_body,
    produce_data_body,
    stream_parameters,
    with_mapped_ssrcs,
)
from mafalda.mediasoup.transports.transport_base import TransportBase

# Up to 8 digits, because a MID of more than 8 bytes does not fit the header extension that workers write.
_MID_LIMIT = 100_000_000


class Transport(TransportBase):
    """Base of WebRtcTransport, PlainTransport, PipeTransport and DirectTransport."""

    def __init__(self, context: EntityContext, router_context: RouterContext, dump: JsonObject) -> None:
        super().__init__(context, router_context, dump)
        self._cname: str | None = None
        self._next_mid = 0

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
        """Create a producer: receive media from the endpoint into the router.

        Args:
            kind: Audio or video.
            rtp_parameters: Of what the endpoint sends.
            id: Of the producer; None: a new UUID4.
            paused: Whether it starts paused.
            key_frame_request_delay: Shortest time between two requests for a key frame, in milliseconds.
            enable_mediasoup_packet_id_header_extension: Add mediasoup's packet id to each packet.
            rtp_mapping: The mapping, whatever the router's capabilities are; None: computed from them.
            mapped_ssrcs: SSRCs under which the router's consumers know the encodings, one for each; None: random
                ones. A relay passes the pipe consumer's, so that they are the origin's in every router.
            app_data: The application's own.

        Raises:
            InvalidParameters: They are malformed.
            AlreadyExists: The id is in use.
            UnsupportedError: The router cannot take them.
        """
        self._check_open()
        if kind not in ("audio", "video"):
            raise InvalidParameters("kind must be audio or video")
        parameters = self._with_cname(ortc.validate_rtp_parameters(rtp_parameters))
        mapping, consumable = self._map(kind, parameters, rtp_mapping, mapped_ssrcs)
        body = produce_body(
            new_id(id),
            kind,
            parameters,
            mapping,
            paused=paused,
            key_frame_request_delay=key_frame_request_delay,
            packet_ids=enable_mediasoup_packet_id_header_extension,
        )
        producer, _ = await self.make_producer(
            body,
            rtp_parameters=parameters,
            consumable_rtp_parameters=consumable,
            given_mapping=rtp_mapping,
            app_data=app_data,
        )
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
        """Create a consumer: send a producer of the same router to the endpoint.

        Args:
            producer_id: Of the producer.
            rtp_capabilities: What the endpoint can receive.
            id: Of the consumer; None: a new UUID4.
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
            AlreadyExists: The id is in use.
            UnsupportedError: The endpoint cannot receive it.
        """
        self._check_open()
        if mid is not None and (not isinstance(mid, str) or not mid):
            raise InvalidParameters("mid must be a text that is not empty")
        layers = ortc.parse(ConsumerLayers, preferred_layers) if preferred_layers is not None else None
        producer = self._router_context.producers.require(producer_id)
        with_rtx = producer.kind == "video" if enable_rtx is None else enable_rtx
        parameters = ortc.get_consumer_rtp_parameters(
            producer.consumable_rtp_parameters, rtp_capabilities, pipe, with_rtx
        )
        if not pipe:
            parameters = parameters.model_copy(update={"mid": mid or self._take_mid()})
        body = consume_body(
            new_id(id), producer, parameters, paused=paused, layers=layers, ignore_dtx=ignore_dtx, pipe=pipe
        )
        consumer, _ = await self.make_consumer(body, producer, parameters, app_data)
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
        """Create a data producer: receive messages from the endpoint into the router.

        Args:
            sctp_stream_parameters: Of the endpoint's stream; ignored on a direct transport.
            label: Of the data channel.
            protocol: Of the data channel.
            id: Of the data producer; None: a new UUID4.
            paused: Whether it starts paused.
            app_data: The application's own.

        Raises:
            InvalidParameters: They are missing or malformed.
            AlreadyExists: The id is in use.
            WorkerRequestFailed: The transport has no SCTP.
        """
        self._check_open()
        stream: SctpStreamParameters | None = None
        if self.type != "direct":
            if sctp_stream_parameters is None:
                raise InvalidParameters("sctp_stream_parameters are required on this transport")
            stream = ortc.validate_sctp_stream_parameters(sctp_stream_parameters)
        body = produce_data_body(new_id(id), self._data_type, stream, label=label, protocol=protocol, paused=paused)
        data_producer, _ = await self.make_data_producer(body, app_data)
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
        """Create a data consumer: send a data producer of the same router to the endpoint.

        Args:
            data_producer_id: Of the producer.
            ordered: Whether messages keep their order; None: as the data producer's stream.
            max_packet_life_time: Milliseconds after which a message is not sent any more; makes the stream unordered.
            max_retransmits: How often a message is retransmitted; makes the stream unordered.
            id: Of the data consumer; None: a new UUID4.
            paused: Whether it starts paused.
            subchannels: Its subchannels; empty: only messages without subchannels.
            app_data: The application's own.

        Raises:
            NotFound: The router has no such data producer.
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is in use.
            WorkerRequestFailed: The transport has no SCTP, or no stream is free.
        """
        self._check_open()
        data_producer = self._router_context.data_producers.require(data_producer_id)
        stream_id: int | None = None
        stream: JsonObject | None = None
        data_consumer_id, chosen_subchannels = new_id(id), check_list(subchannels, "subchannels")
        if self.type != "direct":
            stream_id = self._stream_ids.take()
            stream = stream_parameters(data_producer, stream_id, ordered, max_packet_life_time, max_retransmits)
        body = consume_data_body(
            data_consumer_id, data_producer, self._data_type, stream, paused=paused, subchannels=chosen_subchannels
        )
        try:
            data_consumer, _ = await self.make_data_consumer(body, data_producer, app_data)
        except BaseException:
            if stream_id is not None:
                self._stream_ids.give_back(stream_id)
            raise
        return data_consumer

    @property
    def _data_type(self) -> DataType:
        return "direct" if self.type == "direct" else "sctp"

    def _map(
        self, kind: MediaKind, parameters: RtpParameters, given: RtpMapping | None, ssrcs: Sequence[int] | None
    ) -> tuple[RtpMapping, RtpParameters]:
        """A producer's mapping and its consumable RTP parameters."""
        if given is None:
            capabilities = self._router_context.rtp_capabilities
            mapping = ortc.get_producer_rtp_parameters_mapping(parameters, capabilities)
        else:
            capabilities = ortc.capabilities_of_mapping(kind, parameters, given)
            mapping = given
        if ssrcs is not None:
            mapping = with_mapped_ssrcs(mapping, ssrcs)
        return mapping, ortc.get_consumable_rtp_parameters(kind, parameters, capabilities, mapping)

    def _with_cname(self, parameters: RtpParameters) -> RtpParameters:
        """Add what the worker requires: encodings, and a CNAME, one per transport, on a pipe one per producer."""
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
