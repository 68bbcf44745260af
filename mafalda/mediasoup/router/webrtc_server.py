"""A WebRTC server: one or a few ports that many WebRTC transports of a worker share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from mafalda.mediasoup.base.entity import CloseCause, Entity, EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport


class WebRtcServer(Entity):
    """Created by ``worker.create_webrtc_server``."""

    TRANSPORT_HANDLED: ClassVar = Event[WebRtcTransport]("webrtctransporthandled")
    TRANSPORT_UNHANDLED: ClassVar = Event[WebRtcTransport]("webrtctransportunhandled")
    WORKER_CLOSE: ClassVar = Event[None]("workerclose")

    CLOSE_METHOD = "WORKER_WEBRTCSERVER_CLOSE"
    ID_KEY = "webRtcServerId"

    def __init__(self, context: EntityContext) -> None:
        super().__init__(context)
        self._transports: dict[str, WebRtcTransport] = {}

    @property
    def transports(self) -> Mapping[str, WebRtcTransport]:
        """The open transports that listen on it, by id."""
        return self._transports

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("WEBRTCSERVER_DUMP")

    def handle_transport(self, transport: WebRtcTransport) -> None:
        """For the driver: add a new transport that listens on it, until that closes."""
        self._transports[transport.id] = transport
        transport.on(transport.CLOSE, lambda _: self._unhandle_transport(transport))
        self._emit(self.TRANSPORT_HANDLED, transport)

    def _unhandle_transport(self, transport: WebRtcTransport) -> None:
        if self._transports.pop(transport.id, None) is not None:
            self._emit(self.TRANSPORT_UNHANDLED, transport)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        return [(transport, "listenserverclose") for transport in self._transports.values()]
