"""Validation of RTP and SCTP parameters: models or plain JSON become models in mediasoup's normal form.

The models check shapes and bounds. This module checks what mediasoup checks beyond that, and what its worker would
refuse or misread later. It is stricter than mediasoup in one way: a value of the wrong type is refused, where mediasoup
silently uses the default instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from mafalda.errors import InvalidParameters
from mafalda.media.model import Model
from mafalda.media.rtp import (
    ParameterValue,
    RtcpParameters,
    RtpCapabilities,
    RtpCodecCapability,
    RtpParameters,
    SctpStreamParameters,
)

M = TypeVar("M", bound=Model)


def parse(model: type[M], value: M | Mapping[str, Any]) -> M:
    """Parse plain JSON into a model; a model is returned as it is.

    Raises:
        InvalidParameters: with the place and the rule of the first fault, never with the value itself.
    """
    if isinstance(value, model):
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InvalidParameters(f"{model.__name__}: {fault['msg']}", field=place, faults=error.error_count()) from None


def validate_codec_capability(codec: RtpCodecCapability | Mapping[str, Any]) -> RtpCodecCapability:
    """Check one codec capability.

    Raises:
        InvalidParameters: it is malformed.
    """
    codec = parse(RtpCodecCapability, codec)
    _check_codec_parameters(codec.mime_type, codec.parameters)
    return codec


def validate_rtp_capabilities(caps: RtpCapabilities | Mapping[str, Any]) -> RtpCapabilities:
    """Check the RTP capabilities of an endpoint.

    Raises:
        InvalidParameters: it is malformed.
    """
    caps = parse(RtpCapabilities, caps)
    for codec in caps.codecs:
        _check_codec_parameters(codec.mime_type, codec.parameters)
    return caps


def validate_rtp_parameters(params: RtpParameters | Mapping[str, Any]) -> RtpParameters:
    """Check the RTP parameters that an endpoint sends, and bring them into normal form.

    Raises:
        InvalidParameters: it is malformed, or its payload types, header extensions or streams are not unique.
    """
    params = parse(RtpParameters, params)
    for codec in params.codecs:
        _check_codec_parameters(codec.mime_type, codec.parameters)
    for extension in params.header_extensions:
        _check_values(extension.uri, extension.parameters)
    _check_unique("payload type", (codec.payload_type for codec in params.codecs))
    _check_unique("header extension id", (extension.id for extension in params.header_extensions))
    encodings = params.encodings
    _check_unique("rid", (encoding.rid for encoding in encodings if encoding.rid is not None))
    ssrcs = [encoding.ssrc for encoding in encodings if encoding.ssrc is not None]
    _check_unique("ssrc", [*ssrcs, *(encoding.rtx.ssrc for encoding in encodings if encoding.rtx)])
    return params.model_copy(
        update={
            "encodings": tuple(encoding.model_copy(update={"dtx": bool(encoding.dtx)}) for encoding in encodings),
            # mediasoup always uses reduced-size RTCP (RFC 5506), whatever was requested.
            "rtcp": RtcpParameters(cname=params.rtcp.cname, reduced_size=True),
        }
    )


def validate_sctp_stream_parameters(
    params: SctpStreamParameters | Mapping[str, Any],
) -> SctpStreamParameters:
    """Check the reliability of an SCTP stream, and set ``ordered`` where it is left out.

    Raises:
        InvalidParameters: both limits are given, or a limit together with ``ordered``.
    """
    params = parse(SctpStreamParameters, params)
    if params.max_packet_life_time and params.max_retransmits:
        raise InvalidParameters("cannot have both maxPacketLifeTime and maxRetransmits")
    limited = bool(params.max_packet_life_time or params.max_retransmits)
    if params.ordered and limited:
        raise InvalidParameters("cannot be ordered with maxPacketLifeTime or maxRetransmits")
    if params.ordered is None:
        return params.model_copy(update={"ordered": not limited})
    return params


def _check_codec_parameters(mime_type: str, parameters: Mapping[str, ParameterValue]) -> None:
    _check_values(mime_type, parameters)
    apt = parameters.get("apt")
    if apt is not None and not isinstance(apt, int):
        raise InvalidParameters("codec parameter apt must be a payload type", mime_type=mime_type)


def _check_values(owner: str, parameters: Mapping[str, ParameterValue]) -> None:
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidParameters("a parameter must be a string or a number", of=owner, parameter=name)


def _check_unique(what: str, values: Iterable[int | str]) -> None:
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise InvalidParameters(f"duplicate {what}", repeated=", ".join(repeated))
