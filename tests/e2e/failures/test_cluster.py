"""A cluster of three nats-servers loses its leader, a follower, and its quorum."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import call as api_call
from mafalda.bus.log.streams import LOG_STREAM
from mafalda.bus.nats.cluster import NatsCluster
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import Call, count_lost_servers, is_clean, measured, open_call, stopped
from tests.e2e.watched_clip import CLIP, RECOVERY_TIMEOUT_S, watching

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


async def test_a_cluster_loses_its_leader_a_follower_and_its_quorum(
    cluster: NatsCluster, fleet_at: Start, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(cluster.url, "--servers", "2", "--workers", "1", "--allocators", "2"))
        call = await stack.enter_async_context(open_call(cluster.url, tmp_path))

        for role in ("leader", "follower"):
            call.begin_measuring()
            leader = await _log_leader(cluster)
            name = next(it for it in cluster.servers if (it == leader) == (role == "leader"))
            await cluster.servers[name].kill()
            await someone_joins(cluster, call, f"while-{role}-is-away")
            await cluster.servers[name].start()
            await someone_joins(cluster, call, f"after-{role}-came-back")
            await nobody_noticed(cluster, call, f"SIGKILL of the log's {role}")

        call.begin_measuring()
        async with stopped(*(server.pid for server in list(cluster.servers.values())[:2])):
            await call.see_more(12 * CLIP.frame_rate)
        await someone_joins(cluster, call, "after-the-quorum-came-back")
        await nobody_noticed(cluster, call, "quorum of the log lost for 12 s")


async def someone_joins(cluster: NatsCluster, call: Call, name: str) -> None:
    async with watching(cluster.url, call.name, name) as late:
        await late.sees_more(5)


async def nobody_noticed(cluster: NatsCluster, call: Call, scenario: str) -> None:
    await call.see_more()
    measured(scenario, others=call.viewers)
    assert {room.generation for room in call.rooms} == {1}
    assert await count_lost_servers(cluster.url) == 0
    await is_clean(cluster.url)


async def _log_leader(cluster: NatsCluster) -> str:
    """The name of the server that leads the log, as soon as one does."""
    servers = tuple(server.url for server in cluster.servers.values() if server.pid)
    async with open_connection(BusConfig(servers=servers, connect_timeout_s=60)) as connection:
        async with asyncio.timeout(RECOVERY_TIMEOUT_S):
            while True:
                info = await api_call(connection, f"STREAM.INFO.{LOG_STREAM}")
                if leader := info["cluster"].get("leader"):
                    return str(leader)
                await asyncio.sleep(0.2)
