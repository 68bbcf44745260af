"""The RTP and transport words: what they take, what they refuse, how they look on the wire."""

from __future__ import annotations

import base64
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ValidationError
from pymediasoup import rtp_parameters as pm
from pymediasoup import sctp_parameters as pm_sctp
from pymediasoup.models import transport as pm_transport

from mafalda.media import rtp
from mafalda.media.model import Model

MODELS = [word for name in rtp.__all__ if isinstance(word := getattr(rtp, name), type) and issubclass(word, BaseModel)]
VP8 = {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000}
KEY = base64.b64encode(b"k" * 28).decode()


@pytest.mark.parametrize(
    ("theirs", "model"),
    [
        (
            pm.RtpParameters(
                mid="0",
                msid="a b",
                codecs=[pm.RtpCodecParameters(**VP8, rtcpFeedback=[pm.RtcpFeedback(type="nack")])],
                headerExtensions=[pm.RtpHeaderExtensionParameters(uri="urn:3gpp:video-orientation", id=3)],
                encodings=[pm.RtpEncodingParameters(ssrc=1, rtx=pm.RTX(ssrc=2), maxBitrate=3, dtx=True)],
                rtcp=pm.RtcpParameters(cname="c", mux=True),
            ),
            rtp.RtpParameters,
        ),
        (
            pm.RtpCapabilities(
                codecs=[pm.RtpCodecCapability(kind="audio", mimeType="audio/opus", clockRate=48000, channels=2)],
                headerExtensions=[pm.RtpHeaderExtension(kind="audio", uri="urn:whatever", preferredId=3)],
            ),
            rtp.RtpCapabilities,
        ),
        (pm_sctp.SctpStreamParameters(streamId=1, ordered=False, maxRetransmits=2), rtp.SctpStreamParameters),
        (pm_sctp.SctpCapabilities(numStreams=pm_sctp.NumSctpStreams(OS=1024, MIS=512)), rtp.SctpCapabilities),
        (
            pm_sctp.SctpParameters(port=5000, OS=1024, MIS=512, maxMessageSize=262144),
            rtp.SctpParameters,
        ),
        (
            pm_transport.DtlsParameters(
                role="client",
                fingerprints=[pm_transport.DtlsFingerprint(algorithm="sha-256", value=":".join(["AB"] * 32))],
            ),
            rtp.DtlsParameters,
        ),
        (pm_transport.IceParameters(usernameFragment="u", password="p", iceLite=True), rtp.IceParameters),
        (
            pm_transport.IceCandidate(
                foundation="udp", priority=1, ip="192.0.2.1", protocol="udp", port=1, type="host"
            ),
            rtp.IceCandidate,
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_pymediasoup_sends_is_taken_and_what_we_send_it_takes(theirs: Any, model: type[Model]) -> None:
    sent = theirs.model_dump(exclude_none=True)
    ours = model.model_validate(sent).to_json_dict()
    assert {key: value for key, value in ours.items() if key in sent and not isinstance(value, dict | list)} == {
        key: value for key, value in sent.items() if key in ours and not isinstance(value, dict | list)
    }
    again = type(theirs).model_validate(ours).model_dump(exclude_none=True)
    assert model.model_validate(again).to_json_dict() == ours


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (rtp.RtpCodecParameters, VP8 | {"payloadType": 128}),
        (rtp.RtpCodecParameters, VP8 | {"payloadType": -1}),
        (rtp.RtpCodecParameters, VP8 | {"payloadType": True}),
        (rtp.RtpCodecParameters, VP8 | {"payloadType": "96"}),
        (rtp.RtpCodecParameters, VP8 | {"payloadType": 96.5}),
        (rtp.RtpCodecParameters, VP8 | {"clockRate": 0}),
        (rtp.RtpCodecParameters, VP8 | {"clockRate": 2**32}),
        (rtp.RtpCodecParameters, VP8 | {"mimeType": "video/"}),
        (rtp.RtpCodecParameters, VP8 | {"mimeType": "xvideo/VP8"}),
        (rtp.RtpCodecParameters, VP8 | {"mimeType": "video/" + "x" * 60}),
        (rtp.RtpCodecParameters, VP8 | {"mimeType": "audio/opus", "channels": 256}),
        (rtp.RtpCodecParameters, VP8 | {"parameters": {"x": 2**31}}),
        (rtp.RtpCodecParameters, VP8 | {"parameters": {"x": float("nan")}}),
        (rtp.RtpCodecParameters, VP8 | {"parameters": {"x": "y" * 5000}}),
        (rtp.RtpCodecParameters, VP8 | {"parameters": {"x": [1]}}),
        (rtp.RtpCodecParameters, VP8 | {"parameters": {str(i): 1 for i in range(65)}}),
        (rtp.RtpCodecParameters, VP8 | {"rtcpFeedback": [{"type": "nack"}] * 65}),
        (rtp.RtpEncodingParameters, {"ssrc": 0}),
        (rtp.RtpEncodingParameters, {"ssrc": 2**32}),
        (rtp.RtpEncodingParameters, {"rid": ""}),
        (rtp.RtpEncodingParameters, {"dtx": "yes"}),
        (rtp.RtpHeaderExtensionParameters, {"uri": "urn:unknown", "id": 1}),
        (rtp.RtpHeaderExtensionParameters, {"uri": "urn:3gpp:video-orientation", "id": 0}),
        (rtp.RtpHeaderExtensionParameters, {"uri": "urn:3gpp:video-orientation", "id": 256}),
        (rtp.RtpParameters, {}),
        (rtp.RtpParameters, {"codecs": [VP8], "encodings": [{}] * 33}),
        (rtp.DtlsParameters, {"fingerprints": []}),
        (rtp.DtlsParameters, {"fingerprints": [{"algorithm": "md5", "value": ":".join(["AB"] * 20)}]}),
        (rtp.DtlsParameters, {"fingerprints": [{"algorithm": "sha-1", "value": "AB"}]}),
        (rtp.SrtpParameters, {"cryptoSuite": "AEAD_AES_256_GCM", "keyBase64": KEY}),
        (rtp.SrtpParameters, {"cryptoSuite": "AEAD_AES_128_GCM", "keyBase64": "no base64"}),
        (rtp.SrtpParameters, {"cryptoSuite": "NULL", "keyBase64": KEY}),
        (rtp.ListenInfo, {"ip": "example.org"}),
        (rtp.ListenInfo, {"ip": "127.0.0.1", "port": 65536}),
        (rtp.ListenInfo, {"ip": "127.0.0.1", "portRange": {"min": 2, "max": 1}}),
        (rtp.SctpStreamParameters, {"streamId": 65535}),
        (rtp.ConsumerLayers, {"spatialLayer": 256}),
    ],
)
def test_what_a_worker_would_not_survive_is_refused(model: type[Model], value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(value)


def test_unknown_fields_are_ignored_and_null_is_absent() -> None:
    params = rtp.RtpParameters.model_validate(
        {"codecs": [VP8 | {"new": 1}], "mid": None, "headerExtensions": None, "rtcp": None, "new": {}}
    )
    assert params.to_json_dict() == {
        "codecs": [VP8 | {"parameters": {}, "rtcpFeedback": []}],
        "headerExtensions": [],
        "encodings": [],
        "rtcp": {"reducedSize": True},
    }


def test_a_listen_info_travels_unchanged() -> None:
    value = {
        "protocol": "tcp",
        "ip": "::1",
        "announcedAddress": "sfu.example.org",
        "exposeInternalIp": True,
        "port": 0,
        "portRange": {"min": 40000, "max": 40100},
        "flags": {"ipv6Only": True, "udpReusePort": False},
        "sendBufferSize": 1_000_000,
        "recvBufferSize": 1_000_000,
    }
    assert rtp.ListenInfo.model_validate(value).to_json_dict() == value


def test_json_has_one_kind_of_number() -> None:
    codec = rtp.RtpCodecParameters.model_validate_json(
        '{"mimeType": "video/VP8", "payloadType": 96.0, "clockRate": 9e4, "parameters": {"apt": 1.0, "x": 1.5}}'
    )
    assert codec.to_json_dict() == VP8 | {"parameters": {"apt": 1, "x": 1.5}, "rtcpFeedback": []}
    assert isinstance(codec.parameters["apt"], int)


def test_audio_has_one_channel_unless_told_and_video_none() -> None:
    audio = rtp.RtpCodecCapability(kind="video", mime_type="AUDIO/PCMU", clock_rate=8000)
    video = rtp.RtpCodecCapability(kind="audio", mime_type="video/VP8", clock_rate=90000, channels=2)
    assert (audio.kind, audio.channels) == ("audio", 1)
    assert (video.kind, video.channels) == ("video", None)


def test_words_cannot_be_changed() -> None:
    params = rtp.RtpParameters.model_validate({"codecs": [VP8]})
    with pytest.raises(ValidationError):
        setattr(params, "mid", "1")  # noqa: B010
    assert isinstance(params.codecs, tuple)


class Carrier(Model):
    ice: rtp.IceParameters


def test_secrets_do_not_show() -> None:
    ice = rtp.IceParameters(username_fragment="user", password="s3cret")
    srtp = rtp.SrtpParameters(crypto_suite="AEAD_AES_128_GCM", key_base64=KEY)
    assert "s3cret" not in f"{ice!r} {ice}"
    assert KEY not in f"{srtp!r} {srtp}"
    for model, value in (
        (rtp.IceParameters, {"usernameFragment": "user", "password": ["s3cret"]}),
        (rtp.IceParameters, {"password": "s3cret"}),
        (Carrier, {"ice": {"usernameFragment": "user", "password": ["s3cret"]}}),
        (rtp.SrtpParameters, {"cryptoSuite": "AEAD_AES_256_GCM", "keyBase64": KEY}),
    ):
        with pytest.raises(ValidationError) as caught:
            model.model_validate(value)
        assert "s3cret" not in str(caught.value)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_word_has_a_described_schema(model: type[Model]) -> None:
    for schema in (model.model_json_schema(), model.model_json_schema(mode="serialization")):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"]
        unknown = {"ge", "le", "gt", "lt"} & set(str(schema).replace("'", " ").split())
        assert not unknown, "a bound that JSON Schema does not know"


def test_the_schema_takes_what_the_model_takes() -> None:
    schema = jsonschema.Draft202012Validator(rtp.RtpParameters.model_json_schema())
    good = {"codecs": [VP8], "encodings": [{"ssrc": 1}]}
    assert schema.is_valid(good)
    assert not schema.is_valid(good | {"encodings": [{"ssrc": 0}]})
    assert not schema.is_valid(good | {"codecs": [VP8 | {"payloadType": 128}]})
