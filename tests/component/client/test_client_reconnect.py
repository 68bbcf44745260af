"""What the SDK does by itself when places, transports and producers go away."""

from __future__ import annotations

import asyncio

import pytest
from aiortc import AudioStreamTrack
from aiortc.mediastreams import MediaStreamError

from mafalda.bus.protocol import Bus
from mafalda.client import Client, ClientConfig, GaveUp, Reconnected, Reconnecting, connect
from mafalda.client.resources.reconnecting import ReconnectingResource
from mafalda.contract.messages import events, intents
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.errors import DeadlineExceeded, NoCapacity, NotFound
from tests.component.client.scripted_fleet import ScriptedFleet
from tests.component.client.test_client_rooms import data_opened_by, next_of, opened_by


async def opened(*resources: ReconnectingResource) -> None:
    """Wait until all are open again; those of this fleet are never connected, so nobody is told ``Reconnected``."""
    async with asyncio.timeout(10):
        for resource in resources:
            await resource.wait_open()
            assert resource.is_open


def last_transport(fleet: ScriptedFleet) -> str:
    intent = fleet.received(intents.CreateTransport)[-1]
    assert isinstance(intent, intents.CreateTransport)
    return intent.transport


def last_produced_at(fleet: ScriptedFleet) -> str:
    intent = fleet.received(intents.Produce)[-1]
    assert isinstance(intent, intents.Produce)
    return intent.transport


