"""Who is gone and who only looks like it: a worker that does not answer, a log that takes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import call
from mafalda.bus.log.streams import LOG_STREAM
from mafalda.client import connect
from mafalda.errors import LogFull
from mafalda.workers.config import AgentConfig
from tests.e2e.conftest import Up, up
from tests.e2e.watched_clip import CLIP, publishing, verified, watching

#: Frames of the clip in as many seconds as three missed heartbeats and one interval of load samples take, and more.
WHILE_FULL = CLIP.frame_rate * 18


def server_events(running: Up) -> list[str]:
    """The actions of all server events of the log, in order, such as ``worker-died``."""
    subjects = [json.loads(line)["subject"] for line in running.mafalda("log", "--json").stdout.splitlines()]
    return [subject.rpartition(".")[2] for subject in subjects if subject.startswith("mafalda.server.")]


def workers(running: Up) -> dict[str, int]:
    """Each worker's process id."""
    servers = running.json("ls")["servers"]
    return {worker["worker"]: worker["pid"] for server in servers for worker in server["workers"]}


async def limit_log(url: str, max_bytes: int) -> None:
    """Set the limit of the log's stream, as ``nats stream edit`` does; -1: none."""
    async with open_connection(BusConfig(servers=(url,))) as connection:
        config = (await call(connection, f"STREAM.INFO.{LOG_STREAM}"))["config"]
        await call(connection, f"STREAM.UPDATE.{LOG_STREAM}", {**config, "max_bytes": max_bytes})


@pytest.mark.timeout(180)
async def test_a_hung_worker_is_killed_alone_and_nobody_else_notices(state: Path) -> None:
    """SIGSTOP for one of two workers of a server: its viewer moves; publisher and other viewer stay, without a gap."""
    kill_after_s = AgentConfig().worker_unresponsive_kill_s
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--servers", "1", "--workers", "2", "--policy", "spread"))
        sender = await stack.enter_async_context(publishing(running.nats_url, "hung", state))
        viewers = [
            await stack.enter_async_context(watching(running.nats_url, "hung", name))
            for name in ("one", "two", "three")
        ]
        for viewer in viewers:
            await viewer.sees_more()
        affected = [viewer for viewer in viewers if viewer.room.worker != sender.worker]
        others = [viewer for viewer in viewers if viewer.room.worker == sender.worker]
        assert affected
        assert others
        before = await asyncio.to_thread(workers, running)
        hung = affected[0].room.worker
        for viewer in others:
            viewer.probe.report.longest_gap_s = 0

        stopped_at = time.monotonic()
        os.kill(before[hung], signal.SIGSTOP)
        for viewer in affected:
            await viewer.sees_more(30)
        recovered_s = time.monotonic() - stopped_at

        after = await asyncio.to_thread(workers, running)
        assert hung not in after
        assert after[sender.worker] == before[sender.worker]
        assert recovered_s > kill_after_s
        assert (sender.generation, {viewer.room.generation for viewer in others}) == (1, {1})
        assert all(viewer.probe.report.longest_gap_s < kill_after_s / 2 for viewer in others)
        happened = await asyncio.to_thread(server_events, running)
        assert (happened.count("worker-died"), happened.count("server-lost")) == (1, 0)
        await verified(running)


@pytest.mark.timeout(180)
async def test_a_full_log_is_explained_and_loses_no_server(state: Path) -> None:
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--servers", "2", "--workers", "1", "--policy", "spread"))
        sender = await stack.enter_async_context(publishing(running.nats_url, "full", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "full", "viewer"))
        await viewer.sees_more()
        await limit_log(running.nats_url, 1)

        async with connect(running.nats_url) as client:
            with pytest.raises(LogFull, match="max_bytes"):
                async with client.join("full", "late"):
                    pass
        doctor = await asyncio.to_thread(running.mafalda, "doctor", "--json", check=False)
        (finding,) = [one for one in json.loads(doctor.stdout)["findings"] if one["check"] == "log space"]
        assert (doctor.returncode, finding["health"]) == (1, "failure")
        assert "max_bytes" in finding["mend"]
        assert "warning: the log is full" in (await asyncio.to_thread(running.mafalda, "ls")).stdout
        await viewer.sees_more(WHILE_FULL)

        await limit_log(running.nats_url, -1)
        late = await stack.enter_async_context(watching(running.nats_url, "full", "late"))
        await late.sees_more(WHILE_FULL // 2)
        assert (sender.generation, viewer.room.generation) == (1, 1)
        assert "server-lost" not in await asyncio.to_thread(server_events, running)
        await verified(running)
