"""Consumer: negotiation, pause from both sides, layers, priority, and what real packets cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, NotFound, UnsupportedError, WorkerRequestFailed
from mafalda.media.rtp import ConsumerLayers
from mafalda.mediasoup import Consumer, DirectTransport, Producer, Router, WebRtcTransport
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import (
    AUDIO_LEVEL,
    H264,
    LOOPBACK,
    MID,
    audio,
    h264_simulcast,
    opus_packet,
    until,
    vp8,
    vp8_packet,
    vp9_svc,
)

Recorder = Callable[..., list[tuple[str, Any]]]
NACK, PLI, FIR = {"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "ccm", "parameter": "fir"}
DEVICE: dict[str, Any] = {
    "codecs": [
        {
            "mimeType": "audio/opus",
            "kind": "audio",
            "preferredPayloadType": 100,
            "clockRate": 48000,
            "channels": 2,
            "rtcpFeedback": [NACK],
        },
        {
            "mimeType": "video/H264",
            "kind": "video",
            "preferredPayloadType": 101,
            "clockRate": 90000,
            "parameters": H264,
            "rtcpFeedback": [NACK, PLI, FIR, {"type": "goog-remb"}],
        },
        {
            "mimeType": "video/rtx",
            "kind": "video",
            "preferredPayloadType": 102,
            "clockRate": 90000,
            "parameters": {"apt": 101},
        },
    ],
    "headerExtensions": [
        {"kind": "audio", "uri": MID, "preferredId": 1},
        {"kind": "video", "uri": MID, "preferredId": 1},
        {"kind": "audio", "uri": AUDIO_LEVEL, "preferredId": 6},
    ],
}


@pytest.fixture
async def source(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LOOPBACK])


@pytest.fixture
async def sink(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LOOPBACK])


@pytest.fixture
async def direct(router: Router) -> DirectTransport:
    return await router.create_direct_transport()


@pytest.fixture
async def producer(source: WebRtcTransport) -> Producer:
    return await source.produce(**audio())


async def test_audio(
    source: WebRtcTransport, sink: WebRtcTransport, router: Router, producer: Producer, record: Recorder
) -> None:
    seen = record(sink, "newconsumer")
    assert router.can_consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE, app_data={"baz": "LOL"})
    assert seen == [("newconsumer", consumer)]
    assert (consumer.producer_id, consumer.kind, consumer.type) == (producer.id, "audio", "simple")
    assert (consumer.paused, consumer.producer_paused, consumer.priority) == (False, False, 1)
    assert (consumer.preferred_layers, consumer.current_layers) == (None, None)
    assert consumer.score.to_json_dict() == {"score": 10, "producerScore": 0, "producerScores": [0]}
    assert (consumer.app_data, consumer.closed) == ({"baz": "LOL"}, False)
    parameters = consumer.rtp_parameters
    assert parameters.mid == "0"
    assert parameters.codecs[0].payload_type == 100
    assert parameters.codecs[0].parameters == {"useinbandfec": 1, "usedtx": 1, "foo": 222.222, "bar": "333"}
    assert parameters.msid == "1111 2222"
    assert sink.consumers == {consumer.id: consumer}
    dump = await router.dump()
    assert dump["mapProducerIdConsumerIds"] == [{"key": producer.id, "values": [consumer.id]}]
    assert (await sink.dump())["consumerIds"] == [consumer.id]


async def test_simulcast(source: WebRtcTransport, sink: WebRtcTransport) -> None:
    producer = await source.produce(**h264_simulcast(), paused=True)
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE, paused=True)
    assert (consumer.kind, consumer.type, consumer.paused, consumer.producer_paused) == (
        "video",
        "simulcast",
        True,
        True,
    )
    assert [codec.mime_type for codec in consumer.rtp_parameters.codecs] == ["video/H264", "video/rtx"]
    assert len(consumer.rtp_parameters.encodings) == 1
    assert consumer.rtp_parameters.encodings[0].scalability_mode == "L4T5"
    assert consumer.score.producer_scores == (0, 0, 0, 0)
    assert consumer.preferred_layers == ConsumerLayers(spatial_layer=3, temporal_layer=4)
    dump = await consumer.dump()
    assert (dump["preferredSpatialLayer"], dump["targetSpatialLayer"], dump["currentSpatialLayer"]) == (3, -1, -1)
    assert [item["ssrc"] for item in dump["consumableRtpEncodings"]] == [
        encoding.ssrc for encoding in producer.consumable_rtp_parameters.encodings
    ]
    assert dump["rtpStream"]["rtxStream"]["params"]["mimeType"] == "video/rtx"
    assert dump["supportedCodecPayloadTypes"] == [consumer.rtp_parameters.codecs[0].payload_type]


async def test_unsupported_capabilities_are_refused(sink: WebRtcTransport, producer: Producer) -> None:
    with pytest.raises(NotFound):
        await sink.consume(producer_id="nobody", rtp_capabilities=DEVICE)
    with pytest.raises(UnsupportedError):
        await sink.consume(producer_id=producer.id, rtp_capabilities={"codecs": [DEVICE["codecs"][1]]})
    malformed: list[Any] = [{"codecs": [{"mimeType": 5}]}, {"codecs": "x"}, "chicken", {"codecs": [{}]}]
    for wrong in malformed:
        with pytest.raises(InvalidParameters):
            await sink.consume(producer_id=producer.id, rtp_capabilities=wrong)
    for mid in ("", 5):
        with pytest.raises(InvalidParameters):
            await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE, mid=mid)  # type: ignore[arg-type]
    assert (await sink.dump())["consumerIds"] == []


async def test_rtx_for_audio_only_on_demand(sink: WebRtcTransport, producer: Producer) -> None:
    without = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    assert without.rtp_parameters.codecs[0].rtcp_feedback == ()
    with_rtx = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE, enable_rtx=True)
    assert [item.type for item in with_rtx.rtp_parameters.codecs[0].rtcp_feedback] == ["nack"]


async def test_mids(sink: WebRtcTransport, producer: Producer) -> None:
    mids = [
        (await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE, mid=mid)).rtp_parameters.mid
        for mid in (None, "custom", None)
    ]
    assert mids == ["0", "custom", "1"]


async def test_dump_and_stats(sink: WebRtcTransport, producer: Producer) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    dump = await consumer.dump()
    assert (dump["id"], dump["producerId"], dump["kind"], dump["type"]) == (
        consumer.id,
        producer.id,
        "audio",
        "simple",
    )
    assert (dump["paused"], dump["producerPaused"], dump["priority"]) == (False, False, 1)
    assert dump["rtpParameters"]["codecs"][0]["payloadType"] == 100
    assert dump["rtpStream"]["params"]["ssrc"] == consumer.rtp_parameters.encodings[0].ssrc
    assert "preferredSpatialLayer" not in dump
    (stats,) = await consumer.get_stats()
    assert (stats["type"], stats["ssrc"]) == ("outbound-rtp", consumer.rtp_parameters.encodings[0].ssrc)
    assert stats["packetCount"] == 0


async def test_pause_of_both_sides(sink: WebRtcTransport, producer: Producer, record: Recorder) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    seen = record(consumer, "pause", "resume", "producerpause", "producerresume")
    await consumer.pause()
    assert consumer.paused
    await producer.pause()
    await until(lambda: consumer.producer_paused)
    dump = await consumer.dump()
    assert (dump["paused"], dump["producerPaused"]) == (True, True)
    await consumer.resume()  # still not sending: the producer is paused
    await producer.resume()
    await until(lambda: not consumer.producer_paused)
    assert [event for event, _ in seen] == ["pause", "producerpause", "producerresume", "resume"]
    assert not consumer.paused


async def test_preferred_layers(source: WebRtcTransport, sink: WebRtcTransport, producer: Producer) -> None:
    audio_consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    await audio_consumer.set_preferred_layers(spatial_layer=1, temporal_layer=1)
    assert audio_consumer.preferred_layers is None
    video = await source.produce(**h264_simulcast())
    consumer = await sink.consume(producer_id=video.id, rtp_capabilities=DEVICE)
    await consumer.set_preferred_layers({"spatialLayer": 2, "temporalLayer": 3})
    assert consumer.preferred_layers == ConsumerLayers(spatial_layer=2, temporal_layer=3)
    await consumer.set_preferred_layers(ConsumerLayers(spatial_layer=3))
    assert consumer.preferred_layers == ConsumerLayers(spatial_layer=3, temporal_layer=4)
    await consumer.set_preferred_layers(spatial_layer=66, temporal_layer=0)
    assert consumer.preferred_layers == ConsumerLayers(spatial_layer=3, temporal_layer=0)
    malformed: list[Any] = [{}, {"spatial_layer": "1"}, {"spatial_layer": None}]
    for wrong in [*malformed, {"spatial_layer": 1, "temporal_layer": "x"}]:
        with pytest.raises(InvalidParameters):
            await consumer.set_preferred_layers(**wrong)


@pytest.mark.parametrize(("options", "layers"), [(vp9_svc(), (1, 2)), (vp8(1, 2, 3, mode="L1T5"), (1, 3))])
async def test_layers_from_the_start(
    source: WebRtcTransport, sink: WebRtcTransport, router: Router, options: dict[str, Any], layers: tuple[int, int]
) -> None:
    producer = await source.produce(**options)
    wanted = ConsumerLayers(spatial_layer=layers[0], temporal_layer=layers[1])
    consumer = await sink.consume(
        producer_id=producer.id, rtp_capabilities=router.rtp_capabilities, preferred_layers=wanted
    )
    assert consumer.type == producer.type
    assert consumer.preferred_layers == wanted


async def test_priority(sink: WebRtcTransport, producer: Producer) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    await consumer.set_priority(2)
    assert consumer.priority == (await consumer.dump())["priority"] == 2
    for wrong in (0, -1, 256, "2", 1.5, True, None):
        with pytest.raises(InvalidParameters):
            await consumer.set_priority(wrong)  # type: ignore[arg-type]
    await consumer.unset_priority()
    assert consumer.priority == (await consumer.dump())["priority"] == 1


async def test_trace_types(sink: WebRtcTransport, producer: Producer) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    await consumer.enable_trace_event(["rtp", "pli"])
    assert (await consumer.dump())["traceEventTypes"] == ["rtp", "pli"]
    await consumer.enable_trace_event()
    assert (await consumer.dump())["traceEventTypes"] == []
    with pytest.raises(InvalidParameters):
        await consumer.enable_trace_event(["sr"])  # a producer's


async def test_packets_arrive_in_order(direct: DirectTransport, router: Router, record: Recorder) -> None:
    producer = await direct.produce(**audio())
    consumer = await direct.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    seen = record(consumer, "rtp")
    scores, traces = record(consumer, "score"), record(consumer, "trace")
    await consumer.enable_trace_event(["rtp"])
    for sequence in range(100):
        producer.send(opus_packet(sequence))
    await until(lambda: len(seen) == 100)
    packets = [payload for _, payload in seen]
    assert packets[0][-24:] == opus_packet(0)[-24:]
    first = int.from_bytes(packets[0][2:4], "big")
    assert [(int.from_bytes(packet[2:4], "big") - first) % 65536 for packet in packets] == list(range(100))
    await until(lambda: len(traces) == 100)
    assert traces[0][1]["direction"] == "out"
    assert scores[-1][1].producer_score == 10
    assert consumer.score == scores[-1][1]
    outbound, inbound = await consumer.get_stats()
    assert (outbound["type"], outbound["packetCount"]) == ("outbound-rtp", 100)
    assert (inbound["type"], inbound["packetCount"]) == ("inbound-rtp", 100)


async def test_layers_change_with_what_arrives(direct: DirectTransport, router: Router, record: Recorder) -> None:
    producer = await direct.produce(**vp8(71, 72))
    consumer = await direct.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    seen, key_frames = record(consumer, "layerschange"), record(producer, "trace")
    await producer.enable_trace_event(["pli"])
    await consumer.request_key_frame()
    for sequence in range(3):
        producer.send(vp8_packet(sequence, 71, key_frame=True))
    await until(lambda: seen)
    assert consumer.current_layers == seen[-1][1] == ConsumerLayers(spatial_layer=0, temporal_layer=0)
    await consumer.request_key_frame()
    await until(lambda: key_frames)
    assert key_frames[0][1]["type"] == "pli"
    assert key_frames[0][1]["info"]["ssrc"] in (71, 72)
    await producer.pause()
    await until(lambda: consumer.current_layers is None)
    assert seen[-1] == ("layerschange", None)


async def test_ignore_dtx_and_pipe_options(router: Router, sink: WebRtcTransport, source: WebRtcTransport) -> None:
    producer = await source.produce(**vp8(1, 2))
    piped = await sink.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities, pipe=True)
    assert piped.type == "pipe"
    assert len(piped.rtp_parameters.encodings) == 2
    assert piped.rtp_parameters.mid is None
    plain = await sink.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities, ignore_dtx=True)
    assert plain.type == "simulcast"


async def test_close(sink: WebRtcTransport, router: Router, producer: Producer, record: Recorder) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    seen = record(consumer, "transportclose", "producerclose", "close")
    await consumer.close()
    assert seen == [("close", "close")]
    assert sink.consumers == {}
    assert (await router.dump())["mapProducerIdConsumerIds"] == [{"key": producer.id, "values": []}]
    calls: list[Callable[[Consumer], Any]] = [
        lambda consumer: consumer.dump(),
        lambda consumer: consumer.get_stats(),
        lambda consumer: consumer.pause(),
        lambda consumer: consumer.resume(),
        lambda consumer: consumer.set_preferred_layers(spatial_layer=1),
        lambda consumer: consumer.set_priority(2),
        lambda consumer: consumer.request_key_frame(),
        lambda consumer: consumer.enable_trace_event(["rtp"]),
    ]
    for call in calls:
        with pytest.raises(ObjectClosed):
            await call(consumer)


async def test_ends_with_its_producer(
    source: WebRtcTransport, sink: WebRtcTransport, producer: Producer, record: Recorder
) -> None:
    other = await source.produce(**audio(ssrc=5, mid="5"))
    one = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    two = await sink.consume(producer_id=other.id, rtp_capabilities=DEVICE)
    seen = record(one, "producerclose", "close"), record(two, "producerclose", "close")
    await producer.close()
    await until(lambda: one.closed)
    await source.close()
    await until(lambda: two.closed)
    assert seen == ([("producerclose", None), ("close", "producerclose")],) * 2
    assert sink.consumers == {}
    assert (await sink.dump())["consumerIds"] == []


async def test_ends_with_its_transport(sink: WebRtcTransport, producer: Producer, record: Recorder) -> None:
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
    seen = record(consumer, "transportclose", "close")
    await sink.close()
    assert seen == [("transportclose", None), ("close", "transportclose")]


async def test_a_producer_that_closes_while_it_is_consumed(
    sink: WebRtcTransport, producer: Producer, record: Recorder
) -> None:
    import asyncio

    async def consume() -> Consumer | None:
        try:
            return await sink.consume(producer_id=producer.id, rtp_capabilities=DEVICE)
        except (NotFound, WorkerRequestFailed):
            return None

    consuming = asyncio.create_task(consume())
    await asyncio.sleep(0)
    await producer.close()
    consumer = await consuming
    # Whichever came first: no consumer without producer stays.
    if consumer is not None:
        await until(lambda: consumer.closed)
    assert sink.consumers == {}
    assert (await sink.dump())["consumerIds"] == []
