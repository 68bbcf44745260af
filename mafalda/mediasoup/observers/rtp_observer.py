"""What both RTP observers have in common: they watch producers of their router.

What does not belong here: what they see (``active_speaker_observer``, ``audio_level_observer``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.objects.entity import Entity, JsonObject
from mafalda.mediasoup.objects.events import Event

if TYPE_CHECKING:
    from mafalda.mediasoup.objects.router import Router


class RtpObserver(Entity):
    """Base of ActiveSpeakerObserver and AudioLevelObserver."""

    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")
    ADD_PRODUCER: ClassVar = Event[Producer]("addproducer")
    REMOVE_PRODUCER: ClassVar = Event[Producer]("removeproducer")
    ROUTER_CLOSE: ClassVar = Event[None]("routerclose")

    type: ClassVar[Literal["activespeaker", "audiolevel"]]

    def __init__(self, channel: Channel, id: str, app_data: Mapping[str, Any] | None, router: Router) -> None:
        super().__init__(channel, id, app_data, router._forget_rtp_observer)
        self._router = router
        self._paused = False

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

    async def pause(self) -> None:
        """Stop observing."""
        await self._request("RTPOBSERVER_PAUSE")
        was_paused, self._paused = self._paused, True
        if not was_paused:
            self._emit(self.PAUSE)

    async def resume(self) -> None:
        """Observe again."""
        await self._request("RTPOBSERVER_RESUME")
        was_paused, self._paused = self._paused, False
        if was_paused:
            self._emit(self.RESUME)

    async def add_producer(self, *, producer_id: str) -> None:
        """Observe a producer of the router too.

        Raises:
            NotFound: The router has no such producer.
        """
        producer = self._router.require_producer(producer_id)
        await self._request("RTPOBSERVER_ADD_PRODUCER", {"producerId": producer.channel_id})
        self._emit(self.ADD_PRODUCER, producer)

    async def remove_producer(self, *, producer_id: str) -> None:
        """Observe it no more.

        Raises:
            NotFound: The router has no such producer.
        """
        producer = self._router.require_producer(producer_id)
        await self._request("RTPOBSERVER_REMOVE_PRODUCER", {"producerId": producer.channel_id})
        self._emit(self.REMOVE_PRODUCER, producer)

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "ROUTER_CLOSE_RTPOBSERVER", self._router.id, {"rtpObserverId": self._id}
