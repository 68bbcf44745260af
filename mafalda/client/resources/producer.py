"""Producers: a track of the application is sent into the room, wherever the peer is placed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from aiortc import MediaStreamTrack

from mafalda.client.resources.reconnecting import ReconnectingProducer
from mafalda.client.resources.settings import ResourceSettings
from mafalda.client.session.session import Session
from mafalda.client.session.view import ProducerChange
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.client.webrtc.statistics import StreamReport
from mafalda.client.webrtc.transport import ProducerOptions
from mafalda.contract.messages.intents import CloseProducer, PauseProducer, ResumeProducer
from mafalda.contract.messages.results import Done
from mafalda.contract.messages.statistics import Way
from mafalda.media.rtp import MediaKind


class Producer(ReconnectingProducer):
    """Made by ``room.produce``. It has the same id at every placement."""

    stats_target: Literal["producer"] = "producer"

    def __init__(self, session: Session, track: MediaStreamTrack, options: ProducerOptions, codec: str | None) -> None:
        super().__init__(session, f"producer-{options.id}")
        self._track = track
        self._options = options
        self._codec = codec
        self._settings = ResourceSettings(self._send_setting, paused=options.paused)
        self._local: Any = None

    @property
    def id(self) -> str:
        return self._options.id

    @property
    def kind(self) -> str:
        """``audio`` or ``video``."""
        return str(self._track.kind)

    @property
    def track(self) -> MediaStreamTrack:
        """The application's track. The SDK never stops it."""
        return self._track

    @property
    def paused(self) -> bool:
        return bool(self._settings.wanted["paused"])

    async def pause(self) -> None:
        """Send nothing until ``resume``; consumers are notified.

        It holds at once here, and whatever happens it is requested until the server has it: an error only says that
        this is not so yet, unless it is a refusal.
        """
        await self._set_paused(True)

    async def resume(self) -> None:
        """Send again."""
        await self._set_paused(False)

    async def _set_paused(self, paused: bool) -> None:
        self._check()
        self._settings.want("paused", paused)
        self._pause_here()
        await self._apply(self._settings)

    async def _send_setting(self, _: str, paused: bool) -> None:
        intent = PauseProducer(producer=self.id) if paused else ResumeProducer(producer=self.id)
        await self._session.requests.request(intent, Done)

    async def _open_at(self, endpoint: Endpoint) -> None:
        options = dataclasses.replace(self._options, paused=self.paused)
        former = self._local
        self._transport, self._local = await endpoint.produce(self._track, options, self._codec)
        if former is not None:
            former.track.stop()
        self._local.track.start()
        self._settings.opened({"paused": options.paused})
        self._pause_here()

    async def _keep_settings(self) -> None:
        await self._settings.keep_applied()

    async def measure(self, way: Way) -> StreamReport | None:
        if way != "up" or not self.is_open or self._transport is None:
            return None
        stats = await self._transport.statistics(self._local)
        kind: MediaKind = "audio" if self._track.kind == "audio" else "video"
        return None if stats is None else StreamReport(self.id, kind, stats)

    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        if changes.get(self.id) in ("paused", "resumed"):
            self._settings.observed("paused", changes[self.id] == "paused")
        super().on_producer_changes(changes)

    def _pause_here(self) -> None:
        """Send what the application wants to be sent, whatever the server knows of it already."""
        if self._local is not None:
            self._local.track.paused = self.paused

    async def _close_here(self) -> None:
        if self._transport is not None:
            await self._transport.stop_producer(self._local)

    def _closing(self) -> CloseProducer:
        return CloseProducer(producer=self.id)

    def _ended(self) -> None:
        if self._local is not None:
            self._local.track.stop()  # the proxy: nothing more is sent
