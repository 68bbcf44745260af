"""Router: the objects that it creates, can_consume, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import AlreadyExists, InvalidParameters, NotFound, UnsupportedError
from mafalda.mediasoup import Router, Worker
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, vp8

Recorder = Callable[..., list[tuple[str, Any]]]


async def test_knows_its_codecs(router: Router) -> None:
    capabilities = router.rtp_capabilities
    assert [codec.mime_type for codec in capabilities.codecs if not codec.mime_type.endswith("rtx")] == [
        "audio/opus",
        "video/VP8",
        "video/VP9",
        "video/H264",
    ]
    assert capabilities.header_extensions


async def test_dump_of_an_empty_and_of_a_used_router(router: Router) -> None:
    assert await router.dump() == {
        "id": router.id,
        "transportIds": [],
        "rtpObserverIds": [],
        "mapProducerIdConsumerIds": [],
        "mapConsumerIdProducerId": [],
        "mapProducerIdObserverIds": [],
        "mapDataProducerIdDataConsumerIds": [],
        "mapDataConsumerIdDataProducerId": [],
    }
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK], id="t")
    await transport.produce(**audio(), id="p")
    await transport.consume(producer_id="p", rtp_capabilities=router.rtp_capabilities, id="c")
    observer = await router.create_audio_level_observer(id="o")
    await observer.add_producer(producer_id="p")
    dump = await router.dump()
    assert dump["transportIds"] == ["t"]
    assert dump["rtpObserverIds"] == ["o"]
    assert dump["mapProducerIdConsumerIds"] == [{"key": "p", "values": ["c"]}]
    assert dump["mapConsumerIdProducerId"] == [{"key": "c", "value": "p"}]
    assert dump["mapProducerIdObserverIds"] == [{"key": "p", "values": ["o"]}]


async def test_can_consume(router: Router) -> None:
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await transport.produce(**audio())
    assert router.can_consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    assert not router.can_consume(producer_id=producer.id, rtp_capabilities={"codecs": []})
    assert not router.can_consume(producer_id="nobody", rtp_capabilities=router.rtp_capabilities)
    with pytest.raises(InvalidParameters):
        router.can_consume(producer_id=producer.id, rtp_capabilities={"codecs": [{"mimeType": 1}]})


async def test_finds_producers_of_all_its_transports(router: Router) -> None:
    one = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    two = await router.create_plain_transport(listen_info=LOOPBACK, enable_sctp=True)
    producer = await one.produce(**audio())
    data_producer = await two.produce_data(sctp_stream_parameters={"streamId": 1})
    assert router.get_producer(producer.id) is producer
    assert router.get_data_producer(data_producer.id) is data_producer
    assert set(router.transports.values()) == {one, two}
    await one.close()
    await two.close()
    assert router.get_producer(producer.id) is None
    assert router.transports == {}
    with pytest.raises(NotFound):
        router.require_producer(producer.id)
    with pytest.raises(NotFound):
        router.require_data_producer(data_producer.id)


async def test_update_media_codecs(router: Router) -> None:
    router.update_media_codecs([MEDIA_CODECS[0]])
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    await transport.produce(**audio())
    with pytest.raises(UnsupportedError):
        await transport.produce(**vp8(1))


async def test_an_id_is_used_once_for_whatever_kind(router: Router) -> None:
    transport = await router.create_direct_transport(id="taken")
    for make in (router.create_direct_transport, router.create_audio_level_observer):
        with pytest.raises(AlreadyExists):
            await make(id="taken")
    with pytest.raises(AlreadyExists):
        await transport.produce(**audio(), id="taken")
    assert (await transport.dump())["id"] == "taken"


async def test_many_at_once_keep_their_own_answers(router: Router) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(router.create_direct_transport(id=f"t{index}")) for index in range(50)]
    dumps = await asyncio.gather(*(task.result().dump() for task in tasks))
    assert [dump["id"] for dump in dumps] == [f"t{index}" for index in range(50)]


async def test_close_ends_everything_in_it(router: Router, worker: Worker, record: Recorder) -> None:
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    producer = await transport.produce(**audio())
    observer = await router.create_active_speaker_observer()
    seen = record(router, "close", "workerclose")
    of_transport = record(transport, "routerclose", "close")
    of_producer = record(producer, "transportclose", "close")
    of_observer = record(observer, "routerclose", "close")
    await router.close()
    assert seen == [("close", "close")]
    assert of_transport == of_observer == [("routerclose", None), ("close", "routerclose")]
    assert of_producer == [("transportclose", None), ("close", "transportclose")]
    assert worker.routers == {}
    assert (await worker.dump())["routerIds"] == []
    for call in (router.dump, transport.dump, producer.dump, router.create_direct_transport):
        with pytest.raises(ObjectClosed):
            await call()
    await router.close()


async def test_closing_while_a_transport_is_made(router: Router) -> None:
    making = asyncio.create_task(router.create_direct_transport())
    await asyncio.sleep(0)
    await router.close()
    with pytest.raises(ObjectClosed):
        await making