async def test_a_moved_peer_opens_its_producers_again_under_their_ids(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        track = AudioStreamTrack()
        microphone = await room.produce(track, app_data={"what": "voice"})
        chat = await room.produce_data(label="chat")
        assert await fleet.move("lobby", "alice") == 2
        lost = await next_of(stream, Reconnecting)
        assert lost == Reconnecting(1, "moved: worker-died")
        await fleet.seen(lambda: len(fleet.received(intents.ProduceData)) == 2)
        await opened(microphone, chat)
        assert (room.generation, room.worker) == (2, "s1-0-w2")
        assert not room.connected, "no transport is connected in this fleet"
        first, second = fleet.received(intents.Produce)
        assert isinstance(first, intents.Produce)
        assert isinstance(second, intents.Produce)
        assert first.producer == second.producer == microphone.id
        assert second.app_data == {"what": "voice"}
        assert first.transport != second.transport
        assert [intent.data_producer for intent in fleet.received(intents.ProduceData)] == [chat.id] * 2  # type: ignore[attr-defined]
        assert microphone.is_open
        assert track.readyState == "live"
        assert fleet.received(intents.CloseTransport) == []
    track.stop()


async def test_pause_is_kept_over_a_move(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        await microphone.pause()
        await fleet.move("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.Produce)) == 2)
        await opened(microphone)
        assert [intent.paused for intent in fleet.received(intents.Produce)] == [False, True]  # type: ignore[attr-defined]
        await microphone.resume()
        assert len(fleet.received(intents.ResumeProducer)) == 1


async def test_a_producer_paused_while_it_is_opened_again_is_paused(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        microphone = await room.produce(AudioStreamTrack())
        fleet.ignoring.add("produce")
        await fleet.move("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.Produce)) == 2)
        await microphone.pause()
        await fleet.answer_ignored("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.PauseProducer)) == 1)
        await microphone.wait_open()
        assert microphone.paused
        await microphone.resume()
        assert len(fleet.received(intents.ResumeProducer)) == 1


async def test_a_consumer_changed_while_it_is_opened_again_is_changed(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer = await room.consume("voice")
        fleet.ignoring.add("consume")
        await fleet.move("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.Consume)) == 2)
        await consumer.set_preferred_layers(1, 2)
        await consumer.set_priority(7)
        await consumer.pause()
        await fleet.answer_ignored("lobby", "alice")
        await fleet.seen(lambda: len(fleet.received(intents.SetPriority)) == 1)
        assert fleet.received(intents.PauseConsumer) == [intents.PauseConsumer(consumer=consumer.id)]
        layers = intents.SetPreferredLayers(consumer=consumer.id, spatial_layer=1, temporal_layer=2)
        assert fleet.received(intents.SetPreferredLayers) == [layers]
        assert fleet.received(intents.SetPriority) == [intents.SetPriority(consumer=consumer.id, priority=7)]


async def test_an_older_placement_changes_nothing(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        await fleet.move("lobby", "alice")
        await next_of(stream, Reconnected)
        fleet.generations["lobby", "alice"] = 0
        await fleet.move("lobby", "alice")
        fleet.generations["lobby", "alice"] = 2
        await room.produce_data(label="still here")
        assert room.generation == 2
        assert room.connected


async def test_moved_twice_in_a_row_ends_at_the_last_place(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        microphone = await room.produce(AudioStreamTrack())
        for _ in range(3):
            await fleet.move("lobby", "alice")
        await next_of(stream, Reconnecting)
        await fleet.seen(lambda: room.generation == 4 and last_produced_at(fleet) == last_transport(fleet))
        await opened(microphone)
        assert room.generation == 4
        last = fleet.received(intents.Produce)[-1]
        assert isinstance(last, intents.Produce)
        assert last.producer == microphone.id


async def test_a_produce_in_the_middle_of_a_move_is_done_at_the_new_place(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        fleet.ignoring.add("create-transport")
        producing = asyncio.create_task(room.produce(AudioStreamTrack(), id="mic"))
        await fleet.seen(lambda: bool(fleet.received(intents.CreateTransport)))
        fleet.ignoring.clear()
        await fleet.move("lobby", "alice")
        async with asyncio.timeout(5):
            microphone = await producing
        assert microphone.is_open
        assert len(fleet.received(intents.Produce)) == 1


async def test_a_stranded_peer_waits_for_its_place(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        error = ErrorInfo.of(NoCapacity("every worker is full"))
        await fleet.publish("lobby", events.PeerStranded(peer="alice", generation=1, error=error))
        assert await next_of(stream, Reconnecting) == Reconnecting(1, "unschedulable: no-capacity")
        assert not room.connected
        await fleet.move("lobby", "alice")
        await next_of(stream, Reconnected)
        assert room.connected


async def test_a_room_without_a_place_is_given_up(bus: Bus, fleet: ScriptedFleet) -> None:
    async with (
        connect(bus=bus, config=ClientConfig(reconnect_timeout_s=0.3)) as client,
        client.join("lobby", "alice") as room,
    ):
        stream = room.events()
        channel = await room.produce_data()
        cause: PlacementCause = "server-lost"
        moved = events.PeerMoved(peer="alice", server="s2", worker="w", generation=2, cause=cause)
        await fleet.publish("lobby", moved)
        with pytest.raises(DeadlineExceeded):
            await next_of(stream, GaveUp)
        assert channel.closed
        with pytest.raises(DeadlineExceeded):
            channel.send(b"anybody?")


async def test_a_lost_transport_is_replaced_at_the_same_place(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        channel = await room.produce_data(id="chat")
        first = fleet.received(intents.CreateTransport)[0]
        assert isinstance(first, intents.CreateTransport)
        closed = events.TransportClosed(transport=first.transport, generation=1, reason="ice-failed")
        await fleet.publish_peer_event("lobby", "alice", closed)
        assert await next_of(stream, Reconnecting) == Reconnecting(1, "transport closed: ice-failed")
        await opened(channel)
        assert room.generation == 1
        await fleet.seen(
            lambda: fleet.received(intents.CloseTransport) == [intents.CloseTransport(transport=first.transport)]
        )


async def test_a_transport_that_never_connects_is_replaced(bus: Bus, fleet: ScriptedFleet) -> None:
    async with (
        connect(bus=bus, config=ClientConfig(ice_timeout_s=0.3)) as client,
        client.join("lobby", "alice") as room,
    ):
        stream = room.events()
        await room.produce(AudioStreamTrack())
        assert await next_of(stream, Reconnecting) == Reconnecting(1, "send transport not connected in time")
        await fleet.seen(lambda: len(fleet.received(intents.Produce)) == 2)


async def test_ice_parameters_that_were_lost_are_queried(client: Client, fleet: ScriptedFleet) -> None:
    fleet.silent_inbox = True
    async with client.join("lobby", "alice") as room:
        assert (await room.produce(AudioStreamTrack())).is_open


# --- consumers -----------------------------------------------------------------------------------------


async def test_a_consumer_follows_its_producer_to_a_new_place(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer = await room.consume("voice")
        track, first_id = consumer.track, consumer.id
        fleet.producers.clear()
        await fleet.publish(
            "lobby", events.PeerMoved(peer="bob", server="s", worker="w", generation=2, cause="worker-died")
        )
        async with asyncio.timeout(5):
            await consumer.wait_lost()
        assert consumer.producer_paused
        assert "voice" not in room.producers
        await fleet.open_elsewhere("lobby", opened_by("bob", "voice", generation=2))
        async with asyncio.timeout(5):
            await consumer.wait_open()
        assert consumer.is_open
        assert consumer.track is track
        assert consumer.id != first_id
        assert track.readyState == "live"
        assert len(fleet.received(intents.Consume)) == len(fleet.received(intents.ResumeConsumer)) == 2


async def test_a_closed_producer_ends_its_consumers(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer = await room.consume("voice")
        await fleet.publish("lobby", events.ProducerClosed(peer="bob", producer="voice", generation=1, reason="closed"))
        async with asyncio.timeout(5):
            await consumer.wait_closed()
        with pytest.raises(MediaStreamError):
            await consumer.track.recv()


async def test_a_consumer_that_is_over_leaves_no_task(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        await room.consume("voice")
        task = next(task for task in asyncio.all_tasks() if task.get_name() == "consumer-of-voice")
        await fleet.publish("lobby", events.ProducerClosed(peer="bob", producer="voice", generation=1, reason="closed"))
        async with asyncio.timeout(5):
            await task


async def test_a_producer_that_stays_away_ends_its_consumers(bus: Bus, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with (
        connect(bus=bus, config=ClientConfig(producer_wait_s=0.3)) as client,
        client.join("lobby", "alice") as room,
    ):
        consumer, stream = await room.consume("voice"), room.events()
        fleet.producers.clear()
        await fleet.publish(
            "lobby", events.PeerMoved(peer="bob", server="s", worker="w", generation=2, cause="server-lost")
        )
        gave_up = await next_of(stream, GaveUp)
        assert isinstance(gave_up.error, NotFound)
        assert consumer.closed


async def test_a_consumer_closed_by_the_worker_is_opened_again(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer = await room.consume("voice", paused=True)
        first_id = consumer.id
        closed = events.ConsumerClosed(consumer=first_id, producer="voice", generation=1, reason="worker-died")
        await fleet.publish_peer_event("lobby", "alice", closed)
        await fleet.seen(lambda: len(fleet.received(intents.Consume)) == 2)
        async with asyncio.timeout(5):
            await consumer.wait_open()
        assert consumer.id != first_id
        assert fleet.received(intents.ResumeConsumer) == []


async def test_both_ends_moved_at_once(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer = await room.consume("voice")
        fleet.producers.clear()
        await fleet.move("lobby", "alice")
        await fleet.publish(
            "lobby", events.PeerMoved(peer="bob", server="s", worker="w", generation=2, cause="worker-died")
        )
        await fleet.open_elsewhere("lobby", opened_by("bob", "voice", generation=2))
        await fleet.seen(lambda: len(fleet.received(intents.ResumeConsumer)) >= 2)
        async with asyncio.timeout(30):
            while not consumer.is_open:  # it may have been open for a moment between the two moves
                await consumer.wait_open()


async def test_what_does_not_exist_cannot_be_consumed(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        with pytest.raises(NotFound):
            await room.consume("nothing")
        await fleet.publish("lobby", data_opened_by("bob", "chat"))


async def test_closing_is_told_once(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        consumer, producer = await room.consume("voice"), await room.produce(AudioStreamTrack())
        for _ in range(2):
            await consumer.close()
            await producer.close()
        assert len(fleet.received(intents.CloseConsumer)) == len(fleet.received(intents.CloseProducer)) == 1
        with pytest.raises(MediaStreamError):
            await consumer.track.recv()


async def test_a_consumer_goes_on_while_its_producer_is_handed_over(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        consumer = await room.consume("voice")
        moved = events.PeerMoved(peer="bob", server="s2", worker="w", generation=2, cause="drain", handover=True)
        await fleet.publish("lobby", moved)
        await next_of(stream, events.PeerMoved)
        assert consumer.is_open
        assert "voice" in room.producers
        await fleet.open_elsewhere("lobby", opened_by("bob", "voice").model_copy(update={"generation": 2}))
        await fleet.seen(lambda: len(fleet.received(intents.Consume)) == 2)
        await consumer.wait_open()


async def test_a_handed_over_peer_leaves_its_former_transports_open(client: Client, fleet: ScriptedFleet) -> None:
    """Until the new ones carry media; those of this fleet never do, so the room is left in the middle."""
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        microphone = await room.produce(AudioStreamTrack())
        await fleet.move("lobby", "alice", handover=True)
        assert (await next_of(stream, Reconnecting)).cause == "moved: drain"
        await fleet.seen(lambda: len(fleet.received(intents.ConnectTransport)) == 2)
        assert len(fleet.received(intents.Produce)) == 1, "the new transport is not connected"
        assert fleet.received(intents.CloseTransport) == []
        assert microphone.track.readyState == "live"
