"""Consumers: a producer of the room is received, wherever it and the peer are placed."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

from mafalda.aio.events import wait_first
from mafalda.client.resources.reconnecting import ConsumerSource, ReconnectingConsumer
from mafalda.client.resources.settings import ResourceSettings
from mafalda.client.session.session import Session
from mafalda.client.webrtc.endpoint import Endpoint, new_id
from mafalda.client.webrtc.statistics import StreamReport
from mafalda.client.webrtc.tracks import IncomingTrack
from mafalda.client.webrtc.transport import ClientTransport
from mafalda.contract.messages.intents import (
    CloseConsumer,
    Intent,
    PauseConsumer,
    RequestKeyFrame,
    ResumeConsumer,
    SetPreferredLayers,
    SetPriority,
)
from mafalda.contract.messages.queries import ProducerInfo
from mafalda.contract.messages.results import ConsumeResult, Done
from mafalda.contract.messages.statistics import Way
from mafalda.errors import Closed
from mafalda.media.rtp import ConsumerLayers, MediaKind


class _Former(NamedTuple):
    """A receiver whose frames are taken until those of the next one come."""

    pump: asyncio.Task[None]
    transport: ClientTransport
    local: Any
    endpoint: Endpoint


class Consumer(ReconnectingConsumer):
    """Made by ``room.consume``. ``track`` goes on when the peer or the producer gets another place.

    ``id`` is a new one each time it is opened.
    """

    stats_target: Literal["consumer"] = "consumer"

    def __init__(
        self,
        session: Session,
        producer: str,
        *,
        paused: bool,
        layers: ConsumerLayers | None,
        source: ConsumerSource | None = None,
    ) -> None:
        super().__init__(session, f"consumer-of-{producer}", producer, source)
        self._id = new_id("consumer")
        self._source_layers = layers  # with which a subscription's consumers are made
        self._settings = ResourceSettings(self._send_setting, paused=paused, layers=layers, priority=None)
        self._track: IncomingTrack | None = None
        self._result: ConsumeResult | None = None
        self._local: Any = None
        self._pump: asyncio.Task[None] | None = None
        self._former: list[_Former] = []
        self._has_media = asyncio.Event()

    @property
    def id(self) -> str:
        return self._id

    @property
    def track(self) -> IncomingTrack:
        """Decoded frames. It ends when the consumer is closed, not before."""
        if self._track is None:
            raise Closed("this consumer was never open")
        return self._track

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""
        return str(self.track.kind)

    @property
    def paused(self) -> bool:
        """Whether the application paused it. See ``producer_paused`` for the other end."""
        return bool(self._settings.wanted["paused"])

    @property
    def producer_paused(self) -> bool:
        """Whether its producer is paused, or closed for the moment."""
        info = self._session.view.producers.get(self.producer_id)
        return info.paused if isinstance(info, ProducerInfo) else True

    @property
    def relayed(self) -> bool:
        """Whether the producer is on another worker than the peer."""
        return self._result is not None and self._result.relayed

    async def measure(self, way: Way) -> StreamReport | None:
        if way != "down" or not self.is_open or self._transport is None:
            return None
        stats = await self._transport.statistics(self._local)
        kind: MediaKind = "audio" if self.kind == "audio" else "video"
        return None if stats is None else StreamReport(self.producer_id, kind, stats)

    async def pause(self) -> None:
        """Receive nothing until ``resume``."""
        await self._set("paused", True)

    async def resume(self) -> None:
        """Receive again."""
        await self._set("paused", False)

    async def set_preferred_layers(self, spatial: int, temporal: int | None = None) -> None:
        """Choose the highest simulcast or SVC layers to get, each from 0; they hold at every place."""
        await self._set("layers", ConsumerLayers(spatial_layer=spatial, temporal_layer=temporal))

    async def set_priority(self, priority: int) -> None:
        """Which of the peer's consumers gets bitrate first: 1 to 255; it holds at every place."""
        await self._set("priority", SetPriority(consumer=self._id, priority=priority).priority)

    async def request_key_frame(self) -> None:
        """Ask the producer for a picture that needs no earlier one."""
        self._check()
        await self._session.requests.request(RequestKeyFrame(consumer=self._id), Done)

    async def _set(self, name: str, value: Any) -> None:
        self._check()
        self._settings.want(name, value)
        await self._apply(self._settings, name)

    async def _send_setting(self, name: str, value: Any) -> None:
        intent: Intent
        match name:
            case "paused":
                intent = PauseConsumer(consumer=self._id) if value else ResumeConsumer(consumer=self._id)
            case "layers":
                intent = SetPreferredLayers(
                    consumer=self._id, spatial_layer=value.spatial_layer, temporal_layer=value.temporal_layer
                )
            case _:
                intent = SetPriority(consumer=self._id, priority=value)
        await self._session.requests.request(intent, Done)

    async def _keep_settings(self) -> None:
        await self._settings.keep_applied()

    def _expects_media(self) -> bool:
        producer = self._session.view.producers.get(self.producer_id)
        return not self.paused and isinstance(producer, ProducerInfo) and not producer.paused

    async def _open_at(self, endpoint: Endpoint) -> None:
        await self._wait_for_producer()
        opened_with = {**self._settings.wanted, "priority": None}
        if self._source is None:
            self._id = new_id("consumer")
            self._transport, self._local, self._result = await endpoint.consume(
                self._id, self.producer_id, paused=opened_with["paused"], layers=opened_with["layers"]
            )
        else:
            self._result = await self._source.media(self.producer_id, endpoint)
            self._id = self._result.consumer
            opened_with["layers"] = self._source_layers
            self._transport, self._local = await endpoint.attach(self._result, paused=opened_with["paused"])
        self._settings.opened(opened_with)
        if self._track is None:
            self._track = IncomingTrack(self._result.media_kind, self._session.config.max_queued_frames)
        self._has_media.clear()
        self._pump = self._session.tasks.spawn(self._track.pump(self._local.track, self._switch), f"pump-{self._id}")

    async def _leave(self, endpoint: Endpoint) -> None:
        """Keep the former receiver's frames until the first one of the next receiver comes."""
        if self._pump is not None and self._transport is not None:
            self._former.append(_Former(self._pump, self._transport, self._local, endpoint))
        self._pump = self._transport = self._local = None

    def _switch(self) -> None:
        """The first frame of the present receiver is here."""
        self._has_media.set()
        self._end_former()

    def _end_former(self) -> None:
        former, self._former = self._former, []
        for receiver in former:
            receiver.pump.cancel()
            if not receiver.endpoint.gone.is_set():
                self._session.tasks.spawn(receiver.transport.stop_consumer(receiver.local), f"stop-{self._name}")

    async def wait_media(self) -> None:
        """Wait until the present receiver has given a frame, or the consumer is closed for good."""
        await wait_first(self._has_media, self._over)

    async def _close_here(self) -> None:
        self._cancel_pumps()
        if self._transport is not None:
            await self._transport.stop_consumer(self._local)

    def _cancel_pumps(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._end_former()

    def _closing(self) -> Intent:
        return CloseConsumer(consumer=self._id)

    def _ended(self) -> None:
        self._cancel_pumps()
        if self._track is not None:
            self._track.stop()
