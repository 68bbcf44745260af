"""From intent to result through a whole fleet, next to the same call on the driver alone.

A real nats-server, allocator and agent with two workers, each a process of its own; the client is the
SDK's request client, without media. The baseline is ``mafalda.mediasoup`` on a worker of this process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.figures import Figure, latency
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.client.config import ClientConfig
from mafalda.client.requests import PeerRequests
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.intents import CloseProducer, Consume, CreateTransport, Intent, Join, Leave, Produce
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import (
    ConsumeResult,
    Done,
    JoinResult,
    ProduceResult,
    Result,
    TransportResult,
)
from mafalda.media.rtp import ListenInfo, RtpParameters
from mafalda.mediasoup import PipeTransport, Router, create_worker
from mafalda.workers.config import default_media_codecs

ROOM = "bench"
Samples = dict[str, list[float]]


async def measure(quick: bool) -> list[Figure]:
    """Join, produce, consume on the same worker and over a relay."""
    rounds = 30 if quick else 300
    ours = await _through_the_fleet(rounds)
    driver = await _driver_alone(rounds)
    return [
        latency("intents", "join", ours["join"], driver["join"], "driver: create router"),
        latency("intents", "create transport", ours["transport"], driver["transport"], "driver"),
        latency("intents", "produce", ours["produce"], driver["produce"], "driver"),
        latency("intents", "consume, same worker", ours["consume"], driver["consume"], "driver"),
        latency("intents", "consume, relay opened", ours["relayed"], driver["relayed"], "driver: pipe and consume"),
        latency("intents", "consume, relay reused", ours["reused"], driver["consume"], "driver"),
        latency(
            "intents",
            "join, 2 transports, produce: one flight",
            ours["flight"],
            ours["steps"],
            "the same, each after the result before it",
        ),
    ]


async def _through_the_fleet(rounds: int) -> Samples:
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as folder:
        config = LocalFleetConfig(
            workers=2,
            policy="spread",
            nats_port=0,
            store_dir=Path(folder) / "nats",
            log_file=Path(folder) / "fleet.log",
        )
        async with (
            open_local_fleet(config) as running,
            connect(BusConfig(servers=(running.nats_url,))) as bus,
            _peers(bus) as peers,
        ):
            return await _rounds(peers, rounds)


class Peers:
    """Peers by name; all results are followed together."""

    def __init__(self, bus: NatsBus, tasks: TaskScope, reply_subject: str) -> None:
        self._bus = bus
        self._tasks = tasks
        self._reply_subject = reply_subject
        self.by_name: dict[str, PeerRequests] = {}

    def peer(self, name: str) -> PeerRequests:
        """The requests of a peer."""
        requests = PeerRequests(self._bus, self._tasks, self._reply_subject, ROOM, name, ClientConfig())
        self.by_name[name] = requests
        return requests


@asynccontextmanager
async def _peers(bus: NatsBus) -> AsyncIterator[Peers]:
    async with bus.inbox() as inbox, bus.follow(subjects.result(ROOM, "*", "*")) as follower, open_tasks() as tasks:
        peers = Peers(bus, tasks, inbox.subject)

        async def read_log() -> None:
            async for delivery in follower:
                address = subjects.parse(delivery.subject)
                if address and address.peer in peers.by_name:
                    peers.by_name[address.peer].take_stored(decode(delivery.data))

        async def read_inbox() -> None:
            while True:
                message = decode((await inbox.next(timeout_s=600)).data)
                for requests in list(peers.by_name.values()):
                    requests.take_private(message)

        tasks.spawn(read_log(), "results")
        tasks.spawn(read_inbox(), "inbox")
        yield peers


async def _rounds(peers: Peers, rounds: int) -> Samples:
    samples: Samples = defaultdict(list)
    origin = peers.peer("origin")
    joined = await origin.request(Join(), JoinResult)
    capabilities = joined.router_rtp_capabilities
    await origin.request(CreateTransport(transport="send"), TransportResult)
    near = await _peer_at(peers, "near", Place(server=joined.server, worker=joined.worker), same=True)
    far = await _peer_at(peers, "far", Place(server=joined.server, worker=joined.worker), same=False)
    last = await _peer_at(peers, "last", Place(server=joined.server, worker=joined.worker), same=False)
    for number in range(rounds):  # before the rest: what is opened counts as load until reports show it
        joining = peers.peer(f"joining-{number}")
        samples["join"].append(await _timed(joining.request(Join(), JoinResult)))
        samples["transport"].append(await _timed(joining.request(CreateTransport(transport="both"), TransportResult)))
        await joining.request(Leave(), Done)
        del peers.by_name[joining.peer]
        for what in ("steps", "flight"):
            joining = peers.peer(f"{what}-{number}")
            samples[what].append(await _timed(_join_and_produce(joining, in_one_flight=what == "flight")))
            await joining.request(Leave(), Done)
            del peers.by_name[joining.peer]
    for number in range(rounds):
        producer = f"audio-{number}"
        produce = Produce(producer=producer, transport="send", media_kind="audio", rtp_parameters=_opus(number))
        samples["produce"].append(await _timed(origin.request(produce, ProduceResult)))
        for what, requests in (("consume", near), ("relayed", far), ("reused", last)):
            consume = Consume(
                consumer=f"{what}-{number}", transport="both", producer=producer, rtp_capabilities=capabilities
            )
            samples[what].append(await _timed(requests.request(consume, ConsumeResult)))
        await origin.request(CloseProducer(producer=producer), Done)
    return samples


async def _join_and_produce(requests: PeerRequests, *, in_one_flight: bool) -> None:
    """A peer joins, opens two transports and a producer: all requested at once, or each after the result before it."""
    produce = Produce(producer=requests.peer, transport="send", media_kind="audio", rtp_parameters=_opus(1))
    wanted: list[tuple[Intent, type[Result]]] = [
        (Join(), JoinResult),
        (CreateTransport(transport="send"), TransportResult),
        (CreateTransport(transport="receive"), TransportResult),
        (produce, ProduceResult),
    ]
    if in_one_flight:
        await asyncio.gather(*(requests.request(intent, expected) for intent, expected in wanted))
        return
    for intent, expected in wanted:
        await requests.request(intent, expected)


async def _peer_at(peers: Peers, name: str, place: Place, *, same: bool) -> PeerRequests:
    """A peer with a transport, on that worker or not: the policy spreads, so a few tries suffice."""
    for attempt in range(20):
        requests = peers.peer(f"{name}-{attempt}")
        joined = await requests.request(Join(), JoinResult)
        if (Place(server=joined.server, worker=joined.worker) == place) is same:
            await requests.request(CreateTransport(transport="both"), TransportResult)
            return requests
    raise RuntimeError(f"no peer {'on' if same else 'off'} {place.worker} in 20 joins")


async def _driver_alone(rounds: int) -> Samples:
    samples: Samples = defaultdict(list)
    listen = ListenInfo(protocol="udp", ip="127.0.0.1")
    codecs = list(default_media_codecs())
    async with create_worker() as worker, create_worker() as second:
        router = await worker.create_router(media_codecs=codecs)
        other = await second.create_router(media_codecs=codecs)
        send = await router.create_webrtc_transport(listen_infos=[listen])
        receive = await router.create_webrtc_transport(listen_infos=[listen])
        far = await other.create_webrtc_transport(listen_infos=[listen])
        near_end, far_end = await _pipe(router, other, listen)
        for number in range(rounds):
            start = time.perf_counter()
            extra = await worker.create_router(media_codecs=codecs)
            samples["join"].append(time.perf_counter() - start)
            await extra.close()
            start = time.perf_counter()
            transport = await router.create_webrtc_transport(listen_infos=[listen])
            samples["transport"].append(time.perf_counter() - start)
            await transport.close()
            start = time.perf_counter()
            producer = await send.produce(kind="audio", rtp_parameters=_opus(number))
            samples["produce"].append(time.perf_counter() - start)
            start = time.perf_counter()
            await receive.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
            samples["consume"].append(time.perf_counter() - start)
            start = time.perf_counter()
            carried = await near_end.consume(producer_id=producer.id)
            await far_end.produce(id=producer.id, kind="audio", rtp_parameters=carried.rtp_parameters)
            await far.consume(producer_id=producer.id, rtp_capabilities=other.rtp_capabilities)
            samples["relayed"].append(time.perf_counter() - start)
            await producer.close()
    return samples


async def _pipe(router: Router, other: Router, listen: ListenInfo) -> tuple[PipeTransport, PipeTransport]:
    near = await router.create_pipe_transport(listen_info=listen)
    far = await other.create_pipe_transport(listen_info=listen)
    await near.connect(ip=far.tuple.local_address, port=far.tuple.local_port)
    await far.connect(ip=near.tuple.local_address, port=near.tuple.local_port)
    return near, far


async def _timed(call: Awaitable[object]) -> float:
    start = time.perf_counter()
    await call
    return time.perf_counter() - start


def _opus(number: int) -> RtpParameters:
    return RtpParameters.model_validate(
        {
            "mid": str(number % 30000),
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
            "encodings": [{"ssrc": 1_000_000 + number}],
            "rtcp": {"cname": "bench"},
        }
    )
