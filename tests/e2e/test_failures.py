"""What people notice when something dies: a short freeze, and nothing else."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import up
from tests.e2e.watched_clip import CLIP, pid_of, publishing, verified, watching


@pytest.mark.timeout(180)
async def test_killed_workers_are_replaced_and_the_picture_goes_on(state: Path) -> None:
    """First the viewer's worker, then the publisher's; two servers, a relay between them."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--servers", "2", "--workers", "1", "--policy", "spread"))
        sender = await stack.enter_async_context(publishing(running.nats_url, "healing", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "healing", "viewer"))
        await viewer.sees_more()
        assert viewer.room.server != sender.server
        assert all(consumer.relayed for consumer in viewer.consumers)

        generation = viewer.room.generation
        os.kill(await pid_of(running, viewer.room.worker), signal.SIGKILL)
        await viewer.sees_more()
        assert viewer.room.generation > generation
        await verified(running)

        generation = sender.generation
        os.kill(await pid_of(running, sender.worker), signal.SIGKILL)
        await viewer.sees_more()
        assert sender.generation > generation
        await viewer.probe.wait_for(tone_hz=CLIP.tone_hz)
        assert viewer.probe.report.frames_wrong == 0
        await verified(running)


@pytest.mark.timeout(180)
async def test_a_lost_server_is_left_and_an_allocator_is_not_missed(state: Path) -> None:
    """Three allocators of which one is killed, then a whole agent is killed: its peers go to the other server."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(
            up(state, "--servers", "2", "--workers", "1", "--allocators", "3", "--policy", "spread")
        )
        sender = await stack.enter_async_context(publishing(running.nats_url, "moving", state))
        os.kill(running.pids["allocator-1"], signal.SIGKILL)
        for name in (
            "viewer",
            "viewer-2",
            "viewer-3",
        ):  # one of them is on the other server, however loads are measured
            viewer = await stack.enter_async_context(watching(running.nats_url, "moving", name))
            if viewer.room.server != sender.server:
                break
        await viewer.sees_more()
        lost = viewer.room.server
        assert lost != sender.server
        os.kill(running.pids[f"agent {lost}"], signal.SIGKILL)
        await viewer.sees_more(30)
        assert viewer.room.generation > 1
        await verified(running)


@pytest.mark.timeout(180)
async def test_media_outlives_the_bus(state: Path) -> None:
    """nats-server is killed and comes back: the picture never stops, and what was asked meanwhile is done."""
    async with AsyncExitStack() as stack:
        running = stack.enter_context(up(state, "--workers", "2", "--policy", "spread"))
        await stack.enter_async_context(publishing(running.nats_url, "outliving", state))
        viewer = await stack.enter_async_context(watching(running.nats_url, "outliving", "viewer"))
        await viewer.sees_more()
        (nats,) = [process for process in running.family() if process.name() == "nats-server"]
        nats.kill()
        await viewer.sees_more()
        late = await stack.enter_async_context(watching(running.nats_url, "outliving", "late"))
        await late.sees_more()
        assert viewer.room.generation == 1
        assert viewer.probe.report.frames_wrong == 0
        await verified(running)
