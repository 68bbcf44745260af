"""A direct transport: RTP, RTCP and messages between this process and the router, over the worker's channel."""

from __future__ import annotations

from typing import ClassVar

from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.errors import UnsupportedError
from mafalda.mediasoup.transports.transport import Transport


class DirectTransport(Transport):
    """Created by ``router.create_direct_transport``."""

    RTCP: ClassVar = Event[bytes]("rtcp")

    type = "direct"
    _stats_type = "direct-transport"

    async def connect(self) -> None:
        """Do nothing: a direct transport is connected from the start."""
        self._check_open()

    async def set_max_incoming_bitrate(self, bitrate: int) -> None:
        """Refused: a direct transport has no bitrate limits.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a direct transport has no bitrate limits")

    async def set_max_outgoing_bitrate(self, bitrate: int) -> None:
        """Refused: a direct transport has no bitrate limits.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a direct transport has no bitrate limits")

    async def set_min_outgoing_bitrate(self, bitrate: int) -> None:
        """Refused: a direct transport has no bitrate limits.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a direct transport has no bitrate limits")

    def send_rtcp(self, rtcp_packet: bytes) -> None:
        """Send an RTCP packet into the router.

        Raises:
            InvalidParameters: It is not bytes.
        """
        self._check_open()
        self._channel.notify("TRANSPORT_SEND_RTCP", self._id, {"data": rtcp_packet})

    def _on_notification(self, event: str, body: JsonObject) -> None:
        if event == "DIRECTTRANSPORT_RTCP":
            self._emit(self.RTCP, body["data"])
        else:
            super()._on_notification(event, body)
