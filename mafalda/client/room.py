"""A room that the application has joined: who and what is there, and how to send and receive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from aiortc import MediaStreamTrack

from mafalda.client.events import EventStream
from mafalda.client.resources.consumer import Consumer
from mafalda.client.resources.data import DataConsumer, DataProducer
from mafalda.client.resources.producer import Producer
from mafalda.client.resources.subscription import Subscription
from mafalda.client.session.session import Session
from mafalda.client.webrtc.endpoint import new_id
from mafalda.client.webrtc.transport import ProducerOptions
from mafalda.contract.ids import check_id
from mafalda.contract.messages.events import DataProducerOpened, ProducerOpened
from mafalda.contract.messages.queries import DataProducerInfo, PeerInfo, ProducerInfo, QueryRoom, RoomSnapshot, Speaker
from mafalda.contract.messages.results import JoinResult
from mafalda.contract.messages.subscriptions import ProducerSelector
from mafalda.errors import Closed
from mafalda.media.rtp import ConsumerLayers


class Room:
    """Made by ``client.join``. Everything here goes on when the peer, or another one, gets another place."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- state -----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._session.requests.room

    @property
    def peer(self) -> str:
        """The id of the application's own peer."""
        return self._session.requests.peer

    @property
    def server(self) -> str:
        """The server where the peer is placed now."""
        return self._placement.server

    @property
    def worker(self) -> str:
        """The worker where the peer is placed now."""
        return self._placement.worker

    @property
    def generation(self) -> int:
        """The number of the placement; it grows with each new place."""
        return self._placement.generation

    @property
    def connected(self) -> bool:
        """Whether the peer has a place; not while reconnecting."""
        return self._session.has_endpoint and not self._session.is_reconnecting

    @property
    def peers(self) -> Mapping[str, PeerInfo]:
        """The room's peers by id, including the own one, but without the audience."""
        return dict(self._session.view.peers)

    @property
    def producers(self) -> Mapping[str, ProducerInfo]:
        """The room's audio and video producers by id, including the peer's own."""
        known = self._session.view.producers
        return {key: info for key, info in known.items() if isinstance(info, ProducerInfo)}

    @property
    def data_producers(self) -> Mapping[str, DataProducerInfo]:
        """The room's data producers by id, including the peer's own."""
        known = self._session.view.producers
        return {key: info for key, info in known.items() if isinstance(info, DataProducerInfo)}

    async def audience_count(self) -> int:
        """How many peers are audience now; asked of the peer's agent.

        Raises:
            MafaldaError: Its agent does not answer.
        """
        return (await self._session.requests.query(QueryRoom(audience=True), RoomSnapshot)).audience

    async def audience(self) -> AsyncGenerator[PeerInfo, None]:
        """The peers of the audience, by id, page by page; asked of the peer's agent.

        Raises:
            MafaldaError: Its agent does not answer.
        """
        after: str | None = None
        while True:
            page = await self._session.requests.query(QueryRoom(audience=True, after=after), RoomSnapshot)
            for peer in page.peers:
                yield peer
            if page.next is None:
                return
            after = page.next

    @property
    def _placement(self) -> JoinResult:
        if self._session.placement is None:
            raise Closed("this room was never joined")
        return self._session.placement

    async def set_audience(self, audience: bool) -> None:
        """Become one of the audience, which closes what this peer sends, or stop being one, to be able to send.

        Raises:
            MafaldaError: It was not done.
        """
        await self._session.set_audience(audience)

    # --- events --------------------------------------------------------------------------------------

    def events(self) -> EventStream:
        """The room's events from this call on, none missed: ``peers`` and ``producers`` show the room before them.

        The contract's room events in log order, and the SDK's own ``Reconnecting``, ``Reconnected``, ``GaveUp``.
        """
        return self._session.fanout.stream()

    def speakers(self) -> AsyncGenerator[list[Speaker], None]:
        """Who speaks in the room, loudest first, this peer included: now, and at each change until the room is left.

        The fleet measures it on all its workers; nothing needs to be received here.
        """
        return self._session.speakers.changes()

    async def arrivals(self) -> AsyncGenerator[ProducerInfo | DataProducerInfo, None]:
        """Every producer of others: those that are here, then each new one.

        One that comes back after its worker died is not new if the peer has a consumer of it, which follows it.
        """
        events = self.events()
        for info in [info for info in self._session.view.producers.values() if info.peer != self.peer]:
            yield info
        async for event in events:
            if not isinstance(event, ProducerOpened | DataProducerOpened) or event.peer == self.peer:
                continue
            key = event.producer if isinstance(event, ProducerOpened) else event.data_producer
            opened = self._session.view.producers.get(key)
            if opened is not None and not self._session.follows(key):
                yield opened

    async def wait_for_producer(self, *, peer: str | None = None, kind: str | None = None) -> ProducerInfo:
        """The first audio or video producer of others that fits, now or as soon as there is one."""
        async with aclosing(self.arrivals()) as arrivals:
            async for info in arrivals:
                if isinstance(info, ProducerInfo) and peer in (None, info.peer) and kind in (None, info.media_kind):
                    return info
        raise Closed("the room was left")

    # --- sending -------------------------------------------------------------------------------------------

    async def produce(
        self,
        track: MediaStreamTrack,
        *,
        id: str | None = None,
        codec: str | None = None,
        paused: bool = False,
        app_data: dict[str, Any] | None = None,
    ) -> Producer:
        """Send a track into the room.

        Args:
            track: aiortc's. It is never stopped by the SDK: whoever made it stops it.
            id: The producer's id; random if not given.
            codec: Such as ``VP8``, ``H264``, ``opus``; ``None`` is the first that the router prefers.
            paused: Begin paused.
            app_data: For the other peers.

        Raises:
            UnsupportedError: No such codec on both sides.
            AlreadyExists: The room has a producer of this id.
            Broken: It did not work; a later try may.
        """
        options = ProducerOptions(check_id("producer", id or new_id(track.kind)), paused, app_data or {})
        return await Producer(self._session, track, options, codec).start()

    async def produce_data(
        self,
        *,
        label: str = "",
        protocol: str = "",
        ordered: bool = True,
        max_packet_life_time_ms: int | None = None,
        max_retransmits: int | None = None,
        id: str | None = None,
        app_data: dict[str, Any] | None = None,
    ) -> DataProducer:
        """Open a data channel into the room. At most one of the two limits; with one it is unordered."""
        options = ProducerOptions(check_id("data producer", id or new_id("data")), False, app_data or {})
        reliability = {
            "ordered": ordered and max_packet_life_time_ms is None and max_retransmits is None,
            "maxPacketLifeTime": max_packet_life_time_ms,
            "maxRetransmits": max_retransmits,
        }
        made = DataProducer(self._session, options, label=label, protocol=protocol, reliability=reliability)
        return await made.start()

    # --- receiving -----------------------------------------------------------------------------------------

    async def consume(
        self, producer: str, *, paused: bool = False, preferred_layers: tuple[int, int | None] | None = None
    ) -> Consumer:
        """Receive a producer, wherever it is; its frames come from ``consumer.track``.

        Args:
            producer: Its id.
            paused: Begin paused.
            preferred_layers: The highest spatial and temporal layer to get, of simulcast or SVC.

        Raises:
            NotFound: There is no such producer.
            CannotConsume: The client has no codec for it.
            RelayUnavailable: It could not be relayed to the peer's worker.
        """
        layers = None
        if preferred_layers is not None:
            layers = ConsumerLayers(spatial_layer=preferred_layers[0], temporal_layer=preferred_layers[1])
        consumer = Consumer(self._session, check_id("producer", producer), paused=paused, layers=layers)
        return await consumer.start()

    async def subscribe(
        self,
        *select: ProducerSelector,
        paused: bool = False,
        preferred_layers: tuple[int, int | None] | None = None,
        loudest: int | None = None,
    ) -> Subscription:
        """Receive every producer of others that fits: those that are here, and those that come.

        Iterate what is returned for the consumers. The peer's agent makes them, so that a large room needs one request.

        Args:
            select: Such as ``ProducerSelector(kind="audio")`` or ``ProducerSelector(peer="ana")``; the last that fits a
                producer decides. None: everything.
            paused: Its consumers begin paused.
            preferred_layers: The highest spatial and temporal layer to get, of simulcast or SVC.
            loudest: Of the audio only so many producers flow, the loudest of the room, and those that a selector names.
        """
        layers = None
        if preferred_layers is not None:
            layers = ConsumerLayers(spatial_layer=preferred_layers[0], temporal_layer=preferred_layers[1])
        wanted = select or (ProducerSelector(),)
        return await Subscription(self._session, wanted, paused=paused, layers=layers, loudest=loudest).start()

    async def consume_data(self, data_producer: str) -> DataConsumer:
        """Receive a data producer; iterate over what is returned. Messages sent before this returns are not seen."""
        return await DataConsumer(self._session, check_id("data producer", data_producer)).start()
