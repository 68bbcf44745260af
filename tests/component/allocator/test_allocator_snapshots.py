"""Allocators begin with a snapshot: a log whose beginning was discarded is enough for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mafalda.contract.messages import commands, results
from mafalda.snapshot.store import SnapshotMissing, newest_manifest
from tests.component.allocator.allocator_fleet import DEADLINE_S, Fleet, open_fleet

OFTEN: dict[str, Any] = {"snapshot_interval_s": 10, "snapshot_min_entries": 1, "log_keep_s": None, "log_keep_bytes": 1}


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with open_fleet() as opened:
        yield opened


async def snapshots_written(fleet: Fleet, count: int) -> None:
    """Let so many snapshots be written, with something to write about."""
    last = 0
    for index in range(count):
        answer = await fleet.join(f"filler-{index}", "x")
        assert isinstance(answer, results.JoinResult)
        async with asyncio.timeout(DEADLINE_S):
            while ((manifest := await newest_manifest(fleet.bus)) is None) or manifest.seq <= last:
                await fleet.pass_time(5)
        last = manifest.seq


async def test_an_allocator_begins_where_the_log_does(fleet: Fleet) -> None:
    await fleet.agent("s1", 4)
    async with fleet.allocator("a1", **OFTEN):
        for index in range(30):
            await fleet.join("lobby", f"p{index}")
        before = fleet.place("lobby", "p0")
        await fleet.produce("lobby", "p0", "mic")
        await snapshots_written(fleet, 3)
        async with asyncio.timeout(DEADLINE_S):
            while fleet.broker.first_seq < 100:
                await fleet.pass_time(5)
    async with fleet.allocator("a2", **OFTEN):
        again = await fleet.join("lobby", "p0")
        assert isinstance(again, results.Rejected)
        assert again.error.code == "already-exists"
        assert isinstance(await fleet.join("lobby", "late"), results.JoinResult)
        end = len(fleet.broker.entries)
        await fleet.agents["s1"].kill(before.worker)
        placed = await fleet.wait_for_payload(commands.PlacePeer, after_seq=end)
        assert (placed.cause, placed.generation) == ("worker-died", 2)


async def test_without_a_snapshot_a_log_without_its_beginning_is_an_error(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    async with fleet.allocator("a1"):
        await fleet.join("lobby", "alice")
    fleet.broker.purge(before_seq=2)
    with pytest.raises(SnapshotMissing):
        async with fleet.allocator("a2"):
            pass
