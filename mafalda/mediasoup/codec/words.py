"""The spelling of the worker's enum values in mediasoup's JSON.

Most are the lower-case name with dashes (``DISCONNECTED`` is ``"disconnected"``). The exceptions are listed here.
"""

from __future__ import annotations

from collections.abc import Mapping

_EXCEPTIONS: Mapping[str, Mapping[str, str]] = {
    "FBS.Common.TraceDirection": {"DIRECTION_IN": "in", "DIRECTION_OUT": "out"},
    "FBS.WebRtcTransport.FingerprintAlgorithm": {
        "SHA1": "sha-1",
        "SHA224": "sha-224",
        "SHA256": "sha-256",
        "SHA384": "sha-384",
        "SHA512": "sha-512",
    },
    "FBS.RtpParameters.RtpHeaderExtensionUri": {
        "Mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
        "RtpStreamId": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "RepairRtpStreamId": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "AbsSendTime": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "TransportWideCcDraft01": ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
        "SsrcAudioLevel": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "DependencyDescriptor": (
            "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
        ),
        "VideoOrientation": "urn:3gpp:video-orientation",
        "TimeOffset": "urn:ietf:params:rtp-hdrext:toffset",
        "AbsCaptureTime": "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        "PlayoutDelay": "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        "MediasoupPacketId": "urn:mediasoup:params:rtp-hdrext:packet-id",
        # Of older versions.
        "AudioLevel": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "FrameMarkingDraft07": "http://tools.ietf.org/html/draft-ietf-avtext-framemarking-07",
        "FrameMarking": "urn:ietf:params:rtp-hdrext:framemarking",
    },
}
# Enums whose values are spelled in JSON as they are named.
_VERBATIM = frozenset({"FBS.SrtpParameters.SrtpCryptoSuite", "FBS.Request.Method", "FBS.Notification.Event"})


def word_of(enum: str, name: str) -> str:
    """The JSON spelling of value ``name`` of ``enum`` (its full name, e.g. ``FBS.Transport.Protocol``)."""
    if enum in _VERBATIM:
        return name
    return _EXCEPTIONS.get(enum, {}).get(name) or name.lower().replace("_", "-")
