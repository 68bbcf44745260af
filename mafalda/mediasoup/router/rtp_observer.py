"""What both RTP observers have in common: they observe producers of their router."""

from __future__ import annotations

from typing import ClassVar, Literal

from mafalda.mediasoup.base.entity import EntityContext
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.pausable import Pausable
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.endpoints.router_context import RouterContext


class RtpObserver(Pausable):
    """Base of ActiveSpeakerObserver and AudioLevelObserver."""

    ADD_PRODUCER: ClassVar = Event[Producer]("addproducer")
    REMOVE_PRODUCER: ClassVar = Event[Producer]("removeproducer")
    ROUTER_CLOSE: ClassVar = Event[None]("routerclose")

    CLOSE_METHOD = "ROUTER_CLOSE_RTPOBSERVER"
    ID_KEY = "rtpObserverId"
    PAUSE_METHOD = "RTPOBSERVER_PAUSE"
    RESUME_METHOD = "RTPOBSERVER_RESUME"

    type: ClassVar[Literal["activespeaker", "audiolevel"]]

    def __init__(self, context: EntityContext, router_context: RouterContext) -> None:
        super().__init__(context, paused=False)
        self._router_context = router_context

    async def add_producer(self, *, producer_id: str) -> None:
        """Observe one more producer of the router.

        Raises:
            NotFound: The router has no such producer.
        """
        await self._change(producer_id, "RTPOBSERVER_ADD_PRODUCER", self.ADD_PRODUCER)

    async def remove_producer(self, *, producer_id: str) -> None:
        """Stop observing a producer.

        Raises:
            NotFound: The router has no such producer.
        """
        await self._change(producer_id, "RTPOBSERVER_REMOVE_PRODUCER", self.REMOVE_PRODUCER)

    async def _change(self, producer_id: str, method: str, event: Event[Producer]) -> None:
        producer = self._router_context.producers.require(producer_id)
        await self._request(method, {"producerId": producer.channel_id})
        self._emit(event, producer)
