"""Versions N and N+1 in one fleet: an agent, an allocator and a client that meet what they do not know go on."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from aiortc import AudioStreamTrack

from mafalda.client import ClientConfig, connect
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.queries import DrainServer
from mafalda.monitor.drain import drain_request
from mafalda.testing.clock import ManualClock
from mafalda.testing.memory_bus import MemoryBus
from tests.component.allocator import allocator_fleet
from tests.component.client.scripted_fleet import run_scripted_fleet
from tests.component.client.test_client_rooms import next_of, opened_by
from tests.component.versions.newer_bus import UNKNOWN, NewerBroker
from tests.component.workers import agent_world


async def test_agents_relay_and_drain_among_newer_messages() -> None:
    async with AsyncExitStack() as stack:
        fleet = agent_world.Fleet(NewerBroker(), stack)
        agent = await fleet.start("s1")
        await fleet.start("s2")
        (here,), (there,) = fleet.places("s1"), fleet.places("s2")
        alice, bob = await fleet.join("lobby", "alice", here), await fleet.join("lobby", "bob", there)
        await alice.transport("send")
        await bob.transport("receive")
        await alice.produce("mic", "send", app_data={"future": "the application's own"})
        sent = await bob.send(bob.consume_intent("bob-mic", "mic", "receive"))
        await fleet.relay("lobby", "mic", here, there)
        assert (await bob.answer(sent, results.ConsumeResult)).relayed
        assert (await drain_request(fleet.bus, "s1", DrainServer())).state == "draining"
        await fleet.equals_the_log()
        assert agent.log_reader.unreadable > 0


@pytest.mark.usefixtures("no_leaked_tasks")
async def test_an_allocator_decides_among_newer_messages_and_rejects_a_newer_intent() -> None:
    broker = NewerBroker(without=("result",))
    async with allocator_fleet.Fleet(broker, ManualClock(1000.0)).open() as fleet:
        await fleet.agent("s1")
        async with fleet.allocator() as counters:
            answer = await fleet.join("lobby", "alice")
            assert isinstance(answer, results.JoinResult)
            refused = await fleet.answer("lobby", "alice", UNKNOWN)
            assert isinstance(refused, results.Rejected)
            assert (refused.intent, refused.error.code) == (UNKNOWN, "unknown-type")
            assert isinstance(await fleet.join("lobby", "bob"), results.JoinResult)
        assert counters["unreadable-event"] > 0
        assert counters["unreadable-command"] > 0


async def test_a_client_produces_and_consumes_among_newer_messages() -> None:
    bus = MemoryBus(NewerBroker(without=("intent",)))
    config = ClientConfig(join_timeout_s=5, request_timeout_s=5)
    track = AudioStreamTrack()
    async with run_scripted_fleet(bus) as fleet, connect(bus=bus, config=config) as client:
        await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
        async with client.join("lobby", "alice") as room:
            stream = room.events()
            microphone = await room.produce(track)
            consumer = await room.consume("voice")
            await fleet.publish("lobby", events.ProducerPaused(peer="bob", producer="voice"))
            await next_of(stream, events.ProducerPaused)
            assert (microphone.is_open, consumer.is_open, consumer.producer_paused) == (True, True, True)
        assert len(fleet.received(intents.Leave)) == 1
    track.stop()
