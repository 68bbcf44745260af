"""RTP as encoders send it, without an encoder: paces, sizes and headers are real, the payload is filler.

Each payload ends with a mark and the time of its encoding, from which latencies are measured. Pure but for the clock
readings that it is given. What does not belong here: encryption and sockets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from mafalda.media.rtp import RtpCapabilities, RtpParameters

#: Levels of a participant that speaks and of one that does not, in -dBov (RFC 6464).
SPEECH_LEVEL, SILENCE_LEVEL = 20, 127
_AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_AUDIO_LEVEL_ID = 10
_MARK = b"MFLT"
_NTP_EPOCH_S = 2_208_988_800
_PAYLOAD_TYPES = {"audio": 111, "video": 96}
_CLOCK_RATES = {"audio": 48_000, "video": 90_000}
_SENDER_REPORT, _PAYLOAD_FEEDBACK = 200, 206
_PLI, _FIR = 1, 4
_KEY_FRAME = b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00"  # VP8, 320x240
_DELTA_FRAME = b"\x31\x02\x00"

#: What viewers can receive: no bandwidth estimation, so that all that is published is sent.
CAPABILITIES = RtpCapabilities.model_validate(
    {
        "codecs": [
            {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "preferredPayloadType": 111},
            {
                "kind": "video",
                "mimeType": "video/VP8",
                "clockRate": 90000,
                "preferredPayloadType": 96,
                "rtcpFeedback": [
                    {"type": "nack"},
                    {"type": "nack", "parameter": "pli"},
                    {"type": "ccm", "parameter": "fir"},
                ],
            },
        ]
    }
)


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What an encoder sends.

    Attributes:
        kind: ``audio`` is Opus, ``video`` is VP8.
        bitrate_bps: Payload bits a second.
        frames_per_s: Frames a second.
        packet_bytes: The most payload bytes of one packet.
    """

    kind: Literal["audio", "video"]
    bitrate_bps: int
    frames_per_s: float
    packet_bytes: int = 1150

    @property
    def clock_rate(self) -> int:
        """RTP ticks a second."""
        return _CLOCK_RATES[self.kind]

    @property
    def payload_sizes(self) -> tuple[int, ...]:
        """Payload bytes of each packet of a frame."""
        frame = max(40, round(self.bitrate_bps / 8 / self.frames_per_s))
        count = -(-frame // self.packet_bytes)
        return tuple(frame // count + (index < frame % count) for index in range(count))

    def parameters(self, ssrc: int) -> RtpParameters:
        """The RTP parameters of a producer of it."""
        capability = next(each for each in CAPABILITIES.codecs if each.kind == self.kind)
        codec = {
            "mimeType": capability.mime_type,
            "payloadType": _PAYLOAD_TYPES[self.kind],
            "clockRate": capability.clock_rate,
            "channels": capability.channels,
            "rtcpFeedback": _feedback(self.kind),
        }
        extensions = [{"uri": _AUDIO_LEVEL_URI, "id": _AUDIO_LEVEL_ID}] if self.kind == "audio" else []
        return RtpParameters.model_validate(
            {
                "mid": "0",
                "codecs": [codec],
                "headerExtensions": extensions,
                "encodings": [{"ssrc": ssrc}],
                "rtcp": {"cname": "load-test"},
            }
        )


def _feedback(kind: str) -> list[dict[str, str]]:
    if kind == "audio":
        return []
    return [{"type": "nack", "parameter": "pli"}, {"type": "ccm", "parameter": "fir"}]


class Packetizer:
    """The packets of one stream.

    Args:
        shape: What it is like.
        ssrc: Its SSRC.
        sequence: Its first sequence number.
    """

    def __init__(self, shape: StreamShape, ssrc: int, sequence: int = 0) -> None:
        self.packets = 0
        #: Of audio, in -dBov; ``None``: the packets do not say.
        self.level: int | None = None
        self._shape = shape
        self._ssrc = ssrc
        self._sequence = sequence
        self._timestamp = 0
        self._frames = 0
        self._bytes = 0
        self._sizes = shape.payload_sizes
        self._wants_key_frame = True

    def request_key_frame(self) -> None:
        """Make the next frame a key frame."""
        self._wants_key_frame = True

    def frame(self, now_ns: int) -> list[bytes]:
        """The packets of the next frame, encoded at ``now_ns`` since the epoch."""
        self._timestamp = round(self._frames * self._shape.clock_rate / self._shape.frames_per_s) & 0xFFFF_FFFF
        self._frames += 1
        last = len(self._sizes) - 1
        is_key, self._wants_key_frame = self._wants_key_frame, False
        end = _MARK + struct.pack(">Q", now_ns)
        packets = []
        for index, size in enumerate(self._sizes):
            head = self._payload_head(is_key, is_first=index == 0)
            marker = 0x80 if self._shape.kind == "video" and index == last else 0
            header = (
                struct.pack(
                    ">BBHII",
                    0x80 if self.level is None else 0x90,
                    _PAYLOAD_TYPES[self._shape.kind] | marker,
                    (self._sequence + self.packets) & 0xFFFF,
                    self._timestamp,
                    self._ssrc,
                )
                + self._extension()
            )
            packets.append(header + head + bytes(max(0, size - len(head) - len(end))) + end)
            self.packets += 1
            self._bytes += size
        return packets

    def _extension(self) -> bytes:
        """The header extension with the level (RFC 8285, 4.2; RFC 6464)."""
        if self.level is None:
            return b""
        return struct.pack(">HHBBH", 0xBEDE, 1, _AUDIO_LEVEL_ID << 4, self.level, 0)

    def _payload_head(self, is_key: bool, *, is_first: bool) -> bytes:
        if self._shape.kind == "audio":
            return b"\x78"  # Opus TOC: CELT, fullband, mono, one frame
        descriptor = struct.pack(">BBH", 0x90 if is_first else 0x80, 0x80, 0x8000 | self._frames & 0x7FFF)
        return descriptor + ((_KEY_FRAME if is_key else _DELTA_FRAME) if is_first else b"")

    def sender_report(self, now_ns: int) -> bytes:
        """An RTCP sender report (RFC 3550, 6.4.1)."""
        seconds, rest_ns = divmod(now_ns, 1_000_000_000)
        fraction = (rest_ns << 32) // 1_000_000_000
        return struct.pack(
            ">BBHIIIIII",
            0x80,
            _SENDER_REPORT,
            6,
            self._ssrc,
            seconds + _NTP_EPOCH_S & 0xFFFF_FFFF,
            fraction,
            self._timestamp,
            self.packets & 0xFFFF_FFFF,
            self._bytes & 0xFFFF_FFFF,
        )


def sent_at_ns(packet: bytes) -> int | None:
    """When a packet's payload was encoded, in nanoseconds since the epoch; ``None``: it is not a load test's."""
    if packet[-12:-8] != _MARK:
        return None
    return int(struct.unpack(">Q", packet[-8:])[0])


def requests_key_frame(rtcp: bytes) -> bool:
    """Whether a compound RTCP packet holds a PLI or a FIR."""
    at = 0
    while at + 4 <= len(rtcp):
        first, kind, words = struct.unpack_from(">BBH", rtcp, at)
        if kind == _PAYLOAD_FEEDBACK and first & 0x1F in (_PLI, _FIR):
            return True
        at += 4 * (words + 1)
    return False
