"""The peers of the demo: a publisher of a clip, and viewers that check what they receive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiortc import MediaStreamTrack

from mafalda.client import Consumer, Room, connect
from mafalda.client.media import ClipSpec, Playback, Probe
from mafalda.errors import MafaldaError

PUBLISHER = "publisher"
TONE_TOLERANCE_HZ = 5.0
#: A viewer that decoded a smaller part of the clip's frames did not receive it properly.
MIN_DECODED_RATIO = 0.6


class CountingTrack(MediaStreamTrack):
    """Forwards a track and counts its frames."""

    def __init__(self, source: MediaStreamTrack) -> None:
        super().__init__()
        self.kind = source.kind
        self.frames = 0
        self._source = source

    async def recv(self) -> Any:
        frame = await self._source.recv()
        self.frames += 1
        return frame


@dataclass(slots=True)
class DemoPeer:
    """One peer and its measurements. Times are in seconds."""

    room: Room
    join_s: float
    video: CountingTrack | None = None  # publisher
    probe: Probe | None = None  # viewer
    consumers: list[Consumer] = field(default_factory=list)
    consumed_s: float = 0.0  # loop time at which the probe began
    bitrate_bps: float = 0.0
    packets: int = 0

    @property
    def first_frame_s(self) -> float | None:
        """From the first consume to the first decoded frame."""
        return self.probe.report.first_frame_s if self.probe else None

    async def measure(self) -> None:
        """Query the statistics of this peer's consumers; a failed query leaves the previous figures."""
        bitrate, packets = 0.0, 0
        for consumer in self.consumers:
            if not consumer.is_open:
                return
            try:
                answer = await consumer.stats()
            except MafaldaError:
                return
            for stat in answer.stats:
                if stat.get("type") == "outbound-rtp":
                    bitrate += stat.get("bitrate", 0)
                    packets += stat.get("packetCount", 0)
        self.bitrate_bps, self.packets = bitrate, packets

    def complaints(self, clip: ClipSpec) -> list[str]:
        """What is wrong with the media that this viewer received; empty if nothing is."""
        if self.probe is None:
            return []
        report = self.probe.report
        watched_s = asyncio.get_running_loop().time() - self.consumed_s - (report.first_frame_s or 0)
        found = []
        if report.frames_decoded < clip.frame_rate * watched_s * MIN_DECODED_RATIO:
            found.append(f"decoded {report.frames_decoded} frames in {watched_s:.1f} s")
        if report.frames_wrong:
            found.append(f"{report.frames_wrong} frames were wrong")
        if report.tone_hz is None or abs(report.tone_hz - clip.tone_hz) > TONE_TOLERANCE_HZ:
            found.append(f"heard {report.tone_hz} Hz instead of {clip.tone_hz}")
        return found


@asynccontextmanager
async def publisher(url: str, room_id: str, playback: Playback) -> AsyncIterator[DemoPeer]:
    """Join and produce the clip while the block runs."""
    async with _joined(url, room_id, PUBLISHER) as peer:
        if playback.video is None or playback.audio is None:
            raise ValueError("the clip has no picture or no sound")
        peer.video = CountingTrack(playback.video)
        await peer.room.produce(peer.video, id="clip-video")
        await peer.room.produce(playback.audio, id="clip-audio")
        yield peer


@asynccontextmanager
async def viewer(
    url: str, room_id: str, name: str, clip: ClipSpec, note: Callable[[str], None]
) -> AsyncIterator[DemoPeer]:
    """Join, consume video and audio, and check them while the block runs."""
    async with _joined(url, room_id, name) as peer, asyncio.TaskGroup() as probing:
        peer.consumed_s = asyncio.get_running_loop().time()
        peer.probe = Probe(clip)
        tasks = []
        for producer in ("clip-video", "clip-audio"):
            consumer = await peer.room.consume(producer)
            peer.consumers.append(consumer)
            tasks.append(probing.create_task(peer.probe.run(consumer.track), name=f"{name} {producer}"))
        tasks.append(probing.create_task(_note_moves(peer.room, note), name=f"{name} events"))
        try:
            yield peer
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _joined(url: str, room_id: str, name: str) -> AsyncIterator[DemoPeer]:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(url))
        start = loop.time()
        room = await stack.enter_async_context(client.join(room_id, name))
        yield DemoPeer(room, join_s=loop.time() - start)


async def _note_moves(room: Room, note: Callable[[str], None]) -> None:
    async for event in room.events():
        name = type(event).__name__
        if name in ("Reconnecting", "Reconnected", "GaveUp"):
            note(f"{room.peer}: {name.lower()} (on {room.worker}, generation {room.generation})")
