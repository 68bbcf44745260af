"""Media parameters for tests, in mediasoup's shapes: those of a browser's producers and of a router.

Addresses are from RFC 5737, keys are invented.
"""

from __future__ import annotations

import base64

from mafalda.media.rtp import (
    RtcpFeedback,
    RtcpParameters,
    RtpCapabilities,
    RtpCodecCapability,
    RtpCodecParameters,
    RtpEncodingParameters,
    RtpHeaderExtension,
    RtpHeaderExtensionParameters,
    RtpHeaderExtensionUri,
    RtpParameters,
)
from mafalda.media.transport import (
    DtlsFingerprint,
    DtlsParameters,
    IceCandidate,
    IceParameters,
    SctpStreamParameters,
    SrtpParameters,
)

DTLS = DtlsParameters(role="client", fingerprints=(DtlsFingerprint(algorithm="sha-256", value=":".join(["5A"] * 32)),))
ICE = IceParameters(username_fragment="wk3e2hx9", password="an-example-of-an-ice-password", ice_lite=True)
CANDIDATE = IceCandidate(
    foundation="udpcandidate",
    priority=1076302079,
    ip="192.0.2.10",
    address="192.0.2.10",
    protocol="udp",
    port=40004,
    type="host",
)
SRTP = SrtpParameters(crypto_suite="AEAD_AES_256_GCM", key_base64=base64.b64encode(bytes(44)).decode())
STREAM = SctpStreamParameters(stream_id=0, ordered=True)

_VIDEO_FEEDBACK = (
    RtcpFeedback(type="nack"),
    RtcpFeedback(type="nack", parameter="pli"),
    RtcpFeedback(type="ccm", parameter="fir"),
    RtcpFeedback(type="goog-remb"),
)

ROUTER_CAPABILITIES = RtpCapabilities(
    codecs=(
        RtpCodecCapability(
            kind="audio", mime_type="audio/opus", clock_rate=48000, channels=2, preferred_payload_type=100
        ),
        RtpCodecCapability(
            kind="video",
            mime_type="video/VP8",
            clock_rate=90000,
            preferred_payload_type=101,
            rtcp_feedback=_VIDEO_FEEDBACK,
        ),
        RtpCodecCapability(
            kind="video",
            mime_type="video/rtx",
            clock_rate=90000,
            preferred_payload_type=102,
            parameters={"apt": 101},
        ),
    ),
    header_extensions=(
        RtpHeaderExtension(kind="audio", uri=RtpHeaderExtensionUri.MID, preferred_id=1),
        RtpHeaderExtension(kind="video", uri=RtpHeaderExtensionUri.MID, preferred_id=1),
    ),
)

OPUS_PARAMETERS = RtpParameters(
    mid="0",
    codecs=(
        RtpCodecParameters(
            mime_type="audio/opus",
            clock_rate=48000,
            channels=2,
            payload_type=111,
            parameters={"useinbandfec": 1, "minptime": 10},
        ),
    ),
    header_extensions=(RtpHeaderExtensionParameters(uri=RtpHeaderExtensionUri.MID, id=4),),
    encodings=(RtpEncodingParameters(ssrc=11110001),),
    rtcp=RtcpParameters(cname="alice"),
)

VP8_SIMULCAST_PARAMETERS = RtpParameters(
    mid="1",
    codecs=(
        RtpCodecParameters(mime_type="video/VP8", clock_rate=90000, payload_type=96, rtcp_feedback=_VIDEO_FEEDBACK),
        RtpCodecParameters(mime_type="video/rtx", clock_rate=90000, payload_type=97, parameters={"apt": 96}),
    ),
    header_extensions=(
        RtpHeaderExtensionParameters(uri=RtpHeaderExtensionUri.MID, id=4),
        RtpHeaderExtensionParameters(uri=RtpHeaderExtensionUri.RTP_STREAM_ID, id=10),
    ),
    encodings=(
        RtpEncodingParameters(rid="r0", max_bitrate=100_000, scalability_mode="L1T3"),
        RtpEncodingParameters(rid="r1", max_bitrate=300_000, scalability_mode="L1T3"),
        RtpEncodingParameters(rid="r2", max_bitrate=900_000, scalability_mode="L1T3"),
    ),
    rtcp=RtcpParameters(cname="alice"),
)
