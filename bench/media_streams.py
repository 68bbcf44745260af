"""What the benches of media send: streams of RTP as encoders make them, plain or as SRTP.

What does not belong here: who forwards it (``media_load``) and what is measured (``media``).
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import pylibsrtp

from bench.transport_cc import sender_report
from mafalda.media.transport import SrtpParameters

Suite = Literal["AEAD_AES_128_GCM", "AEAD_AES_256_GCM"]

AUDIO = {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}
VIDEO = {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000}
CODECS = [AUDIO, VIDEO]

_PAYLOAD_TYPES = {"audio": 111, "video": 96}
_PROFILES = {
    "AEAD_AES_128_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    "AEAD_AES_256_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
_REMEMBERED = 4096  # packets whose time of sending a listener can still ask for


@dataclass(frozen=True, slots=True)
class Stream:
    """What an encoder makes: frames at an even pace, each of some packets that leave at once.

    Attributes:
        kind: ``audio`` is Opus, ``video`` is VP8.
        sizes: Bytes of each packet of a frame, before SRTP's tag.
        frames_per_s: Frames a second.
    """

    kind: Literal["audio", "video"]
    sizes: tuple[int, ...]
    frames_per_s: float

    @property
    def packets_per_s(self) -> float:
        return len(self.sizes) * self.frames_per_s

    def parameters(self, *ssrcs: int) -> dict[str, Any]:
        """The RTP parameters of a producer of it, or of several layers of which this is one."""
        codec = {key: value for key, value in (AUDIO if self.kind == "audio" else VIDEO).items() if key != "kind"}
        return {
            "mid": str(ssrcs[0]),
            "codecs": [{**codec, "payloadType": _PAYLOAD_TYPES[self.kind]}],
            "encodings": [{"ssrc": ssrc} for ssrc in ssrcs],
            "rtcp": {"cname": "bench"},
        }


def video(packets: int, frames_per_s: float, *, packet_bytes: int = 1150) -> Stream:
    """Frames as libwebrtc cuts them: packets of about one size, the last ones a byte larger."""
    larger = packets // 3
    return Stream("video", (packet_bytes,) * (packets - larger) + (packet_bytes + 1,) * larger, frames_per_s)


def new_key(suite: Suite | None) -> SrtpParameters | None:
    """A fresh key; none without SRTP."""
    if suite is None:
        return None
    return SrtpParameters(crypto_suite=suite, key_base64=base64.b64encode(os.urandom(_PROFILES[suite][1])).decode())


def outbound(key: SrtpParameters) -> pylibsrtp.Session:
    """What encrypts with this key."""
    return pylibsrtp.Session(
        pylibsrtp.Policy(
            key=base64.b64decode(key.key_base64),
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=_PROFILES[str(key.crypto_suite)][0],
        )
    )


@dataclass(slots=True)
class Sender:
    """An endpoint that sends one stream, and remembers when.

    Attributes:
        stream: What it sends.
        address: Where to.
        endpoint: The socket that it sends from.
        session: Encrypts; ``None`` sends plain RTP.
        is_layer: Of simulcast: a key frame and a sender report each second, without which nobody can switch to it.
    """

    stream: Stream
    ssrc: int
    address: tuple[str, int]
    endpoint: socket.socket
    session: pylibsrtp.Session | None
    is_layer: bool = False
    sent_at_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    _packets: int = 0
    _frames: int = 0
    _order: deque[tuple[int, int]] = field(default_factory=deque)

    async def send(self, seconds: float) -> int:
        """Send at an even pace; late frames follow at once.

        Returns:
            How many packets.
        """
        frames = [self._next_frame() for _ in range(max(1, round(self.stream.frames_per_s * seconds)))]
        start = time.perf_counter()
        for number, (timestamp, packets) in enumerate(frames):
            if (early_s := start + number / self.stream.frames_per_s - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            for index, packet in enumerate(packets):
                self._remember((timestamp, index))
                self.endpoint.sendto(packet, self.address)
            if self.is_layer and number % round(self.stream.frames_per_s) == 0:
                self._send_report(timestamp)
        return sum(len(packets) for _, packets in frames)

    def _send_report(self, timestamp: int) -> None:
        report = sender_report(ssrc=self.ssrc, now_s=time.time(), timestamp=timestamp)
        self.endpoint.sendto(self.session.protect_rtcp(report) if self.session else report, self.address)

    def _remember(self, packet: tuple[int, int]) -> None:
        self.sent_at_ns[packet] = time.time_ns()
        self._order.append(packet)
        if len(self._order) > _REMEMBERED:
            self.sent_at_ns.pop(self._order.popleft(), None)

    def _next_frame(self) -> tuple[int, list[bytes]]:
        """Its RTP timestamp and its packets."""
        self._frames += 1
        timestamp = self._frames * 3000 & 0xFFFFFFFF
        last = len(self.stream.sizes) - 1
        sizes = enumerate(self.stream.sizes)
        packets = [self._packet(timestamp, index == 0, index == last, size) for index, size in sizes]
        return timestamp, packets

    def _is_key_frame(self) -> bool:
        return self._frames == 1 or (self.is_layer and self._frames % round(self.stream.frames_per_s) == 1)

    def _packet(self, timestamp: int, first: bool, last: bool, size: int) -> bytes:
        self._packets += 1
        payload_type = _PAYLOAD_TYPES[self.stream.kind] | (0x80 if last and self.stream.kind == "video" else 0)
        packet = struct.pack(">BBHII", 0x80, payload_type, self._packets & 0xFFFF, timestamp, self.ssrc)
        if self.stream.kind == "video":
            picture = struct.pack(">H", 0x8000 | self._frames & 0x7FFF)
            key_frame = b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" if self._is_key_frame() else b"\x31\x02\x00"
            packet += bytes((0x90 if first else 0x80, 0x80)) + picture + (key_frame if first else b"")
        packet += bytes(size - len(packet))
        return self.session.protect(packet) if self.session else packet
