"""Producer: accepted and refused parameters, pause, statistics, and the notifications that real packets cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import (
    AlreadyExists,
    BadInput,
    InvalidParameters,
    UnsupportedError,
    WorkerRequestFailed,
)
from mafalda.mediasoup import DirectTransport, Producer, Router, WebRtcTransport, Worker
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import (
    LOOPBACK,
    audio,
    h264_simulcast,
    opus_packet,
    until,
    vp8,
    vp8_packet,
    vp9_svc,
)

Recorder = Callable[..., list[tuple[str, Any]]]


@pytest.fixture
async def transport(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LOOPBACK])


@pytest.fixture
async def direct(router: Router) -> DirectTransport:
    return await router.create_direct_transport()


async def test_produces(transport: WebRtcTransport, router: Router, record: Recorder) -> None:
    seen = record(transport, "newproducer")
    producer = await transport.produce(**audio(mid="AUDIO"), app_data={"foo": 1})
    assert seen == [("newproducer", producer)]
    assert (producer.kind, producer.type, producer.paused, producer.closed) == ("audio", "simple", False, False)
    assert (producer.score, producer.app_data) == ((), {"foo": 1})
    assert producer.rtp_parameters.codecs[0].payload_type == 111
    assert producer.rtp_parameters.rtcp.cname == "FOOBAR"
    # Consumers see the router's payload type and a mapped SSRC.
    assert producer.consumable_rtp_parameters.codecs[0].payload_type == 100
    assert producer.consumable_rtp_parameters.encodings[0].ssrc != 11111111
    assert transport.producers == {producer.id: producer}
    assert (await router.dump())["mapProducerIdConsumerIds"] == [{"key": producer.id, "values": []}]
    assert (await transport.dump())["producerIds"] == [producer.id]


async def test_a_given_id(transport: WebRtcTransport) -> None:
    assert (await transport.produce(**audio(), id="mine")).id == "mine"
    with pytest.raises(AlreadyExists):
        await transport.produce(**audio(ssrc=2, mid="2"), id="mine")


async def test_without_extensions_and_rtcp(transport: WebRtcTransport) -> None:
    options = audio()
    del options["rtp_parameters"]["headerExtensions"], options["rtp_parameters"]["rtcp"]
    producer = await transport.produce(**options)
    assert producer.rtp_parameters.header_extensions == ()
    assert producer.rtp_parameters.rtcp.cname


async def test_one_cname_for_a_transport(transport: WebRtcTransport) -> None:
    first = await transport.produce(**audio(mid="1"))
    second = await transport.produce(**vp8(22, mode=None))
    assert second.rtp_parameters.rtcp.cname == first.rtp_parameters.rtcp.cname == "FOOBAR"


def _without(key: str) -> dict[str, Any]:
    options = audio()
    del options["rtp_parameters"][key]
    return options


def _with(**parameters: Any) -> dict[str, Any]:
    options = audio()
    options["rtp_parameters"] |= parameters
    return options


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "chicken", "rtp_parameters": {}},
        {"kind": "audio", "rtp_parameters": {}},
        {"kind": "audio", "rtp_parameters": None},
        _without("codecs"),
        _with(codecs=[]),
        _with(codecs=[{"mimeType": "audio/opus", "clockRate": 48000}]),
        _with(codecs=[{"mimeType": "audio/opus", "payloadType": "111", "clockRate": 48000}]),
        _with(headerExtensions=[{"uri": "urn:chicken", "id": 1}]),
        _with(headerExtensions=[{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": -1}]),
        _with(encodings=[{"ssrc": -1}]),
        _with(encodings="chicken"),
        _with(rtcp={"cname": 5}),
        _with(mid="x" * 10_000),
    ],
)
async def test_wrong_parameters_are_refused(transport: WebRtcTransport, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        await transport.produce(**options)
    assert (await transport.dump())["producerIds"] == []
    assert transport.producers == {}


async def test_codecs_that_the_router_does_not_have(transport: WebRtcTransport) -> None:
    iSAC = {"mimeType": "audio/ISAC", "payloadType": 108, "clockRate": 32000}
    with pytest.raises(UnsupportedError):
        await transport.produce(**_with(codecs=[iSAC]))
    options = h264_simulcast()
    options["rtp_parameters"]["codecs"][0]["parameters"]["profile-level-id"] = "CHICKEN"
    with pytest.raises(BadInput):
        await transport.produce(**options)


async def test_a_mid_or_ssrc_twice_is_refused(transport: WebRtcTransport) -> None:
    await transport.produce(**audio(mid="AUDIO"))
    for again in (audio(ssrc=33, mid="AUDIO"), audio(mid="OTHER")):
        with pytest.raises(WorkerRequestFailed):
            await transport.produce(**again)
    assert len(transport.producers) == 1


async def test_encodings_without_ssrc_and_rid_are_refused(transport: WebRtcTransport) -> None:
    options = _with(encodings=[{}])
    with pytest.raises((WorkerRequestFailed, InvalidParameters)):
        await transport.produce(**options)


async def test_types(transport: WebRtcTransport) -> None:
    assert (await transport.produce(**vp8(1))).type == "simple"
    assert (await transport.produce(**vp9_svc())).type == "svc"
    assert (await transport.produce(**vp8(2, mode="L1T3"))).type == "svc"
    assert (await transport.produce(**vp8(3, 4, mode="L1T3"))).type == "simulcast"


async def test_dump(transport: WebRtcTransport) -> None:
    producer = await transport.produce(**h264_simulcast(), paused=True)
    dump = await producer.dump()
    assert (dump["id"], dump["kind"], dump["type"], dump["paused"]) == (producer.id, "video", "simulcast", True)
    assert [codec["payloadType"] for codec in dump["rtpParameters"]["codecs"]] == [112, 113]
    assert dump["rtpParameters"]["codecs"][0]["parameters"] == {"packetization-mode": 1, "profile-level-id": "4d0032"}
    assert dump["rtpParameters"]["codecs"][1]["parameters"] == {"apt": 112}
    assert [item["ssrc"] for item in dump["rtpParameters"]["encodings"]] == [22222222, 22222224, 22222226, 22222228]
    assert dump["rtpParameters"]["encodings"][0]["rtx"] == {"ssrc": 22222223}
    mapped = [item["mappedSsrc"] for item in dump["rtpMapping"]["encodings"]]
    assert mapped == [encoding.ssrc for encoding in producer.consumable_rtp_parameters.encodings]
    assert dump["traceEventTypes"] == dump["rtpStreams"] == []


async def test_parameters_keep_their_types(transport: WebRtcTransport) -> None:
    producer = await transport.produce(**audio())
    codec = (await producer.dump())["rtpParameters"]["codecs"][0]
    assert codec["parameters"] == {"useinbandfec": 1, "usedtx": 1, "foo": 222.222, "bar": "333"}


async def test_given_mapped_ssrcs(transport: WebRtcTransport) -> None:
    wrong_ones: list[Any] = [[], [5], [5, 5], [5, 0], [5, 2**32], [5, "6"], 5]
    for wrong in wrong_ones:
        with pytest.raises(InvalidParameters):
            await transport.produce(**vp8(1, 2), mapped_ssrcs=wrong)
    producer = await transport.produce(**vp8(1, 2), mapped_ssrcs=[5, 6])
    assert [encoding.ssrc for encoding in producer.consumable_rtp_parameters.encodings] == [5, 6]
    assert [item["mappedSsrc"] for item in (await producer.dump())["rtpMapping"]["encodings"]] == [5, 6]


async def test_multiopus(worker: Worker) -> None:
    surround = {"channel_mapping": "0,4,1,2,3,5", "num_streams": 4, "coupled_streams": 2}
    codec = {"mimeType": "audio/multiopus", "clockRate": 48000, "channels": 6, "parameters": surround}
    router = await worker.create_router(media_codecs=[{"kind": "audio", **codec}])
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    sent = {"codecs": [codec | {"payloadType": 111}], "encodings": [{"ssrc": 11111111}]}
    producer = await transport.produce(kind="audio", rtp_parameters=sent)
    consumer = await transport.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    assert consumer.rtp_parameters.codecs[0].parameters == surround
    assert (await consumer.dump())["rtpParameters"]["codecs"][0]["channels"] == 6
    stereo = {"codecs": [codec | {"payloadType": 111, "channels": 2}], "encodings": [{"ssrc": 2}]}
    with pytest.raises(UnsupportedError):
        await transport.produce(kind="audio", rtp_parameters=stereo)
    capabilities = {"codecs": [{"kind": "audio", **codec, "preferredPayloadType": 100, "channels": 2}]}
    assert not router.can_consume(producer_id=producer.id, rtp_capabilities=capabilities)


async def test_pause_and_resume(transport: WebRtcTransport, record: Recorder) -> None:
    producer = await transport.produce(**audio())
    seen = record(producer, "pause", "resume")
    await producer.pause()
    await producer.pause()
    assert [producer.paused] == [True]
    assert (await producer.dump())["paused"] is True
    await producer.resume()
    assert [producer.paused] == [False]
    assert (await producer.dump())["paused"] is False
    assert [event for event, _ in seen] == ["pause", "resume"]


async def test_trace_types(transport: WebRtcTransport) -> None:
    producer = await transport.produce(**audio())
    await producer.enable_trace_event(["rtp", "pli"])
    assert (await producer.dump())["traceEventTypes"] == ["rtp", "pli"]
    await producer.enable_trace_event()
    assert (await producer.dump())["traceEventTypes"] == []
    for wrong in ("rtp", ["chicken"], [123], ["rtp", None]):
        with pytest.raises(InvalidParameters):
            await producer.enable_trace_event(wrong)  # type: ignore[arg-type]


async def test_packets_cause_a_score_and_statistics(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce(**audio())
    seen = record(producer, "score")
    assert await producer.get_stats() == []
    for sequence in range(5):
        producer.send(opus_packet(sequence))
    (score,) = await producer.wait("score", timeout_s=10)
    assert (score.ssrc, score.score, score.encoding_idx, score.rid) == (11111111, 10, 0, None)
    assert producer.score == seen[0][1]
    (stats,) = await producer.get_stats()
    assert (stats["type"], stats["kind"], stats["mimeType"]) == ("inbound-rtp", "audio", "audio/opus")
    assert (stats["ssrc"], stats["packetCount"], stats["packetsLost"]) == (11111111, 5, 0)
    assert stats["byteCount"] == sum(len(opus_packet(sequence)) for sequence in range(5))
    assert stats["bitrateByLayer"] == {}
    (stream,) = (await producer.dump())["rtpStreams"]
    assert stream["params"]["ssrc"] == 11111111
    assert "rid" not in stream["params"]


async def test_traces_real_packets(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce(**vp8(77))
    seen = record(producer, "trace")
    await producer.enable_trace_event(["rtp", "keyframe"])
    producer.send(vp8_packet(1, 77, key_frame=True))
    producer.send(vp8_packet(2, 77, key_frame=False))
    await until(lambda: len(seen) == 2)
    traces = [payload for _, payload in seen]
    assert [trace["type"] for trace in traces] == ["keyframe", "rtp"]
    assert {trace["direction"] for trace in traces} == {"in"}
    packet = traces[0]["info"]["rtpPacket"]
    assert (packet["ssrc"], packet["sequenceNumber"], packet["payloadType"]) == (77, 1, 96)
    assert packet["isKeyFrame"] is True
    assert traces[0]["info"]["isRtx"] is False


async def test_video_orientation(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce(**vp8(77))
    seen = record(producer, "videoorientationchange")
    # 3GPP TS 26.114: 0000CFRR, so camera, flipped, 90 degrees clockwise.
    producer.send(vp8_packet(1, 77, key_frame=True, orientation=0b1101))
    await until(lambda: seen)
    assert seen[0][1] == {"camera": True, "flip": True, "rotation": 90}


async def test_close(transport: WebRtcTransport, router: Router, record: Recorder) -> None:
    producer = await transport.produce(**audio())
    seen = record(producer, "transportclose", "close")
    await producer.close()
    assert seen == [("close", "close")]
    assert router.get_producer(producer.id) is None
    assert transport.producers == {}
    assert (await transport.dump())["producerIds"] == []
    calls: list[Callable[[Producer], Any]] = [
        lambda producer: producer.dump(),
        lambda producer: producer.get_stats(),
        lambda producer: producer.pause(),
        lambda producer: producer.resume(),
        lambda producer: producer.enable_trace_event(["rtp"]),
    ]
    for call in calls:
        with pytest.raises(ObjectClosed):
            await call(producer)
    with pytest.raises(ObjectClosed):
        producer.send(b"")


async def test_ends_with_its_transport(transport: WebRtcTransport, router: Router, record: Recorder) -> None:
    producer = await transport.produce(**audio())
    seen = record(producer, "transportclose", "close")
    await transport.close()
    assert seen == [("transportclose", None), ("close", "transportclose")]
    assert router.get_producer(producer.id) is None


async def test_packets_must_be_bytes(direct: DirectTransport) -> None:
    producer = await direct.produce(**audio())
    with pytest.raises(InvalidParameters):
        producer.send("text")  # type: ignore[arg-type]
    producer.send(b"not rtp")  # the worker drops it
    assert (await producer.dump())["id"] == producer.id
