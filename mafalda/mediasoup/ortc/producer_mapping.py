"""The mapping of a producer's payload types and SSRCs to the router's, and its consumable RTP parameters.

Each endpoint chooses its own numbers for payload types, streams and header extensions. Within a router they have the
router's numbers. The mapping describes how the worker rewrites packets; the *consumable* parameters describe the
producer in the router's numbers, and each consumer's parameters are derived from them.
"""

from __future__ import annotations

from mafalda.errors import InvalidParameters, UnsupportedError
from mafalda.media.rtp import (
    CodecMapping,
    EncodingMapping,
    MediaKind,
    RtcpParameters,
    RtpCapabilities,
    RtpCodecCapability,
    RtpCodecParameters,
    RtpHeaderExtensionParameters,
    RtpHeaderExtensionUri,
    RtpMapping,
    RtpParameters,
)
from mafalda.mediasoup.ortc.match import answer_parameters, find_match, is_rtx
from mafalda.mediasoup.ortc.ssrc import SsrcSource, random_ssrc
from mafalda.mediasoup.ortc.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES


def get_producer_rtp_parameters_mapping(
    params: RtpParameters, caps: RtpCapabilities, new_ssrc: SsrcSource = random_ssrc
) -> RtpMapping:
    """Map a producer's payload types and encodings to the router's.

    Args:
        params: validated parameters of the producer.
        caps: the router's.
        new_ssrc: returns the mapped SSRC of the first encoding; the others follow it.

    Raises:
        UnsupportedError: the router does not have a codec, or has no RTX for one.
        InvalidParameters: an RTX codec belongs to no codec.
    """
    matches = _match_codecs(params, caps)
    first_ssrc = new_ssrc()
    return RtpMapping(
        codecs=tuple(
            CodecMapping(payload_type=payload_type, mapped_payload_type=cap_codec.preferred_payload_type)
            for payload_type, cap_codec in matches.items()
        ),
        encodings=tuple(
            EncodingMapping(ssrc=encoding.ssrc, rid=encoding.rid, mapped_ssrc=first_ssrc + index)
            for index, encoding in enumerate(params.encodings)
        ),
    )


def answer_producer_rtp_parameters(params: RtpParameters, caps: RtpCapabilities) -> RtpParameters:
    """The producer's parameters as the router answers them: H264 with the negotiated ``profile-level-id``.

    mediasoup writes it into the producer's own parameters while it computes the mapping, so a producer and its worker
    have these.

    Raises:
        UnsupportedError: the router does not have a codec.
    """
    codecs = []
    for codec in params.codecs:
        if not is_rtx(codec):
            cap_codec = _find_media_codec(codec, caps)
            codec = codec.model_copy(update={"parameters": answer_parameters(codec, cap_codec)})
        codecs.append(codec)
    return params.model_copy(update={"codecs": tuple(codecs)})


def get_consumable_rtp_parameters(
    kind: MediaKind, params: RtpParameters, caps: RtpCapabilities, mapping: RtpMapping
) -> RtpParameters:
    """A producer's parameters in the router's numbers, from which each consumer's parameters are derived.

    Args:
        kind: of the producer.
        params: validated parameters of the producer.
        caps: the router's.
        mapping: of the same parameters and capabilities.
    """
    encodings = tuple(
        encoding.model_copy(update={"ssrc": mapped.mapped_ssrc, "rid": None, "rtx": None, "codec_payload_type": None})
        for encoding, mapped in zip(params.encodings, mapping.encodings, strict=True)
    )
    return RtpParameters(
        codecs=_consumable_codecs(params, caps, mapping),
        header_extensions=_consumable_header_extensions(kind, params, caps),
        encodings=encodings,
        rtcp=RtcpParameters(cname=params.rtcp.cname, reduced_size=True),
        msid=params.msid,
    )


def capabilities_of_mapping(kind: MediaKind, params: RtpParameters, mapping: RtpMapping) -> RtpCapabilities:
    """The part of a router's capabilities that can be derived from a mapping that was computed with them.

    For producers whose router is on another worker. A media codec without RTX gets an RTX codec on an unused payload
    type, so that packets that are lost on a pipe can be retransmitted.

    Raises:
        InvalidParameters: a codec has no mapping.
    """
    mapped = {entry.payload_type: entry.mapped_payload_type for entry in mapping.codecs}
    supported = SUPPORTED_RTP_CAPABILITIES
    codecs: list[RtpCodecCapability] = []
    for codec in params.codecs:
        if codec.payload_type not in mapped:
            raise InvalidParameters("codec without a mapping", payload_type=codec.payload_type)
        apt = codec.parameters.get("apt")
        parameters = codec.parameters
        if is_rtx(codec):
            if not isinstance(apt, int) or apt not in mapped:
                raise InvalidParameters("RTX codec without its media codec", payload_type=codec.payload_type)
            parameters = {**parameters, "apt": mapped[apt]}
        known = None if is_rtx(codec) else find_match(codec, supported.codecs, strict=False)
        codecs.append(
            RtpCodecCapability.model_validate(
                {
                    "kind": kind,
                    "mime_type": codec.mime_type,
                    "clock_rate": codec.clock_rate,
                    "channels": codec.channels,
                    "preferred_payload_type": mapped[codec.payload_type],
                    "parameters": parameters,
                    "rtcp_feedback": known.rtcp_feedback if known else codec.rtcp_feedback,
                }
            )
        )
    if kind == "video":
        codecs += _missing_rtx(codecs)
    return RtpCapabilities(codecs=tuple(codecs), header_extensions=supported.header_extensions)


