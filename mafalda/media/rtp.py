"""Models of RTP capabilities, RTP parameters and mappings.

The JSON shape is mediasoup's own (its ``rtpParametersTypes``), so that any mediasoup client can be used unchanged. The
bounds are the C++ worker's (``fbs/rtpParameters.fbs``): the worker does not verify its input, so values that would
overflow a field or crash it are refused here. Fields that a sender may leave out have mediasoup's defaults.

The models of ``mafalda.media.transport`` can be imported from here as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from mafalda.media.bounds import (
    Bitrate,
    Channels,
    ClockRate,
    ExtensionId,
    Flag,
    PayloadType,
    Ssrc,
    Uint8,
    Uint32,
    Value,
)
from mafalda.media.transport import (
    DtlsFingerprint,
    DtlsParameters,
    DtlsRole,
    FingerprintAlgorithm,
    IceCandidate,
    IceParameters,
    ListenInfo,
    NumSctpStreams,
    PortRange,
    SctpCapabilities,
    SctpParameters,
    SctpStreamParameters,
    SocketFlags,
    SrtpCryptoSuite,
    SrtpParameters,
    TransportProtocol,
    TransportTuple,
)

__all__ = [
    "CodecMapping",
    "ConsumerLayers",
    "ConsumerScore",
    "ConsumerType",
    "DtlsFingerprint",
    "DtlsParameters",
    "DtlsRole",
    "EncodingMapping",
    "FingerprintAlgorithm",
    "IceCandidate",
    "IceParameters",
    "ListenInfo",
    "MediaKind",
    "NumSctpStreams",
    "ParameterValue",
    "PortRange",
    "ProducerScore",
    "ProducerType",
    "RtcpFeedback",
    "RtcpParameters",
    "RtpCapabilities",
    "RtpCodecCapability",
    "RtpCodecParameters",
    "RtpEncodingParameters",
    "RtpHeaderExtension",
    "RtpHeaderExtensionDirection",
    "RtpHeaderExtensionParameters",
    "RtpHeaderExtensionUri",
    "RtpMapping",
    "RtpParameters",
    "RtxParameters",
    "SctpCapabilities",
    "SctpParameters",
    "SctpStreamParameters",
    "SocketFlags",
    "SrtpCryptoSuite",
    "SrtpParameters",
    "TransportProtocol",
    "TransportTuple",
]

MediaKind = Literal["audio", "video"]
ProducerType = Literal["simple", "simulcast", "svc"]
ConsumerType = Literal["simple", "simulcast", "svc", "pipe"]
RtpHeaderExtensionDirection = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

MimeType = Annotated[str, StringConstraints(pattern=r"^([aA][uU][dD][iI][oO]|[vV][iI][dD][eE][oO])/.+$", max_length=64)]
Rid = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _fits_the_worker(value: str | int | float | bool | None) -> str | int | float | bool | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number: 1.0 is 1, as it is for mediasoup
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        raise ValueError("an integer must fit into 32 bits")
    return value


ParameterValue = Annotated[
    Annotated[str, StringConstraints(strict=True, max_length=4096)]
    | Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[bool, Field(strict=True)]
    | None,
    AfterValidator(_fits_the_worker),
]
Parameters = Annotated[
    Mapping[Annotated[str, StringConstraints(min_length=1, max_length=128)], ParameterValue],
    Field(max_length=64),
]

_MIME_KIND = re.compile(r"(audio|video)/.", re.IGNORECASE)


def _kind_of(mime_type: object) -> str | None:
    match = _MIME_KIND.match(mime_type) if isinstance(mime_type, str) else None
    return match[1].lower() if match else None


def _is_channel_count(value: object) -> bool:
    return value is None or (not isinstance(value, bool) and value in range(1, 256))


class RtpHeaderExtensionUri(StrEnum):
    """The RTP header extensions that mediasoup-worker 3.27.1 knows; it accepts no other."""

    MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
    RTP_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
    REPAIRED_RTP_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
    ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
    TRANSPORT_WIDE_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
    SSRC_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    DEPENDENCY_DESCRIPTOR = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
    TIME_OFFSET = "urn:ietf:params:rtp-hdrext:toffset"
    ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
    PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
    MEDIASOUP_PACKET_ID = "urn:mediasoup:params:rtp-hdrext:packet-id"


class RtcpFeedback(Value):
    """One RTCP feedback message that a codec uses, such as ``nack`` or ``nack pli``."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    parameter: Annotated[str, StringConstraints(max_length=64)] = ""


class _Codec(Value):
    mime_type: MimeType = Field(description="Media type and subtype, such as 'audio/opus' or 'video/VP8'.")
    clock_rate: ClockRate = Field(description="Hertz.")
    channels: Channels | None = Field(default=None, description="Audio channels; 1 when left out. Never set for video.")
    parameters: Parameters = Field(
        default_factory=dict, description="Codec specific; some decide whether two codecs match."
    )
    rtcp_feedback: tuple[RtcpFeedback, ...] = Field(default=(), max_length=64)

    @property
    def media_kind(self) -> MediaKind:
        """The media type of ``mime_type``."""
        return "audio" if _kind_of(self.mime_type) == "audio" else "video"

    @model_validator(mode="before")
    @classmethod
    def _settle_channels(cls, data: Any) -> Any:
        """Set mediasoup's normal form: audio has one channel where none is given, video has no channels."""
        if not isinstance(data, dict):
            return data
        kind = _kind_of(data.get("mimeType", data.get("mime_type")))
        if kind == "video" and _is_channel_count(data.get("channels")):
            return {key: value for key, value in data.items() if key != "channels"}
        if kind == "audio" and data.get("channels") is None:
            return data | {"channels": 1}
        return data


