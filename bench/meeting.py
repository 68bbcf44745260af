"""A meeting in which everybody receives everybody: how long it takes to form, and what the log has of it.

By subscription, and by plain consumes that are requested all at once; next to the same consumers made with the driver
alone. A real nats-server, allocator and agent with one worker, each a process of its own; the peers are requests
without media, in this process. The large meeting is spread over four workers, with a relay of each producer to each.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Figure
from mafalda.aio.retry import retrying
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.client.config import ClientConfig
from mafalda.client.requests import PeerRequests
from mafalda.contract import subjects
from mafalda.contract.batches import read_results
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.events import ConsumersOpened
from mafalda.contract.messages.intents import Consume, CreateTransport, Join, Leave, Produce, Subscribe
from mafalda.contract.messages.results import (
    ConsumeResult,
    Done,
    JoinResult,
    ProduceResult,
    Result,
    ResultBatch,
    SubscribeResult,
    TransportResult,
)
from mafalda.errors import NoCapacity
from mafalda.media.rtp import ListenInfo, MediaKind, RtpCapabilities, RtpParameters
from mafalda.mediasoup import WebRtcTransport, create_worker
from mafalda.mediasoup.ortc import generate_router_rtp_capabilities
from mafalda.workers.config import default_media_codecs

BOTH: tuple[MediaKind, ...] = ("audio", "video")
AUDIO: tuple[MediaKind, ...] = ("audio",)
CAPABILITIES = generate_router_rtp_capabilities(default_media_codecs())
#: Nothing of a meeting may take longer, in seconds.
DEADLINE_S = 180.0


async def measure(quick: bool) -> list[Figure]:
    """Form meetings, by subscription and by plain consumes."""
    size, large = (20, 30) if quick else (60, 100)
    alone = await _driver_alone(size, BOTH)
    async with _fleet(workers=4) as (_, client):
        together = await _formed_at_once(client, large, BOTH)
    async with _fleet(workers=1) as (bus, client):
        subscribed = await _formed(client, size, BOTH, _subscribe_all)
        consumed = await _formed(client, size, BOTH, _consume_all)
        former_log = await _logged(bus, client, 20, _consume_all_with_capabilities)
        plain_log = await _logged(bus, client, 20, _consume_all)
        small_log = await _logged(bus, client, 20, _subscribe_all)
    consumers = size * (size - 1) * len(BOTH)
    of = f"driver: {consumers:,} consumes"
    return [
        Figure("meeting", f"{size} people: subscriptions", subscribed, "s", alone, of),
        Figure("meeting", f"{size} people: plain consumes", consumed, "s", alone, of),
        Figure("meeting", f"{large} people, 4 workers: from the first join", together, "s"),
        *_log_figures("subscriptions", small_log, former_log),
        *_log_figures("plain consumes", plain_log, former_log),
    ]


def _log_figures(how: str, logged: tuple[int, int], former: tuple[int, int]) -> list[Figure]:
    of = "consumes with capabilities each"
    return [
        Figure("meeting", f"20 people, audio, {how}: entries", logged[0], "", former[0], of),
        Figure("meeting", f"20 people, audio, {how}: bytes", logged[1], "", former[1], of),
    ]


# --- the driver alone --------------------------------------------------------------------------


async def _driver_alone(size: int, kinds: Iterable[MediaKind]) -> float:
    """Seconds for all consumers of a meeting, requested of one worker all at once."""
    listen = ListenInfo(protocol="udp", ip="127.0.0.1")
    numbers = itertools.count()
    async with create_worker(request_timeout_s=DEADLINE_S) as worker:
        router = await worker.create_router(media_codecs=list(default_media_codecs()))
        send = [await router.create_webrtc_transport(listen_infos=[listen]) for _ in range(size)]
        receive = [await router.create_webrtc_transport(listen_infos=[listen]) for _ in range(size)]
        producers = [
            [(await it.produce(kind=kind, rtp_parameters=_sent(kind, next(numbers)))).id for kind in kinds]
            for it in send
        ]

        async def consume(peer: int, transport: WebRtcTransport) -> None:
            others = [id for number, ids in enumerate(producers) if number != peer for id in ids]
            await asyncio.gather(
                *(transport.consume(producer_id=id, rtp_capabilities=CAPABILITIES, paused=True) for id in others)
            )

        start = time.perf_counter()
        await asyncio.gather(*(consume(peer, transport) for peer, transport in enumerate(receive)))
        return time.perf_counter() - start


# --- through the fleet -------------------------------------------------------------------------


@dataclass(slots=True)
class _Member:
    """A peer of a meeting. ``received`` has the producers that it has been told consumers of."""

    requests: PeerRequests
    expected: int
    received: set[str] = field(default_factory=set)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def receives(self, producers: Iterable[str]) -> None:
        self.received.update(producers)
        if len(self.received) >= self.expected:
            self.complete.set()


class _Client:
    """All peers of this process, on one connection; what is for them is read together."""

    def __init__(self, bus: NatsBus, tasks: TaskScope, reply_subject: str) -> None:
        self._bus = bus
        self._tasks = tasks
        self._reply_subject = reply_subject
        self._numbers = itertools.count()
        self.members: dict[tuple[str, str], _Member] = {}

    def member(self, room: str, name: str, expected: int) -> _Member:
        config = ClientConfig(request_timeout_s=DEADLINE_S, retry_interval_s=DEADLINE_S)
        requests = PeerRequests(self._bus, self._tasks, self._reply_subject, room, name, config)
        member = self.members[room, name] = _Member(requests, expected)
        return member

    def next_number(self) -> int:
        return next(self._numbers)

    def take(self, subject: str, raw: bytes) -> None:
        address = subjects.parse(subject)
        member = self.members.get((address.room or "", address.peer or "")) if address else None
        if member is None:
            return
        message = decode(raw)
        match message.data:
            case ConsumersOpened() as opened:
                member.receives(it.producer for it in opened.consumers)
            case ConsumeResult() as result:
                member.receives([result.producer])
                member.requests.take_stored(message)
            case ResultBatch() if address is not None:
                found = [it.data for _, it in read_results(address, message)]
                member.receives(it.producer for it in found if isinstance(it, ConsumeResult))
                member.requests.take_stored(message)
            case Result():
                member.requests.take_stored(message)


@asynccontextmanager
async def _fleet(*, workers: int) -> AsyncIterator[tuple[NatsBus, _Client]]:
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as folder:
        config = LocalFleetConfig(
            workers=workers,
            policy="spread",
            nats_port=0,
            page=False,
            store_dir=Path(folder) / "nats",
            log_file=Path(folder) / "fleet.log",
        )
        async with (
            open_local_fleet(config) as running,
            connect(BusConfig(servers=(running.nats_url,))) as bus,
            bus.inbox() as inbox,
            bus.follow(subjects.ALL_RESULTS, subjects.ALL_PEER_EVENTS) as follower,
            open_tasks() as tasks,
        ):
            client = _Client(bus, tasks, inbox.subject)

            async def read_log() -> None:
                async for delivery in follower:
                    client.take(delivery.subject, delivery.data)

            async def read_inbox() -> None:
                while True:
                    message = decode((await inbox.next(timeout_s=600)).data)
                    for member in list(client.members.values()):
                        if member.requests.take_private(message):
                            break

            tasks.spawn(read_log(), "results")
            tasks.spawn(read_inbox(), "inbox")
            yield bus, client


Receive = Callable[[list[_Member], dict[str, list[str]]], Awaitable[None]]


async def _formed(client: _Client, size: int, kinds: tuple[MediaKind, ...], receive: Receive) -> float:
    """Seconds until all have been told all consumers, from the moment in which everybody produces."""
    members, producers = await _gathered(client, size, kinds)
    start = time.perf_counter()
    async with asyncio.timeout(DEADLINE_S):
        await receive(members, producers)
        await asyncio.gather(*(member.complete.wait() for member in members))
    took = time.perf_counter() - start
    await _leave(client, members)
    return took


async def _gathered(
    client: _Client, size: int, kinds: tuple[MediaKind, ...]
) -> tuple[list[_Member], dict[str, list[str]]]:
    """A meeting in which everybody produces and nobody receives; the producers of each peer."""
    room = f"meeting-{client.next_number()}"
    members = [client.member(room, f"p{number}", (size - 1) * len(kinds)) for number in range(size)]
    made: dict[str, list[str]] = {}
    for member in members:
        await _join(member)
        made[member.requests.peer] = await _send(client, member, kinds)
        await _open_receiver(member)
    return members, made


async def _join(member: _Member) -> None:
    """Join; again while the workers are too busy to be given a peer."""
    async for attempt in retrying(NoCapacity, action="bench_join", give_up_after_s=DEADLINE_S):
        with attempt:
            await member.requests.request(Join(), JoinResult)


async def _send(client: _Client, member: _Member, kinds: tuple[MediaKind, ...]) -> list[str]:
    requests = member.requests
    ids = [f"{requests.peer}-{kind}" for kind in kinds]
    await asyncio.gather(
        requests.request(CreateTransport(transport="send", direction="send"), TransportResult),
        *(
            requests.request(
                Produce(
                    producer=id,
                    transport="send",
                    media_kind=kind,
                    rtp_parameters=_sent(kind, client.next_number()),
                ),
                ProduceResult,
            )
            for id, kind in zip(ids, kinds, strict=True)
        ),
    )
    return ids


async def _open_receiver(member: _Member) -> None:
    intent = CreateTransport(transport="receive", direction="receive", rtp_capabilities=CAPABILITIES)
    await member.requests.request(intent, TransportResult)


async def _subscribe_all(members: list[_Member], _: dict[str, list[str]]) -> None:
    await asyncio.gather(
        *(it.requests.request(Subscribe(subscription="all", paused=True), SubscribeResult) for it in members)
    )


async def _consume_all(members: list[_Member], producers: dict[str, list[str]]) -> None:
    await _consume_each(members, producers, RtpCapabilities())


async def _consume_all_with_capabilities(members: list[_Member], producers: dict[str, list[str]]) -> None:
    await _consume_each(members, producers, CAPABILITIES)


async def _consume_each(members: list[_Member], producers: dict[str, list[str]], capabilities: RtpCapabilities) -> None:
    await asyncio.gather(
        *(
            it.requests.request(
                Consume(consumer=f"c-{id}", transport="receive", producer=id, rtp_capabilities=capabilities),
                ConsumeResult,
            )
            for it in members
            for peer, ids in producers.items()
            if peer != it.requests.peer
            for id in ids
        )
    )


async def _formed_at_once(client: _Client, size: int, kinds: tuple[MediaKind, ...]) -> float:
    """Seconds from the first join until all have been told all consumers; each requests all it wants in one flight."""
    room = f"meeting-{client.next_number()}"
    members = [client.member(room, f"p{number}", (size - 1) * len(kinds)) for number in range(size)]

    async def take_part(member: _Member) -> None:
        await asyncio.gather(
            member.requests.request(Join(), JoinResult),
            _send(client, member, kinds),
            _open_receiver(member),
            member.requests.request(Subscribe(subscription="all", paused=True), SubscribeResult),
        )
        await member.complete.wait()

    start = time.perf_counter()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(take_part(member) for member in members))
    took = time.perf_counter() - start
    await _leave(client, members)
    return took


async def _logged(bus: NatsBus, client: _Client, size: int, receive: Receive) -> tuple[int, int]:
    """Entries and bytes of a meeting with audio in the log, but for those of people who leave."""
    first = await bus.last_seq()
    members, producers = await _gathered(client, size, AUDIO)
    await receive(members, producers)
    await asyncio.gather(*(member.complete.wait() for member in members))
    entries = size_bytes = 0
    async for delivery in bus.read(
        "mafalda.room.>", "mafalda.command.>", after_seq=first, up_to_seq=await bus.last_seq()
    ):
        entries += 1
        size_bytes += len(delivery.data) + len(delivery.subject)
    await _leave(client, members)
    return entries, size_bytes


async def _leave(client: _Client, members: list[_Member]) -> None:
    await asyncio.gather(*(member.requests.request(Leave(), Done) for member in members))
    for member in members:
        del client.members[member.requests.room, member.requests.peer]


def _sent(kind: MediaKind, number: int) -> RtpParameters:
    codec = (
        {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}
        if kind == "audio"
        else {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000}
    )
    return RtpParameters.model_validate(
        {
            "mid": str(number % 30000),
            "codecs": [codec],
            "encodings": [{"ssrc": 1_000_000 + number}],
            "rtcp": {"cname": "bench"},
        }
    )
