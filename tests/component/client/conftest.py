"""A bus of its own for each test, a scripted fleet on it, and nothing left behind at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.protocol import Bus
from mafalda.client import Client, ClientConfig, connect
from mafalda.testing.memory_bus import MemoryBus
from tests.component.client.scripted_fleet import ScriptedFleet, run_scripted_fleet


@pytest.fixture(params=["memory", "nats"])
def bus(request: pytest.FixtureRequest) -> Bus:
    """Either kind: the SDK must not see a difference."""
    if request.param == "memory":
        return MemoryBus()
    nats: NatsBus = request.getfixturevalue("nats_bus")
    return nats


@pytest.fixture
async def fleet(bus: Bus) -> AsyncIterator[ScriptedFleet]:
    async with run_scripted_fleet(bus) as running:
        yield running


@pytest.fixture
def config() -> ClientConfig:
    return ClientConfig(
        join_timeout_s=5, request_timeout_s=5, retry_interval_s=0.2, secrets_wait_s=0.2, producer_wait_s=5
    )


@pytest.fixture
async def client(bus: Bus, fleet: ScriptedFleet, config: ClientConfig) -> AsyncIterator[Client]:
    """A client whose tasks and threads must all be gone when it is closed."""
    tasks_before, threads_before = asyncio.all_tasks(), set(threading.enumerate())
    async with connect(bus=bus, config=config) as connected:
        yield connected
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - tasks_before - {asyncio.current_task()}
    if left:  # aiortc and pyee end some of theirs only when the loop has turned a few times
        await asyncio.wait(left, timeout=5)
    assert not [task for task in left if not task.done()]
    decoders = [t.name for t in set(threading.enumerate()) - threads_before if t.name.endswith("-decoder")]
    assert not decoders
