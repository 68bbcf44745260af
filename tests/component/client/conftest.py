"""A bus of its own for each test, a scripted fleet on it, and nothing left behind at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.participant.bus import ParticipantBus
from mafalda.bus.participant.bus import connect as connect_participant
from mafalda.bus.protocol import Bus, PeerBus
from mafalda.client import Client, ClientConfig, connect
from mafalda.contract.grants import Grants
from mafalda.contract.participant_token import ParticipantToken
from mafalda.testing.memory_bus import MemoryBus
from mafalda.workers.agent.entries import EntriesServer
from mafalda.workers.config import AgentConfig
from mafalda.workers.log.publisher import Publisher
from tests.component.client.scripted_fleet import ScriptedFleet, run_scripted_fleet


@pytest.fixture(params=["memory", "nats", "participant"])
def bus(request: pytest.FixtureRequest) -> PeerBus:
    """Any kind: the SDK must not see a difference."""
    if request.param == "memory":
        return MemoryBus()
    found: PeerBus = request.getfixturevalue("nats_bus" if request.param == "nats" else "participant_bus")
    return found


@pytest.fixture
async def participant_bus(nats_bus: NatsBus, nats_url: str) -> AsyncIterator[ParticipantBus]:
    """What a client has with a token; who verifies none takes any."""
    token = ParticipantToken("any", "any", Grants(rooms=["lobby"], peer="alice"))
    async with (
        EntriesServer(nats_bus, Publisher(nats_bus, "s1"), AgentConfig(server="s1")).serve(),
        connect_participant(BusConfig(servers=(nats_url,)), token) as opened,
    ):
        yield opened


@pytest.fixture
def fleet_bus(request: pytest.FixtureRequest, bus: PeerBus) -> Bus:
    """The fleet's, which is the client's own if that can be."""
    if isinstance(bus, MemoryBus | NatsBus):
        return bus
    found: NatsBus = request.getfixturevalue("nats_bus")
    return found


@pytest.fixture
async def fleet(fleet_bus: Bus) -> AsyncIterator[ScriptedFleet]:
    async with run_scripted_fleet(fleet_bus) as running:
        yield running


@pytest.fixture
def config() -> ClientConfig:
    return ClientConfig(
        join_timeout_s=5, request_timeout_s=5, retry_interval_s=0.2, secrets_wait_s=0.2, producer_wait_s=5
    )


@pytest.fixture
async def client(bus: PeerBus, fleet: ScriptedFleet, config: ClientConfig) -> AsyncIterator[Client]:
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
