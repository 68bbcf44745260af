"""What people notice when something dies: a short freeze, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mafalda.client import Consumer, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from tests.e2e.conftest import Up, up

CLIP = ClipSpec(frame_rate=15, duration_s=4)
RECOVERY_TIMEOUT_S = 30


class Viewer:
    """A peer that watches the clip and can tell whether more of it comes."""

    def __init__(self, room: Room, probe: Probe, consumers: list[Consumer]) -> None:
        self.room = room
        self.probe = probe
        self.consumers = consumers

    async def sees_more(self, frames: int = 15) -> None:
        """Wait until so many more frames are decoded."""
        target = self.probe.report.frames_decoded + frames
        await self.probe.wait_for(frames=target, timeout_s=RECOVERY_TIMEOUT_S)


@asynccontextmanager
async def publishing(url: str, room: str, folder: Path) -> AsyncIterator[Room]:
    clip = await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP)
    async with (
        open_playback(clip, loop=True) as playback,
        connect(url) as client,
        client.join(room, "publisher") as joined,
    ):
        assert playback.video
        assert playback.audio
        await joined.produce(playback.video, id="video")
        await joined.produce(playback.audio, id="audio")
        yield joined


@asynccontextmanager
async def watching(url: str, room: str, name: str) -> AsyncIterator[Viewer]:
    async with connect(url) as client, client.join(room, name) as joined, asyncio.TaskGroup() as group:
        probe = Probe(CLIP)
        consumers = [await joined.consume(producer) for producer in ("video", "audio")]
        tasks = [group.create_task(probe.run(consumer.track)) for consumer in consumers]
        try:
            yield Viewer(joined, probe, consumers)
        finally:
            for task in tasks:
                task.cancel()


async def pid_of(running: Up, worker: str) -> int:
    overview = await asyncio.to_thread(running.json, "ls")
    for server in overview["servers"]:
        for known in server["workers"]:
            if known["worker"] == worker:
                return int(known["pid"])
    raise AssertionError(f"{worker} is not there: {overview}")


async def verified(running: Up) -> None:
    """Wait until log and workers are equal and an audit finds nothing; a failed append shows until the next one."""
    command = ("replay", "--verify", "--deadline", "5", "--json")
    deadline = asyncio.get_running_loop().time() + RECOVERY_TIMEOUT_S
    while (verdict := await asyncio.to_thread(running.mafalda, *command, check=False)).returncode:
        assert asyncio.get_running_loop().time() < deadline, verdict.stdout


@pytest.mark.timeout(180)
async def test_killed_workers_are_replaced_and_the_picture_goes_on(state: Path) -> None:
    """First the viewer's worker, then the publisher's; two servers, a relay between them."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--servers", "2", "--workers", "1", "--policy", "spread"))
        sender = await stack.enter_async_context(publishing(running.nats_url, "healing", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "healing", "viewer"))
        await viewer.sees_more()
        assert viewer.room.server != sender.server
        assert all(consumer.relayed for consumer in viewer.consumers)

        generation = viewer.room.generation
        os.kill(await pid_of(running, viewer.room.worker), signal.SIGKILL)
        await viewer.sees_more()
        assert viewer.room.generation > generation
        await verified(running)

        generation = sender.generation
        os.kill(await pid_of(running, sender.worker), signal.SIGKILL)
        await viewer.sees_more()
        assert sender.generation > generation
        await viewer.probe.wait_for(tone_hz=CLIP.tone_hz)
        assert viewer.probe.report.frames_wrong == 0
        await verified(running)


@pytest.mark.timeout(180)
async def test_a_lost_server_is_left_and_an_allocator_is_not_missed(state: Path) -> None:
    """Three allocators of which one is killed, then a whole agent is killed: its peers go to the other server."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(
            up(state, "--servers", "2", "--workers", "1", "--allocators", "3", "--policy", "spread")
        )
        sender = await stack.enter_async_context(publishing(running.nats_url, "moving", state))
        os.kill(running.pids["allocator-1"], signal.SIGKILL)
        for name in (
            "viewer",
            "viewer-2",
            "viewer-3",
        ):  # one of them is on the other server, however loads are measured
            viewer = await stack.enter_async_context(watching(running.nats_url, "moving", name))
            if viewer.room.server != sender.server:
                break
        await viewer.sees_more()
        lost = viewer.room.server
        assert lost != sender.server
        os.kill(running.pids[f"agent {lost}"], signal.SIGKILL)
        await viewer.sees_more(30)
        assert viewer.room.generation > 1
        await verified(running)


@pytest.mark.timeout(180)
async def test_media_outlives_the_bus(state: Path) -> None:
    """nats-server is killed and comes back: the picture never stops, and what was asked meanwhile is done."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--workers", "2", "--policy", "spread"))
        await stack.enter_async_context(publishing(running.nats_url, "outliving", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "outliving", "viewer"))
        await viewer.sees_more()
        (nats,) = [process for process in running.family() if process.name() == "nats-server"]
        nats.kill()
        await viewer.sees_more()
        late = await stack.enter_async_context(watching(running.nats_url, "outliving", "late"))
        await late.sees_more()
        assert viewer.room.generation == 1
        assert viewer.probe.report.frames_wrong == 0
        await verified(running)
