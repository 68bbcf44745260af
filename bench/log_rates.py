"""How fast the log is written and read, next to raw nats-py on the same server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.js.api import DeliverPolicy, StreamConfig

from bench.figures import Figure, latency
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.events import ProducerPaused
from mafalda.contract.subjects import ALL_ROOM_EVENTS, room_event
from mafalda.monitor.records import read_log
from mafalda.projection.fold import fold
from mafalda.projection.state import State

RAW_STREAM, RAW_SUBJECT = "RAW", "raw.events"
WINDOW = 500


async def measure(quick: bool) -> list[Figure]:
    """Append one by one, append in a window, replay raw, replay decoded and folded."""
    count = 2_000 if quick else 50_000
    async with run_server(ServerConfig(port=0)) as server, _both(server.url) as (bus, raw):
        return [
            await _one_by_one(bus, raw, 200 if quick else 3_000),
            await _windowed(bus, raw, count),
            *await _replays(bus, raw),
        ]


@asynccontextmanager
async def _both(url: str) -> AsyncIterator[tuple[NatsBus, Client]]:
    raw = await nats.connect(url)
    try:
        # The same guarantees as our stream has: file storage, republished.
        await raw.jetstream().add_stream(StreamConfig(name=RAW_STREAM, subjects=[RAW_SUBJECT]))
        async with connect(BusConfig(servers=(url,))) as bus:
            yield bus, raw
    finally:
        await raw.close()


async def _one_by_one(bus: NatsBus, raw: Client, count: int) -> Figure:
    ours, theirs = [], []
    stream = raw.jetstream()
    for _ in range(count):
        start = time.perf_counter()
        await _append(bus)
        ours.append(time.perf_counter() - start)
        payload = encode(_message())
        start = time.perf_counter()
        await stream.publish(RAW_SUBJECT, payload)
        theirs.append(time.perf_counter() - start)
    return latency("log", "append, one by one", ours, theirs, "nats-py publish")


async def _windowed(bus: NatsBus, raw: Client, count: int) -> Figure:
    stream = raw.jetstream()
    payload = encode(_message())

    async def append_some(share: int) -> None:
        for _ in range(share):
            await _append(bus)

    async def publish_some(share: int) -> None:
        for _ in range(share):
            await stream.publish(RAW_SUBJECT, payload)

    start = time.perf_counter()
    await asyncio.gather(*(append_some(count // WINDOW) for _ in range(WINDOW)))
    ours = count / (time.perf_counter() - start)
    start = time.perf_counter()
    await asyncio.gather(*(publish_some(count // WINDOW) for _ in range(WINDOW)))
    theirs = count / (time.perf_counter() - start)
    return Figure("log", f"append, {WINDOW} at once", ours, "a second", theirs, "nats-py publish")


async def _replays(bus: NatsBus, raw: Client) -> list[Figure]:
    start = time.perf_counter()
    plain = 0
    async for _ in bus.read(ALL_ROOM_EVENTS):
        plain += 1
    plain_rate = plain / (time.perf_counter() - start)

    start = time.perf_counter()
    state, folded = State(), 0
    async for entry in read_log(bus, ALL_ROOM_EVENTS):
        if entry.message and entry.address:
            fold(state, entry.seq, entry.address, entry.message.data)
            folded += 1
    folded_rate = folded / (time.perf_counter() - start)

    raw_rate = await _raw_replay(raw)
    return [
        Figure("log", "replay, raw entries", plain_rate, "a second", raw_rate, "nats-py ordered consumer"),
        Figure("log", "replay, decoded and folded", folded_rate, "a second", raw_rate, "nats-py ordered consumer"),
    ]


async def _raw_replay(raw: Client) -> float:
    stream = raw.jetstream()
    total = (await stream.stream_info(RAW_STREAM)).state.messages
    seen = 0
    done = asyncio.Event()

    async def count(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == total:
            done.set()

    start = time.perf_counter()
    subscription = await stream.subscribe(
        RAW_SUBJECT, ordered_consumer=True, cb=count, deliver_policy=DeliverPolicy.ALL, idle_heartbeat=1
    )
    async with asyncio.timeout(120):
        await done.wait()
    rate: float = total / (time.perf_counter() - start)
    await subscription.unsubscribe()
    return rate


def _message() -> Message:
    return compose(ProducerPaused(peer="p", producer="video"), subject=_SUBJECT, source="/mafalda/bench")


async def _append(bus: NatsBus) -> None:
    await bus.append(_SUBJECT, compose(ProducerPaused(peer="p", producer="video"), subject=_SUBJECT, source="/bench"))


_SUBJECT = room_event("bench", ProducerPaused.action)
