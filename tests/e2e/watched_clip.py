"""A clip that is published in a room, and peers who watch it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mafalda.client import Consumer, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from mafalda.errors import NotFound
from tests.e2e.conftest import Up

CLIP = ClipSpec(frame_rate=15, duration_s=4)
RECOVERY_TIMEOUT_S = 60.0
VIDEO, AUDIO = "video", "audio"
"""The ids of the producers."""


@dataclass(slots=True)
class Viewer:
    """A peer that watches the clip and can tell whether more of it comes."""

    room: Room
    probe: Probe
    consumers: list[Consumer]

    async def sees_more(self, frames: int = CLIP.frame_rate) -> None:
        """Wait until so many more frames are decoded."""
        target = self.probe.report.frames_decoded + frames
        await self.probe.wait_for(frames=target, timeout_s=RECOVERY_TIMEOUT_S + 2 * frames / CLIP.frame_rate)


@asynccontextmanager
async def publishing(url: str, room: str, folder: Path) -> AsyncIterator[Room]:
    """A peer that publishes the clip, again and again."""
    clip = await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP)
    async with (
        open_playback(clip, loop=True) as playback,
        connect(url) as client,
        client.join(room, "publisher") as joined,
    ):
        assert playback.video
        assert playback.audio
        await joined.produce(playback.video, id=VIDEO)
        await joined.produce(playback.audio, id=AUDIO)
        yield joined


@asynccontextmanager
async def watching(url: str, room: str, name: str) -> AsyncIterator[Viewer]:
    """A peer that watches the clip."""
    async with connect(url) as client, client.join(room, name) as joined, asyncio.TaskGroup() as group:
        probe = Probe(CLIP)
        consumers = [await _consume(joined, producer) for producer in (VIDEO, AUDIO)]
        tasks = [group.create_task(probe.run(consumer.track)) for consumer in consumers]
        try:
            yield Viewer(joined, probe, consumers)
        finally:
            for task in tasks:
                task.cancel()


async def _consume(room: Room, producer: str) -> Consumer:
    """Consume a producer; while its peer has just lost its place, there is none for a moment."""
    async with asyncio.timeout(RECOVERY_TIMEOUT_S):
        while True:
            await room.wait_for_producer(kind=producer)  # their ids are their kinds
            with suppress(NotFound):  # it has closed meanwhile
                return await room.consume(producer)


async def pid_of(running: Up, worker: str) -> int:
    """The process of a worker."""
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
