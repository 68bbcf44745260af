"""Input that a router may work with: models or plain JSON become models in mediasoup's normal form.

The models check shapes and bounds. What is checked here is what mediasoup checks beyond that, and what makes its
worker refuse or misread the parameters later. Stricter than mediasoup in one way: a value of the wrong type is
refused where mediasoup would silently put the default in its place.

What does not belong here: whether a particular router supports it.
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
    """Make a model of plain JSON; a model is returned as it is.

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
    """Check what an endpoint says that it can receive.

    Raises:
        InvalidParameters: it is malformed.
    """
    caps = parse(RtpCapabilities, caps)
    for codec in caps.codecs:
        _check_codec_parameters(codec.mime_type, codec.parameters)
    return caps


def validate_rtp_parameters(params: RtpParameters | Mapping[str, Any]) -> RtpParameters:
    """Check what an endpoint says that it sends, and bring it into normal form.

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
            # mediasoup always uses reduced-size RTCP (RFC 5506), whatever was asked.
            "rtcp": RtcpParameters(cname=params.rtcp.cname, reduced_size=True),
        }
    )


def validate_sctp_stream_parameters(
    params: SctpStreamParameters | Mapping[str, Any],
) -> SctpStreamParameters:
    """Check the reliability of an SCTP stream, and say whether it is ordered.

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
