"""What people notice when servers are drained and restarted under their calls: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.contract import subjects
from mafalda.contract.messages.events import ServerStarted
from tests.e2e.conftest import Up, up
from tests.e2e.watched_clip import publishing, verified, watching

RESTART_TIMEOUT_S = 30


@pytest.mark.timeout(180)
async def test_a_drain_and_a_rolling_restart_of_all_servers_end_no_call(state: Path) -> None:
    """``mafalda drain`` first, then SIGTERM to each agent in turn; the supervisor starts each again."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--servers", "3", "--workers", "1", "--policy", "spread"))
        sender = await stack.enter_async_context(publishing(running.nats_url, "rolling", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "rolling", "viewer"))
        await viewer.sees_more(5)

        drained = sender.server
        done = await asyncio.to_thread(running.mafalda, "drain", drained)
        assert done.stdout.splitlines()[-1] == f"{drained}: drained"
        overview = await asyncio.to_thread(running.json, "ls")
        assert [it["server"] for it in overview["servers"] if it["status"] == "draining"] == [drained]
        assert sender.server != drained
        await asyncio.to_thread(running.mafalda, "drain", drained, "--cancel")

        for server in ("server-1", "server-2", "server-3"):
            await restart(running, server)
            assert server not in (sender.server, viewer.room.server)
            await viewer.sees_more(5)
        assert sender.connected
        assert viewer.room.connected
        await viewer.probe.wait_for(tone_hz=440)
        assert viewer.probe.report.frames_wrong == 0
        await verified(running)


async def restart(running: Up, server: str) -> None:
    """SIGTERM to a server's agent; returns when another agent runs in its place."""
    started = subjects.server_event(server, ServerStarted.action)
    async with (
        asyncio.timeout(RESTART_TIMEOUT_S),
        connect(BusConfig(servers=(running.nats_url,))) as bus,
        bus.follow(started) as follower,
    ):
        os.kill(running.pids[f"agent {server}"], signal.SIGTERM)
        await anext(follower)
