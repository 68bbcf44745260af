"""A load test against a fleet that does not answer, or that takes places away."""

from __future__ import annotations

import asyncio

from mafalda.bus.compose import compose
from mafalda.contract import subjects
from mafalda.contract.messages.events import PeerLeft
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.fleet import open_requests
from mafalda.loadtest.runner import open_load_test
from mafalda.testing.memory_bus import MemoryBus


async def test_peers_without_an_answer_have_failed() -> None:
    config = LoadTestConfig(rooms=2, audio_publishers=1, viewers=3, join_rate=0, duration_s=0.01, request_timeout_s=0.2)
    async with open_load_test(MemoryBus(), config, "run") as test:
        await test.run()
        report = test.report()
    assert not report.passed
    assert (report.publishers.started, report.publishers.failed) == (2, 2)
    assert (report.viewers.started, report.viewers.joined, report.viewers.failed) == (6, 0, 6)
    assert report.failures == {"deadline-exceeded: no answer in time": 8}
    assert report.to_json_dict()["ok"] is False


async def test_a_peer_that_loses_its_place_is_told_once() -> None:
    bus = MemoryBus()
    losses: asyncio.Queue[str] = asyncio.Queue()
    async with open_requests(bus, ["room"], timeout_s=5) as fleet:
        fleet.watch("room", "lost", losses.put_nowait)
        fleet.watch("room", "unwatched", losses.put_nowait)
        fleet.unwatch("room", "unwatched")
        subject = subjects.room_event("room", PeerLeft.action)
        for peer in ("unwatched", "other", "lost", "lost"):
            await bus.append(
                subject, compose(PeerLeft(peer=peer, generation=1, reason="evicted"), subject=subject, source="/t")
            )
        assert await losses.get() == "peer-left"
    assert losses.empty()
