"""How long an allocator takes to be ready on an old log: with a snapshot, next to reading the whole log.

The log has rooms of five peers who all hear each other; most of them have ended. Its entries are published raw, from
templates, so that millions take minutes. Measured are a real nats-server, ``run_allocator`` until it is ready, and what
an agent reads of a room that it gets.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import nats
from nats.aio.client import Client

from bench.figures import Figure, p50
from mafalda.aio.tasks import background
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import encode
from mafalda.snapshot.store import newest_manifest, read_room
from mafalda.testing.builders import message
from mafalda.testing.stories import Story

PEERS = 5
WORKER = "s1-0"
_ROOM = "room-of-the-bench"
_FLUSH_EVERY = 2_000


async def measure(quick: bool) -> list[Figure]:
    """Ready with and without a snapshot; a room out of a snapshot, and out of the log."""
    past, living = (50_000, 200) if quick else (1_000_000, 2_000)
    async with run_server(ServerConfig(port=0)) as server, connect(BusConfig(servers=(server.url,))) as bus:
        raw = await nats.connect(server.url)
        try:
            entries = await _fill(raw, past, living)
        finally:
            await raw.close()
        without = await _ready(bus, snapshot=True)
        ready = p50([await _ready(bus, snapshot=False) for _ in range(3)])
        what = f"allocator ready: {entries:,} entries, {living:,} living rooms"
        return [
            Figure("snapshots", what, ready, "s", without, "read the whole log"),
            await _rooms(bus, living),
        ]


async def _ready(bus: NatsBus, *, snapshot: bool) -> float:
    """Seconds until an allocator is ready; with ``snapshot`` it then writes one."""
    ready = asyncio.Event()
    config = AllocatorConfig(snapshot_interval_s=0.1 if snapshot else 3_600, log_keep_s=None, log_keep_bytes=None)
    start = time.perf_counter()
    async with background(run_allocator(bus, config, ready=ready, counters=Counter()), "allocator"):
        await ready.wait()
        took = time.perf_counter() - start
        while snapshot and await newest_manifest(bus) is None:  # noqa: ASYNC110 - in NATS
            await asyncio.sleep(0.1)
    return took


async def _rooms(bus: NatsBus, living: int) -> Figure:
    """What an agent reads before the first peer of a room, old and new."""
    old, new = [], []
    for index in range(200):
        old.append(await _read(bus, f"living-{index * 7 % living:07d}"))
        new.append(await _read(bus, f"unheard-{index:07d}"))
    return Figure("snapshots", "an agent reads an old room", p50(old) * 1e3, "ms p50", p50(new) * 1e3, "a new room")


async def _read(bus: NatsBus, room: str) -> float:
    start = time.perf_counter()
    seq, _ = await read_room(bus, room)
    patterns = (subjects.room_event(room, "*"), subjects.room_commands(room))
    end = await bus.last_seq()
    _ = [entry async for entry in bus.read(*patterns, after_seq=seq, up_to_seq=end)]
    return time.perf_counter() - start


async def _fill(raw: Client, past: int, living: int) -> int:
    """Publish the log; returns the number of its entries."""
    begun = list(_entries(Story(_ROOM), ended=False))
    ended = list(_entries(Story(_ROOM), ended=True))
    count = 0
    for subject, data in _started():
        await raw.request(subject, data)
        count += 1
    rooms = [(f"ended-{index:07d}", ended) for index in range(past // len(ended))]
    rooms += [(f"living-{index:07d}", begun) for index in range(living)]
    for room, entries in rooms:
        name = room.encode()
        for subject, data in entries:
            await raw.publish(subject.replace(_ROOM, room), data.replace(_ROOM.encode(), name))
            count += 1
            if count % _FLUSH_EVERY == 0:
                await raw.flush()
    await raw.flush(timeout=600)
    return count


def _started() -> Iterator[tuple[str, bytes]]:
    for _, subject, payload in Story().server_starts("s1", WORKER).entries:
        yield subject, encode(message(payload, subject=subject))


def _entries(story: Story, *, ended: bool) -> Iterator[tuple[str, bytes]]:
    """The log of one room, without ids of NATS, so that nothing is taken for a duplicate."""
    story.server_starts("s1", WORKER)
    names = [f"p{index}" for index in range(PEERS)]
    for name in names:
        story.joins(name, WORKER).opens_transport(name).produces(name, f"{name}-mic", worker=WORKER)
    for name in names:
        for other in names:
            if other != name:
                story.consumes(name, f"{name}-{other}", f"{other}-mic")
    if ended:
        for name in names:
            story.leaves(name)
    for _, subject, payload in story.entries[1:]:
        yield subject, encode(message(payload, subject=subject))
