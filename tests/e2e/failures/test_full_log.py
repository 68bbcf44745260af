"""The log is full while a worker dies, and has space again."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mafalda.bus.nats.server import NatsServer
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import (
    CLIP,
    WORKER_GOAL_S,
    WORKER_LIMIT_S,
    count_lost_servers,
    is_clean,
    measured,
    open_call,
    worker_pids,
)
from tests.e2e.test_heartbeats import limit_log

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

FULL_S = 15


async def test_a_worker_dies_while_the_log_is_full(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "1"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        lost = next(viewer for viewer in call.viewers if viewer.room.worker != call.sender.worker)
        affected = call.on_worker(lost.room.worker)
        pids = await worker_pids(nats.url)
        call.begin_measuring()
        await limit_log(nats.url, 1)
        os.kill(pids[lost.room.worker], signal.SIGKILL)
        await call.see_more(FULL_S * CLIP.frame_rate, but=affected)
        await limit_log(nats.url, -1)
        await call.see_more()
        measured(
            f"log full for {FULL_S} s, a worker dies meanwhile",
            affected=affected,
            others=call.others(affected),
            goal_s=FULL_S + WORKER_GOAL_S,
            limit_s=FULL_S + WORKER_LIMIT_S,
        )
        assert await count_lost_servers(nats.url) == 0
        await is_clean(nats.url)
