"""The RTP capabilities of a router, computed from the codecs that were requested for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mafalda.errors import InvalidParameters, UnsupportedError
from mafalda.media.rtp import RtpCapabilities, RtpCodecCapability
from mafalda.mediasoup.ortc.match import find_match
from mafalda.mediasoup.ortc.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES
from mafalda.mediasoup.ortc.validate import validate_codec_capability

DYNAMIC_PAYLOAD_TYPES = (*range(100, 128), *range(96, 100))
"""In the order in which they are allocated; mediasoup's order, so that all routers allocate the same."""


def generate_router_rtp_capabilities(
    media_codecs: Iterable[RtpCodecCapability | Mapping[str, Any]] = (),
) -> RtpCapabilities:
    """What a router with these codecs can receive. The same codecs always give the same capabilities.

    A video codec adds its RTX codec. The RTCP feedback is the supported codec's, whatever was requested.

    Args:
        media_codecs: requested codecs; ``preferred_payload_type`` is kept where given.

    Raises:
        InvalidParameters: a codec is malformed, or a payload type is requested twice.
        UnsupportedError: mediasoup does not support a codec, or there are more than there are payload types.
    """
    free = list(DYNAMIC_PAYLOAD_TYPES)
    codecs: list[RtpCodecCapability] = []
    for requested in media_codecs:
        codec = _supported(validate_codec_capability(requested), free)
        if any(codec.preferred_payload_type == other.preferred_payload_type for other in codecs):
            raise InvalidParameters("duplicate preferred payload type", payload_type=codec.preferred_payload_type)
        codecs.append(codec)
        if codec.kind == "video":
            codecs.append(_rtx_for(codec, free))
    return RtpCapabilities(codecs=tuple(codecs), header_extensions=SUPPORTED_RTP_CAPABILITIES.header_extensions)


def _supported(requested: RtpCodecCapability, free: list[int]) -> RtpCodecCapability:
    supported = find_match(requested, SUPPORTED_RTP_CAPABILITIES.codecs, strict=False)
    if supported is None:
        raise UnsupportedError(
            "media codec not supported",
            mime_type=requested.mime_type,
            clock_rate=requested.clock_rate,
            channels=requested.channels,
        )
    payload_type = requested.preferred_payload_type
    if payload_type in free:
        free.remove(payload_type)
    if payload_type is None:
        payload_type = supported.preferred_payload_type  # a static one, such as PCMU's 0
    if payload_type is None:
        payload_type = _take(free)
    return supported.model_copy(
        update={
            "preferred_payload_type": payload_type,
            "parameters": {**supported.parameters, **requested.parameters},
        }
    )


def _rtx_for(codec: RtpCodecCapability, free: list[int]) -> RtpCodecCapability:
    return RtpCodecCapability(
        kind=codec.kind,
        mime_type=f"{codec.kind}/rtx",
        preferred_payload_type=_take(free),
        clock_rate=codec.clock_rate,
        parameters={"apt": codec.preferred_payload_type},
    )


def _take(free: list[int]) -> int:
    if not free:
        raise UnsupportedError("cannot allocate more dynamic codec payload types", available=len(DYNAMIC_PAYLOAD_TYPES))
    return free.pop(0)
