"""What ours refuses, with which reason, and where it is better than mediasoup on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from mafalda.errors import InvalidParameters, UnsupportedError
from mafalda.media.rtp import (
    RtpCapabilities,
    RtpCodecParameters,
    RtpEncodingParameters,
    RtpParameters,
    SctpStreamParameters,
)
from mafalda.mediasoup import ortc
from mafalda.mediasoup.ortc import h264

OPUS = {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}
VP8 = {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000}


def h264_codec(profile: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "video",
        "mimeType": "video/H264",
        "clockRate": 90000,
        "parameters": {"packetization-mode": 1, "profile-level-id": profile},
        **more,
    }


def consumable(codec: dict[str, Any]) -> RtpParameters:
    caps = ortc.generate_router_rtp_capabilities([codec])
    params = ortc.validate_rtp_parameters({"codecs": [codec | {"payloadType": 96}], "encodings": [{"ssrc": 1}]})
    mapping = ortc.get_producer_rtp_parameters_mapping(params, caps)
    return ortc.get_consumable_rtp_parameters(codec["kind"], params, caps, mapping)


class TestWhyCannotConsume:
    def test_names_what_either_side_has(self) -> None:
        caps = {"codecs": [OPUS, h264_codec("42e01f")]}
        assert ortc.why_cannot_consume(consumable(VP8), caps) == (
            "no compatible media codecs: the producer sends video/vp8, the endpoint receives audio/opus, video/h264"
        )

    def test_of_an_endpoint_that_receives_nothing(self) -> None:
        reason = ortc.why_cannot_consume(consumable(VP8), {})
        assert reason is not None
        assert reason.endswith("the endpoint receives nothing")

    def test_says_when_it_is_the_variant_of_the_codec(self) -> None:
        reason = ortc.why_cannot_consume(consumable(h264_codec("42e01f")), {"codecs": [h264_codec("64001f")]})
        assert reason is not None
        assert "other clock rates, channels or profiles" in reason

    def test_is_none_if_it_can(self) -> None:
        assert ortc.why_cannot_consume(consumable(OPUS), {"codecs": [OPUS]}) is None

    def test_malformed_capabilities_are_not_just_a_no(self) -> None:
        with pytest.raises(InvalidParameters):
            ortc.can_consume(consumable(OPUS), {"codecs": [{"mimeType": "opus"}]})

    def test_consuming_anyway_gives_the_same_reason(self) -> None:
        with pytest.raises(UnsupportedError) as caught:
            ortc.get_consumer_rtp_parameters(consumable(VP8), {"codecs": [OPUS]})
        assert caught.value.reason == ortc.why_cannot_consume(consumable(VP8), {"codecs": [OPUS]})


class TestReasons:
    def test_of_malformed_input_name_the_place_and_not_the_value(self) -> None:
        with pytest.raises(InvalidParameters) as caught:
            ortc.validate_rtp_parameters({"codecs": [OPUS | {"payloadType": 96, "clockRate": "s3cret"}]})
        assert caught.value.details["field"] == "codecs.0.clockRate"
        assert "s3cret" not in str(caught.value)

    def test_of_an_unsupported_codec_name_it(self) -> None:
        with pytest.raises(UnsupportedError) as caught:
            ortc.generate_router_rtp_capabilities([VP8 | {"mimeType": "video/H265"}])
        assert caught.value.details["mime_type"] == "video/H265"

    @pytest.mark.parametrize("apt", [97, None, 111])
    def test_an_rtx_codec_needs_its_media_codec(self, apt: int | None) -> None:
        rtx = {"mimeType": "video/rtx", "clockRate": 90000, "payloadType": 97}
        params = ortc.validate_rtp_parameters(
            {"codecs": [VP8 | {"payloadType": 96}, rtx | ({"parameters": {"apt": apt}} if apt else {})]}
        )
        with pytest.raises(InvalidParameters, match="RTX codec without its media codec"):
            ortc.get_producer_rtp_parameters_mapping(params, ortc.generate_router_rtp_capabilities([VP8]))


class TestUniqueness:
    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"codecs": [OPUS | {"payloadType": 96}, VP8 | {"payloadType": 96}]}, "payload type"),
            ({"encodings": [{"rid": "a"}, {"rid": "a"}]}, "rid"),
            ({"encodings": [{"ssrc": 1}, {"ssrc": 1}]}, "ssrc"),
            ({"encodings": [{"ssrc": 1, "rtx": {"ssrc": 1}}]}, "ssrc"),
            ({"encodings": [{"ssrc": 1, "rtx": {"ssrc": 2}}, {"ssrc": 2}]}, "ssrc"),
            (
                {
                    "headerExtensions": [
                        {"uri": "urn:3gpp:video-orientation", "id": 1},
                        {"uri": "urn:ietf:params:rtp-hdrext:toffset", "id": 1},
                    ]
                },
                "header extension id",
            ),
        ],
    )
    def test_what_must_be_unique_is(self, changes: dict[str, Any], what: str) -> None:
        with pytest.raises(InvalidParameters, match=f"duplicate {what}"):
            ortc.validate_rtp_parameters({"codecs": [OPUS | {"payloadType": 96}]} | changes)

    def test_two_levels_of_h264_are_one_codec_for_consumers(self) -> None:
        """In mediasoup it is listed twice, and the worker then refuses every consumer of that producer."""
        caps = ortc.generate_router_rtp_capabilities([h264_codec("42e01f")])
        params = ortc.validate_rtp_parameters(
            {
                "codecs": [
                    h264_codec("42e01f", payloadType=96),
                    h264_codec("42e034", payloadType=97),
                ],
                "encodings": [{"ssrc": 1}],
            }
        )
        mapping = ortc.get_producer_rtp_parameters_mapping(params, caps)
        assert [entry.mapped_payload_type for entry in mapping.codecs] == [100, 100]

        codecs = ortc.get_consumable_rtp_parameters("video", params, caps, mapping).codecs
        assert [codec.payload_type for codec in codecs] == [100, 101]


class TestPurity:
    def test_nothing_given_is_changed(self) -> None:
        caps = ortc.generate_router_rtp_capabilities([h264_codec("42e01f")])
        params = RtpParameters(
            codecs=[RtpCodecParameters.model_validate(h264_codec("42e034", payloadType=96))],
            encodings=[RtpEncodingParameters(ssrc=1, rid="a")],
        )
        before = params.to_json_dict(), caps.to_json_dict()
        mapping = ortc.get_producer_rtp_parameters_mapping(params, caps)
        answered = ortc.answer_producer_rtp_parameters(params, caps)
        made = ortc.get_consumable_rtp_parameters("video", params, caps, mapping)
        ortc.get_consumer_rtp_parameters(made, caps)
        ortc.get_pipe_consumer_rtp_parameters(made)

        assert (params.to_json_dict(), caps.to_json_dict()) == before
        assert answered.codecs[0].parameters["profile-level-id"] == "42e01f"

    def test_random_ssrcs_are_nine_digits_and_differ(self) -> None:
        ssrcs = {ortc.random_ssrc() for _ in range(100)}
        assert len(ssrcs) > 90
        assert all(100_000_000 <= ssrc < 999_999_999 for ssrc in ssrcs)

    def test_a_model_is_taken_as_it_is(self) -> None:
        caps = RtpCapabilities()
        assert ortc.validate_rtp_capabilities(caps) is caps
        assert ortc.validate_sctp_stream_parameters(SctpStreamParameters(stream_id=1)).ordered is True


class TestH264:
    @pytest.mark.parametrize(
        ("text", "profile", "again"),
        [
            ("42e01f", h264.Profile.CONSTRAINED_BASELINE, "42e01f"),
            ("42C02A", h264.Profile.CONSTRAINED_BASELINE, "42e02a"),
            ("4d8020", h264.Profile.CONSTRAINED_BASELINE, "42e020"),
            ("58f015", h264.Profile.CONSTRAINED_BASELINE, "42e015"),
            ("42a01f", h264.Profile.BASELINE, "42001f"),
            ("58a01f", h264.Profile.BASELINE, "42001f"),
            ("4d401f", h264.Profile.MAIN, "4d001f"),
            ("640c34", h264.Profile.CONSTRAINED_HIGH, "640c34"),
            ("640034", h264.Profile.HIGH, "640034"),
            ("f4000a", h264.Profile.PREDICTIVE_HIGH_444, "f4000a"),
            ("42f00b", h264.Profile.CONSTRAINED_BASELINE, "42f00b"),
            ("42100b", h264.Profile.BASELINE, "42100b"),
            ("4d100b", h264.Profile.MAIN, "4d100b"),
        ],
    )
    def test_profiles_and_levels(self, text: str, profile: h264.Profile, again: str) -> None:
        parsed = h264.parse_profile_level_id(text)
        assert parsed is not None
        assert parsed.profile is profile
        assert str(parsed) == again

    @pytest.mark.parametrize("text", ["", "42e01", "42e01f0", "gggggg", "42e0ff", "42e11f", "000000", "fe001f", 420010])
    def test_what_is_no_profile(self, text: object) -> None:
        assert h264.parse_profile_level_id(text) is None

    @pytest.mark.parametrize(("ours", "theirs"), [("42e00a", "42f00b"), ("42f00b", "42e00b")])
    def test_level_1b_lies_between_1_and_1_1(self, ours: str, theirs: str) -> None:
        """The library that mediasoup uses compares 1b the wrong way round and would answer the higher one."""
        for left, right in ((ours, theirs), (theirs, ours)):
            assert h264.answer_profile_level_id({"profile-level-id": left}, {"profile-level-id": right}) == ours

    def test_no_answer_for_different_profiles(self) -> None:
        with pytest.raises(ValueError, match="unknown or differ"):
            h264.answer_profile_level_id({"profile-level-id": "640034"}, {})
