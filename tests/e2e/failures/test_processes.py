"""Workers, agents and allocators are killed and stand still under a call."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from mafalda.bus.nats.server import NatsServer
from mafalda.client import connect
from mafalda.workers.config import AgentConfig
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import (
    SERVER_GOAL_S,
    SERVER_LIMIT_S,
    WORKER_GOAL_S,
    WORKER_LIMIT_S,
    agent_pid,
    count_lost_servers,
    is_clean,
    measured,
    open_call,
    record,
    stopped,
    worker_pids,
)
from tests.e2e.watched_clip import watching

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

KILLS, KILL_EVERY_S = 20, 3.0


@pytest.mark.parametrize("whose", ["viewer", "sender"])
async def test_a_worker_is_killed(nats: NatsServer, fleet_at: Start, tmp_path: Path, whose: str) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "2"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path, viewers=3))
        elsewhere = call.elsewhere().room.worker
        worker = call.sender.worker if whose == "sender" else elsewhere
        affected = call.on_worker(worker)
        pids = await worker_pids(nats.url)
        call.begin_measuring()
        os.kill(pids[worker], signal.SIGKILL)
        await call.see_more(30)
        measured(
            f"SIGKILL of the {whose}'s worker",
            affected=affected,
            others=call.others(affected),
            goal_s=WORKER_GOAL_S,
            limit_s=WORKER_LIMIT_S,
        )
        await is_clean(nats.url)


async def test_a_worker_stands_still(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    """Its agent kills it after a while, alone."""
    kill_after_s = AgentConfig().worker_unresponsive_kill_s
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "1", "--workers", "2"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path, viewers=3))
        worker = call.elsewhere().room.worker
        affected = call.on_worker(worker)
        pids = await worker_pids(nats.url)
        call.begin_measuring()
        os.kill(pids[worker], signal.SIGSTOP)
        await call.see_more(30)
        measured(
            "SIGSTOP of a viewer's worker",
            affected=affected,
            others=call.others(affected),
            goal_s=kill_after_s + WORKER_GOAL_S,
            limit_s=kill_after_s + WORKER_LIMIT_S,
        )
        assert await count_lost_servers(nats.url) == 0
        await is_clean(nats.url)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
async def test_an_agent_ends_or_stands_still(
    nats: NatsServer, fleet_at: Start, tmp_path: Path, number: signal.Signals
) -> None:
    async with AsyncExitStack() as stack:
        running = stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "1"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path, viewers=3))
        server = call.elsewhere().room.server
        affected = call.on_server(server)
        pid = agent_pid(running, server)
        call.begin_measuring()
        if number is signal.SIGKILL:
            os.kill(pid, signal.SIGKILL)
            await call.see_more(60)
        else:
            async with stopped(pid):  # its workers forward for as long, and the fleet gives its peers other places
                await call.see_more(15 * 15)
            await call.see_more(30)
        measured(
            f"{number.name} of an agent",
            affected=affected,
            others=call.others(affected),
            goal_s=SERVER_GOAL_S,
            limit_s=SERVER_LIMIT_S,
        )
        await is_clean(nats.url)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
async def test_an_allocator_of_two_ends_or_stands_still(
    nats: NatsServer, fleet_at: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """Nobody notices, and who comes meanwhile is placed by the other one."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(fleet_at(nats.url, "--allocators", "2", "--workers", "2"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        pid = running.pids["allocator-1"]
        call.begin_measuring()
        async with AsyncExitStack() as meanwhile:
            if number is signal.SIGKILL:
                os.kill(pid, signal.SIGKILL)
            else:
                await meanwhile.enter_async_context(stopped(pid))
            for name in ("late-1", "late-2"):
                late = await stack.enter_async_context(watching(nats.url, call.name, name))
                await late.sees_more()
        measured(f"{number.name} of one of two allocators", others=call.viewers)
        assert {room.generation for room in call.rooms} == {1}
        await is_clean(nats.url)


async def test_the_only_allocator_stands_still(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    """Media goes on; who comes meanwhile waits; nobody is declared lost when it goes on."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(fleet_at(nats.url, "--workers", "2"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        call.begin_measuring()
        client = await stack.enter_async_context(connect(nats.url))
        async with AsyncExitStack() as meanwhile:
            async with stopped(running.pids["allocator-1"]):
                joining = asyncio.create_task(stack.enter_async_context(client.join(call.name, "late")))
                meanwhile.callback(joining.cancel)
                await call.see_more(15 * 6)
                assert not joining.done()
            late = await joining
            assert late.generation == 1
        measured("SIGSTOP of the only allocator for 6 s", others=call.viewers)
        assert {room.generation for room in call.rooms} == {1}
        await is_clean(nats.url)


async def kill_one(url: str, dice: random.Random) -> None:
    """Kill a worker, as soon as one lives."""
    async with asyncio.timeout(60):
        while True:
            pids = await worker_pids(url)
            with suppress(ProcessLookupError, IndexError):  # it has ended meanwhile; none lives
                os.kill(pids[dice.choice(sorted(pids))], signal.SIGKILL)
                return


async def test_twenty_workers_are_killed_in_a_minute(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    dice = random.Random(20)
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "3"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path, viewers=3))
        call.begin_measuring()
        for _ in range(KILLS):
            await kill_one(nats.url, dice)
            await asyncio.sleep(KILL_EVERY_S)  # the pace of the kills
        await call.see_more(30)
        gap_s = max(viewer.probe.report.longest_gap_s for viewer in call.viewers)
        generations = [room.generation for room in call.rooms]
        record("twenty worker kills in a minute", affected_s=round(gap_s, 2), killed=KILLS, generations=generations)
        assert gap_s < SERVER_LIMIT_S
        await is_clean(nats.url)
