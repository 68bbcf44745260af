"""Random faults for as long as ``MAFALDA_CHAOS_MINUTES`` says: everybody sees a picture again, and nothing piles up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from mafalda.bus.nats.cluster import NatsCluster
from mafalda.errors import MafaldaError
from tests.e2e.conftest import Up
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.resources import Held, held
from tests.e2e.failures.scene import (
    SERVER_LIMIT_S,
    Call,
    agent_pid,
    fleet_state,
    is_clean,
    longest_gap_s,
    open_call,
    record,
    stopped,
    worker_pids,
)
from tests.e2e.watched_clip import watching

MINUTES = float(os.environ.get("MAFALDA_CHAOS_MINUTES") or 0)
SEED = int(os.environ.get("MAFALDA_CHAOS_SEED", "8"))
#: Of what is held at the end, in terms of what was held at the beginning; and so many more.
GROWTH_RATIO, GROWTH = 1.5, 60

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(MINUTES * 60 + 900),
    pytest.mark.skipif(not MINUTES, reason="MAFALDA_CHAOS_MINUTES is not set"),
]


class Faults:
    """What may go wrong, one at a time.

    Args:
        running: The fleet.
        cluster: Its NATS.
        call: Who is watched.
        dice: Chooses.
    """

    def __init__(self, running: Up, cluster: NatsCluster, call: Call, dice: random.Random) -> None:
        self._running = running
        self._cluster = cluster
        self._call = call
        self._dice = dice
        self.all: dict[str, Callable[[], Awaitable[None]]] = {
            "worker killed": self.kill_worker,
            "agent killed": self.kill_agent,
            "agent stands still for 2 s": lambda: self.stop_agent(2),
            "agent stands still for 8 s": lambda: self.stop_agent(8),
            "allocator killed": self.kill_allocator,
            "nats-server killed": self.kill_nats,
            "quorum lost for 6 s": self.lose_quorum,
            "muted and unmuted": self.mute,
            "somebody comes and goes": self.visit,
        }

    async def kill_worker(self) -> None:
        pids = await worker_pids(self._cluster.url)
        _kill(self._dice.choice(sorted(pids.values())))

    async def kill_agent(self) -> None:
        _kill(agent_pid(self._running, self._server()))

    async def stop_agent(self, seconds: float) -> None:
        async with stopped(agent_pid(self._running, self._server())):
            await asyncio.sleep(seconds)

    async def kill_allocator(self) -> None:
        allocators = [it.pid for it in self._running.family() if it.cmdline()[3:4] == ["allocator"]]
        _kill(self._dice.choice(allocators))

    async def kill_nats(self) -> None:
        server = self._cluster.servers[self._dice.choice(sorted(self._cluster.servers))]
        await server.kill()
        await asyncio.sleep(self._dice.uniform(0, 5))
        await server.start()

    async def lose_quorum(self) -> None:
        pids = [server.pid for server in self._cluster.servers.values()]
        async with stopped(*self._dice.sample(pids, 2)):
            await asyncio.sleep(6)

    async def mute(self) -> None:
        """A peer that is just losing its place may be told so, and is muted all the same."""
        for change in (self._call.audio.pause, self._call.audio.resume):
            with suppress(MafaldaError):
                await change()

    async def visit(self) -> None:
        async with watching(self._cluster.url, self._call.name, "visitor") as visitor:
            await visitor.sees_more(5)

    def _server(self) -> str:
        return f"server-{self._dice.randint(1, 3)}"


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def test_random_faults(cluster: NatsCluster, fleet_at: Start, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        running = stack.enter_context(fleet_at(cluster.url, "--servers", "3", "--workers", "1", "--allocators", "2"))
        call = await stack.enter_async_context(open_call(cluster.url, tmp_path))
        faults = Faults(running, cluster, call, dice)
        before = held(running, *_nats_pids(cluster))
        _report_held("held at the beginning", before)
        end, number, gaps = loop.time() + MINUTES * 60, 0, dict.fromkeys(faults.all, 0.0)
        counts = dict.fromkeys(faults.all, 0)
        minute = loop.time() + 60
        while loop.time() < end:
            name = dice.choice(sorted(faults.all))
            call.begin_measuring()
            await faults.all[name]()
            await call.see_more(45)
            number += 1
            counts[name] += 1
            gaps[name] = max(gaps[name], longest_gap_s(call.viewers))
            if loop.time() > minute:
                minute += 60
                _report_held(f"held after {number} faults", held(running, *_nats_pids(cluster)))
        for name, gap_s in gaps.items():
            record(f"random: {name}", times=counts[name], longest_gap_s=round(gap_s, 2))
        await is_clean(cluster.url, timeout_s=120)
        assert not (await fleet_state(cluster.url)).rooms[call.name].producers[call.audio.id].paused
        after = held(running, *_nats_pids(cluster))
        _report_held(f"held after {number} faults", after)
        assert max(gaps.values()) < SERVER_LIMIT_S
        for role, was in before.items():
            for what in ("threads", "tasks", "descriptors", "udp_ports", "memory_mb"):
                was_held, is_held = getattr(was, what), getattr(after[role], what)
                assert is_held <= was_held * GROWTH_RATIO + GROWTH, f"{role}: {what} from {was_held} to {is_held}"


def _nats_pids(cluster: NatsCluster) -> list[int]:
    return [server.pid for server in cluster.servers.values()]


def _report_held(when: str, found: dict[str, Held]) -> None:
    for role, it in sorted(found.items()):
        record(f"{when}: {role}", held=str(it))
