"""Two hosts with agents, a third with NATS and the allocators; the link of one is cut."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.failures.hosts import open_hosts, unavailable
from tests.e2e.failures.scene import SERVER_GOAL_S, SERVER_LIMIT_S, is_clean, measured, open_call

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
        host = next(viewer.room.server for viewer in call.viewers if viewer.room.server != call.sender.server)
        affected = call.on_server(host)
        call.begin_measuring()
        async with hosts.cut(host):
            await asyncio.gather(call.see_more(15 * cut_s, but=affected), asyncio.sleep(cut_s))
        await call.see_more(30)
        measured(
            f"link of a host cut for {cut_s} s",
            affected=affected,
            others=call.others(affected),
            goal_s=max(SERVER_GOAL_S, cut_s if cut_s < SERVER_GOAL_S else 0),
            limit_s=SERVER_LIMIT_S,
        )
        await is_clean(hosts.nats_url)
