"""A direct transport: RTP, RTCP and messages between this process and the router, over the channel.

What does not belong here: what all transports do (``transport``).
"""

from __future__ import annotations

from typing import ClassVar

from mafalda.mediasoup.errors import UnsupportedError
from mafalda.mediasoup.objects.entity import JsonObject
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.transports.transport import Transport


class DirectTransport(Transport):
    """Made by ``router.create_direct_transport``."""

    RTCP: ClassVar = Event[bytes]("rtcp")

    type = "direct"
    _stats_type = "direct-transport"

    async def connect(self) -> None:
        """Nothing to do: it is connected."""
        self._check_open()

    async def set_max_incoming_bitrate(self, bitrate: int) -> None:
        """Not on this transport."""
        raise UnsupportedError("a direct transport has no bitrate limits")

    async def set_max_outgoing_bitrate(self, bitrate: int) -> None:
        """Not on this transport."""
        raise UnsupportedError("a direct transport has no bitrate limits")

    async def set_min_outgoing_bitrate(self, bitrate: int) -> None:
        """Not on this transport."""
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
