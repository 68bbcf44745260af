"""PipeTransport: between workers, with all layers, pause and close across it, data, SRTP and RTX."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import AlreadyExists, InvalidParameters, NotFound, WorkerRequestFailed
from mafalda.mediasoup import DataProducer, PipeTransport, Producer, Router, Worker
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import (
    LOOPBACK,
    MEDIA_CODECS,
    audio,
    h264_simulcast,
    opus_packet,
    until,
    vp8,
    vp8_packet,
)

Recorder = Callable[..., list[tuple[str, Any]]]


@pytest.fixture
async def far_router(other_worker: Worker) -> Router:
    return await other_worker.create_router(media_codecs=MEDIA_CODECS)


async def pipe(near: Router, far: Router, **options: Any) -> tuple[PipeTransport, PipeTransport]:
    """Two connected pipes."""
    one = await near.create_pipe_transport(listen_info=LOOPBACK, enable_sctp=True, **options)
    two = await far.create_pipe_transport(listen_info=LOOPBACK, enable_sctp=True, **options)
    for this, that in ((one, two), (two, one)):
        await this.connect(
            ip=that.tuple.local_address, port=that.tuple.local_port, srtp_parameters=that.srtp_parameters
        )
    return one, two


async def relay(producer: Producer, near: PipeTransport, far: PipeTransport) -> Producer:
    """The producer at the far end, with the same id."""
    consumer = await near.consume(producer_id=producer.id)
    return await far.produce(
        id=producer.id,
        kind=consumer.kind,
        rtp_parameters=consumer.rtp_parameters,
        mapped_ssrcs=consumer.mapped_ssrcs,
        paused=consumer.producer_paused,
    )


async def relay_data(producer: DataProducer, near: PipeTransport, far: PipeTransport) -> DataProducer:
    consumer = await near.consume_data(data_producer_id=producer.id)
    return await far.produce_data(
        id=producer.id,
        sctp_stream_parameters=consumer.sctp_stream_parameters,
        label=consumer.label,
        protocol=consumer.protocol,
        paused=consumer.data_producer_paused,
    )


async def test_parameters(router: Router, record: Recorder) -> None:
    seen = record(router, "newtransport")
    transport = await router.create_pipe_transport(listen_info=LOOPBACK, app_data={"a": 1})
    assert seen == [("newtransport", transport)]
    assert (transport.type, transport.rtx, transport.srtp_parameters, transport.app_data) == (
        "pipe",
        False,
        None,
        {"a": 1},
    )
    assert transport.tuple.remote_ip is None
    dump = await transport.dump()
    assert (dump["id"], dump["rtx"], dump["tuple"]["localPort"]) == (transport.id, False, transport.tuple.local_port)
    assert "srtpParameters" not in dump
    (stats,) = await transport.get_stats()
    assert (stats["type"], stats["tuple"]["localPort"]) == ("pipe-transport", transport.tuple.local_port)


async def test_a_fixed_port(router: Router) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    transport = await router.create_pipe_transport(listen_info={**LOOPBACK, "port": port})
    assert transport.tuple.local_port == port
    with pytest.raises(WorkerRequestFailed):
        await router.create_pipe_transport(listen_info={**LOOPBACK, "port": port})


@pytest.mark.parametrize("listen_info", [{}, {"ip": "chicken"}, None, {"ip": "127.0.0.1", "port": -1}])
async def test_wrong_options_are_refused(router: Router, listen_info: Any) -> None:
    with pytest.raises(InvalidParameters):
        await router.create_pipe_transport(listen_info=listen_info)


async def test_srtp_keys(router: Router) -> None:
    with_srtp = await router.create_pipe_transport(listen_info=LOOPBACK, enable_srtp=True)
    without = await router.create_pipe_transport(listen_info=LOOPBACK)
    key = with_srtp.srtp_parameters
    assert key is not None
    assert key.key_base64 not in repr(key)
    with pytest.raises(InvalidParameters):
        await with_srtp.connect(ip="127.0.0.1", port=9999)
    with pytest.raises(InvalidParameters):
        await without.connect(ip="127.0.0.1", port=9999, srtp_parameters=key)
    for wrong in ({"cryptoSuite": "chicken", "keyBase64": key.key_base64}, {"cryptoSuite": key.crypto_suite}):
        with pytest.raises(InvalidParameters):
            await with_srtp.connect(ip="127.0.0.1", port=9999, srtp_parameters=wrong)
    await with_srtp.connect(ip="127.0.0.1", port=9999, srtp_parameters=key)
    assert (with_srtp.tuple.remote_ip, with_srtp.tuple.remote_port) == ("127.0.0.1", 9999)
    with pytest.raises(WorkerRequestFailed):
        await with_srtp.connect(ip="127.0.0.1", port=9999, srtp_parameters=key)


async def test_all_layers_cross(router: Router) -> None:
    source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await source.produce(**h264_simulcast())
    transport = await router.create_pipe_transport(listen_info=LOOPBACK)
    consumer = await transport.consume(producer_id=producer.id, id="mine")
    assert (consumer.id, consumer.type, consumer.kind) == ("mine", "pipe", "video")
    parameters = consumer.rtp_parameters
    assert parameters.mid is None
    assert len(parameters.encodings) == 4
    assert all(encoding.rtx is None for encoding in parameters.encodings)
    assert [codec.mime_type for codec in parameters.codecs] == ["video/H264"]
    assert {item.type for item in parameters.codecs[0].rtcp_feedback} == {"nack", "ccm"}
    dump = await consumer.dump()
    assert [stream["params"]["ssrc"] for stream in dump["rtpStreams"]] == [item.ssrc for item in parameters.encodings]
    assert [item["ssrc"] for item in dump["consumableRtpEncodings"]] == [
        item.ssrc for item in producer.consumable_rtp_parameters.encodings
    ]
    with pytest.raises(AlreadyExists):
        await transport.consume(producer_id=producer.id, id="mine")
    with pytest.raises(NotFound):
        await transport.consume(producer_id="nobody")


async def test_rtx(router: Router) -> None:
    source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await source.produce(**h264_simulcast())
    transport = await router.create_pipe_transport(listen_info=LOOPBACK, enable_rtx=True)
    assert transport.rtx is True
    consumer = await transport.consume(producer_id=producer.id)
    assert [codec.mime_type for codec in consumer.rtp_parameters.codecs] == ["video/H264", "video/rtx"]
    assert all(encoding.rtx is not None for encoding in consumer.rtp_parameters.encodings)
    assert ("nack", "") in {(item.type, item.parameter) for item in consumer.rtp_parameters.codecs[0].rtcp_feedback}


@pytest.mark.parametrize("options", [{}, {"enable_srtp": True}, {"enable_rtx": True, "enable_srtp": True}])
async def test_packets_cross(router: Router, far_router: Router, record: Recorder, options: dict[str, Any]) -> None:
    near, far = await pipe(router, far_router, **options)
    source, sink = await router.create_direct_transport(), await far_router.create_direct_transport()
    producer = await source.produce(**audio())
    piped = await relay(producer, near, far)
    assert piped.id == producer.id
    consumer = await sink.consume(producer_id=piped.id, rtp_capabilities=far_router.rtp_capabilities)
    seen = record(consumer, "rtp")
    for sequence in range(50):
        producer.send(opus_packet(sequence))
    await until(lambda: len(seen) == 50)
    assert [payload[-24:] for _, payload in seen] == [opus_packet(0)[-24:]] * 50
    await until(lambda: piped.score and piped.score[0].score == 10)
    (stats,) = await far.get_stats()
    assert stats["rtpBytesReceived"] > 50 * 25
    assert stats["tuple"]["remotePort"] == near.tuple.local_port


async def test_simulcast_layers_and_key_frames_cross(router: Router, far_router: Router, record: Recorder) -> None:
    near, far = await pipe(router, far_router)
    source, sink = await router.create_direct_transport(), await far_router.create_direct_transport()
    producer = await source.produce(**vp8(71, 72))
    piped = await relay(producer, near, far)
    assert piped.type == "simulcast"
    # Inside the far router the layers have the SSRCs of the origin, so consumers can be moved unchanged.
    mapped = [encoding.ssrc for encoding in producer.consumable_rtp_parameters.encodings]
    assert [encoding.ssrc for encoding in piped.consumable_rtp_parameters.encodings] == mapped
    assert [item["mappedSsrc"] for item in (await piped.dump())["rtpMapping"]["encodings"]] == mapped
    consumer = await sink.consume(producer_id=piped.id, rtp_capabilities=far_router.rtp_capabilities)
    traces = record(producer, "trace")
    await producer.enable_trace_event(["pli"])
    for sequence in range(3):
        for ssrc in (71, 72):
            producer.send(vp8_packet(sequence, ssrc, key_frame=True))
    await until(lambda: len(piped.score) == 2 and all(item.score == 10 for item in piped.score))
    await consumer.request_key_frame()
    await until(lambda: traces)
    assert {trace["info"]["ssrc"] for _, trace in traces} <= {71, 72}


async def test_pause_shows_at_the_pipe(router: Router, far_router: Router, record: Recorder) -> None:
    near, far = await pipe(router, far_router)
    source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await source.produce(**audio(), paused=True)
    consumer = await near.consume(producer_id=producer.id)
    assert consumer.producer_paused
    piped = await far.produce(
        id=producer.id, kind="audio", rtp_parameters=consumer.rtp_parameters, paused=consumer.producer_paused
    )
    viewer = await far_router.create_webrtc_transport(listen_infos=[LOOPBACK])
    watched = await viewer.consume(producer_id=piped.id, rtp_capabilities=far_router.rtp_capabilities)
    assert watched.producer_paused
    # The owner of the relay forwards pause and resume: here by callbacks, as an application does.
    consumer.on("producerresume", lambda _: piped.resume())
    consumer.on("producerpause", lambda _: piped.pause())
    consumer.on("producerclose", lambda _: piped.close())
    seen = record(watched, "producerresume", "producerpause", "close")
    await producer.resume()
    await until(lambda: not watched.producer_paused)
    await producer.pause()
    await until(lambda: watched.producer_paused)
    await producer.close()
    await until(lambda: watched.closed)
    assert seen == [("producerresume", None), ("producerpause", None), ("close", "producerclose")]
    assert piped.closed


async def test_each_producer_keeps_its_cname(router: Router, far_router: Router) -> None:
    near, far = await pipe(router, far_router)
    cnames = []
    for index in range(2):
        source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
        options = audio(ssrc=index + 1)
        options["rtp_parameters"]["rtcp"] = {"cname": f"peer{index}"}
        piped = await relay(await source.produce(**options), near, far)
        cnames.append(piped.rtp_parameters.rtcp.cname)
    assert cnames == ["peer0", "peer1"]


async def test_the_same_producer_twice_is_refused(router: Router, far_router: Router) -> None:
    near, far = await pipe(router, far_router)
    source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await source.produce(**audio())
    await relay(producer, near, far)
    with pytest.raises(AlreadyExists):
        await relay(producer, near, far)


async def test_messages_cross(router: Router, far_router: Router, record: Recorder) -> None:
    near, far = await pipe(router, far_router)
    source, sink = await router.create_direct_transport(), await far_router.create_direct_transport()
    producer = await source.produce_data(label="foo", protocol="bar")
    piped = await relay_data(producer, near, far)
    assert (piped.id, piped.label, piped.protocol, piped.type) == (producer.id, "foo", "bar", "sctp")
    consumer = await sink.consume_data(data_producer_id=piped.id, subchannels=[1])
    other = await sink.consume_data(data_producer_id=piped.id, subchannels=[2])
    seen, seen_by_other = record(consumer, "message"), record(other, "message")
    await until(lambda: near.sctp_state == far.sctp_state == "connected")
    producer.send("to all")
    producer.send(bytes(20_000))
    await until(lambda: len(seen) == len(seen_by_other) == 2)
    assert (seen[0][1].text, len(seen[1][1].data)) == ("to all", 20_000)
    await producer.close()
    await until(lambda: near.data_consumers == {})
    assert not piped.closed  # a pipe emits nothing: the owner of the relay closes the far end
    await piped.close()
    assert await far.dump()


async def test_ends(router: Router, far_router: Router, record: Recorder) -> None:
    near, far = await pipe(router, far_router)
    source = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await source.produce(**audio())
    piped = await relay(producer, near, far)
    of_piped, of_near = record(piped, "transportclose", "close"), record(near, "routerclose", "close")
    await far.close()
    assert of_piped == [("transportclose", None), ("close", "transportclose")]
    with pytest.raises(ObjectClosed):
        await far.consume(producer_id=piped.id)
    assert not near.closed  # no event reaches it
    await router.close()
    assert of_near == [("routerclose", None), ("close", "routerclose")]
