"""RTP parameters of a consumer: its producer's consumable parameters, reduced to what the endpoint can receive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mafalda.errors import UnsupportedError
from mafalda.media.rtp import (
    RtcpFeedback,
    RtpCapabilities,
    RtpCodecParameters,
    RtpEncodingParameters,
    RtpHeaderExtensionParameters,
    RtpHeaderExtensionUri,
    RtpParameters,
    RtxParameters,
)
from mafalda.mediasoup.ortc.match import find_match, is_rtx
from mafalda.mediasoup.ortc.scalability import parse_scalability_mode
from mafalda.mediasoup.ortc.ssrc import SsrcSource, random_ssrc
from mafalda.mediasoup.ortc.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES
from mafalda.mediasoup.ortc.validate import validate_rtp_capabilities

Uri = RtpHeaderExtensionUri

_NOT_ACROSS_PIPES = frozenset({Uri.MID, Uri.ABS_SEND_TIME, Uri.TRANSPORT_WIDE_CC})
"""The MID is the endpoint's own, and bandwidth is not estimated between routers."""


def _dependency_descriptor() -> RtpHeaderExtensionParameters:
    """Routers receive it but do not send it to endpoints; across a pipe it is sent all the same."""
    extension = next(
        extension
        for extension in SUPPORTED_RTP_CAPABILITIES.header_extensions
        if extension.uri == Uri.DEPENDENCY_DESCRIPTOR
    )
    return RtpHeaderExtensionParameters(uri=Uri.DEPENDENCY_DESCRIPTOR, id=extension.preferred_id)


_DEPENDENCY_DESCRIPTOR = _dependency_descriptor()


def can_consume(consumable_params: RtpParameters, caps: RtpCapabilities | Mapping[str, Any]) -> bool:
    """Whether an endpoint with these capabilities can consume the producer.

    Raises:
        InvalidParameters: the capabilities are malformed.
    """
    return why_cannot_consume(consumable_params, caps) is None


def why_cannot_consume(consumable_params: RtpParameters, caps: RtpCapabilities | Mapping[str, Any]) -> str | None:
    """Why an endpoint with these capabilities cannot consume the producer; None if it can.

    Raises:
        InvalidParameters: the capabilities are malformed.
    """
    caps = validate_rtp_capabilities(caps)
    matching = [codec for codec in consumable_params.codecs if find_match(codec, caps.codecs, strict=True)]
    if matching and not is_rtx(matching[0]):
        return None
    return _no_codec_in_common(consumable_params, caps)


def get_consumer_rtp_parameters(
    consumable_params: RtpParameters,
    remote_caps: RtpCapabilities | Mapping[str, Any],
    pipe: bool = False,
    enable_rtx: bool = True,
    new_ssrc: SsrcSource = random_ssrc,
) -> RtpParameters:
    """The RTP parameters of a consumer with these capabilities.

    One stream, whatever the number of the producer's layers: the worker switches between them. A pipe consumer
    gets all of them.

    Args:
        consumable_params: of the producer.
        remote_caps: what the consuming endpoint can receive.
        pipe: forward all streams as they are, such as to another SFU or a recorder.
        enable_rtx: retransmit lost packets, by NACK and, where the endpoint can, RTX.
        new_ssrc: returns the SSRC of the stream; as pipe, of the first stream, then of the first RTX stream.

    Raises:
        InvalidParameters: the capabilities are malformed.
        UnsupportedError: no codec in common; the reason lists those of both sides.
    """
    codecs, extensions, has_rtx = _negotiate(consumable_params, remote_caps, enable_rtx)
    if pipe:
        encodings = _all_encodings(consumable_params, has_rtx, new_ssrc)
    else:
        encodings = (_single_encoding(consumable_params, has_rtx, new_ssrc),)
    return RtpParameters(
        codecs=codecs,
        header_extensions=extensions,
        encodings=encodings,
        rtcp=consumable_params.rtcp,
        msid=consumable_params.msid,
    )


class _Negotiated(NamedTuple):
    """What two sides have in common; the same for each consumer of a producer with the same capabilities."""

    consumable: RtpParameters
    caps: RtpCapabilities
    codecs: tuple[RtpCodecParameters, ...]
    extensions: tuple[RtpHeaderExtensionParameters, ...]
    has_rtx: bool


#: The last negotiations, by the identities of both sides, which are immutable and live as long as they are here.
_NEGOTIATED: dict[tuple[int, int, bool], _Negotiated] = {}
_MAX_NEGOTIATED = 4096


def _negotiate(
    consumable: RtpParameters, remote_caps: RtpCapabilities | Mapping[str, Any], enable_rtx: bool
) -> tuple[tuple[RtpCodecParameters, ...], tuple[RtpHeaderExtensionParameters, ...], bool]:
    """Codecs and header extensions of a consumer, and whether it retransmits by RTX."""
    key = (id(consumable), id(remote_caps), enable_rtx)
    found = _NEGOTIATED.get(key)
    if found is None:
        caps = validate_rtp_capabilities(remote_caps)
        codecs = _receivable_codecs(consumable.codecs, caps, enable_rtx)
        if not codecs or is_rtx(codecs[0]):
            raise UnsupportedError(_no_codec_in_common(consumable, caps))
        known = {(extension.preferred_id, extension.uri) for extension in caps.header_extensions}
        extensions = tuple(it for it in consumable.header_extensions if (it.id, str(it.uri)) in known)
        chosen = _with_one_bandwidth_estimator(codecs, {extension.uri for extension in extensions})
        found = _Negotiated(consumable, caps, chosen, extensions, any(map(is_rtx, codecs)))
        if caps is remote_caps:  # else it is a JSON object, which may change
            if len(_NEGOTIATED) >= _MAX_NEGOTIATED:
                del _NEGOTIATED[next(iter(_NEGOTIATED))]
            _NEGOTIATED[key] = found
    return found.codecs, found.extensions, found.has_rtx


