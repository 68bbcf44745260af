"""What mediasoup-worker 3.27.1 supports: the codecs and RTP header extensions that a router can be given.

The order matters: the first codec that matches is used. The ids of the header extensions are the ones that every router
announces, so a consumer's parameters fit any router.
"""

from __future__ import annotations

from mafalda.media.rtp import (
    MediaKind,
    RtcpFeedback,
    RtpCapabilities,
    RtpCodecCapability,
    RtpHeaderExtension,
    RtpHeaderExtensionDirection,
    RtpHeaderExtensionUri,
)

Uri = RtpHeaderExtensionUri

_NACK = RtcpFeedback(type="nack")
_TRANSPORT_CC = RtcpFeedback(type="transport-cc")
_VIDEO_FEEDBACK = (
    _NACK,
    RtcpFeedback(type="nack", parameter="pli"),
    RtcpFeedback(type="ccm", parameter="fir"),
    RtcpFeedback(type="goog-remb"),
    _TRANSPORT_CC,
)

_MULTIOPUS_LAYOUTS = (
    (4, "0,1,2,3", 2, 2),  # quad
    (6, "0,4,1,2,3,5", 4, 2),  # 5.1
    (8, "0,6,1,2,3,4,5,7", 5, 3),  # 7.1
)
"""Channels, channel mapping, streams, coupled streams."""

_PLAIN_AUDIO: tuple[tuple[str, int | None, int], ...] = (
    ("audio/PCMU", 0, 8000),
    ("audio/PCMA", 8, 8000),
    ("audio/ISAC", None, 32000),
    ("audio/ISAC", None, 16000),
    ("audio/G722", 9, 8000),
    ("audio/iLBC", None, 8000),
    ("audio/SILK", None, 24000),
    ("audio/SILK", None, 16000),
    ("audio/SILK", None, 12000),
    ("audio/SILK", None, 8000),
)
"""MIME type, static payload type (RFC 3551), clock rate in Hz."""

_EXTENSIONS: tuple[tuple[Uri, int, dict[MediaKind, RtpHeaderExtensionDirection]], ...] = (
    (Uri.MID, 1, {"audio": "sendrecv", "video": "sendrecv"}),
    (Uri.RTP_STREAM_ID, 2, {"video": "recvonly"}),
    (Uri.REPAIRED_RTP_STREAM_ID, 3, {"video": "recvonly"}),
    (Uri.ABS_SEND_TIME, 4, {"audio": "sendrecv", "video": "sendrecv"}),
    # The worker estimates bandwidth for video only, so audio is received with it but not sent.
    (Uri.TRANSPORT_WIDE_CC, 5, {"audio": "recvonly", "video": "sendrecv"}),
    (Uri.SSRC_AUDIO_LEVEL, 6, {"audio": "sendrecv"}),
    (Uri.DEPENDENCY_DESCRIPTOR, 7, {"video": "recvonly"}),
    (Uri.VIDEO_ORIENTATION, 8, {"video": "sendrecv"}),
    (Uri.TIME_OFFSET, 9, {"video": "sendrecv"}),
    (Uri.ABS_CAPTURE_TIME, 10, {"audio": "sendrecv", "video": "sendrecv"}),
    (Uri.PLAYOUT_DELAY, 11, {"audio": "sendrecv", "video": "sendrecv"}),
    (Uri.MEDIASOUP_PACKET_ID, 12, {"audio": "sendrecv", "video": "sendrecv"}),
)
"""URI, identifier, and the direction for each kind that has it, seen from the router."""


def _audio_codecs() -> list[RtpCodecCapability]:
    opus_feedback = (_NACK, _TRANSPORT_CC)
    codecs = [
        RtpCodecCapability(
            kind="audio", mime_type="audio/opus", clock_rate=48000, channels=2, rtcp_feedback=opus_feedback
        )
    ]
    codecs += [
        RtpCodecCapability(
            kind="audio",
            mime_type="audio/multiopus",
            clock_rate=48000,
            channels=channels,
            parameters={"channel_mapping": mapping, "num_streams": streams, "coupled_streams": coupled},
            rtcp_feedback=opus_feedback,
        )
        for channels, mapping, streams, coupled in _MULTIOPUS_LAYOUTS
    ]
    codecs += [
        RtpCodecCapability(
            kind="audio",
            mime_type=mime_type,
            preferred_payload_type=payload_type,
            clock_rate=clock_rate,
            rtcp_feedback=(_TRANSPORT_CC,),
        )
        for mime_type, payload_type, clock_rate in _PLAIN_AUDIO
    ]
    codecs += [
        RtpCodecCapability(kind="audio", mime_type="audio/CN", preferred_payload_type=13, clock_rate=clock_rate)
        for clock_rate in (32000, 16000, 8000)
    ]
    codecs += [
        RtpCodecCapability(kind="audio", mime_type="audio/telephone-event", clock_rate=clock_rate)
        for clock_rate in (48000, 32000, 16000, 8000)
    ]
    return codecs


def _video_codecs() -> list[RtpCodecCapability]:
    return [
        RtpCodecCapability(
            kind="video",
            mime_type=mime_type,
            clock_rate=90000,
            parameters={"level-asymmetry-allowed": 1} if mime_type == "video/H264" else {},
            rtcp_feedback=_VIDEO_FEEDBACK,
        )
        for mime_type in ("video/VP8", "video/VP9", "video/H264", "video/AV1")
    ]


SUPPORTED_RTP_CAPABILITIES = RtpCapabilities(
    codecs=(*_audio_codecs(), *_video_codecs()),
    header_extensions=tuple(
        RtpHeaderExtension(kind=kind, uri=uri, preferred_id=identifier, direction=direction)
        for uri, identifier, directions in _EXTENSIONS
        for kind, direction in directions.items()
    ),
)
"""The union of what any router can have. Immutable, so it is safe to share."""