def _missing_rtx(codecs: list[RtpCodecCapability]) -> list[RtpCodecCapability]:
    used = {codec.preferred_payload_type for codec in codecs}
    free = (number for number in range(127, 95, -1) if number not in used)
    covered = {codec.parameters.get("apt") for codec in codecs if is_rtx(codec)}
    missing = [codec for codec in codecs if not is_rtx(codec) and codec.preferred_payload_type not in covered]
    return [
        RtpCodecCapability(
            kind="video",
            mime_type="video/rtx",
            clock_rate=codec.clock_rate,
            preferred_payload_type=number,
            parameters={"apt": codec.preferred_payload_type},
        )
        for codec, number in zip(missing, free, strict=False)
    ]


def _match_codecs(params: RtpParameters, caps: RtpCapabilities) -> dict[int, RtpCodecCapability]:
    """The router's codec for each payload type of the producer: media codecs first, then RTX."""
    media = {codec.payload_type: _find_media_codec(codec, caps) for codec in params.codecs if not is_rtx(codec)}
    rtx: dict[int, RtpCodecCapability] = {}
    for codec in filter(is_rtx, params.codecs):
        apt = codec.parameters.get("apt")
        cap_media = media.get(apt) if isinstance(apt, int) else None
        if cap_media is None:
            raise InvalidParameters("RTX codec without its media codec", payload_type=codec.payload_type, apt=apt)
        cap_rtx = _find_rtx(caps, cap_media.preferred_payload_type)
        if cap_rtx is None:
            raise UnsupportedError(
                "no RTX codec in the router for this codec",
                mime_type=cap_media.mime_type,
                payload_type=cap_media.preferred_payload_type,
            )
        rtx[codec.payload_type] = cap_rtx
    return media | rtx


def _find_media_codec(codec: RtpCodecParameters, caps: RtpCapabilities) -> RtpCodecCapability:
    cap_codec = find_match(codec, caps.codecs, strict=True)
    if cap_codec is None:
        raise UnsupportedError("unsupported codec", mime_type=codec.mime_type, payload_type=codec.payload_type)
    return cap_codec


def _find_rtx(caps: RtpCapabilities, payload_type: int | None) -> RtpCodecCapability | None:
    return next(
        (codec for codec in caps.codecs if is_rtx(codec) and codec.parameters.get("apt") == payload_type),
        None,
    )


def _consumable_codecs(
    params: RtpParameters, caps: RtpCapabilities, mapping: RtpMapping
) -> tuple[RtpCodecParameters, ...]:
    mapped = {entry.payload_type: entry.mapped_payload_type for entry in mapping.codecs}
    by_payload_type = {codec.preferred_payload_type: codec for codec in caps.codecs}
    codecs: dict[int, RtpCodecParameters] = {}
    for codec in params.codecs:
        # Two codecs of an endpoint may be one for the router (H264 at two levels). mediasoup then lists it
        # twice, and the worker refuses every consumer for its duplicate payload type; once is enough.
        if is_rtx(codec) or mapped[codec.payload_type] in codecs:
            continue
        cap_codec = by_payload_type[mapped[codec.payload_type]]
        _add(codecs, cap_codec, answer_parameters(codec, cap_codec))
        cap_rtx = _find_rtx(caps, cap_codec.preferred_payload_type)
        if cap_rtx is not None:
            _add(codecs, cap_rtx, cap_rtx.parameters)
    return tuple(codecs.values())


def _add(codecs: dict[int, RtpCodecParameters], cap_codec: RtpCodecCapability, parameters: object) -> None:
    codec = RtpCodecParameters.model_validate(
        {
            "mime_type": cap_codec.mime_type,
            "payload_type": cap_codec.preferred_payload_type,
            "clock_rate": cap_codec.clock_rate,
            "channels": cap_codec.channels,
            "parameters": parameters,
            "rtcp_feedback": cap_codec.rtcp_feedback,
        }
    )
    codecs[codec.payload_type] = codec


def _consumable_header_extensions(
    kind: MediaKind, params: RtpParameters, caps: RtpCapabilities
) -> tuple[RtpHeaderExtensionParameters, ...]:
    sent = {extension.uri for extension in params.header_extensions}
    return tuple(
        RtpHeaderExtensionParameters(
            uri=RtpHeaderExtensionUri(extension.uri),
            id=extension.preferred_id,
            encrypt=extension.preferred_encrypt,
        )
        for extension in caps.header_extensions
        if extension.kind == kind
        and extension.direction in ("sendrecv", "sendonly")
        # The worker only forwards capture times. Announced but never sent, behind a pipe, they would be
        # waited for without end.
        and (extension.uri != RtpHeaderExtensionUri.ABS_CAPTURE_TIME or extension.uri in sent)
    )
