"""The worked migration: one Node conference server, on the real worker and on a fleet, with real media."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from mafalda.client.media import ClipSpec, Playback, Probe, make_clip, open_playback
from mafalda.mediasoup.install.locate import find_worker_bin
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import overview, places
from tests.e2e.node.conference import TIMEOUT_S, ConferencePeer, join
from tests.e2e.node.conftest import EXAMPLE, Node, through_dropin

CLIP = ClipSpec(frame_rate=15, duration_s=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.webm", CLIP)


@asynccontextmanager
async def conference(node: Node, **environment: str) -> AsyncIterator[tuple[str, int]]:
    """The example's server; it must stop well when it is told to."""
    with node.run(EXAMPLE / "server.js", PORT="0", WORKERS="1", **environment) as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), TIMEOUT_S)
        assert line.startswith("listening on "), line
        host, port = line.strip().rpartition("/")[2].split(":")
        yield host, int(port)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, TIMEOUT_S) == 0


@dataclass(slots=True)
class Seen:
    """What a viewer saw and heard of the clip."""

    picture: Probe
    sound: Probe


class Stage:
    """A room with one who publishes the clip; viewers come by ``watch``."""

    def __init__(self, publisher: ConferencePeer, producers: list[str], group: asyncio.TaskGroup) -> None:
        self.publisher = publisher
        self.producers = producers
        self._group = group

    async def watch(self, viewer: ConferencePeer) -> Seen:
        """Consume both producers and wait until the right pictures and the tone have come."""
        seen = Seen(Probe(CLIP), Probe(CLIP))
        for producer, probe in zip(self.producers, (seen.picture, seen.sound), strict=True):
            self._group.create_task(probe.run(await viewer.consume(producer)), name=f"watch-{producer}")
        await seen.picture.wait_for(frames=20, timeout_s=TIMEOUT_S)
        await seen.sound.wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)
        assert seen.picture.report.frames_wrong == 0
        return seen


@asynccontextmanager
async def stage(server: tuple[str, int], room: str, playback: Playback) -> AsyncIterator[Stage]:
    assert playback.video is not None
    assert playback.audio is not None
    async with asyncio.TaskGroup() as group, join(server, room, "publisher") as publisher:
        producers = [await publisher.produce(playback.video), await publisher.produce(playback.audio)]
        yield Stage(publisher, producers, group)


def _room() -> str:
    return f"room-{uuid4().hex[:8]}"


async def watch_elsewhere(
    fleet: Up, stack: AsyncExitStack, server: tuple[str, int], room: str, show: Stage
) -> tuple[ConferencePeer, str]:
    """A viewer who sees the clip on another real worker than the one it comes from, and that worker."""
    for number in range(4):
        viewer = await stack.enter_async_context(join(server, room, f"viewer-{number}"))
        await show.watch(viewer)
        where = await asyncio.to_thread(places, fleet, (await viewer.event("joined"))["router"])
        (origin,) = {where[it] for it in show.publisher.transports}
        if where[viewer.transports[0]] != origin:
            return viewer, where[viewer.transports[0]]
    raise AssertionError(f"everything is on one worker: {where}")


async def test_before_on_a_plain_worker(node: Node, clip: Path) -> None:
    """The same file with mediasoup's own worker: the migration's other side."""
    async with (
        conference(node, MEDIASOUP_WORKER_BIN=str(find_worker_bin())) as server,
        open_playback(clip, loop=True) as playback,
        stage(server, room := _room(), playback) as show,
        join(server, room, "viewer") as viewer,
    ):
        await show.watch(viewer)
        assert (await viewer.event("speaker"))["peer"] == "publisher"


async def test_after_on_two_workers(fleet: Up, node: Node, clip: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(conference(node, **through_dropin(fleet)))
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        room = _room()
        show = await stack.enter_async_context(stage(server, room, playback))
        viewer, _ = await watch_elsewhere(fleet, stack, server, room, show)
        assert (await viewer.event("speaker"))["peer"] == "publisher"
        router = (await viewer.event("joined"))["router"]
        relays = (await asyncio.to_thread(overview, fleet, router))["relays"]
        assert {relay["producer"] for relay in relays} == set(show.producers)


async def test_a_worker_s_death_is_a_viewer_s_new_transport(state: Path, node: Node, clip: Path) -> None:
    """The application's own handling of ICE states is all that is needed; its worker and its room live on."""
    async with AsyncExitStack() as stack:
        fleet = stack.enter_context(up(state, "--workers", "2", "--policy", "spread"))
        server = await stack.enter_async_context(conference(node, **through_dropin(fleet)))
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        room = _room()
        show = await stack.enter_async_context(stage(server, room, playback))
        viewer, doomed = await watch_elsewhere(fleet, stack, server, room, show)
        (server_seen,) = (await asyncio.to_thread(fleet.json, "ls"))["servers"]
        (pid,) = (it["pid"] for it in server_seen["workers"] if it["worker"] == doomed)
        os.kill(pid, signal.SIGKILL)
        assert (await viewer.event("transportClosed"))["id"] == viewer.transports[0]
        await viewer.forget_transports()
        await show.watch(viewer)
        assert not viewer.ended.is_set()
        assert len(viewer.transports) == 2
