"""What a client measures of real media, through its agent into the log, and who speaks."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiortc.rtcdtlstransport import RTCDtlsTransport

from mafalda.client import connect
from mafalda.client.media.clip import ClipSpec, make_clip
from mafalda.client.media.playback import open_playback
from mafalda.contract.messages.events import StatisticsReported
from mafalda.contract.messages.statistics import WayStatistics
from mafalda.monitor.connection_story import connection_story, describe
from mafalda.monitor.records import read_log
from tests.component.workers.agent_world import Fleet
from tests.component.workers.test_agent_media import allocating

DEADLINE_S = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.webm", ClipSpec())


class LossyNetwork:
    """Between aiortc's transports and their sockets: every so manieth RTP packet is dropped."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.every: int | None = None
        packets, send = count(1), RTCDtlsTransport._send_rtp

        async def send_some(transport: RTCDtlsTransport, data: bytes) -> Any:
            if self.every is None or next(packets) % self.every:
                await send(transport, data)

        patch.setattr(RTCDtlsTransport, "_send_rtp", send_some)


def up(event: StatisticsReported) -> WayStatistics:
    return next(way for way in event.ways if way.way == "up")


async def test_a_lossy_uplink_is_in_the_log_and_who_speaks_is_told(
    fleet: Fleet, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = LossyNetwork(monkeypatch)
    await fleet.start("s1", statistics_interval_s=1, sample_interval_s=1)
    async with allocating(fleet), AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(bus=fleet.bus))
        alice = await stack.enter_async_context(client.join("lobby", "alice", report_statistics=True))
        bob = await stack.enter_async_context(client.join("lobby", "bob"))
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        (voice,) = [await alice.produce(track) for track in playback.tracks if track.kind == "audio"]

        async with asyncio.timeout(DEADLINE_S), aclosing(bob.speakers()) as speakers:
            async for told in speakers:
                if told:
                    break
        assert [(it.peer, it.producer) for it in told] == [("alice", voice.id)]

        fine = await fleet.wait_appended(StatisticsReported, lambda it: any(way.streams for way in it.ways))
        assert fine.worker == alice.worker
        network.every = 5
        lossy = await fleet.wait_appended(StatisticsReported, lambda it: (up(it).loss_ratio or 0) > 0.1)
        assert lossy.cause == "changed"
        assert up(lossy).quality in ("poor", "lost")
        assert [(it.producer, it.media_kind) for it in up(lossy).streams] == [(voice.id, "audio")]
        assert set(lossy.scores) <= {voice.id}

        last = fleet.entries()[-1][1].time
        story = await connection_story(read_log(fleet.bus, "mafalda.>"), "alice", last)
        assert story.load is not None
        summary, *_ = describe(story)
        assert "uplink lost" in summary
