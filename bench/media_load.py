"""One SRTP producer, many SRTP consumers, and what forwarding costs the mediasoup-workers that do it.

Each consumer has a PlainTransport of its own, as each participant has. All of them send to one socket that
nobody reads: the kernel drops what does not fit, and the worker needs no answer.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
import pylibsrtp

from bench.piping import LOOPBACK, pipe
from mafalda.media.rtp import RtpCapabilities
from mafalda.media.transport import SrtpParameters
from mafalda.mediasoup import Consumer, PlainTransport, Router

CODECS = [{"kind": "video", "mimeType": "video/VP8", "clockRate": 90000}]
SSRC, PAYLOAD_TYPE = 4242, 96
PACKET_BYTES = 1200  # before SRTP's tag
SETTLE_S = 0.1  # what is still in socket buffers when the sender stops


@dataclass(frozen=True, slots=True)
class Load:
    """How much to send. ``rate`` is in packets per second."""

    rate: int
    consumers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What came of one push: packets that consumers sent, and CPU seconds of the workers."""

    packets: int
    wanted: int
    cpu_s: float

    @property
    def per_cpu_s(self) -> float:
        return self.packets / self.cpu_s


class Sender:
    """An endpoint that sends VP8 as SRTP, a packet a frame."""

    def __init__(self, to: PlainTransport, key: SrtpParameters, into: socket.socket) -> None:
        self._address = (to.tuple.local_address, to.tuple.local_port)
        self._session = pylibsrtp.Session(
            pylibsrtp.Policy(
                key=base64.b64decode(key.key_base64),
                ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
                srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
            )
        )
        self._socket = into
        self._sequence = 0

    async def send(self, load: Load) -> int:
        """Send at an even pace, the first a key frame; late packets follow at once. Returns how many."""
        packets = [self._next(key_frame=number == 0) for number in range(int(load.rate * load.seconds))]
        start = time.perf_counter()
        for number, packet in enumerate(packets):
            if (early_s := start + number / load.rate - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            self._socket.sendto(packet, self._address)
        return len(packets)

    def _next(self, *, key_frame: bool) -> bytes:
        self._sequence += 1
        picture = struct.pack(">H", 0x8000 | self._sequence & 0x7FFF)
        frame = b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" if key_frame else b"\x31\x02\x00"
        header = struct.pack(
            ">BBHII", 0x80, 0x80 | PAYLOAD_TYPE, self._sequence & 0xFFFF, self._sequence * 300 & 0xFFFFFFFF, SSRC
        )
        packet = header + b"\x90\x80" + picture + frame
        return self._session.protect(packet + bytes(PACKET_BYTES - len(packet)))


@dataclass(frozen=True, slots=True)
class Stage:
    """A sender and its audience, and the processes that carry the media between them."""

    sender: Sender
    consumers: Sequence[Consumer]
    workers: Sequence[psutil.Process]

    async def push(self, load: Load) -> Forwarded:
        """Send, and count what was forwarded and what it cost."""
        packets, cpu_s = await self._sent(), self._cpu_s()
        pushed = await self.sender.send(load)
        await asyncio.sleep(SETTLE_S)
        cpu_s = self._cpu_s() - cpu_s
        return Forwarded(await self._sent() - packets, pushed * len(self.consumers), cpu_s)

    async def _sent(self) -> int:
        stats = await asyncio.gather(*(consumer.get_stats() for consumer in self.consumers))
        return sum(entry["packetCount"] for found in stats for entry in found if entry["type"] == "outbound-rtp")

    def _cpu_s(self) -> float:
        times = [worker.cpu_times() for worker in self.workers]
        return sum(it.user + it.system for it in times)


@asynccontextmanager
async def stage(
    routers: Sequence[Router], pids: Sequence[int], consumers: int, *, ramp_s: float = 0
) -> AsyncIterator[Stage]:
    """Make a producer, and consumers on transports of their own.

    Args:
        routers: The first has the producer; it is piped to the others; consumers take turns among all.
        pids: The workers that carry the media.
        consumers: How many.
        ramp_s: Seconds before each.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
    ):
        endpoint.bind(("127.0.0.1", 0))
        sink.bind(("127.0.0.1", 0))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        key = _key()
        source = await _transport(routers[0], endpoint, key)
        producer = await source.produce(kind="video", rtp_parameters=_vp8())
        for router in routers[1:]:
            await (await pipe(routers[0], router)).relay(producer)
        # Without header extensions there is no bandwidth estimation, for which nobody here would answer.
        capabilities = RtpCapabilities(codecs=routers[0].rtp_capabilities.codecs)
        audience = []
        for number in range(consumers):
            await asyncio.sleep(ramp_s)
            transport = await _transport(routers[number % len(routers)], sink, _key())
            audience.append(await transport.consume(producer_id=producer.id, rtp_capabilities=capabilities))
        yield Stage(Sender(source, key, endpoint), audience, [psutil.Process(pid) for pid in pids])


async def _transport(router: Router, endpoint: socket.socket, key: SrtpParameters) -> PlainTransport:
    transport = await router.create_plain_transport(
        listen_info=LOOPBACK, enable_srtp=True, srtp_crypto_suite="AEAD_AES_128_GCM"
    )
    ip, port = endpoint.getsockname()
    await transport.connect(ip=ip, port=port, srtp_parameters=key)
    return transport


def _key() -> SrtpParameters:
    return SrtpParameters(crypto_suite="AEAD_AES_128_GCM", key_base64=base64.b64encode(os.urandom(28)).decode())


def _vp8() -> dict[str, object]:
    return {
        "codecs": [{"mimeType": "video/VP8", "payloadType": PAYLOAD_TYPE, "clockRate": 90000}],
        "encodings": [{"ssrc": SSRC}],
        "rtcp": {"cname": "bench"},
    }
