"""The longest gap that a viewer sees when a server drains, next to the longest one while nothing happens.

A real fleet of three servers, a publisher (picture and sound) and a viewer in this process. In turn the server of the
publisher and that of the viewer is drained, so that each is handed over several times, with a relay between them.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiortc import MediaStreamTrack

from bench.figures import Figure, latency
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.nats.bus import connect as connect_bus
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.client import Room, connect
from mafalda.client.media import ClipSpec, make_clip, open_playback
from mafalda.contract.messages.queries import DrainServer, QueryDrain
from mafalda.monitor.drain import drain_request

CLIP = ClipSpec(frame_rate=30, duration_s=4)
ROOM = "bench"
#: Gaps are looked for in windows of this length, each with one move or none, in seconds.
_WINDOW_S = 3.0


class Gaps:
    """The times at which frames of a track came, in the loop's seconds."""

    def __init__(self) -> None:
        self._times: list[float] = []

    async def take(self, track: MediaStreamTrack) -> None:
        """Take all frames of a track."""
        while True:
            await track.recv()
            self._times.append(asyncio.get_running_loop().time())

    def longest_s(self, since: float, until: float) -> float:
        """The longest time without a frame, in seconds; the whole of it if there was none."""
        inside = [time for time in self._times if since <= time <= until]
        return max((after - before for before, after in itertools.pairwise(inside)), default=until - since)


async def measure(quick: bool) -> list[Figure]:
    """Hand the publisher and the viewer over in turn."""
    rounds = 2 if quick else 10
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mafalda-bench-")))
        config = LocalFleetConfig(
            servers=3,
            workers=1,
            policy="spread",
            nats_port=0,
            page=False,
            store_dir=folder / "nats",
            log_file=folder / "fleet.log",
        )
        fleet = await stack.enter_async_context(open_local_fleet(config))
        bus = await stack.enter_async_context(connect_bus(BusConfig(servers=(fleet.nats_url,))))
        publisher = await _publish(stack, fleet.nats_url, folder)
        viewer, gaps = await _watch(stack, fleet.nats_url)

        async def window(move: Callable[[], str] | None) -> dict[str, float]:
            loop = asyncio.get_running_loop()
            began = loop.time()
            if move is not None:
                await _drain(bus, move())
            await asyncio.sleep(began + _WINDOW_S - loop.time())
            return {name: of.longest_s(began, loop.time()) for name, of in gaps.items()}

        await asyncio.sleep(_WINDOW_S)
        quiet, moved_publisher, moved_viewer = [], [], []
        for _ in range(rounds):
            quiet.append(await window(None))
            moved_publisher.append(await window(lambda: publisher.server))
            moved_viewer.append(await window(lambda: viewer.server))
    return [
        latency("handover", f"{what} moved, {name}", [it[name] for it in moved], [it[name] for it in quiet], "nobody")
        for what, moved in (("publisher", moved_publisher), ("viewer", moved_viewer))
        for name in ("video", "audio")
    ]


async def _publish(stack: AsyncExitStack, url: str, folder: Path) -> Room:
    clip = await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP)
    playback = await stack.enter_async_context(open_playback(clip, loop=True))
    client = await stack.enter_async_context(connect(url))
    room = await stack.enter_async_context(client.join(ROOM, "publisher"))
    for track in playback.tracks:
        await room.produce(track, id=track.kind)
    return room


async def _watch(stack: AsyncExitStack, url: str) -> tuple[Room, dict[str, Gaps]]:
    client = await stack.enter_async_context(connect(url))
    room = await stack.enter_async_context(client.join(ROOM, "viewer"))
    group = await stack.enter_async_context(asyncio.TaskGroup())
    gaps: dict[str, Gaps] = {}
    for name in ("video", "audio"):
        gaps[name] = Gaps()
        taking = group.create_task(gaps[name].take((await room.consume(name)).track), name=f"take {name}")
        stack.callback(taking.cancel)
    return room, gaps


async def _drain(bus: NatsBus, server: str) -> None:
    """Drain a server until nobody is left, then make it eligible again."""
    status = await drain_request(bus, server, DrainServer())
    while status.state != "drained":
        await asyncio.sleep(0.05)
        status = await drain_request(bus, server, QueryDrain())
    await drain_request(bus, server, DrainServer(draining=False))
