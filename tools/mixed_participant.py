"""A peer of ``mixed_versions.py``, run with the SDK of either version: it sends a clip, watches others, and reports.

    python tools/mixed_participant.py URL ROOM PEER CLIP|- [PEER_TO_WATCH…]

Each half second a line of JSON: the server, and how many frames of each watched peer were decoded. Ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog

from mafalda.client import Consumer, Room, connect
from mafalda.client.media import ClipSpec, Probe, open_playback
from mafalda.errors import DeadlineExceeded, NotFound

CLIP = ClipSpec(width=160, height=112, frame_rate=10, duration_s=4)


def video_of(peer: str) -> str:
    """The id of a peer's producer."""
    return f"{peer}-video"


async def participate(url: str, room: str, peer: str, clip: str, watched: list[str]) -> None:
    """Send and watch until standard input ends."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(url))
        joined = await stack.enter_async_context(client.join(room, peer))
        if clip != "-":
            playback = await stack.enter_async_context(open_playback(Path(clip), loop=True))
            assert playback.video
            await joined.produce(playback.video, id=video_of(peer))
        probes = {other: Probe(CLIP) for other in watched}
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_watch(joined, other, probe)) for other, probe in probes.items()]
            running.append(tasks.create_task(_report(joined, probes)))
            await asyncio.to_thread(sys.stdin.read)
            for task in running:
                task.cancel()


async def _watch(room: Room, other: str, probe: Probe) -> None:
    consumer = await _consume(room, other)
    await probe.run(consumer.track)


async def _consume(room: Room, other: str) -> Consumer:
    while True:
        await room.wait_for_producer(peer=other, kind="video")
        with suppress(NotFound, DeadlineExceeded):  # its peer has just lost its place, or the machine is very busy
            return await room.consume(video_of(other))


async def _report(room: Room, probes: dict[str, Probe]) -> None:
    while True:
        frames = {other: probe.report.frames_decoded for other, probe in probes.items()}
        print(json.dumps({"server": room.server, "frames": frames}), flush=True)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output has the reports
    own_url, own_room, own_name, own_clip, *others = sys.argv[1:]
    asyncio.run(participate(own_url, own_room, own_name, own_clip, others))
