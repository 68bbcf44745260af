"""Comparison of codecs, and the answer's parameters where codec parameters are negotiated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from mafalda.media.rtp import ParameterValue
from mafalda.mediasoup.ortc import h264


class Codec(Protocol):
    """What a codec capability and codec parameters have in common."""

    @property
    def mime_type(self) -> str: ...
    @property
    def clock_rate(self) -> int: ...
    @property
    def channels(self) -> int | None: ...
    @property
    def parameters(self) -> Mapping[str, ParameterValue]: ...


C = TypeVar("C", bound=Codec)


def is_rtx(codec: Codec) -> bool:
    """Whether the codec retransmits another (RFC 4588)."""
    return codec.mime_type.lower().endswith("/rtx")


def find_match(codec: Codec, candidates: Iterable[C], *, strict: bool) -> C | None:
    """The first of the candidates that is the same codec, or None."""
    return next((candidate for candidate in candidates if codecs_match(codec, candidate, strict=strict)), None)


def codecs_match(ours: Codec, theirs: Codec, *, strict: bool) -> bool:
    """Whether two codecs are the same; symmetric.

    Args:
        ours: a codec.
        theirs: another.
        strict: also compare what distinguishes variants of a codec that a router may have several of (H264's
            packetization mode and profile, VP9's profile). Not strict is for asking whether a codec is
            supported at all.
    """
    mime_type = ours.mime_type.lower()
    if (
        mime_type != theirs.mime_type.lower()
        or ours.clock_rate != theirs.clock_rate
        or ours.channels != theirs.channels
    ):
        return False
    match mime_type:
        case "audio/multiopus":
            return _same(ours, theirs, "num_streams") and _same(ours, theirs, "coupled_streams")
        case "video/h264" if strict:
            return _same(ours, theirs, "packetization-mode", default=0) and h264.is_same_profile(
                ours.parameters, theirs.parameters
            )
        case "video/vp9" if strict:
            return _same(ours, theirs, "profile-id", default=0)
        case _:
            return True


def answer_parameters(ours: Codec, theirs: Codec) -> dict[str, ParameterValue]:
    """The parameters with which ``ours`` is used, once it matched ``theirs`` strictly.

    They are our own, but for H264, whose ``profile-level-id`` becomes the negotiated one. Doing it again
    changes nothing.
    """
    parameters = dict(ours.parameters)
    if ours.mime_type.lower() == "video/h264":
        profile_level_id = h264.answer_profile_level_id(ours.parameters, theirs.parameters)
        parameters.pop("profile-level-id", None)
        if profile_level_id is not None:
            parameters["profile-level-id"] = profile_level_id
    return parameters


def _same(ours: Codec, theirs: Codec, name: str, *, default: int | None = None) -> bool:
    return (ours.parameters.get(name) or default) == (theirs.parameters.get(name) or default)