def without_zero_channels(rtp_parameters: Any) -> Any:
    """RTP parameters as a library writes them on the worker's channel, without a codec's number of channels if it is 0.

    Node's library writes 0 for video; only the channel's schema allows that.
    """
    if not isinstance(rtp_parameters, Mapping) or not isinstance(rtp_parameters.get("codecs"), list | tuple):
        return rtp_parameters
    codecs = [
        {key: it[key] for key in it if key != "channels" or it[key] != 0} if isinstance(it, Mapping) else it
        for it in rtp_parameters["codecs"]
    ]
    return {**rtp_parameters, "codecs": codecs}


def _kind_may_be_absent(schema: dict[str, Any]) -> None:
    schema["required"].remove("kind")


class RtpCodecCapability(_Codec):
    """A codec that an endpoint or a router can receive, or that a router is asked to have."""

    model_config = ConfigDict(json_schema_extra=_kind_may_be_absent)

    kind: MediaKind = Field(
        description="Always the media type of mimeType, which wins where they differ and counts where this is absent."
    )
    preferred_payload_type: PayloadType | None = Field(
        default=None, description="Wanted RTP payload type; None lets the router choose a dynamic one."
    )

    @model_validator(mode="before")
    @classmethod
    def _settle_kind(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = _kind_of(data.get("mimeType", data.get("mime_type")))
        return data | {"kind": kind} if kind and data.get("kind", "audio") in ("audio", "video") else data


class RtpHeaderExtension(Value):
    """An RTP header extension that an endpoint or a router supports. No worker need know its URI."""

    kind: MediaKind
    uri: Uri
    preferred_id: ExtensionId
    preferred_encrypt: Flag = False
    direction: RtpHeaderExtensionDirection = Field(
        default="sendrecv", description="Seen from the router; ignored in an endpoint's capabilities."
    )


class RtpCapabilities(Value):
    """What an endpoint or a router can receive at media level."""

    codecs: tuple[RtpCodecCapability, ...] = Field(default=(), max_length=256)
    header_extensions: tuple[RtpHeaderExtension, ...] = Field(default=(), max_length=256)


class RtpCodecParameters(_Codec):
    """A codec in use, with its payload type."""

    payload_type: PayloadType = Field(description="RTP payload type, unique within the parameters.")


class RtpHeaderExtensionParameters(Value):
    """An RTP header extension in use."""

    uri: RtpHeaderExtensionUri
    id: ExtensionId
    encrypt: Flag = False
    parameters: Parameters = Field(default_factory=dict)


class RtxParameters(Value):
    """The retransmission stream of an encoding."""

    ssrc: Ssrc


class RtpEncodingParameters(Value):
    """One RTP stream of a producer or consumer, such as a simulcast layer."""

    ssrc: Ssrc | None = None
    rid: Rid | None = Field(default=None, description="RTP stream id, unique within the parameters.")
    codec_payload_type: PayloadType | None = Field(
        default=None, description="Payload type of this encoding's codec; None is the first media codec."
    )
    rtx: RtxParameters | None = None
    dtx: Flag | None = Field(
        default=None, description="Whether the stream may pause by itself; None is the same as false."
    )
    scalability_mode: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, description="Spatial and temporal layers, such as 'L1T3' or 'L3T3_KEY'."
    )
    scale_resolution_down_by: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] | None = None
    max_bitrate: Bitrate | None = Field(
        default=None, description="Greatest bit rate of the stream, in bits per second."
    )


class RtcpParameters(Value):
    """RTCP settings of RTP parameters."""

    cname: Annotated[str, StringConstraints(max_length=255)] | None = None
    reduced_size: Flag = True


class RtpParameters(Value):
    """What an endpoint sends (a producer's parameters), or what is sent to it (a consumer's)."""

    mid: Annotated[str, StringConstraints(max_length=255)] | None = None
    codecs: tuple[RtpCodecParameters, ...] = Field(max_length=64)
    header_extensions: tuple[RtpHeaderExtensionParameters, ...] = Field(default=(), max_length=64)
    encodings: tuple[RtpEncodingParameters, ...] = Field(default=(), max_length=32)
    rtcp: RtcpParameters = Field(default_factory=RtcpParameters)
    msid: Annotated[str, StringConstraints(max_length=255)] | None = Field(
        default=None, description="Media stream identification (RFC 8830)."
    )


class CodecMapping(Value):
    """A producer's payload type, and the router's for the same codec."""

    payload_type: PayloadType
    mapped_payload_type: PayloadType


class EncodingMapping(Value):
    """A producer's encoding, and the SSRC under which the router's consumers know it."""

    ssrc: Ssrc | None = None
    rid: Rid | None = None
    mapped_ssrc: Ssrc


class RtpMapping(Value):
    """How a producer's payload types and encodings become the router's."""

    codecs: tuple[CodecMapping, ...] = Field(default=(), max_length=64)
    encodings: tuple[EncodingMapping, ...] = Field(default=(), max_length=32)


class ConsumerLayers(Value):
    """Spatial and temporal layer of a simulcast or SVC consumer, each from 0."""

    spatial_layer: Uint8
    temporal_layer: Uint8 | None = Field(default=None, description="None is the highest one.")


class ProducerScore(Value):
    """Quality of one RTP stream of a producer, from 0 (none) to 10."""

    encoding_idx: Uint32
    ssrc: Uint32
    rid: Rid | None = None
    score: Uint8


class ConsumerScore(Value):
    """Quality of a consumer's stream and of the producer's streams behind it, each from 0 to 10."""

    score: Uint8
    producer_score: Uint8
    producer_scores: tuple[Uint8, ...] = Field(max_length=32)
