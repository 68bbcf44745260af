"""A WebRTC server: one or a few ports that many WebRTC transports share.

What does not belong here: the transports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.objects.entity import CloseCause, Entity, JsonObject
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport


class WebRtcServer(Entity):
    """Made by ``worker.create_webrtc_server``."""

    TRANSPORT_HANDLED: ClassVar = Event[WebRtcTransport]("webrtctransporthandled")
    TRANSPORT_UNHANDLED: ClassVar = Event[WebRtcTransport]("webrtctransportunhandled")
    WORKER_CLOSE: ClassVar = Event[None]("workerclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
    ) -> None:
        super().__init__(channel, id, app_data, forget)
        self._transports: dict[str, WebRtcTransport] = {}

    @property
    def transports(self) -> Mapping[str, WebRtcTransport]:
        """The open transports that listen on it, by id."""
        return self._transports

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("WEBRTCSERVER_DUMP")

    def _handle(self, transport: WebRtcTransport) -> None:
        """A transport was made that listens on it."""
        self._transports[transport.id] = transport
        transport.on(transport.CLOSE, lambda _: self._unhandle(transport))
        self._emit(self.TRANSPORT_HANDLED, transport)

    def _unhandle(self, transport: WebRtcTransport) -> None:
        if self._transports.pop(transport.id, None) is not None:
            self._emit(self.TRANSPORT_UNHANDLED, transport)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        return [(transport, "listenserverclose") for transport in self._transports.values()]

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": self._id}
