"""What holds for any router, producer and consumer, not only for recorded ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mafalda.errors import InvalidParameters, UnsupportedError
from mafalda.media.rtp import RtpCapabilities, RtpParameters
from mafalda.mediasoup import ortc

# The machine may be busy: no time limits.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FEEDBACK = [
    {"type": "nack"},
    {"type": "nack", "parameter": "pli"},
    {"type": "goog-remb"},
    {"type": "transport-cc"},
]
VIDEO: list[dict[str, Any]] = [
    {"mimeType": "video/VP8"},
    {"mimeType": "video/vp8", "parameters": {"x-google-start-bitrate": 1000}},
    {"mimeType": "video/VP9"},
    {"mimeType": "video/VP9", "parameters": {"profile-id": 2}},
    {"mimeType": "video/AV1", "parameters": {"level-idx": 5}},
    {"mimeType": "video/H264"},
    *(
        {
            "mimeType": "video/H264",
            "parameters": {
                "packetization-mode": mode,
                "profile-level-id": profile,
                "level-asymmetry-allowed": asymmetry,
            },
        }
        for mode in (0, 1)
        for profile in ("42e01f", "42e034", "42001f", "4d0032", "64001f", "f4001f", "broken")
        for asymmetry in (0, 1)
    ),
]
AUDIO: list[dict[str, Any]] = [
    {"mimeType": "audio/opus", "clockRate": 48000, "channels": 2},
    {"mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "parameters": {"useinbandfec": 1}},
    {"mimeType": "audio/PCMU", "clockRate": 8000},
    {
        "mimeType": "audio/multiopus",
        "clockRate": 48000,
        "channels": 6,
        "parameters": {"num_streams": 4, "coupled_streams": 2},
    },
]
CODECS = [{"clockRate": 90000, "rtcpFeedback": FEEDBACK} | codec for codec in VIDEO + AUDIO]


@st.composite
def routers(draw: st.DrawFn) -> RtpCapabilities:
    """Some router, with some payload types given; there are enough of them for each codec to have one."""
    given = iter([35, 36, 37, 45, 96, 97, 98, 127])
    requested = [
        codec | ({"preferredPayloadType": next(given)} if draw(st.integers(0, 9)) == 0 else {})
        for codec in draw(st.lists(st.sampled_from(CODECS), min_size=1, max_size=8, unique_by=id))
    ]
    return ortc.generate_router_rtp_capabilities(requested)


def like_router(caps: RtpCapabilities) -> list[dict[str, Any]]:
    """The router's media codecs as an endpoint could send them, so that much is accepted."""
    return [
        {key: value for key, value in codec.to_json_dict().items() if key not in ("kind", "preferredPayloadType")}
        for codec in caps.codecs
        if codec.mime_type != "video/rtx"
    ]


@st.composite
def sent_parameters(draw: st.DrawFn, codecs: list[dict[str, Any]] = CODECS) -> dict[str, Any]:
    sent = []
    payload_types = iter(draw(st.permutations(range(128))))
    for codec in draw(st.lists(st.sampled_from(codecs), min_size=1, max_size=6)):
        sent.append(codec | {"payloadType": next(payload_types)})
        if draw(st.booleans()) and codec["mimeType"].startswith("video/"):
            apt = {"apt": sent[-1]["payloadType"]}
            sent.append(
                {
                    "mimeType": "video/rtx",
                    "clockRate": 90000,
                    "payloadType": next(payload_types),
                    "parameters": apt,
                }
            )
    first_ssrc = draw(st.integers(1, 2**32 - 9))
    ssrcs = iter(range(first_ssrc, first_ssrc + 8))
    encodings = [
        {
            "ssrc": next(ssrcs),
            "rtx": draw(st.none() | st.just({"ssrc": next(ssrcs)})),
            "maxBitrate": draw(st.none() | st.integers(0, 10**9)),
            "scalabilityMode": draw(st.sampled_from([None, "L1T3", "L3T3_KEY", "nonsense"])),
        }
        for _ in range(draw(st.integers(1, 4)))
    ]
    return {"codecs": sent, "encodings": encodings, "rtcp": {"cname": "c"}}


def check_consistent(params: RtpParameters) -> None:
    """What every worker demands of parameters that it is given."""
    payload_types = [codec.payload_type for codec in params.codecs]
    assert len(set(payload_types)) == len(payload_types)
    media = {codec.payload_type for codec in params.codecs if not codec.mime_type.endswith("/rtx")}
    assert params.codecs[0].payload_type in media
    for codec in params.codecs:
        if codec.payload_type not in media:
            assert codec.parameters["apt"] in media
    extension_ids = [extension.id for extension in params.header_extensions]
    assert len(set(extension_ids)) == len(extension_ids)
    assert params.encodings
    ssrcs = [encoding.ssrc for encoding in params.encodings]
    ssrcs += [encoding.rtx.ssrc for encoding in params.encodings if encoding.rtx]
    assert None not in ssrcs
    assert len(set(ssrcs)) == len(ssrcs)
    # Nothing was put in unchecked on the way: it survives its own validation.
    assert RtpParameters.model_validate(params.to_json_dict()) == params


