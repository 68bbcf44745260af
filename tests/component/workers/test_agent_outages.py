"""An outage of the bus, with everything real but the bus itself: allocator, agent, worker, SDK and media."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from aiortc import AudioStreamTrack

from mafalda.client import ClientConfig, Consumer, Reconnected, Reconnecting, connect
from mafalda.client.events import EventStream
from mafalda.contract.messages import events, intents
from tests.component.workers.agent_world import DEADLINE_S, Fleet
from tests.component.workers.test_agent_media import allocating

#: Over long before the outage is, if they were counted during it.
GRACE_S = 6.0
CONFIG = ClientConfig(
    request_timeout_s=6, retry_interval_s=0.3, reconnect_timeout_s=6, heartbeat_interval_s=0.2, ice_timeout_s=6
)
OUTAGE_S = 7.5


async def next_of(stream: EventStream, kind: type[Reconnected] | type[Reconnecting]) -> Reconnected | Reconnecting:
    async with asyncio.timeout(DEADLINE_S):
        async for event in stream:
            if isinstance(event, kind):
                return event
    raise AssertionError("the room ended")


async def hears(consumer: Consumer) -> None:
    """Wait for ten more frames of sound."""
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(10):
            await consumer.track.recv()


@pytest.mark.timeout(120)
async def test_nothing_is_lost_but_time_in_an_outage_with_a_death_and_a_mute(fleet: Fleet) -> None:
    """A worker dies, a producer is muted, one is closed and a peer does nothing, all while there is no bus."""
    agent = await fleet.start("s1", workers=1, idle_grace_s=GRACE_S, ice_grace_s=GRACE_S)
    sound, music = AudioStreamTrack(), AudioStreamTrack()
    async with (
        allocating(fleet),
        connect(bus=fleet.bus, config=CONFIG) as client,
        client.join("lobby", "alice") as alice,
        client.join("lobby", "bob") as bob,
        client.join("lobby", "idle"),
    ):
        voice, second = await alice.produce(sound, id="voice"), await alice.produce(music, id="music")
        consumer = await bob.consume("voice")
        await hears(consumer)
        theirs = bob.events()
        (worker,) = agent.supervisor.alive.values()
        with fleet.broker.down():
            os.kill(worker.worker.pid, signal.SIGKILL)
            pausing = asyncio.create_task(voice.pause())
            closing = asyncio.create_task(second.close())
            await asyncio.sleep(OUTAGE_S)  # the outage itself; nothing is waited for by it
        await asyncio.wait_for(asyncio.gather(pausing, closing), DEADLINE_S)
        assert (await next_of(theirs, Reconnected)).generation == 2
        await fleet.until(lambda: "voice" in bob.producers and bob.producers["voice"].paused, "voice is back, muted")
        assert "music" not in bob.producers
        await voice.resume()
        await hears(consumer)
        assert fleet.appended(events.PeerLeft) == [], "nobody was removed"
        assert {*bob.peers} == {"alice", "bob", "idle"}
        assert not voice.closed
        assert len(fleet.appended(intents.Join)) == 3
    for track in (sound, music):
        track.stop()


async def test_who_was_removed_comes_back(fleet: Fleet) -> None:
    """The client alone had no bus for longer than the agent's grace; here it is silent for so long."""
    await fleet.start("s1", workers=1, idle_grace_s=1.0)
    silent = CONFIG.model_copy(update={"heartbeat_interval_s": 2.5, "request_timeout_s": 15, "reconnect_timeout_s": 60})
    async with (
        allocating(fleet),
        connect(bus=fleet.bus, config=silent) as client,
        client.join("lobby", "alice") as alice,
    ):
        stream = alice.events()
        assert (await fleet.wait_appended(events.PeerLeft)).reason == "timed-out"
        assert await next_of(stream, Reconnecting) == Reconnecting(1, "removed: timed-out")
        assert (await next_of(stream, Reconnected)).generation == 2
        assert {*alice.peers} == {"alice"}


async def test_a_viewer_is_reconnected_when_it_sees_something_again(fleet: Fleet) -> None:
    """Its worker dies; a place alone is not enough."""
    agent = await fleet.start("s1", workers=1)
    sound = AudioStreamTrack()
    async with (
        allocating(fleet),
        connect(bus=fleet.bus, config=ClientConfig(retry_interval_s=0.3)) as client,
        client.join("lobby", "alice") as alice,
    ):
        await alice.produce(sound, id="voice")
        async with client.join("lobby", "bob") as bob:
            consumer = await bob.consume("voice")
            await hears(consumer)
            stream = bob.events()
            (worker,) = agent.supervisor.alive.values()
            os.kill(worker.worker.pid, signal.SIGKILL)
            assert (await next_of(stream, Reconnected)).generation > 1
            assert consumer.is_open
            await hears(consumer)
    sound.stop()
