"""What the application wanted during an outage, and a peer that the fleet removed because of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiortc import AudioStreamTrack

from mafalda.bus.compose import compose
from mafalda.client import Client, ClientConfig, Reconnected, Reconnecting, connect
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.results import Done
from mafalda.errors import BusUnavailable, DeadlineExceeded, NoCapacity, NotJoined
from mafalda.testing.memory_bus import MemoryBus
from tests.component.client.scripted_fleet import ScriptedFleet, run_scripted_fleet
from tests.component.client.test_client_rooms import next_of


@pytest.fixture
def bus() -> MemoryBus:
    """In memory, since an outage of it begins and ends where the test says."""
    return MemoryBus()


@pytest.fixture
async def fleet(bus: MemoryBus) -> AsyncIterator[ScriptedFleet]:
    async with run_scripted_fleet(bus) as running:
        yield running


#: Limits that are over long before an outage of these tests is, if they were counted during it.
SHORT = ClientConfig(
    join_timeout_s=3, request_timeout_s=1, retry_interval_s=0.1, leave_timeout_s=0.1, reconnect_timeout_s=1
)


@pytest.fixture
async def client(bus: MemoryBus, fleet: ScriptedFleet) -> AsyncIterator[Client]:
    async with connect(bus=bus, config=ClientConfig(retry_interval_s=0.1, leave_timeout_s=0.1)) as connected:
        yield connected


@pytest.fixture
async def hasty(bus: MemoryBus, fleet: ScriptedFleet) -> AsyncIterator[Client]:
    """A client whose limits are shorter than an outage of ``outlast_the_limits``."""
    async with connect(bus=bus, config=SHORT) as connected:
        yield connected


async def outlast_the_limits() -> None:
    """Let more time pass than any request may take, as the outage itself: only that shows that it is not counted."""
    await asyncio.sleep(1.5)  # it is the outage itself: request_timeout_s, which must not pass meanwhile, is 1


async def test_a_mute_outlasts_an_outage(hasty: Client, fleet: ScriptedFleet, bus: MemoryBus) -> None:
    async with hasty.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        with bus.broker.down():
            muting = asyncio.create_task(microphone.pause())
            await outlast_the_limits()
            assert not muting.done(), "there was no bus, so no time was over"
        await muting
        assert len(fleet.received(intents.PauseProducer)) == 1


async def test_a_mute_that_the_application_gave_up_is_requested_all_the_same(
    client: Client, fleet: ScriptedFleet, bus: MemoryBus
) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        with bus.broker.down(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await microphone.pause()
        await fleet.seen(lambda: len(fleet.received(intents.PauseProducer)) == 1)


async def test_a_mute_that_failed_is_requested_again(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        fleet.refusing["pause-producer"] = BusUnavailable("the worker cannot be reached")
        with pytest.raises(BusUnavailable):
            await microphone.pause()
        fleet.refusing.clear()
        before = len(fleet.received(intents.PauseProducer))
        await fleet.seen(lambda: len(fleet.received(intents.PauseProducer)) > before)


async def test_a_mute_that_somebody_else_undid_is_requested_again(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack(), id="mic", paused=True)
        assert microphone.paused
        await fleet.publish("lobby", events.ProducerResumed(peer="alice", producer="mic", generation=1))
        await fleet.seen(lambda: len(fleet.received(intents.PauseProducer)) == 1)


async def test_what_was_closed_during_an_outage_is_closed_after_it(
    client: Client, fleet: ScriptedFleet, bus: MemoryBus
) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        with bus.broker.down(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await microphone.close()
        assert microphone.closed
        await fleet.seen(lambda: len(fleet.received(intents.CloseProducer)) == 1)


async def test_who_left_during_an_outage_leaves_after_it(hasty: Client, fleet: ScriptedFleet, bus: MemoryBus) -> None:
    async with hasty.join("lobby", "alice"):
        outage = bus.broker.down()
        outage.__enter__()
    with pytest.raises(DeadlineExceeded):
        async with hasty.join("lobby", "alice"):
            pass
    outage.__exit__(None, None, None)
    await fleet.seen(lambda: len(fleet.received(intents.Leave)) == 1)
    async with hasty.join("lobby", "alice") as room:
        assert room.generation == 2, "the leave came before this join"


async def test_a_join_during_an_outage_has_a_limit(bus: MemoryBus, fleet: ScriptedFleet) -> None:
    async with connect(bus=bus, config=ClientConfig(join_timeout_s=0.2, leave_timeout_s=0.1)) as client:
        with bus.broker.down(), pytest.raises(DeadlineExceeded):
            async with client.join("lobby", "alice"):
                pass


async def test_a_join_whose_snapshot_does_not_come_has_a_limit(bus: MemoryBus, fleet: ScriptedFleet) -> None:
    fleet.ignoring.add("query")
    async with connect(bus=bus, config=ClientConfig(join_timeout_s=0.2)) as client:
        with pytest.raises(DeadlineExceeded, match="no answer to the join"):
            async with client.join("lobby", "alice"):
                pass
    assert len(fleet.received(intents.Leave)) == 1


async def test_a_place_is_waited_for_beyond_an_outage(hasty: Client, fleet: ScriptedFleet, bus: MemoryBus) -> None:
    async with hasty.join("lobby", "alice") as room:
        stream = room.events()
        moved = events.PeerMoved(peer="alice", server="s2", worker="w", generation=2, cause="worker-died")
        await fleet.publish("lobby", moved)
        await next_of(stream, Reconnecting)
        with bus.broker.down():
            await outlast_the_limits()
        await fleet.move("lobby", "alice")
        assert (await next_of(stream, Reconnected)).generation == 2


@pytest.mark.parametrize("reason", ["timed-out", "evicted"])
async def test_a_removed_peer_joins_again_with_its_producers(
    client: Client, fleet: ScriptedFleet, reason: events.LeftReason
) -> None:
    async with client.join("lobby", "alice", app_data={"name": "Alice"}) as room:
        stream = room.events()
        microphone = await room.produce(AudioStreamTrack(), id="mic")
        fleet.producers.clear()
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1, reason=reason))
        assert await next_of(stream, Reconnecting) == Reconnecting(1, f"removed: {reason}")
        await fleet.seen(lambda: len(fleet.received(intents.Produce)) == 2)
        await microphone.wait_open()
        assert room.generation == 2
        first, second = fleet.received(intents.Join)
        assert first == second == intents.Join(app_data={"name": "Alice"})
        produced = fleet.received(intents.Produce)[-1]
        assert isinstance(produced, intents.Produce)
        assert produced.producer == microphone.id == "mic"
        assert "alice" in room.peers


async def test_a_peer_of_the_audience_follows_its_own_subject(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice", audience=True) as room:
        stream = room.events()
        error = ErrorInfo.of(NoCapacity("no worker can take the peer now"))
        await fleet.publish_peer_event("lobby", "alice", events.PeerStranded(peer="alice", generation=1, error=error))
        assert await next_of(stream, Reconnecting) == Reconnecting(1, "unschedulable: no-capacity")
        await fleet.publish_peer_event("lobby", "alice", events.PeerLeft(peer="alice", generation=1, reason="evicted"))
        assert (await next_of(stream, Reconnected)).generation == 2
        assert fleet.received(intents.Join) == [intents.Join(audience=True)] * 2

        await fleet.publish_peer_event("lobby", "alice", events.PeerLeft(peer="alice", generation=2))
        with pytest.raises(NotJoined, match="removed this peer"):
            await room.produce(AudioStreamTrack())


@pytest.mark.parametrize("by_moderator", [True, False])
async def test_who_was_demoted_joins_again_as_one_of_the_audience(
    client: Client, fleet: ScriptedFleet, by_moderator: bool
) -> None:
    async with client.join("lobby", "alice") as room:
        if by_moderator:
            await fleet.publish("lobby", events.PeerDemoted(peer="alice", generation=1))
        else:
            await room.set_audience(True)
        await fleet.publish_peer_event("lobby", "alice", events.PeerLeft(peer="alice", generation=1, reason="evicted"))
        await fleet.seen(lambda: len(fleet.received(intents.Join)) == 2)
        assert fleet.received(intents.Join) == [intents.Join(), intents.Join(audience=True)]


async def test_what_the_former_place_has_done_is_requested_of_the_new_one(client: Client, fleet: ScriptedFleet) -> None:
    fleet.ignoring.add("set-audience")
    async with client.join("lobby", "alice") as room:
        demoting = asyncio.create_task(room.set_audience(True))
        await fleet.seen(lambda: bool(fleet.ignored))
        await fleet.move("lobby", "alice")
        fleet.ignoring.clear()
        subject, done = subjects.result("lobby", "alice", "set-audience"), Done(intent="set-audience", generation=1)
        await fleet.bus.append(subject, compose(done, subject=subject, source="/test", cause=fleet.ignored[0]))
        async with asyncio.timeout(5):
            await demoting
        assert fleet.received(intents.SetAudience) == [intents.SetAudience(audience=True)] * 2


async def test_a_demotion_of_which_the_new_place_does_not_know_is_requested_there(
    client: Client, fleet: ScriptedFleet
) -> None:
    async with client.join("lobby", "alice") as room:
        await room.set_audience(True)
        await fleet.move("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.SetAudience)) == 2)
        assert fleet.received(intents.SetAudience) == [intents.SetAudience(audience=True)] * 2


async def test_what_is_requested_of_a_membership_that_ends_is_an_error(client: Client, fleet: ScriptedFleet) -> None:
    fleet.ignoring.add("set-audience")
    async with client.join("lobby", "alice") as room:
        asking = asyncio.create_task(room.set_audience(True))
        await fleet.seen(lambda: bool(fleet.ignored))
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1))
        with pytest.raises(NotJoined, match="removed this peer"):
            await asking


async def test_a_removed_peer_without_media_is_reconnected_when_its_agent_answers(
    client: Client, fleet: ScriptedFleet
) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1, reason="timed-out"))
        queries = fleet.queries
        assert (await next_of(stream, Reconnected)).generation == 2
        assert fleet.queries > queries
        assert room.connected