@PATIENT
@given(
    requested=st.lists(
        st.builds(
            lambda codec, payload_type: codec | {"preferredPayloadType": payload_type},
            st.sampled_from(CODECS),
            st.none() | st.integers(90, 127),
        ),
        max_size=20,
    )
)
def test_a_router_numbers_each_codec_once_or_refuses(requested: list[dict[str, Any]]) -> None:
    try:
        caps = ortc.generate_router_rtp_capabilities(requested)
    except (InvalidParameters, UnsupportedError):
        event("refused")
        return
    payload_types = [codec.preferred_payload_type for codec in caps.codecs]
    assert None not in payload_types
    assert len(set(payload_types)) == len(payload_types)
    for codec in caps.codecs:
        if codec.mime_type == "video/rtx":
            assert codec.parameters["apt"] in payload_types
    assert RtpCapabilities.model_validate(caps.to_json_dict()) == caps
    assert ortc.generate_router_rtp_capabilities(requested) == caps


@settings(PATIENT, max_examples=200)
@given(caps=routers(), data=st.data())
def test_an_accepted_producer_is_consistent_for_every_consumer(caps: RtpCapabilities, data: st.DataObject) -> None:
    params = ortc.validate_rtp_parameters(data.draw(sent_parameters(like_router(caps)) | sent_parameters()))
    try:
        mapping = ortc.get_producer_rtp_parameters_mapping(params, caps)
    except UnsupportedError:
        return
    assert {entry.payload_type for entry in mapping.codecs} == {codec.payload_type for codec in params.codecs}
    offered = {codec.preferred_payload_type for codec in caps.codecs}
    assert {entry.mapped_payload_type for entry in mapping.codecs} <= offered

    kind = "audio" if params.codecs[0].mime_type.startswith("audio/") else "video"
    consumable = ortc.get_consumable_rtp_parameters(kind, params, caps, mapping)  # type: ignore[arg-type]
    check_consistent(consumable)
    for enable_rtx in (True, False):
        check_consistent(ortc.get_pipe_consumer_rtp_parameters(consumable, enable_rtx))

    remote = RtpCapabilities(
        codecs=data.draw(st.lists(st.sampled_from(caps.codecs), unique_by=id)),
        header_extensions=data.draw(st.sampled_from([caps.header_extensions, ()])),
    )
    for pipe, enable_rtx in ((False, True), (False, False), (True, True)):
        check_consumer(consumable, remote, pipe, enable_rtx)


def check_consumer(consumable: RtpParameters, remote: RtpCapabilities, pipe: bool, enable_rtx: bool) -> None:
    refusal = ortc.why_cannot_consume(consumable, remote)
    try:
        consumer = ortc.get_consumer_rtp_parameters(consumable, remote, pipe, enable_rtx)
    except UnsupportedError as error:
        event("consumer refused")
        if refusal != error.reason:
            pytest.fail(f"can_consume said {refusal!r}, consume said {error.reason!r}")
        return
    event("consumer accepted")
    check_consistent(consumer)
    assert len(consumer.encodings) == (len(consumable.encodings) if pipe else 1)
    if not enable_rtx:
        assert all(codec.mime_type != "video/rtx" for codec in consumer.codecs)
        assert all((fb.type, fb.parameter) != ("nack", "") for c in consumer.codecs for fb in c.rtcp_feedback)
    estimators = {fb.type for codec in consumer.codecs for fb in codec.rtcp_feedback}
    assert not {"goog-remb", "transport-cc"} <= estimators


@settings(PATIENT, max_examples=200)
@given(caps=routers(), data=st.data())
def test_a_relayed_producer_is_the_same_producer_behind_the_pipe(caps: RtpCapabilities, data: st.DataObject) -> None:
    """Consumers of the far router see what consumers of the near one see: codecs and layers."""
    params = ortc.validate_rtp_parameters(data.draw(sent_parameters(like_router(caps))))
    try:
        mapping = ortc.get_producer_rtp_parameters_mapping(params, caps)
    except UnsupportedError:
        return
    kind = "audio" if params.codecs[0].mime_type.startswith("audio/") else "video"
    near = ortc.get_consumable_rtp_parameters(kind, params, caps, mapping)  # type: ignore[arg-type]

    event("relayed")
    piped = ortc.validate_rtp_parameters(ortc.get_pipe_consumer_rtp_parameters(near, enable_rtx=True))
    far_mapping = ortc.get_producer_rtp_parameters_mapping(piped, caps)
    far = ortc.get_consumable_rtp_parameters(kind, piped, caps, far_mapping)  # type: ignore[arg-type]

    assert far.codecs == near.codecs
    assert far.header_extensions == near.header_extensions
    assert [e.scalability_mode for e in far.encodings] == [e.scalability_mode for e in near.encodings]
    assert [e.max_bitrate for e in far.encodings] == [e.max_bitrate for e in near.encodings]


@PATIENT
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "codecs",
                        "encodings",
                        "mimeType",
                        "clockRate",
                        "payloadType",
                        "parameters",
                        "rtcp",
                        "headerExtensions",
                        "ssrc",
                        "rtx",
                        "uri",
                        "id",
                        "kind",
                        "preferredId",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
@pytest.mark.parametrize(
    "validate",
    [ortc.validate_rtp_parameters, ortc.validate_rtp_capabilities, ortc.validate_sctp_stream_parameters],
)
def test_whatever_comes_is_accepted_or_refused(validate: Any, value: Any) -> None:
    try:
        accepted = validate(value)
    except InvalidParameters:
        event("refused")
    else:
        event("accepted")
        assert validate(accepted.to_json_dict()).to_json_dict() == accepted.to_json_dict()
