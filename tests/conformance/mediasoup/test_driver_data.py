"""DataProducer and DataConsumer: parameters, subchannels, messages, pause, closing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import AlreadyExists, InvalidParameters, MafaldaError, NotFound, WorkerRequestFailed
from mafalda.mediasoup import (
    DataConsumer,
    DataMessage,
    DataProducer,
    DirectTransport,
    PlainTransport,
    Router,
    SctpLimits,
    WebRtcTransport,
)
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import LOOPBACK, until

Recorder = Callable[..., list[tuple[str, Any]]]
STREAM = {"streamId": 12345, "ordered": False, "maxPacketLifeTime": 5000}


@pytest.fixture
async def source(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LOOPBACK], enable_sctp=True)


@pytest.fixture
async def sink(router: Router) -> PlainTransport:
    return await router.create_plain_transport(listen_info=LOOPBACK, enable_sctp=True)


@pytest.fixture
async def direct(router: Router) -> DirectTransport:
    return await router.create_direct_transport()


async def make(source: WebRtcTransport) -> DataProducer:
    return await source.produce_data(sctp_stream_parameters=STREAM, label="foo", protocol="bar")


async def test_produces(source: WebRtcTransport, sink: PlainTransport, router: Router, record: Recorder) -> None:
    seen = record(source, "newdataproducer")
    producer = await source.produce_data(
        sctp_stream_parameters={"streamId": 666}, label="foo", protocol="bar", id="mine", app_data={"a": 1}
    )
    assert seen == [("newdataproducer", producer)]
    assert (producer.id, producer.type, producer.label, producer.protocol) == ("mine", "sctp", "foo", "bar")
    assert (producer.paused, producer.closed, producer.app_data) == (False, False, {"a": 1})
    assert producer.sctp_stream_parameters is not None
    assert producer.sctp_stream_parameters.to_json_dict() == {"streamId": 666, "ordered": True}
    limited = await sink.produce_data(sctp_stream_parameters={"streamId": 7, "maxRetransmits": 3})
    assert limited.sctp_stream_parameters is not None
    assert limited.sctp_stream_parameters.to_json_dict() == {"streamId": 7, "ordered": False, "maxRetransmits": 3}
    dump = await router.dump()
    assert sorted(item["key"] for item in dump["mapDataProducerIdDataConsumerIds"]) == sorted(["mine", limited.id])
    assert (await source.dump())["dataProducerIds"] == ["mine"]
    assert (await source.dump())["sctpListener"] == {"streamIdTable": [{"key": 666, "value": "mine"}]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sctp_stream_parameters": {}},
        {"sctp_stream_parameters": {"streamId": 70000}},
        {"sctp_stream_parameters": {"streamId": "1"}},
        {"sctp_stream_parameters": {"streamId": 1, "ordered": True, "maxPacketLifeTime": 4000}},
        {"sctp_stream_parameters": {"streamId": 1, "maxPacketLifeTime": 4000, "maxRetransmits": 2}},
        {"sctp_stream_parameters": {"streamId": 1}, "label": 5},
    ],
)
async def test_wrong_parameters_are_refused(source: WebRtcTransport, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        await source.produce_data(**options)
    assert (await source.dump())["dataProducerIds"] == []


async def test_a_stream_or_id_twice_is_refused(source: WebRtcTransport) -> None:
    await source.produce_data(sctp_stream_parameters={"streamId": 1}, id="one")
    with pytest.raises(WorkerRequestFailed):
        await source.produce_data(sctp_stream_parameters={"streamId": 1})
    with pytest.raises(AlreadyExists):
        await source.produce_data(sctp_stream_parameters={"streamId": 2}, id="one")


async def test_no_data_without_sctp(router: Router) -> None:
    without = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    with pytest.raises(MafaldaError):
        await without.produce_data(sctp_stream_parameters={"streamId": 1})
    with_sctp = await router.create_webrtc_transport(listen_infos=[LOOPBACK], enable_sctp=True)
    producer = await with_sctp.produce_data(sctp_stream_parameters={"streamId": 1})
    with pytest.raises(MafaldaError):
        await without.consume_data(data_producer_id=producer.id)
    assert without.data_consumers == {}


async def test_producer_dump_stats_pause(source: WebRtcTransport, record: Recorder) -> None:
    producer = await make(source)
    assert await producer.dump() == {
        "id": producer.id,
        "type": "sctp",
        "sctpStreamParameters": STREAM,
        "label": "foo",
        "protocol": "bar",
        "paused": False,
    }
    (stats,) = await producer.get_stats()
    assert (stats["type"], stats["label"], stats["protocol"]) == ("data-producer", "foo", "bar")
    assert (stats["messagesReceived"], stats["bytesReceived"]) == (0, 0)
    seen = record(producer, "pause", "resume")
    await producer.pause()
    await producer.pause()
    assert producer.paused
    assert (await producer.dump())["paused"] is True
    await producer.resume()
    assert (await producer.dump())["paused"] is False
    assert [event for event, _ in seen] == ["pause", "resume"]


async def test_consumes(source: WebRtcTransport, sink: PlainTransport, router: Router, record: Recorder) -> None:
    producer = await make(source)
    seen = record(sink, "newdataconsumer")
    consumer = await sink.consume_data(
        data_producer_id=producer.id, max_packet_life_time=4000, subchannels=[0, 1, 2], app_data={"baz": "LOL"}
    )
    assert seen == [("newdataconsumer", consumer)]
    assert (consumer.data_producer_id, consumer.type) == (producer.id, "sctp")
    assert (consumer.label, consumer.protocol, consumer.app_data) == ("foo", "bar", {"baz": "LOL"})
    assert (consumer.paused, consumer.data_producer_paused, consumer.closed) == (False, False, False)
    assert sorted(consumer.subchannels) == [0, 1, 2]
    assert consumer.sctp_stream_parameters is not None
    assert consumer.sctp_stream_parameters.to_json_dict() == {
        "streamId": 0,
        "ordered": False,
        "maxPacketLifeTime": 4000,
    }
    dump = await consumer.dump()
    assert (dump["id"], dump["dataProducerId"], dump["bufferedAmount"]) == (consumer.id, producer.id, 0)
    assert sorted(dump["subchannels"]) == [0, 1, 2]
    assert dump["sctpStreamParameters"]["streamId"] == 0
    (stats,) = await consumer.get_stats()
    assert (stats["type"], stats["messagesSent"], stats["bytesSent"]) == ("data-consumer", 0, 0)
    assert (await router.dump())["mapDataConsumerIdDataProducerId"] == [{"key": consumer.id, "value": producer.id}]
    with pytest.raises(NotFound):
        await sink.consume_data(data_producer_id="nobody")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"ordered": False, "maxPacketLifeTime": 5000}),
        ({"ordered": True}, {"ordered": True}),
        ({"ordered": True, "max_retransmits": 4}, {"ordered": True}),
        ({"ordered": False}, {"ordered": False, "maxPacketLifeTime": 5000}),
        ({"max_packet_life_time": 7}, {"ordered": False, "maxPacketLifeTime": 7}),
    ],
)
async def test_reliability(
    source: WebRtcTransport, sink: PlainTransport, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    producer = await make(source)
    consumer = await sink.consume_data(data_producer_id=producer.id, **options)
    assert consumer.sctp_stream_parameters is not None
    assert consumer.sctp_stream_parameters.to_json_dict() == {"streamId": 0} | expected


async def test_stream_ids_are_freed(source: WebRtcTransport, sink: PlainTransport) -> None:
    producer = await make(source)
    consumers = [await sink.consume_data(data_producer_id=producer.id) for _ in range(3)]
    streams = [consumer.sctp_stream_parameters for consumer in consumers]
    assert [stream and stream.stream_id for stream in streams] == [0, 1, 2]
    with pytest.raises(AlreadyExists):
        await sink.consume_data(data_producer_id=producer.id, id=consumers[0].id)
    await consumers[1].close()
    again = [(await sink.consume_data(data_producer_id=producer.id)).sctp_stream_parameters for _ in range(2)]
    assert [stream and stream.stream_id for stream in again] == [4, 5]  # 3 was taken and given back by the refusal


async def test_subchannels(source: WebRtcTransport, sink: PlainTransport) -> None:
    producer = await make(source)
    consumer = await sink.consume_data(data_producer_id=producer.id)
    assert consumer.subchannels == ()
    await consumer.set_subchannels([999, 999, 998, 65535])
    assert sorted(consumer.subchannels) == [998, 999, 65535]
    await consumer.add_subchannel(5)
    await consumer.add_subchannel(5)
    await consumer.remove_subchannel(998)
    await consumer.remove_subchannel(1)
    assert sorted(consumer.subchannels) == sorted((await consumer.dump())["subchannels"]) == [5, 999, 65535]
    for wrong in (-1, 65536, "1", 1.5):
        with pytest.raises(InvalidParameters):
            await consumer.add_subchannel(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameters):
        await consumer.set_subchannels([1, 65536])


async def test_buffered_amount(source: WebRtcTransport, sink: PlainTransport) -> None:
    producer = await make(source)
    consumer = await sink.consume_data(data_producer_id=producer.id)
    assert await consumer.get_buffered_amount() == 0
    await consumer.set_buffered_amount_low_threshold(500)
    assert (await consumer.dump())["bufferedAmountLowThreshold"] == 500
    with pytest.raises(InvalidParameters):
        await consumer.set_buffered_amount_low_threshold(-1)


async def test_pause_of_both_sides(source: WebRtcTransport, sink: PlainTransport, record: Recorder) -> None:
    producer = await make(source)
    consumer = await sink.consume_data(data_producer_id=producer.id, paused=True)
    assert consumer.paused
    seen = record(consumer, "pause", "resume", "dataproducerpause", "dataproducerresume")
    await consumer.resume()
    await producer.pause()
    await until(lambda: consumer.data_producer_paused)
    dump = await consumer.dump()
    assert (dump["paused"], dump["dataProducerPaused"]) == (False, True)
    await consumer.pause()
    await producer.resume()
    await until(lambda: not consumer.data_producer_paused)
    await consumer.resume()
    assert [event for event, _ in seen] == ["resume", "dataproducerpause", "pause", "dataproducerresume", "resume"]


async def test_direct_messages(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce_data(label="foo", protocol="bar", sctp_stream_parameters=STREAM)
    assert (producer.type, producer.sctp_stream_parameters) == ("direct", None)
    consumer = await direct.consume_data(data_producer_id=producer.id, ordered=True)
    assert (consumer.type, consumer.sctp_stream_parameters) == ("direct", None)
    assert "sctpStreamParameters" not in await consumer.dump()
    seen = record(consumer, "message")
    for message in ("text", b"binary", "", b"", "ü", memoryview(b"view")):
        producer.send(message)  # type: ignore[arg-type]
    producer.send(b"own", ppid=99)
    await until(lambda: len(seen) == 7)
    assert [payload for _, payload in seen] == [
        DataMessage(b"text", 51),
        DataMessage(b"binary", 53),
        DataMessage(b" ", 56),
        DataMessage(b"\0", 57),
        DataMessage("ü".encode(), 51),
        DataMessage(b"view", 53),
        DataMessage(b"own", 99),
    ]
    assert [payload.text for _, payload in seen] == ["text", None, "", None, "ü", None, None]
    size = sum(len(payload.data) for _, payload in seen)
    (sent,) = await consumer.get_stats()
    (received,) = await producer.get_stats()
    assert (sent["messagesSent"], sent["bytesSent"]) == (received["messagesReceived"], received["bytesReceived"])
    assert (received["messagesReceived"], received["bytesReceived"]) == (7, size)
    with pytest.raises(InvalidParameters):
        await consumer.send("not on a direct transport")
    with pytest.raises(InvalidParameters):
        producer.send(123)  # type: ignore[arg-type]


async def test_pausing_drops_messages(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce_data()
    consumer = await direct.consume_data(data_producer_id=producer.id)
    seen = record(consumer, "message")
    for index in range(40):
        if index == 10:
            await producer.pause()
        elif index == 20:
            await producer.resume()
            await consumer.pause()
        elif index == 30:
            await consumer.resume()
        producer.send(str(index))
    await until(lambda: len(seen) == 20)
    assert [int(payload.data) for _, payload in seen] == [*range(10), *range(30, 40)]


async def test_messages_of_subchannels(direct: DirectTransport, record: Recorder) -> None:
    producer = await direct.produce_data()
    one = await direct.consume_data(data_producer_id=producer.id, subchannels=[1, 11, 666])
    two = await direct.consume_data(data_producer_id=producer.id, subchannels=[2, 22, 666])
    seen_one, seen_two = record(one, "message"), record(two, "message")
    producer.send("all")
    producer.send("both", subchannels=[1, 2])
    producer.send("both", subchannels=[11, 22, 33], required_subchannel=666)
    producer.send("none", subchannels=[3], required_subchannel=666)
    producer.send("none", subchannels=[666], required_subchannel=3)
    producer.send("one", subchannels=[1])
    producer.send("one", subchannels=[666], required_subchannel=11)
    producer.send("two", subchannels=[666], required_subchannel=2)
    producer.send("two", ignored_subchannel=1)
    await two.add_subchannel(1)
    producer.send("last", subchannels=[1], required_subchannel=666)
    await until(lambda: seen_one[-1:] and seen_two[-1:] and seen_one[-1][1].text == seen_two[-1][1].text == "last")
    assert [payload.text for _, payload in seen_one] == ["all", "both", "both", "one", "one", "last"]
    assert [payload.text for _, payload in seen_two] == ["all", "both", "both", "two", "two", "last"]
    with pytest.raises(InvalidParameters):
        producer.send("x", subchannels=[70000])


async def test_messages_larger_than_allowed(router: Router, record: Recorder) -> None:
    direct = await router.create_direct_transport(sctp_limits=SctpLimits(max_send_message_size=1000))
    producer = await direct.produce_data()
    consumer = await direct.consume_data(data_producer_id=producer.id)
    seen = record(consumer, "message")
    producer.send(bytes(1001))
    producer.send(bytes(1000))
    await until(lambda: seen)
    assert [len(payload.data) for _, payload in seen] == [1000]


async def test_close(source: WebRtcTransport, sink: PlainTransport, router: Router, record: Recorder) -> None:
    producer = await make(source)
    mine = await sink.consume_data(data_producer_id=producer.id)
    other = await sink.consume_data(data_producer_id=producer.id)
    of_mine, of_other = record(mine, "close"), record(other, "dataproducerclose", "close")
    await mine.close()
    assert of_mine == [("close", "close")]
    assert (await sink.dump())["dataConsumerIds"] == [other.id]
    await producer.close()
    await until(lambda: other.closed)
    assert of_other == [("dataproducerclose", None), ("close", "dataproducerclose")]
    assert (sink.data_consumers, source.data_producers) == ({}, {})
    assert (await router.dump())["mapDataProducerIdDataConsumerIds"] == []
    of_producer: list[Callable[[DataProducer], Any]] = [lambda item: item.dump(), lambda item: item.pause()]
    for call in of_producer:
        with pytest.raises(ObjectClosed):
            await call(producer)
    of_consumer: list[Callable[[DataConsumer], Any]] = [
        lambda item: item.dump(),
        lambda item: item.get_stats(),
        lambda item: item.send("x"),
        lambda item: item.set_subchannels([]),
    ]
    for consumer_call in of_consumer:
        with pytest.raises(ObjectClosed):
            await consumer_call(mine)
    with pytest.raises(ObjectClosed):
        producer.send("x")


async def test_end_with_their_transports(
    source: WebRtcTransport, sink: PlainTransport, router: Router, record: Recorder
) -> None:
    producer = await make(source)
    consumer = await sink.consume_data(data_producer_id=producer.id)
    of_consumer, of_producer = record(consumer, "transportclose", "close"), record(producer, "transportclose", "close")
    await sink.close()
    await source.close()
    assert of_consumer == of_producer == [("transportclose", None), ("close", "transportclose")]
    assert router.get_data_producer(producer.id) is None
