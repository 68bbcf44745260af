"""What the tests of the driver produce, consume and send: parameters, and RTP packets made by hand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Any

LOOPBACK: Mapping[str, Any] = {"protocol": "udp", "ip": "127.0.0.1"}
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ORIENTATION = "urn:3gpp:video-orientation"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
FEEDBACK = [
    {"type": "nack"},
    {"type": "nack", "parameter": "pli"},
    {"type": "ccm", "parameter": "fir"},
    {"type": "goog-remb"},
]
H264 = {"level-asymmetry-allowed": 1, "packetization-mode": 1, "profile-level-id": "4d0032"}

MEDIA_CODECS: list[dict[str, Any]] = [
    {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "parameters": {"foo": "bar"}},
    {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000},
    {"kind": "video", "mimeType": "video/VP9", "clockRate": 90000},
    {"kind": "video", "mimeType": "video/H264", "clockRate": 90000, "parameters": H264},
]


def audio(ssrc: int = 11111111, mid: str | None = None, payload_type: int = 111) -> dict[str, Any]:
    """``produce`` options of an opus stream with audio levels."""
    parameters = {
        "codecs": [
            {
                "mimeType": "audio/opus",
                "payloadType": payload_type,
                "clockRate": 48000,
                "channels": 2,
                "parameters": {"useinbandfec": 1, "usedtx": 1, "foo": 222.222, "bar": "333"},
            }
        ],
        "headerExtensions": [{"uri": MID, "id": 10}, {"uri": AUDIO_LEVEL, "id": 12}],
        "encodings": [{"ssrc": ssrc}],
        "rtcp": {"cname": "FOOBAR"},
        "msid": "1111 2222",
    }
    return {"kind": "audio", "rtp_parameters": parameters | ({"mid": mid} if mid else {})}


def h264_simulcast() -> dict[str, Any]:
    """``produce`` options of four H264 layers with RTX, as mediasoup's own tests have them."""
    encodings = [
        {"ssrc": ssrc, "scalabilityMode": "L1T5", "rtx": {"ssrc": ssrc + 1}} for ssrc in range(22222222, 22222230, 2)
    ]
    return {
        "kind": "video",
        "rtp_parameters": {
            "mid": "VIDEO",
            "codecs": [
                {
                    "mimeType": "video/h264",
                    "payloadType": 112,
                    "clockRate": 90000,
                    "parameters": {"packetization-mode": 1, "profile-level-id": "4d0032"},
                    "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "goog-remb"}],
                },
                {"mimeType": "video/rtx", "payloadType": 113, "clockRate": 90000, "parameters": {"apt": 112}},
            ],
            "headerExtensions": [{"uri": MID, "id": 10}, {"uri": ORIENTATION, "id": 13}],
            "encodings": encodings,
            "rtcp": {"cname": "FOOBAR"},
        },
    }


def vp8(*ssrcs: int, mode: str | None = None, payload_type: int = 96) -> dict[str, Any]:
    """``produce`` options of VP8 in as many layers as there are SSRCs."""
    mode_part = {"scalabilityMode": mode} if mode else {}
    return {
        "kind": "video",
        "rtp_parameters": {
            "codecs": [
                {
                    "mimeType": "video/VP8",
                    "payloadType": payload_type,
                    "clockRate": 90000,
                    "rtcpFeedback": FEEDBACK,
                }
            ],
            "headerExtensions": [{"uri": ORIENTATION, "id": 13}],
            "encodings": [{"ssrc": ssrc} | mode_part for ssrc in ssrcs],
            "rtcp": {"cname": "VIDEO"},
        },
    }


def vp9_svc(ssrc: int = 33333333, mode: str = "L3T3") -> dict[str, Any]:
    """``produce`` options of one VP9 stream with layers."""
    return {
        "kind": "video",
        "rtp_parameters": {
            "codecs": [
                {"mimeType": "video/VP9", "payloadType": 98, "clockRate": 90000, "rtcpFeedback": FEEDBACK},
            ],
            "encodings": [{"ssrc": ssrc, "scalabilityMode": mode}],
            "rtcp": {"cname": "SVC"},
        },
    }


def rtp_packet(
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    extensions: Mapping[int, bytes] | None = None,
    marker: bool = False,
) -> bytes:
    """An RTP packet (RFC 3550) with one-byte header extensions (RFC 8285)."""
    first = 0x90 if extensions else 0x80
    header = struct.pack(
        ">BBHII", first, payload_type | (0x80 if marker else 0), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc
    )
    if extensions:
        body = b"".join(bytes([(id_ << 4) | (len(data) - 1)]) + data for id_, data in extensions.items())
        body += bytes(-len(body) % 4)
        header += struct.pack(">HH", 0xBEDE, len(body) // 4) + body
    return header + payload


def opus_packet(sequence: int, ssrc: int = 11111111, level: int | None = None, payload_type: int = 111) -> bytes:
    """20 ms of opus; ``level`` is the value of the audio level extension, in -dBov (0 is loudest)."""
    extensions = {12: bytes([0x80 | level])} if level is not None else None
    return rtp_packet(payload_type, sequence, sequence * 960, ssrc, b"\x78opus" + bytes(20), extensions)


def vp8_packet(
    sequence: int, ssrc: int, key_frame: bool, orientation: int | None = None, payload_type: int = 96
) -> bytes:
    """A VP8 frame in one packet: the descriptor (start of partition, picture id), then the frame's header."""
    descriptor = bytes([0x90, 0x80, 0x80 | ((sequence >> 8) & 0x7F), sequence & 0xFF])
    frame = (b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" if key_frame else b"\x31\x02\x00") + bytes(100)
    extensions = {13: bytes([orientation])} if orientation is not None else None
    return rtp_packet(payload_type, sequence, sequence * 3000, ssrc, descriptor + frame, extensions, marker=True)


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait until ``condition()`` holds, for changes that emit no event.

    Raises:
        TimeoutError: It did not come to hold in time.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0.005)
