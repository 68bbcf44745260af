"""A viewer of the narrow link: it tells the worker when the kernel received each packet, as a browser does.

What does not belong here: the formats (``transport_cc``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from bench.media_sinks import Network, receive, timed_socket
from bench.transport_cc import feedback, receiver_report, transport_sequence
from mafalda.aio.tasks import background
from mafalda.mediasoup import Consumer, PlainTransport, Router

_SSRC = 6000
_EXTENSION = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
_FEEDBACK_S, _REPORT_S = 0.05, 1.0
_SENDER_REPORT = 200


class Viewer:
    """One consumer's endpoint."""

    def __init__(self, endpoint: socket.socket, transport: PlainTransport, consumer: Consumer) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._consumer = consumer
        parameters = consumer.rtp_parameters
        self._extension_id = next(it.id for it in parameters.header_extensions if it.uri == _EXTENSION)
        self._media_ssrc = parameters.encodings[0].ssrc or 0
        self._address = (transport.tuple.local_address, transport.tuple.local_port)
        self._arrivals_us: dict[int, int] = {}
        self._highest = 0  # transport-wide sequence number, unwrapped
        self._told = 0  # up to here
        self._feedbacks = 0
        self._highest_rtp = 0
        self._received = self._lost = 0
        self._last_sr, self._last_sr_at_s = 0, 0.0
        self._reported = (0, 0)

    @classmethod
    @asynccontextmanager
    async def watch(cls, router: Router, network: Network, producer_id: str) -> AsyncIterator[Viewer]:
        """Consume a producer from the far side of a link."""
        with closing(timed_socket(network)) as endpoint:
            transport = await router.create_plain_transport(listen_info={"protocol": "udp", "ip": network.near})
            ip, port = endpoint.getsockname()
            await transport.connect(ip=ip, port=port)
            consumer = await transport.consume(producer_id=producer_id, rtp_capabilities=router.rtp_capabilities)
            viewer = cls(endpoint, transport, consumer)
            asyncio.get_running_loop().add_reader(endpoint, viewer._read)
            try:
                async with background(viewer._tell(), "feedback"):
                    yield viewer
            finally:
                asyncio.get_running_loop().remove_reader(endpoint)

    @property
    def counts(self) -> tuple[int, int]:
        """Packets received, and lost on the way."""
        return self._received, self._lost

    @property
    def layer(self) -> int:
        """The spatial layer that the worker forwards; -1: none."""
        layers = self._consumer.current_layers
        return layers.spatial_layer if layers else -1

    async def estimate_bps(self) -> float:
        """What the worker takes the link to carry."""
        (stats,) = await self._transport.get_stats()
        return float(stats["availableOutgoingBitrate"])

    def _read(self) -> None:
        for packet, arrived_ns in receive(self._endpoint):
            if 192 <= packet[1] < 224:
                self._take_rtcp(packet)
            elif (sequence := transport_sequence(packet, self._extension_id)) is not None:
                self._highest += (sequence - self._highest + 0x8000) % 0x10000 - 0x8000 if self._received else sequence
                if not self._received:
                    self._told = self._highest - 1
                self._received += 1
                self._arrivals_us[self._highest] = arrived_ns // 1000
                if struct.unpack_from(">I", packet, 8)[0] == self._media_ssrc:
                    self._highest_rtp = int(struct.unpack_from(">H", packet, 2)[0])

    def _take_rtcp(self, packet: bytes) -> None:
        if packet[1] == _SENDER_REPORT:
            self._last_sr, self._last_sr_at_s = int(struct.unpack_from(">I", packet, 10)[0]), time.monotonic()

    async def _tell(self) -> None:
        reported_s = 0.0
        while True:
            await asyncio.sleep(_FEEDBACK_S)
            self._send_feedback()
            if time.monotonic() - reported_s >= _REPORT_S:
                self._send_report()
                reported_s = time.monotonic()

    def _send_feedback(self) -> None:
        if not self._arrivals_us:
            return
        arrivals_us, self._arrivals_us = self._arrivals_us, {}
        highest = max(arrivals_us)
        self._lost += max(0, highest - self._told - len(arrivals_us))
        self._told = max(self._told, highest)
        packet = feedback(arrivals_us, self._feedbacks, ssrc=_SSRC, media_ssrc=self._media_ssrc)
        self._feedbacks += 1
        self._endpoint.sendto(packet, self._address)

    def _send_report(self) -> None:
        received, lost = (now - before for now, before in zip(self.counts, self._reported, strict=True))
        self._reported = self.counts
        packet = receiver_report(
            ssrc=_SSRC,
            media_ssrc=self._media_ssrc,
            highest=self._highest_rtp,
            lost_ratio=lost / (lost + received) if lost else 0.0,
            last_sr=self._last_sr,
            delay_s=time.monotonic() - self._last_sr_at_s if self._last_sr else 0.0,
        )
        self._endpoint.sendto(packet, self._address)
