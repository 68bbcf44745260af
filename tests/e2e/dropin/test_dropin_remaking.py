"""Transports that are made again when their worker is killed: same ids, same ports, and the media goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psutil
import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.bus.protocol import Bus
from mafalda.mediasoup import Consumer, Worker
from mafalda.mediasoup.transports.plain_transport import PlainTransport
from mafalda.monitor.overview import overview
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, opus_packet, until
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import TIMEOUT_S, dropin, dropin_environment

SSRC = 11111111


class _Sender:
    """Sends audio to a plain transport, from one port, for as long as the block runs."""

    def __init__(self, to: PlainTransport) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._address = (to.tuple.local_address, to.tuple.local_port)

    async def run(self) -> None:
        for sequence in range(1_000_000):
            self._socket.sendto(opus_packet(sequence, ssrc=SSRC), self._address)
            await asyncio.sleep(0.02)  # the duration of a packet

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._socket.close()


@contextmanager
def _receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(("127.0.0.1", 0))
        yield receiver


async def _receives(receiver: socket.socket, packets: int = 20) -> None:
    """Return when so many packets have come that were not waiting already."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            receiver.recv(2048)
        except BlockingIOError:
            break
    async with asyncio.timeout(TIMEOUT_S):
        for _ in range(packets):
            await loop.sock_recv(receiver, 2048)


async def _kill_worker_of(bus: Bus, room: str, transport: str) -> None:
    """Kill the worker of a transport, once it has one that lives; returns when it is gone."""
    pid = None
    async with asyncio.timeout(TIMEOUT_S):
        while pid is None:
            pid = _pid(await overview(bus, room=room), transport)
    process = psutil.Process(pid)
    process.kill()
    await asyncio.to_thread(psutil.wait_procs, [process], TIMEOUT_S)


def _pid(found: dict[str, Any], transport: str) -> int | None:
    peers = [peer for room in found["rooms"] for peer in room["peers"] if transport in peer["transportIds"]]
    workers = {worker["worker"]: worker["pid"] for server in found["servers"] for worker in server["workers"]}
    pid: int | None = workers.get(peers[0]["worker"]) if peers and peers[0]["status"] != "unplaced" else None
    return pid


@pytest.fixture(scope="module")
def fleet_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("three"), "--workers", "3", "--policy", "spread") as fleet:
        yield fleet


@pytest.fixture
async def worker_of_three(fleet_of_three: Up) -> AsyncIterator[tuple[Bus, Worker]]:
    """A virtual worker on a fleet with three workers under ``spread``; it dies with its WebRtcTransports."""
    environment = dropin_environment(fleet_of_three, MAFALDA_ON_WORKER_DEATH="die")
    config = BusConfig(servers=(fleet_of_three.nats_url,), ensure_streams=False)
    async with connect(config) as bus, dropin(fleet_of_three, environment=environment) as worker:
        yield bus, worker


async def test_plain_rtp_goes_on_when_either_worker_is_killed(worker_of_three: tuple[Bus, Worker]) -> None:
    """From one plain transport to another and to a direct one; the ends know nothing of it."""
    bus, worker = worker_of_three
    router = await worker.create_router(media_codecs=MEDIA_CODECS)
    ingest = await router.create_plain_transport(listen_info=LOOPBACK, comedia=True)
    recording = await router.create_plain_transport(listen_info=LOOPBACK)
    bot = await router.create_direct_transport()
    (room,) = (await overview(bus, room=router.id))["rooms"]
    assert len({peer["worker"] for peer in room["peers"]}) > 1
    producer = await ingest.produce(**audio(ssrc=SSRC))
    consumers = [
        await it.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities) for it in (recording, bot)
    ]
    ends: list[str] = []
    for consumer in consumers:
        consumer.on(consumer.PRODUCER_CLOSE, lambda _: ends.append("producerclose"))
    heard: list[bytes] = []
    consumers[1].on(Consumer.RTP, heard.append)
    with _receiver() as receiver:
        await recording.connect(ip="127.0.0.1", port=receiver.getsockname()[1])
        addresses = (ingest.tuple.local_port, recording.tuple.local_port)
        async with _Sender(ingest).running():
            await _receives(receiver)
            for doomed in (ingest, recording, bot):
                await _kill_worker_of(bus, router.id, doomed.id)
                await _receives(receiver)
                heard.clear()
                await until(lambda: len(heard) >= 20, TIMEOUT_S)
        dumps = [await it.dump() for it in (ingest, recording)]
    assert tuple(dump["tuple"]["localPort"] for dump in dumps) == addresses
    assert (ends, worker.closed) == ([], False)
    assert consumers[0].id in {entry["key"] for entry in (await router.dump())["mapConsumerIdProducerId"]}


async def test_a_pipe_between_two_routers_goes_on(worker_of_three: tuple[Bus, Worker]) -> None:
    bus, worker = worker_of_three
    source, target = [await worker.create_router(media_codecs=MEDIA_CODECS) for _ in range(2)]
    ingest = await source.create_plain_transport(listen_info=LOOPBACK, comedia=True)
    near = await source.create_pipe_transport(listen_info=LOOPBACK)
    far = await target.create_pipe_transport(listen_info=LOOPBACK)
    recording = await target.create_plain_transport(listen_info=LOOPBACK)
    await near.connect(ip="127.0.0.1", port=far.tuple.local_port)
    await far.connect(ip="127.0.0.1", port=near.tuple.local_port)
    producer = await ingest.produce(**audio(ssrc=SSRC))
    piped = await near.consume(producer_id=producer.id)
    parameters = piped.rtp_parameters
    there = await far.produce(kind="audio", rtp_parameters=parameters)
    consumer = await recording.consume(producer_id=there.id, rtp_capabilities=target.rtp_capabilities)
    with _receiver() as receiver:
        await recording.connect(ip="127.0.0.1", port=receiver.getsockname()[1])
        async with _Sender(ingest).running():
            await _receives(receiver)
            for room, doomed in ((source.id, near.id), (target.id, far.id)):
                await _kill_worker_of(bus, room, doomed)
                await _receives(receiver)
    assert (consumer.closed, piped.closed, worker.closed) == (False, False, False)
