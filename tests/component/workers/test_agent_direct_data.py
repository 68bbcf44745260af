"""Messages of a direct data producer on their way over two relays in a row, on a real worker and a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.contract import subjects
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.notices import RelayNotices
from mafalda.contract.messages.payload import Place
from mafalda.errors import InvalidParameters
from mafalda.mediasoup import DataConsumer, DataProducer, Router, create_worker
from mafalda.mediasoup.codec.channel_json import to_json
from mafalda.mediasoup.install import find_worker_bin
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.direct_data import SEND, receive, send
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.sideband import RelaySideband

ROOM, CHAT = "lobby", "chat"
ORIGIN, NEAR, FAR = (Place(server=server, worker=worker) for server, worker in (("a", "a0"), ("a", "a1"), ("b", "b0")))
FIRST, SECOND = PipeKey(ROOM, ORIGIN, NEAR), PipeKey(ROOM, NEAR, FAR)


def _notice(text: str, *, event: str = SEND, subchannels: tuple[int, ...] = ()) -> ChannelNotice:
    body = {"ppid": 51, "data": text.encode(), "subchannels": list(subchannels)}
    return ChannelNotice(event=event, handler=CHAT, body=to_json(body))


class _Hop:
    """The data producer on one router, and everything that it sends there to those with sub-channel 1."""

    def __init__(self, producer: DataProducer, consumer: DataConsumer) -> None:
        self.producer = producer
        self.received: list[str] = []
        self._changed = asyncio.Event()
        consumer.on(consumer.MESSAGE, lambda message: self._hear(message.text or ""))

    def _hear(self, text: str) -> None:
        self.received.append(text)
        self._changed.set()

    async def until(self, last: str) -> list[str]:
        async with asyncio.timeout(10):
            while last not in self.received:
                self._changed.clear()
                await self._changed.wait()
        return self.received


async def _hop(router: Router) -> _Hop:
    transport = await router.create_direct_transport()
    producer = await transport.produce_data(id=CHAT)
    return _Hop(producer, await transport.consume_data(data_producer_id=CHAT, subchannels=[1]))


@asynccontextmanager
async def _agent(server: str, broker: MemoryBroker) -> AsyncIterator[RelaySideband]:
    """An agent's sideband, which takes the notices of other agents."""
    bus = MemoryBus(broker)
    async with open_tasks() as tasks, bus.listen(subjects.agent_notice(server, "*")) as deliveries:
        sideband = RelaySideband(tasks, Publisher(bus, server))

        async def take() -> None:
            async for delivery in deliveries:
                carried = decode(delivery.data).data
                assert isinstance(carried, RelayNotices)
                sideband.receive(carried)

        tasks.spawn(take(), "notices")
        yield sideband


async def test_messages_go_on_from_relay_to_relay_with_their_sub_channels() -> None:
    worker_bin = find_worker_bin()
    assert worker_bin is not None, "run `make setup`"
    broker = MemoryBroker()
    async with (
        create_worker(bin=worker_bin) as worker,
        _agent("a", broker) as here,
        _agent("b", broker) as there,
    ):
        origin, near, far = [await _hop(await worker.create_router(media_codecs=[], scope=name)) for name in "xyz"]
        first, second = here.open_route(FIRST, CHAT), here.open_route(SECOND, CHAT)
        here.subscribe(FIRST, CHAT, partial(receive, here, FIRST.at_target(CHAT), near.producer))
        there.subscribe(SECOND, CHAT, partial(receive, there, SECOND.at_target(CHAT), far.producer))

        def send_on_a(notice: ChannelNotice) -> None:
            send(here, ROOM, ORIGIN.worker, origin.producer, notice)

        for notice in (
            _notice("1"),
            _notice("not for 1", subchannels=(2,)),
            _notice("2", subchannels=(1, 2)),
            _notice("3"),
        ):
            send_on_a(notice)
        for hop in (origin, near, far):
            assert await hop.until("3") == ["1", "2", "3"]

        # What does not come over its own relay, or is no message, is not believed.
        there.receive(RelayNotices(room=ROOM, source=ORIGIN, target=FAR, items=[_notice("forged")]))
        there.receive(RelayNotices(room=ROOM, source=NEAR, target=FAR, items=[_notice("odd", event="PRODUCER_SEND")]))
        with pytest.raises(InvalidParameters):
            send_on_a(ChannelNotice(event=SEND, handler=CHAT, body={"ppid": "text"}))
        send_on_a(_notice("4"))
        assert await far.until("4") == ["1", "2", "3", "4"]

        # A paused one says nothing anywhere; what has stopped being carried goes no further.
        await origin.producer.pause()
        send_on_a(_notice("paused"))
        await origin.producer.resume()
        second.close()
        send_on_a(_notice("5"))
        assert await near.until("5") == ["1", "2", "3", "4", "5"]
        first.close()
        send_on_a(_notice("6"))
        assert (await origin.until("6"))[-2:] == ["5", "6"]
        assert (near.received[-1], far.received[-1]) == ("5", "4")

        # A relay target that has closed receives nothing, and that is no error.
        here.open_route(FIRST, CHAT)
        await near.producer.close()
        send_on_a(_notice("7"))
        assert (await origin.until("7"))[-1] == "7"