def get_pipe_consumer_rtp_parameters(
    consumable_params: RtpParameters, enable_rtx: bool = False, new_ssrc: SsrcSource = random_ssrc
) -> RtpParameters:
    """The RTP parameters of a consumer on a pipe transport: every stream, without bandwidth estimation.

    Args:
        consumable_params: of the producer.
        enable_rtx: retransmit lost packets; both ends of the pipe must have it.
        new_ssrc: returns the SSRC of the first stream, then of the first RTX stream.
    """
    codecs = tuple(
        codec.model_copy(
            update={
                "rtcp_feedback": tuple(
                    feedback for feedback in codec.rtcp_feedback if _crosses_pipe(feedback, enable_rtx)
                )
            }
        )
        for codec in consumable_params.codecs
        if enable_rtx or not is_rtx(codec)
    )
    extensions = [
        extension for extension in consumable_params.header_extensions if extension.uri not in _NOT_ACROSS_PIPES
    ]
    extensions.append(_DEPENDENCY_DESCRIPTOR)
    return RtpParameters(
        codecs=codecs,
        header_extensions=tuple(sorted(extensions, key=lambda extension: extension.id)),
        encodings=_all_encodings(consumable_params, enable_rtx, new_ssrc),
        rtcp=consumable_params.rtcp,
        msid=consumable_params.msid,
    )


def _receivable_codecs(
    consumable: Iterable[RtpCodecParameters], caps: RtpCapabilities, enable_rtx: bool
) -> list[RtpCodecParameters]:
    """The codecs that the endpoint has too, with its feedback, and RTX only next to its media codec."""
    codecs = []
    for codec in consumable:
        if is_rtx(codec) and not enable_rtx:
            continue
        cap_codec = find_match(codec, caps.codecs, strict=True)
        if cap_codec is not None:
            feedback = tuple(feedback for feedback in cap_codec.rtcp_feedback if enable_rtx or not _is_nack(feedback))
            codecs.append(codec.model_copy(update={"rtcp_feedback": feedback}))
    payload_types = {codec.payload_type for codec in codecs}
    return [codec for codec in codecs if not is_rtx(codec) or codec.parameters.get("apt") in payload_types]


def _with_one_bandwidth_estimator(
    codecs: Iterable[RtpCodecParameters], uris: set[RtpHeaderExtensionUri]
) -> tuple[RtpCodecParameters, ...]:
    """Transport-CC if its header extension is in use, else REMB if abs-send-time is in use, else no estimator."""
    if Uri.TRANSPORT_WIDE_CC in uris:
        unused = {"goog-remb"}
    elif Uri.ABS_SEND_TIME in uris:
        unused = {"transport-cc"}
    else:
        unused = {"transport-cc", "goog-remb"}
    return tuple(
        codec.model_copy(
            update={"rtcp_feedback": tuple(feedback for feedback in codec.rtcp_feedback if feedback.type not in unused)}
        )
        for codec in codecs
    )


def _single_encoding(consumable_params: RtpParameters, has_rtx: bool, new_ssrc: SsrcSource) -> RtpEncodingParameters:
    encodings = consumable_params.encodings
    ssrc = new_ssrc()
    # mediasoup assumes that all encodings of a producer have the same mode: that of the first that has one.
    mode = next((encoding.scalability_mode for encoding in encodings if encoding.scalability_mode), None)
    if len(encodings) > 1:
        # The layers of simulcast are the consumer's spatial layers.
        mode = f"L{len(encodings)}T{parse_scalability_mode(mode).temporal_layers}"
    return RtpEncodingParameters(
        ssrc=ssrc,
        rtx=RtxParameters(ssrc=ssrc + 1) if has_rtx else None,
        scalability_mode=mode,
        max_bitrate=max((encoding.max_bitrate or 0 for encoding in encodings), default=0) or None,
    )


def _all_encodings(
    consumable_params: RtpParameters, has_rtx: bool, new_ssrc: SsrcSource
) -> tuple[RtpEncodingParameters, ...]:
    first_ssrc, first_rtx_ssrc = new_ssrc(), new_ssrc()
    return tuple(
        encoding.model_copy(
            update={
                "ssrc": first_ssrc + index,
                "rtx": RtxParameters(ssrc=first_rtx_ssrc + index) if has_rtx else None,
            }
        )
        for index, encoding in enumerate(consumable_params.encodings)
    )


def _is_nack(feedback: RtcpFeedback) -> bool:
    return feedback.type == "nack" and not feedback.parameter


def _crosses_pipe(feedback: RtcpFeedback, enable_rtx: bool) -> bool:
    return (feedback.type, feedback.parameter) in (("nack", "pli"), ("ccm", "fir")) or (
        enable_rtx and _is_nack(feedback)
    )


def _no_codec_in_common(consumable_params: RtpParameters, caps: RtpCapabilities) -> str:
    sent = _media_types(codec.mime_type for codec in consumable_params.codecs)
    received = _media_types(codec.mime_type for codec in caps.codecs)
    if set(sent) & set(received):
        return (
            f"no compatible media codecs: the producer sends {', '.join(sent)}, which the endpoint has only with"
            " other clock rates, channels or profiles"
        )
    return (
        f"no compatible media codecs: the producer sends {', '.join(sent) or 'nothing'},"
        f" the endpoint receives {', '.join(received) or 'nothing'}"
    )


def _media_types(mime_types: Iterable[str]) -> list[str]:
    lower = {mime_type.lower() for mime_type in mime_types}
    return sorted(mime_type for mime_type in lower if not mime_type.endswith("/rtx"))
