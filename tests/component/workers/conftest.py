"""A fleet for each test, and a look at what it leaves behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import psutil
import pytest

from mafalda.mediasoup.install import find_worker_bin
from tests.component.workers.agent_world import Fleet, open_fleet


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Ends with the test; no task, child process or file descriptor may outlive it."""
    if find_worker_bin() is None:
        pytest.fail("there is no mediasoup-worker: run `mafalda worker install` (or `make setup`)")
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    async with open_fleet() as fleet:
        yield fleet
    left = {task.get_name() for task in asyncio.all_tasks() - tasks - {asyncio.current_task()} if task}
    assert not left, f"tasks left: {sorted(left)}"
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= children
    assert len(_descriptors()) <= len(descriptors)


def _descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")
