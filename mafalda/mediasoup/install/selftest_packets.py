"""Does a worker carry every packet, whole and in order? Asked of each freshly built one, with and without its batch.

Packets go in as bursts, as a video encoder's frames do, so that a batching worker has runs of one destination to
send at once; two plain RTP and two SRTP consumers must get the very bytes of each payload, in order.

What does not belong here: WebRTC (``selftest``).
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pylibsrtp

from mafalda.media.transport import SrtpParameters
from mafalda.mediasoup import PlainTransport, Router, create_worker
from mafalda.mediasoup.install.errors import SelfTestFailed

BATCH_VARIABLE = "MAFALDA_UDP_BATCH"
"""Environment of a worker: ``on`` or ``off``; unset means what it was built to do."""

_BURSTS = 20
_SIZES = (1000, 1000, 1000, 600, 30, 1001)  # payload bytes of a burst's packets
_PACKETS = _BURSTS * len(_SIZES)
_SUITE: Final = "AEAD_AES_128_GCM"
_KEY_BYTES = 28
_LOOPBACK = {"protocol": "udp", "ip": "127.0.0.1"}
_OPUS = {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}
_SSRC, _PAYLOAD_TYPE, _RTP_HEADER_BYTES = 4711, 111, 12
_HAS_EXTENSIONS = 0x10  # of the header's first byte
_RTCP_TYPES = range(192, 224)


@dataclass(frozen=True, slots=True)
class _Receiver:
    """A socket that a consumer sends to, with the key of its SRTP, if it has one."""

    socket: socket.socket
    session: pylibsrtp.Session | None

    async def burst(self) -> list[bytes]:
        """The payloads of as many RTP packets as a burst has; the worker's RTCP is passed over."""
        loop, found = asyncio.get_running_loop(), list[bytes]()
        while len(found) < len(_SIZES):
            packet = await loop.sock_recv(self.socket, 2048)
            if packet[1] not in _RTCP_TYPES:
                found.append(self._payload(packet))
        return found

    def _payload(self, packet: bytes) -> bytes:
        plain = self.session.unprotect(packet) if self.session else packet
        if not plain[0] & _HAS_EXTENSIONS:
            return plain[_RTP_HEADER_BYTES:]
        (words,) = struct.unpack_from(">H", plain, _RTP_HEADER_BYTES + 2)
        return plain[_RTP_HEADER_BYTES + 4 + 4 * words :]


async def packets_test(binary: Path, *, batch: str, deadline_s: float) -> int:
    """Send bursts through the worker and compare what each of four consumers gets.

    Args:
        binary: The worker.
        batch: ``on`` or ``off``.
        deadline_s: For all of it.

    Returns:
        How many packets arrived in all.

    Raises:
        SelfTestFailed: a packet was lost, changed, or overtaken.
    """
    arrived = 0
    try:
        async with asyncio.timeout(deadline_s), _receivers(binary, batch) as (send_to, receivers):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for first in range(0, _PACKETS, len(_SIZES)):
                    sent = [_payload(number) for number in range(first, first + len(_SIZES))]
                    for number, payload in enumerate(sent, first):
                        sender.sendto(_rtp(number) + payload, send_to)
                    for burst in await asyncio.gather(*(receiver.burst() for receiver in receivers)):
                        if burst != sent:
                            raise SelfTestFailed("packets were changed or overtaken in the worker", batch=batch)
                        arrived += len(burst)
    except TimeoutError as error:
        raise SelfTestFailed(
            "packets did not come through the worker in time", batch=batch, deadline_s=deadline_s
        ) from error
    return arrived


@asynccontextmanager
async def _receivers(binary: Path, batch: str) -> AsyncIterator[tuple[tuple[str, int], list[_Receiver]]]:
    """A worker with a producer: its address, and four receivers of its consumers."""
    environment = {**os.environ, BATCH_VARIABLE: batch}
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    try:
        async with create_worker(bin=binary, log_level="warn", environment=environment) as worker:
            router = await worker.create_router(media_codecs=[_OPUS])
            source = await router.create_plain_transport(listen_info=_LOOPBACK, comedia=True)
            producer = await source.produce(kind="audio", rtp_parameters=_parameters())
            made = [await _receiver(router, producer.id, it, srtp=n % 2 == 1) for n, it in enumerate(sockets)]
            yield (source.tuple.local_address, source.tuple.local_port), made
    finally:
        for it in sockets:
            it.close()


async def _receiver(router: Router, producer_id: str, endpoint: socket.socket, *, srtp: bool) -> _Receiver:
    endpoint.bind(("127.0.0.1", 0))
    endpoint.setblocking(False)
    ip, port = endpoint.getsockname()
    key = SrtpParameters(crypto_suite=_SUITE, key_base64=base64.b64encode(os.urandom(_KEY_BYTES)).decode())
    session = None
    if srtp:
        transport = await router.create_plain_transport(
            listen_info=_LOOPBACK, enable_srtp=True, srtp_crypto_suite=_SUITE
        )
        await transport.connect(ip=ip, port=port, srtp_parameters=key)
        session = _session(transport)
    else:
        transport = await router.create_plain_transport(listen_info=_LOOPBACK)
        await transport.connect(ip=ip, port=port)
    await transport.consume(producer_id=producer_id, rtp_capabilities=router.rtp_capabilities)
    return _Receiver(endpoint, session)


def _session(transport: PlainTransport) -> pylibsrtp.Session:
    """What decrypts the transport's packets."""
    assert transport.srtp_parameters is not None
    return pylibsrtp.Session(
        pylibsrtp.Policy(
            key=base64.b64decode(transport.srtp_parameters.key_base64),
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
            srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        )
    )


def _payload(number: int) -> bytes:
    size = _SIZES[number % len(_SIZES)]
    return (struct.pack(">I", number) * (size // 4 + 1))[:size]


def _rtp(number: int) -> bytes:
    return struct.pack(">BBHII", 0x80, _PAYLOAD_TYPE, number, number * 960, _SSRC)


def _parameters() -> dict[str, object]:
    return {
        "codecs": [{"mimeType": "audio/opus", "payloadType": _PAYLOAD_TYPE, "clockRate": 48000, "channels": 2}],
        "encodings": [{"ssrc": _SSRC}],
        "rtcp": {"cname": "self-test"},
    }
