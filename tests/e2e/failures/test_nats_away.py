"""NATS is away while people mute, leave and lose their worker; media goes on, and then all is as they wanted it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from mafalda.bus.nats.server import NatsServer
from mafalda.client import Producer
from mafalda.errors import MafaldaError
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import (
    WORKER_GOAL_S,
    WORKER_LIMIT_S,
    Call,
    count_lost_servers,
    fleet_state,
    is_clean,
    measured,
    open_call,
    worker_pids,
)
from tests.e2e.watched_clip import CLIP, watching

CONVERGE_TIMEOUT_S = 60


@pytest.mark.timeout(240)
async def test_nats_is_away_for_five_seconds(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    await outage(nats, fleet_at, tmp_path, away_s=5)


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_nats_is_away_for_three_minutes(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    await outage(nats, fleet_at, tmp_path, away_s=180)


async def outage(nats: NatsServer, fleet_at: Start, folder: Path, *, away_s: float) -> None:
    """Mute, leave, and the death of one viewer's worker, all while NATS is away."""
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--workers", "3"))
        call = await stack.enter_async_context(open_call(nats.url, folder))
        leaving = AsyncExitStack()
        await leaving.enter_async_context(watching(nats.url, call.name, "leaver"))
        pids = await worker_pids(nats.url)
        lost = call.elsewhere()
        affected = call.on_worker(lost.room.worker)

        await nats.kill()
        async with asyncio.TaskGroup() as meanwhile:
            meanwhile.create_task(mute(call.audio))
            meanwhile.create_task(leave(leaving))
            os.kill(pids[lost.room.worker], signal.SIGKILL)
            call.begin_measuring()
            await call.see_more(int(away_s * CLIP.frame_rate), but=affected)
            await nats.start()
            for viewer in affected:
                await viewer.sees_more()
        gap_s = away_s + WORKER_LIMIT_S  # nobody can place the viewer anew before NATS is back
        measured(
            f"NATS away for {away_s:.0f} s, a worker dies meanwhile",
            affected=affected,
            others=call.others(affected),
            goal_s=away_s + WORKER_GOAL_S,
            limit_s=gap_s,
        )
        await converged(nats.url, call)
        assert await count_lost_servers(nats.url) == 0
        await is_clean(nats.url)


async def mute(producer: Producer) -> None:
    """What an application does: the SDK may raise, and is to mute all the same."""
    with suppress(MafaldaError):
        await producer.pause()


async def leave(peer: AsyncExitStack) -> None:
    with suppress(MafaldaError):
        await peer.aclose()


async def converged(url: str, call: Call) -> None:
    """Wait until the log says what the application wants: muted, and the leaver gone."""
    async with asyncio.timeout(CONVERGE_TIMEOUT_S):
        while True:
            room = (await fleet_state(url)).rooms[call.name]
            if room.producers[call.audio.id].paused and "leaver" not in room.peers:
                return
            await asyncio.sleep(0.5)
