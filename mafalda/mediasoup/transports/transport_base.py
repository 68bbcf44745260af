"""What all transports have in common but negotiation: state, statistics, bitrates, their producers and consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from mafalda.media.rtp import RtpMapping, RtpParameters, SctpParameters
from mafalda.mediasoup.base.checks import check_trace_types
from mafalda.mediasoup.base.entity import CloseCause, Entity, EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.consumer import Consumer
from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.transports.bodies import mapped_ssrcs_of
from mafalda.mediasoup.transports.stream_ids import StreamIds

SctpState = Literal["new", "connecting", "connected", "failed", "closed"]
TransportType = Literal["webrtc", "plain", "pipe", "direct"]
TRACE_TYPES = frozenset({"probation", "bwe"})

E = TypeVar("E", bound=Entity)


class TransportBase(Entity):
    """The state of a transport, and its producers and consumers."""

    TRACE: ClassVar = Event[JsonObject]("trace")
    SCTP_STATE_CHANGE: ClassVar = Event[SctpState]("sctpstatechange")
    NEW_PRODUCER: ClassVar = Event[Producer]("newproducer")
    NEW_CONSUMER: ClassVar = Event[Consumer]("newconsumer")
    NEW_DATA_PRODUCER: ClassVar = Event[DataProducer]("newdataproducer")
    NEW_DATA_CONSUMER: ClassVar = Event[DataConsumer]("newdataconsumer")
    ROUTER_CLOSE: ClassVar = Event[None]("routerclose")

    CLOSE_METHOD = "ROUTER_CLOSE_TRANSPORT"
    ID_KEY = "transportId"

    type: ClassVar[TransportType]
    _stats_type: ClassVar[str]

    def __init__(self, context: EntityContext, router_context: RouterContext, dump: JsonObject) -> None:
        super().__init__(context)
        self._router_context = router_context
        self._producers: dict[str, Producer] = {}
        self._consumers: dict[str, Consumer] = {}
        self._data_producers: dict[str, DataProducer] = {}
        self._data_consumers: dict[str, DataConsumer] = {}
        self._stream_ids = StreamIds()
        sctp = dump.get("sctpParameters")
        self.sctp_parameters = SctpParameters.model_validate(sctp) if sctp is not None else None
        self._sctp_state: SctpState | None = dump.get("sctpState")
        self._sctp_negotiated: JsonObject | None = None

    @property
    def router_context(self) -> RouterContext:
        """For the driver: what its router shares with it."""
        return self._router_context

    @property
    def sctp_state(self) -> SctpState | None:
        """State of the SCTP association; None without SCTP."""
        return self._sctp_state

    @property
    def sctp_negotiated_capabilities(self) -> JsonObject | None:
        """Numbers of streams that both sides negotiated; None until then."""
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
        """Limit the bitrate that the endpoint is asked to send, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MAX_INCOMING_BITRATE", {"maxIncomingBitrate": bitrate})

    async def set_max_outgoing_bitrate(self, bitrate: int) -> None:
        """Limit the estimated outgoing bandwidth, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MAX_OUTGOING_BITRATE", {"maxOutgoingBitrate": bitrate})

    async def set_min_outgoing_bitrate(self, bitrate: int) -> None:
        """Never estimate less outgoing bandwidth than this, in bits per second; 0: no limit."""
        await self._request("TRANSPORT_SET_MIN_OUTGOING_BITRATE", {"minOutgoingBitrate": bitrate})

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; without types, never."""
        await self._request("TRANSPORT_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    async def make_producer(
        self,
        body: Mapping[str, Any],
        *,
        rtp_parameters: RtpParameters,
        consumable_rtp_parameters: RtpParameters,
        given_mapping: RtpMapping | None,
        app_data: Mapping[str, Any] | None = None,
    ) -> tuple[Producer, JsonObject]:
        """For the driver: create a producer with the body of ``TRANSPORT_PRODUCE``.

        Args:
            body: Its ``producerId`` is the public id.
            rtp_parameters: Those in ``body``.
            consumable_rtp_parameters: What consumers are negotiated from.
            given_mapping: The mapping in ``body``, if it was not computed from the router's capabilities.
            app_data: The application's own.

        Returns:
            The producer, and the worker's answer.

        Raises:
            AlreadyExists: The id is in use.
            ObjectClosed: The transport closed meanwhile.
        """
        context = self._child_context(body["producerId"], self._forget_producer, app_data, scoped=True)
        answer = await self._request_child(
            Producer, "TRANSPORT_PRODUCE", context.id, {**body, "producerId": context.id}
        )
        producer = Producer(
            context,
            kind=body["kind"],
            type=answer["type"],
            rtp_parameters=rtp_parameters,
            consumable_rtp_parameters=consumable_rtp_parameters,
            paused=bool(body.get("paused")),
            given_mapping=given_mapping,
        )
        self._router_context.producers.add(producer)
        self._adopt(producer, self._producers, self.NEW_PRODUCER)
        return producer, answer

    async def make_consumer(
        self,
        body: Mapping[str, Any],
        producer: Producer,
        rtp_parameters: RtpParameters,
        app_data: Mapping[str, Any] | None = None,
    ) -> tuple[Consumer, JsonObject]:
        """For the driver: create a consumer of ``producer`` with the body of ``TRANSPORT_CONSUME``.

        Returns:
            The consumer, and the worker's answer.
        """
        context = self._child_context(body["consumerId"], self._forget_consumer, app_data)
        answer = await self._request_child(
            Consumer, "TRANSPORT_CONSUME", context.id, {**body, "producerId": producer.channel_id}
        )
        consumer = Consumer(
            context,
            answer,
            producer_id=producer.id,
            kind=producer.kind,
            type=body["type"],
            rtp_parameters=rtp_parameters,
            mapped_ssrcs=mapped_ssrcs_of(producer.consumable_rtp_parameters),
        )
        self._adopt(consumer, self._consumers, self.NEW_CONSUMER)
        return consumer, answer

    async def make_data_producer(
        self, body: Mapping[str, Any], app_data: Mapping[str, Any] | None = None
    ) -> tuple[DataProducer, JsonObject]:
        """For the driver: create a data producer with the body of ``TRANSPORT_PRODUCE_DATA``.

        Returns:
            The data producer, and the worker's answer.
        """
        id = body["dataProducerId"]
        context = self._child_context(id, self._forget_data_producer, app_data, scoped=True)
        answer = await self._request_child(
            DataProducer, "TRANSPORT_PRODUCE_DATA", context.id, {**body, "dataProducerId": context.id}
        )
        data_producer = DataProducer(context, answer, paused=bool(body.get("paused")))
        self._router_context.data_producers.add(data_producer)
        self._adopt(data_producer, self._data_producers, self.NEW_DATA_PRODUCER)
        return data_producer, answer

    async def make_data_consumer(
        self, body: Mapping[str, Any], data_producer: DataProducer, app_data: Mapping[str, Any] | None = None
    ) -> tuple[DataConsumer, JsonObject]:
        """For the driver: create a data consumer of ``data_producer`` with the body of ``TRANSPORT_CONSUME_DATA``.

        Returns:
            The data consumer, and the worker's answer.
        """
        context = self._child_context(body["dataConsumerId"], self._forget_data_consumer, app_data)
        answer = await self._request_child(
            DataConsumer, "TRANSPORT_CONSUME_DATA", context.id, {**body, "dataProducerId": data_producer.channel_id}
        )
        data_consumer = DataConsumer(context, answer, data_producer_id=data_producer.id)
        self._adopt(data_consumer, self._data_consumers, self.NEW_DATA_CONSUMER)
        return data_consumer, answer

    def _child_context(
        self, id: str, on_end: Callable[[Any], None], app_data: Mapping[str, Any] | None, *, scoped: bool = False
    ) -> EntityContext:
        channel_id = self._router_context.scoped(id) if scoped else id
        return EntityContext(self._channel, self._id, channel_id, on_end, app_data, id)

    def _adopt(self, child: E, children: dict[str, E], event: Event[E]) -> None:
        children[child.id] = child
        child.receive_notifications()
        self._emit(event, child)

    def _forget_producer(self, producer: Producer) -> None:
        self._producers.pop(producer.id, None)
        self._router_context.producers.remove(producer)

    def _forget_consumer(self, consumer: Consumer) -> None:
        self._consumers.pop(consumer.id, None)

    def _forget_data_producer(self, data_producer: DataProducer) -> None:
        self._data_producers.pop(data_producer.id, None)
        self._router_context.data_producers.remove(data_producer)

    def _forget_data_consumer(self, data_consumer: DataConsumer) -> None:
        self._data_consumers.pop(data_consumer.id, None)
        if data_consumer.sctp_stream_parameters is not None:
            self._stream_ids.give_back(data_consumer.sctp_stream_parameters.stream_id)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        for children in (self._producers, self._consumers, self._data_producers, self._data_consumers):
            for child in children.values():
                yield child, "transportclose"

    def _before_end_events(self) -> None:
        if self._sctp_state is not None:
            self._sctp_state = "closed"

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
