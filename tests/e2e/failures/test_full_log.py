"""The log, or the disk that it is on, is full while a worker dies, and has space again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import (
    SERVER_LIMIT_S,
    WORKER_GOAL_S,
    WORKER_LIMIT_S,
    count_lost_servers,
    is_clean,
    measured,
    open_call,
    worker_pids,
)
from tests.e2e.test_heartbeats import limit_log
from tests.e2e.watched_clip import CLIP

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

FULL_S = 15
DISK = "48m"


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Path]:
    """A file system in memory that is soon full."""
    await run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        await run("umount", str(folder))


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


def fill(file: Path) -> None:
    """Write until there is no space."""
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while opened.write(bytes(65536)):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_worker_dies_while_the_disk_of_the_log_is_full(fleet_at: Start, tmp_path: Path) -> None:
    """nats-server has to be restarted when there is space again: it stores nothing after a failed write."""
    (tmp_path / "disk").mkdir()
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(small_disk(tmp_path / "disk"))
        nats = await stack.enter_async_context(run_server(ServerConfig(port=0, store_dir=disk / "store")))
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "1"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        lost = call.elsewhere()
        affected = call.on_worker(lost.room.worker)
        pids = await worker_pids(nats.url)
        call.begin_measuring()
        await asyncio.to_thread(fill, disk / "ballast")
        os.kill(pids[lost.room.worker], signal.SIGKILL)
        await call.see_more(FULL_S * CLIP.frame_rate, but=affected)
        (disk / "ballast").unlink()
        await nats.stop()
        await nats.start()
        await call.see_more()
        measured(
            f"disk of the log full for {FULL_S} s, a worker dies meanwhile",
            affected=affected,
            others=call.others(affected),
            goal_s=FULL_S + WORKER_GOAL_S,
            limit_s=FULL_S + SERVER_LIMIT_S,
        )
        assert await count_lost_servers(nats.url) == 0
        await is_clean(nats.url)


async def test_a_worker_dies_while_the_log_is_full(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "1"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        lost = call.elsewhere()
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
