"""Media through the drop-in: a router's transports are on two real workers, and everything arrives all the same."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

from mafalda.mediasoup import Consumer, DataConsumer, DirectTransport, Producer, Router, Worker
from tests.conformance.mediasoup.driver_samples import (
    LOOPBACK,
    MEDIA_CODECS,
    audio,
    opus_packet,
    until,
    vp8,
    vp8_packet,
)
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import dropin, overview, places

PACKETS = 200


async def _router(worker: Worker) -> Router:
    return await worker.create_router(media_codecs=MEDIA_CODECS)


async def _apart(fleet: Up, router: Router, first: str) -> DirectTransport:
    """A direct transport that is not on the worker of another transport."""
    for _ in range(4):
        transport = await router.create_direct_transport()
        where = await asyncio.to_thread(places, fleet, _room(router))
        if where[transport.id] != where[first]:
            return transport
    raise AssertionError("everything is on one worker")


def _room(router: Router) -> str:
    return router.id


def _sequences(packets: list[bytes]) -> list[int]:
    return [int.from_bytes(packet[2:4], "big") for packet in packets]


def _heard(consumer: Consumer) -> list[bytes]:
    packets: list[bytes] = []
    consumer.on(consumer.RTP, packets.append)
    return packets


async def test_rtp_crosses_workers_in_order(fleet: Up, worker: Worker) -> None:
    await _rtp_crosses(fleet, worker)


async def test_rtp_crosses_servers_in_order(tmp_path: Path) -> None:
    """The pipe between two servers is encrypted and repairs what it loses."""
    with up(tmp_path, "--servers", "2", "--workers", "1", "--policy", "spread") as fleet:
        async with dropin(fleet) as worker:
            await _rtp_crosses(fleet, worker)
            await _simulcast_crosses(fleet, worker)
            await _messages_cross(fleet, worker)
            await _score_crosses(fleet, worker)


async def test_simulcast_layers_are_chosen_behind_a_relay(fleet: Up, worker: Worker) -> None:
    await _simulcast_crosses(fleet, worker)


async def _simulcast_crosses(fleet: Up, worker: Worker) -> None:
    """All layers cross; the consumer elsewhere takes the lowest, then the highest."""
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    ssrcs = (201, 202, 203)
    producer = await here.produce(**vp8(*ssrcs, mode="L1T1"))
    consumer = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    assert consumer.type == "simulcast"
    packets = _heard(consumer)
    layers: list[int] = []
    consumer.on(consumer.LAYERS_CHANGE, lambda it: layers.append(it.spatial_layer) if it else None)
    sequence = 0
    for wanted in (0, 2):
        await consumer.set_preferred_layers(spatial_layer=wanted, temporal_layer=0)
        async with asyncio.timeout(20):
            while not layers or layers[-1] != wanted:
                for ssrc in ssrcs:
                    producer.send(vp8_packet(sequence, ssrc, key_frame=True))
                sequence += 1
                await asyncio.sleep(0.03)  # a picture rate: scores are computed over time
    assert packets
    assert {int.from_bytes(packet[8:12], "big") for packet in packets} == {consumer.rtp_parameters.encodings[0].ssrc}


async def _rtp_crosses(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    producer = await here.produce(**audio(ssrc=77))
    near = await here.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    far = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    relays = (await asyncio.to_thread(overview, fleet, router.id))["relays"]
    assert [relay["producer"] for relay in relays] == [producer.id]
    near_packets, far_packets = _heard(near), _heard(far)
    for sequence in range(PACKETS):
        producer.send(opus_packet(sequence, ssrc=77))
    await until(lambda: len(near_packets) == len(far_packets) == PACKETS)
    for packets, consumer in ((near_packets, near), (far_packets, far)):
        sequences = _sequences(packets)
        assert sequences == [(sequences[0] + number) & 0xFFFF for number in range(PACKETS)]
        ssrc = consumer.rtp_parameters.encodings[0].ssrc
        assert {int.from_bytes(packet[8:12], "big") for packet in packets} == {ssrc}


async def test_plain_rtp_reaches_another_worker(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    plain = await router.create_plain_transport(listen_info=LOOPBACK, comedia=True)
    there = await _apart(fleet, router, plain.id)
    producer = await plain.produce(**vp8(88))
    consumer = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    packets = _heard(consumer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for sequence in range(PACKETS):
            address = (plain.tuple.local_address, plain.tuple.local_port)
            sender.sendto(vp8_packet(sequence, 88, key_frame=sequence == 0), address)
            await asyncio.sleep(0)
        await until(lambda: len(packets) == PACKETS)
    sequences = _sequences(packets)
    assert sequences == [(sequences[0] + number) & 0xFFFF for number in range(PACKETS)]
    (stats,) = await plain.get_stats()
    assert stats["rtpPacketLossReceived"] == 0 if "rtpPacketLossReceived" in stats else stats["rtpBytesReceived"] > 0


async def test_key_frame_requests_reach_the_origin(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    producer = await here.produce(**vp8(99))
    consumer = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    packets = _heard(consumer)
    feedback: list[bytes] = []
    here.on(here.RTCP, feedback.append)
    producer.send(vp8_packet(1, 99, key_frame=True))
    await until(lambda: packets)
    feedback.clear()
    await consumer.request_key_frame()
    await until(lambda: any((it[0] & 0x1F, it[1]) == (1, 206) for it in feedback))  # a PLI (RFC 4585, 6.3.1)


async def test_messages_cross_workers_in_order(fleet: Up, worker: Worker) -> None:
    await _messages_cross(fleet, worker)


async def _messages_cross(fleet: Up, worker: Worker) -> None:
    """In order, of any size, to those whose sub-channels they are for, and not while their producer is paused."""
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    producer = await here.produce_data(label="chat", protocol="text")
    consumer = await there.consume_data(data_producer_id=producer.id)
    chooser = await there.consume_data(data_producer_id=producer.id, subchannels=[7])
    assert (consumer.label, consumer.protocol) == ("chat", "text")
    received, chosen = _messages(consumer), _messages(chooser)
    for number in range(PACKETS):
        producer.send(f"message {number}")
    await until(lambda: len(received) == len(chosen) == PACKETS)
    assert received == chosen == [f"message {number}".encode() for number in range(PACKETS)]
    received.clear()
    chosen.clear()
    large = bytes(range(256)) * 1024  # the largest that mediasoup's default allows
    producer.send("for seven", subchannels=[7])
    producer.send("not for seven", ignored_subchannel=7)
    producer.send(large)
    await until(lambda: large in received and large in chosen)
    assert (received, chosen) == ([b"not for seven", large], [b"for seven", large])
    seen: list[str] = []
    for event in ("dataproducerpause", "dataproducerresume", "dataproducerclose"):
        consumer.on(event, lambda _, event=event: seen.append(event))
    await producer.pause()
    producer.send("to nobody")
    await until(lambda: seen == ["dataproducerpause"])
    await producer.resume()
    await until(lambda: seen == ["dataproducerpause", "dataproducerresume"])
    producer.send("the last")
    await until(lambda: b"the last" in received)
    assert received == [b"not for seven", large, b"the last"]
    await producer.close()
    await until(lambda: seen == ["dataproducerpause", "dataproducerresume", "dataproducerclose"])


def _messages(consumer: DataConsumer) -> list[bytes]:
    received: list[bytes] = []
    consumer.on(consumer.MESSAGE, lambda message: received.append(message.data))
    return received


async def test_pause_resume_and_close_cross_workers(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    producer = await here.produce(**audio(ssrc=66))
    consumer = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    seen: list[str] = []
    for event in ("producerpause", "producerresume", "producerclose"):
        consumer.on(event, lambda _, event=event: seen.append(event))
    await producer.pause()
    await until(lambda: seen == ["producerpause"])
    await producer.resume()
    await until(lambda: seen == ["producerpause", "producerresume"])
    await producer.close()
    await until(lambda: seen == ["producerpause", "producerresume", "producerclose"])


async def test_a_consumer_elsewhere_is_shown_the_score_that_its_producer_has_at_its_origin(
    fleet: Up, worker: Worker
) -> None:
    await _score_crosses(fleet, worker)


async def _score_crosses(fleet: Up, worker: Worker) -> None:
    """What was lost before the relay was there counts, and so does that it gets better."""
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    producer = await here.produce(**vp8(44))
    sequence = 0

    async def send(packets: int, *, lost: int = 0) -> None:
        nonlocal sequence
        for _ in range(packets):
            producer.send(vp8_packet(sequence, 44, key_frame=True))
            sequence += 1
        sequence += lost
        here.send_rtcp(struct.pack(">BBHIQIII", 0x80, 200, 6, 44, 0, 0, packets, packets))  # RFC 3550, 6.4.1
        await asyncio.sleep(0.02)  # reports have an interval

    async with asyncio.timeout(20):
        while not producer.score or not 0 < producer.score[0].score < 10:
            await send(20, lost=3)
    poor = range(1, 10)  # reports that were sent meanwhile may still change it
    far = await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    assert far.score.producer_scores == (far.score.producer_score,)
    assert far.score.producer_score in poor
    for _ in range(2):  # one on each worker: wherever a pipe's consumer is, its producer's score is always 10
        pipe = await router.create_pipe_transport(listen_info=LOOPBACK)
        piped = await pipe.consume(producer_id=producer.id)
        (at_origin,) = piped.score.producer_scores
        assert (piped.score.producer_score, at_origin in poor) == (10, True)
    async with asyncio.timeout(20):
        while producer.score[0].score < 10 or far.score.producer_scores != (10,):
            await send(20)
    assert far.score.producer_score == 10


async def test_observers_hear_producers_wherever_they_are(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    observer = await router.create_audio_level_observer(interval=250)
    loud: list[Producer] = []
    observer.on(observer.VOLUMES, lambda volumes: loud.extend(volume.producer for volume in volumes))
    first = await router.create_direct_transport()
    transports = [first, await _apart(fleet, router, first.id)]
    producers = [await it.produce(**audio(ssrc=500 + number)) for number, it in enumerate(transports)]
    for producer in producers:
        await observer.add_producer(producer_id=producer.id)
    for number, producer in enumerate(producers):
        loud.clear()
        for sequence in range(20):
            producer.send(opus_packet(sequence, ssrc=500 + number, level=20))
        await until(lambda producer=producer: producer in loud)  # type: ignore[misc]
    dump = await router.dump()
    observed = {entry["key"]: entry["values"] for entry in dump["mapProducerIdObserverIds"]}
    assert observed == {producer.id: [observer.id] for producer in producers}


async def test_the_log_tells_what_the_workers_have(fleet: Up, worker: Worker) -> None:
    """Everything that a drop-in made is in the state that the log gives, and the workers have just that."""
    router = await _router(worker)
    here = await router.create_direct_transport()
    there = await _apart(fleet, router, here.id)
    observer = await router.create_active_speaker_observer()
    producer, data = await here.produce(**audio(ssrc=55)), await here.produce_data(label="chat")
    await observer.add_producer(producer_id=producer.id)
    await there.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    await there.consume_data(data_producer_id=data.id)
    room = await asyncio.to_thread(overview, fleet, router.id)
    peers = {id: peer for peer in room["peers"] for id in (peer["peer"], *peer["transportIds"])}
    assert set(peers) >= {here.id, there.id, observer.id}
    assert sorted(peers[here.id]["producers"]) == sorted([producer.id, data.id])
    assert (peers[there.id]["consumers"], peers[observer.id]["consumers"]) == (2, 1)
    verified = await asyncio.to_thread(lambda: fleet.mafalda("replay", "--verify", check=False))
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_nothing_that_must_stay_secret_is_in_the_log(fleet: Up, worker: Worker) -> None:
    router = await _router(worker)
    webrtc = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    plain = await router.create_plain_transport(listen_info=LOOPBACK, enable_srtp=True)
    key = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw"
    suite = "AES_CM_128_HMAC_SHA1_80"
    await plain.connect(ip="127.0.0.1", port=9, srtp_parameters={"cryptoSuite": suite, "keyBase64": key})
    await webrtc.restart_ice()
    log = (await asyncio.to_thread(lambda: fleet.mafalda("log", "--room", router.id, "--json"))).stdout
    assert webrtc.id in log
    assert plain.srtp_parameters is not None
    for secret in (webrtc.ice_parameters.password, key, plain.srtp_parameters.key_base64):
        assert secret not in log
