"""Two hosts with agents, a third with NATS and the allocators; the link of one is cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.failures.hosts import open_hosts, unavailable
from tests.e2e.failures.scene import (
    SERVER_GOAL_S,
    SERVER_LIMIT_S,
    WORKER_GOAL_S,
    WORKER_LIMIT_S,
    count_lost_servers,
    is_clean,
    measured,
    open_call,
    worker_pids,
)

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(300),
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


@pytest.mark.parametrize("cut_s", [3, 10, 30])
async def test_the_link_of_a_host_is_cut(tmp_path: Path, cut_s: int) -> None:
    """Its viewers go on at the other host, those of the other host notice nothing, and nobody is in two places then."""
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(open_hosts(tmp_path, "host-1", "host-2"))
        call = await stack.enter_async_context(open_call(hosts.nats_url, tmp_path, viewers=3))
        host = call.elsewhere().room.server
        affected = call.on_server(host)
        call.begin_measuring()
        async with hosts.cut(host):
            await asyncio.gather(call.see_more(15 * cut_s, but=affected), asyncio.sleep(cut_s))
        await call.see_more(30)
        measured(
            f"link of a host cut for {cut_s} s",
            affected=affected,
            others=call.others(affected),
            goal_s=SERVER_GOAL_S,
            limit_s=SERVER_LIMIT_S,
        )
        await is_clean(hosts.nats_url)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="`faketime` is missing: `scripts/bootstrap --chaos`")
async def test_clocks_are_an_hour_off(tmp_path: Path) -> None:
    """Two agents whose clocks are two hours apart, an allocator with a third: nobody is lost or placed twice."""
    clocks = {"host-1": "+1h", "host-2": "-1h", "allocator-2": "+1h"}
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(open_hosts(tmp_path, "host-1", "host-2", clocks=clocks))
        call = await stack.enter_async_context(open_call(hosts.nats_url, tmp_path, viewers=3))
        worker = call.elsewhere().room.worker
        affected = call.on_worker(worker)
        pids = await worker_pids(hosts.nats_url)
        call.begin_measuring()
        os.kill(pids[worker], signal.SIGKILL)
        await call.see_more(30)
        measured(
            "clocks an hour off, a worker is killed",
            affected=affected,
            others=call.others(affected),
            goal_s=WORKER_GOAL_S,
            limit_s=WORKER_LIMIT_S,
        )
        assert await count_lost_servers(hosts.nats_url) == 0
        await is_clean(hosts.nats_url)
