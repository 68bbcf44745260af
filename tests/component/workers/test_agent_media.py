"""Real media through real relays: an allocator, two agents and aiortc clients, in one process, on one bus."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.client import Room, connect
from mafalda.client.media.clip import ClipSpec, make_clip
from mafalda.client.media.playback import open_playback
from mafalda.client.media.probe import Probe
from mafalda.contract.messages import events
from mafalda.telemetry.metrics import Read
from mafalda.workers.supervision.rtp_sampler import RtpSampler
from tests.component.workers.agent_world import Fleet

SPEC = ClipSpec()
MAX_PEERS = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.webm", SPEC)


@asynccontextmanager
async def allocating(fleet: Fleet) -> AsyncIterator[None]:
    """An allocator that spreads, so that every consume needs a relay."""
    ready = asyncio.Event()
    work = asyncio.create_task(
        run_allocator(fleet.bus, AllocatorConfig(policy="spread"), ready=ready), name="allocator"
    )
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@asynccontextmanager
async def joined_apart(fleet: Fleet) -> AsyncIterator[tuple[Room, Room]]:
    """Two peers on different servers. A busy machine's load reports may put both on one; then another one joins."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(bus=fleet.bus))
        alice = await stack.enter_async_context(client.join("lobby", "alice"))
        for number in range(MAX_PEERS):
            bob = await stack.enter_async_context(client.join("lobby", f"bob-{number}"))
            if bob.server != alice.server:
                yield alice, bob
                return
        raise AssertionError(f"all of {MAX_PEERS} peers are on {alice.server}")


async def watch(stack: AsyncExitStack, room: Room, clip_tracks: list[str]) -> Probe:
    """Consume and look at what is decoded."""
    probe = Probe(SPEC)
    for producer in clip_tracks:
        consumer = await room.consume(producer)
        assert consumer.relayed
        task = asyncio.create_task(probe.run(consumer.track), name=f"probe {producer}")
        stack.push_async_callback(_end, task)
    return probe


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_clip_crosses_servers_and_survives_the_death_of_its_origin(fleet: Fleet, clip: Path) -> None:
    await fleet.start("s1")
    await fleet.start("s2")
    async with allocating(fleet), joined_apart(fleet) as (alice, bob), AsyncExitStack() as stack:
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        producers = [(await alice.produce(track)).id for track in playback.tracks]
        probe = await watch(stack, bob, producers)

        seen = await probe.wait_for(frames=15, tone_hz=SPEC.tone_hz, timeout_s=20)
        assert seen.frames_wrong == 0
        await fleet.equals_the_log()
        await counts_what_crossed(fleet, alice.server, bob.server)

        before = seen.frames_decoded
        victim = fleet.agents[alice.server].supervisor.alive[alice.worker]
        os.kill(victim.worker.pid, signal.SIGKILL)
        await fleet.wait_appended(events.PeerMoved)
        await probe.wait_for(frames=before + 30, timeout_s=30)
        await fleet.equals_the_log()


async def counts_what_crossed(fleet: Fleet, origin: str, far: str) -> None:
    """Of both servers: what clients send and get is apart from what the pipes between them carry."""
    expected = {
        origin: {("webrtc", "receive"), ("pipe", "transmit")},
        far: {("pipe", "receive"), ("webrtc", "transmit")},
    }
    async with open_tasks() as tasks:
        for server, ways in expected.items():
            sampler = RtpSampler(server, tasks, fleet.agents[server].supervisor, sampled=1)
            read = sampler.readers()

            def counted(
                name: str, sampler: RtpSampler = sampler, read: dict[str, Read] = read
            ) -> dict[tuple[object, ...], float]:
                sampler.begin()
                labels = ("mafalda.transport.type", "mafalda.kind", "network.io.direction")
                found = [(it, it.attributes or {}) for it in read[name]()]
                return {tuple(at[label] for label in labels): it.value for it, at in found if it.value}

            wanted = {(type, kind, direction) for type, direction in ways for kind in ("audio", "video")}
            for name in ("mafalda.rtp.packets", "mafalda.rtp.io"):
                await fleet.until(partial(is_counted, counted, name, wanted), f"{name} of {server}")


def is_counted(counted: Callable[[str], dict[tuple[object, ...], float]], name: str, wanted: set[Any]) -> bool:
    return counted(name).keys() == wanted


async def test_messages_cross_servers(fleet: Fleet) -> None:
    await fleet.start("s1")
    await fleet.start("s2")
    async with allocating(fleet), joined_apart(fleet) as (alice, bob):
        chat = await alice.produce_data(label="chat")
        consumer = await bob.consume_data(chat.id)
        received = []
        for number in range(5):
            chat.send(f"message {number}")
            received.append(await asyncio.wait_for(anext(aiter(consumer)), 10))
        assert received == [f"message {number}" for number in range(5)]
        await fleet.equals_the_log()
