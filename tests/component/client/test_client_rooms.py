"""Joining, what a room shows, and what is refused."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest
from aiortc import AudioStreamTrack

from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.protocol import Bus
from mafalda.client import Client, ClientConfig, EventStream, Reconnected, RoomEvent, connect
from mafalda.contract.messages import events, intents
from mafalda.contract.messages.queries import DataProducerInfo, ProducerInfo
from mafalda.errors import AlreadyExists, Broken, DeadlineExceeded, IllegalId, NoCapacity, NotJoined
from mafalda.testing.memory_bus import MemoryBus
from tests.component.client.scripted_fleet import ScriptedFleet


def opened_by(peer: str, producer: str, generation: int = 1, kind: str = "audio") -> events.ProducerOpened:
    return events.ProducerOpened.model_validate(
        {
            "peer": peer,
            "producer": producer,
            "transport": "t",
            "server": "s1",
            "worker": "w1",
            "generation": generation,
            "mediaKind": kind,
            "type": "simple",
        }
    )


E = TypeVar("E", bound=RoomEvent)


async def next_of(stream: EventStream, kind: type[E]) -> E:
    """The next event of a kind."""
    async with asyncio.timeout(10):
        async for event in stream:
            if isinstance(event, kind):
                return event
    raise AssertionError("the events ended")


async def test_join_shows_the_room_and_leave_is_requested(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice", app_data={"name": "Alice"}) as room:
        assert (room.id, room.peer, room.server, room.worker, room.generation) == (
            "lobby", "alice", "s1", "s1-0-w1", 1,
        )  # fmt: skip
        assert room.peers["alice"].app_data == {"name": "Alice"}
        async with client.join("lobby", "bob") as other:
            assert set(other.peers) == {"alice", "bob"}
    assert len(fleet.received(intents.Leave)) == 2


async def test_events_are_on_top_of_what_is_known_none_missed(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "early"))
    async with client.join("lobby", "alice") as room:
        assert set(room.producers) == {"early"}
        stream = room.events()
        await fleet.open_elsewhere("lobby", opened_by("bob", "late"))
        await fleet.publish("lobby", events.ProducerPaused(peer="bob", producer="late"))
        closed = events.ProducerClosed(peer="bob", producer="early", generation=1, reason="closed")
        await fleet.publish("lobby", closed)
        seen = [await next_of(stream, events.Event) for _ in range(3)]
        assert [type(event).__name__ for event in seen] == ["ProducerOpened", "ProducerPaused", "ProducerClosed"]
        assert set(room.producers) == {"late"}
        assert room.producers["late"].paused
    assert [event async for event in stream] == []


async def test_arrivals_are_those_here_and_those_to_come_but_not_ours(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "early"))
    async with client.join("lobby", "alice") as room, asyncio.timeout(10):
        arrivals = room.arrivals()
        assert await anext(arrivals) == room.producers["early"]
        channel = await room.produce_data(label="ours")
        await fleet.publish("lobby", data_opened_by("alice", channel.id))
        await fleet.open_elsewhere("lobby", opened_by("carol", "late"))
        found = await anext(arrivals)
        assert isinstance(found, ProducerInfo)
        assert found.producer == "late"
        await fleet.publish("lobby", data_opened_by("carol", "chat"))
        assert isinstance(await anext(arrivals), DataProducerInfo)
        await arrivals.aclose()


def data_opened_by(peer: str, producer: str) -> events.DataProducerOpened:
    return events.DataProducerOpened.model_validate(
        {
            "peer": peer,
            "dataProducer": producer,
            "transport": "t",
            "server": "s1",
            "worker": "w1",
            "generation": 1,
            "sctpStreamParameters": {"streamId": 0},
            "label": "ours",
        }
    )


async def test_an_event_before_the_snapshot_counts_once(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        for name in ("one", "two"):
            await fleet.open_elsewhere("lobby", opened_by("bob", name))
        async with client.join("lobby", "carol") as other:
            assert set(other.producers) == {"one", "two"}
        assert set(room.peers) == {"alice", "carol"} or set(room.peers) == {"alice"}


@pytest.mark.parametrize(("room", "peer"), [("a.b", "alice"), ("lobby", ""), ("lobby", "x" * 65), ("*", "alice")])
async def test_illegal_ids_are_refused_before_they_are_sent(
    client: Client, fleet: ScriptedFleet, room: str, peer: str
) -> None:
    with pytest.raises(IllegalId):
        async with client.join(room, peer or "."):
            pass
    assert fleet.intents == []


async def test_a_refused_join_raises_the_class_that_was_answered(client: Client, fleet: ScriptedFleet) -> None:
    fleet.refusing["join"] = NoCapacity("every worker is full", servers=3)
    with pytest.raises(NoCapacity) as caught:
        async with client.join("lobby", "alice"):
            pass
    assert caught.value.details == {"servers": 3}


async def test_a_silent_fleet_gets_the_intent_once_until_the_deadline(bus: Bus, fleet: ScriptedFleet) -> None:

    fleet.ignoring.add("join")
    config = ClientConfig(join_timeout_s=0.5, retry_interval_s=0.1)
    async with connect(bus=bus, config=config) as client:
        with pytest.raises(DeadlineExceeded):
            async with client.join("lobby", "alice"):
                pass
    assert len(fleet.received(intents.Join)) == 1


async def test_transports_are_requested_in_one_flight_with_the_join(client: Client, fleet: ScriptedFleet) -> None:
    fleet.ignoring |= {"join", "create-transport"}

    async def join_and_produce() -> str:
        async with client.join("lobby", "alice", transports="both") as room:
            return (await room.produce(AudioStreamTrack(), id="mic")).id

    joining = asyncio.create_task(join_and_produce())
    await fleet.seen(lambda: len(fleet.received(intents.CreateTransport)) == 2)
    assert [it.action for it in fleet.intents] == ["join", "create-transport", "create-transport"]
    await fleet.answer_ignored("lobby", "alice")
    assert await joining == "mic"
    assert len(fleet.received(intents.CreateTransport)) == 2, "both were used, or left with the room"
    (produce,) = fleet.received(intents.Produce)
    assert isinstance(produce, intents.Produce)
    assert produce.transport.startswith("send-")


async def test_a_transport_that_was_requested_with_the_join_is_not_used_at_another_place(
    client: Client, fleet: ScriptedFleet
) -> None:
    async with client.join("lobby", "alice", transports="send") as room:
        stream = room.events()
        await fleet.seen(lambda: len(fleet.received(intents.CreateTransport)) == 1)
        await fleet.move("lobby", "alice")
        await next_of(stream, Reconnected)
        await room.produce(AudioStreamTrack(), id="mic")
        (_, second) = fleet.received(intents.CreateTransport)
        (produce,) = fleet.received(intents.Produce)
        assert isinstance(second, intents.CreateTransport)
        assert isinstance(produce, intents.Produce)
        assert produce.transport == second.transport


async def test_a_transport_that_is_refused_with_the_join_is_requested_again(
    client: Client, fleet: ScriptedFleet
) -> None:
    fleet.refusing["create-transport"] = NoCapacity("no ports")
    async with client.join("lobby", "alice", transports="send") as room:
        await fleet.seen(lambda: len(fleet.received(intents.CreateTransport)) == 1)
        fleet.refusing.clear()
        assert (await room.produce(AudioStreamTrack(), id="mic")).is_open
        assert len(fleet.received(intents.CreateTransport)) == 2


async def test_a_join_that_is_not_answered_is_left(bus: Bus, fleet: ScriptedFleet) -> None:
    fleet.ignoring.add("join")
    config = ClientConfig(join_timeout_s=0.5, retry_interval_s=0.1)
    async with connect(bus=bus, config=config) as client:
        with pytest.raises(DeadlineExceeded):
            async with client.join("lobby", "alice"):
                pass
        await fleet.seen(lambda: fleet.intents[-1] == intents.Leave())
        assert len(fleet.received(intents.Join)) == len(fleet.received(intents.Leave)) == 1
        fleet.ignoring.clear()
        assert await join_and_leave(client) == "alice"


async def test_a_join_that_is_cancelled_is_left(client: Client, fleet: ScriptedFleet) -> None:
    fleet.ignoring.add("join")
    joining = asyncio.create_task(join_and_leave(client))
    await fleet.seen(lambda: len(fleet.received(intents.Join)) == 1)
    joining.cancel()
    await asyncio.wait([joining])
    assert joining.cancelled()
    await fleet.seen(lambda: len(fleet.received(intents.Leave)) == 1)


async def join_and_leave(client: Client) -> str:
    """Join and leave as alice; her id."""
    async with client.join("lobby", "alice") as room:
        return room.peer


async def test_another_clients_leave_ends_the_room(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1, reason="left"))
        with pytest.raises(NotJoined) as caught:
            await next_of(stream, Reconnected)
        assert caught.value.details == {"reason": "left"}
        with pytest.raises(NotJoined):
            await room.produce_data()
    assert fleet.received(intents.Leave) == []


async def test_an_unreadable_message_on_our_subjects_disturbs_nobody(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        subject = "mafalda.room.lobby.event.peer-joined"
        if isinstance(fleet.bus, NatsBus):
            await fleet.bus.connection.publish(subject, b"{not json")
        elif isinstance(fleet.bus, MemoryBus):
            fleet.bus.broker.store(subject, b"{not json", {})
        await fleet.open_elsewhere("lobby", opened_by("bob", "fine"))
        await next_of(stream, events.ProducerOpened)
        assert "fine" in room.producers


async def test_an_event_reader_that_sleeps_gets_an_error_not_a_gap(bus: Bus, fleet: ScriptedFleet) -> None:

    async with (
        connect(bus=bus, config=ClientConfig(max_queued_events=3)) as client,
        client.join("lobby", "alice") as room,
    ):
        sleepy, awake = room.events(), room.events()
        for number in range(5):
            await fleet.open_elsewhere("lobby", opened_by("bob", f"p{number}"))
            await next_of(awake, events.ProducerOpened)
        for _ in range(3):
            await anext(sleepy)
        with pytest.raises(Broken):
            await anext(sleepy)


async def test_a_refused_produce_raises_and_leaves_nothing(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        fleet.refusing["produce-data"] = AlreadyExists("the room has one", producer="taken")
        with pytest.raises(AlreadyExists):
            await room.produce_data(id="taken")
        del fleet.refusing["produce-data"]
        assert (await room.produce_data(id="taken")).is_open


async def test_a_peer_that_only_watches_shows_that_it_is_there(bus: Bus, fleet: ScriptedFleet) -> None:
    async with (
        connect(bus=bus, config=ClientConfig(heartbeat_interval_s=0.05)) as client,
        client.join("lobby", "alice"),
    ):
        await fleet.seen(lambda: fleet.queries >= 3)


async def test_what_a_cancelled_call_requested_is_closed(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        fleet.ignoring.add("produce-data")
        producing = asyncio.create_task(room.produce_data(id="chat"))
        await fleet.seen(lambda: bool(fleet.received(intents.ProduceData)))
        producing.cancel()
        await asyncio.wait([producing])
        assert producing.cancelled()
        await fleet.seen(
            lambda: fleet.received(intents.CloseDataProducer) == [intents.CloseDataProducer(data_producer="chat")]
        )
