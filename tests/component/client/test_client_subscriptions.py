"""A subscription over moves, removals and what is changed or closed meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.bus.protocol import Bus
from mafalda.client import Client, ClientConfig, GaveUp, Reconnected, Reconnecting, Subscription, connect
from mafalda.client.resources.reconnecting import ReconnectingConsumer
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.contract.messages import events, intents
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.subscriptions import MAX_SELECTORS, ConsumeFailure, ProducerSelector
from mafalda.errors import BadInput, BusUnavailable, CannotConsume, NotJoined
from tests.component.client.scripted_fleet import ScriptedFleet
from tests.component.client.test_client_rooms import next_of, opened_by


async def received(fleet: ScriptedFleet, subscription: Subscription, producer: str = "voice") -> ReconnectingConsumer:
    """The consumer that the agent makes of a producer."""
    await fleet.announce("lobby", "alice", subscription.id, producer)
    async with asyncio.timeout(5):
        return await anext(subscription)


async def moved(fleet: ScriptedFleet, *, then_subscribes: int) -> None:
    await fleet.move("lobby", "alice")
    await fleet.seen(lambda: len(fleet.received(intents.Subscribe)) == then_subscribes)


async def test_consumers_of_the_loudest_are_not_expected_before_they_are_announced(
    client: Client, fleet: ScriptedFleet
) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        subscription = await room.subscribe(loudest=1)
        consumer = await received(fleet, subscription)
        await moved(fleet, then_subscribes=2)
        async with asyncio.timeout(5):
            await consumer.wait_lost()
        assert not consumer.is_expected, "it is quiet at the new place"
        await fleet.announce("lobby", "alice", subscription.id, "voice")
        async with asyncio.timeout(5):
            await consumer.wait_open()
        assert consumer.is_expected


async def test_it_stands_again_after_a_removal(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        subscription = await room.subscribe()
        await subscription.add(peer="bob")
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1, reason="timed-out"))
        await fleet.seen(lambda: len(fleet.received(intents.Subscribe)) == 2)
        first, second = fleet.received(intents.Subscribe)
        assert isinstance(first, intents.Subscribe)
        assert isinstance(second, intents.Subscribe)
        assert first.subscription == second.subscription == subscription.id
        assert [it.peer for it in second.select] == [None, "bob"]


async def test_a_change_that_failed_is_requested_again(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        subscription = await room.subscribe()
        fleet.refusing["change-subscription"] = BusUnavailable("the worker cannot be reached")
        with pytest.raises(BusUnavailable):
            await subscription.remove(kind="video")
        await fleet.seen(lambda: len(fleet.received(intents.Subscribe)) == 2)
        again = fleet.received(intents.Subscribe)[-1]
        assert isinstance(again, intents.Subscribe)
        assert again.select[-1].kind == "video"
        assert again.select[-1].exclude


async def test_a_change_just_before_it_counts_as_open_is_requested(
    client: Client, fleet: ScriptedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_at = Subscription._open_at
    changes: list[asyncio.Task[None]] = []

    async def open_and_change(subscription: Subscription, endpoint: Endpoint) -> None:
        await open_at(subscription, endpoint)
        if not changes:
            changes.append(asyncio.create_task(subscription.add(peer="bob")))
            await asyncio.sleep(0)

    monkeypatch.setattr(Subscription, "_open_at", open_and_change)
    async with client.join("lobby", "alice") as room:
        await room.subscribe()
        await asyncio.gather(*changes)
        await fleet.seen(lambda: len(fleet.received(intents.Subscribe)) == 2)
        again = fleet.received(intents.Subscribe)[-1]
        assert isinstance(again, intents.Subscribe)
        assert [it.peer for it in again.select] == [None, "bob"]


async def test_a_change_of_a_membership_that_ends_is_an_error(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        subscription = await room.subscribe()
        fleet.ignoring.add("change-subscription")
        adding = asyncio.create_task(subscription.add(peer="bob"))
        await fleet.seen(lambda: bool(fleet.ignored))
        await fleet.publish("lobby", events.PeerLeft(peer="alice", generation=1))
        with pytest.raises(NotJoined, match="removed this peer"):
            await adding


async def test_selectors_of_closed_producers_make_room(client: Client, fleet: ScriptedFleet) -> None:
    many = [ProducerSelector(producer=f"p{number}") for number in range(MAX_SELECTORS)]
    await fleet.open_elsewhere("lobby", opened_by("bob", "p0"))
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        with pytest.raises(BadInput, match="too many selectors"):
            await room.subscribe(*many, ProducerSelector())
        subscription = await room.subscribe(*many)
        with pytest.raises(BadInput, match="too many selectors"):
            await subscription.add(producer="voice")
        assert fleet.received(intents.ChangeSubscription) == []
        await fleet.publish("lobby", events.ProducerClosed(peer="bob", producer="p0", generation=1, reason="closed"))
        await next_of(stream, events.ProducerClosed)
        fleet.refusing["change-subscription"] = BadInput("too many selectors in the peer's subscriptions")
        await subscription.add(producer="voice")
        again = fleet.received(intents.Subscribe)[-1]
        assert isinstance(again, intents.Subscribe)
        assert again.select == [*many[1:], ProducerSelector(producer="voice")]


async def test_a_change_that_is_refused_for_good_is_undone(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        subscription = await room.subscribe()
        fleet.refusing |= dict.fromkeys(("subscribe", "change-subscription"), BadInput("too many selectors"))
        with pytest.raises(BadInput):
            await subscription.add(peer="bob")
        fleet.refusing.clear()
        await moved(fleet, then_subscribes=3)
        again = fleet.received(intents.Subscribe)[-1]
        assert isinstance(again, intents.Subscribe)
        assert again.select == [ProducerSelector()]


async def test_a_pause_changes_nothing_of_what_was_announced(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        subscription = await room.subscribe()
        (announced,) = await fleet.announce("lobby", "alice", subscription.id, "voice")
        consumer = await anext(subscription)
        await fleet.publish("lobby", events.ProducerPaused(peer="bob", producer="voice"))
        await next_of(stream, events.ProducerPaused)
        consumer.lose()
        async with asyncio.timeout(5):
            await consumer.wait_lost()
            await consumer.wait_open()
        closed = events.ConsumersClosed(subscription=subscription.id, generation=1, consumers=[announced])
        await fleet.publish_peer_event("lobby", "alice", closed)
        async with asyncio.timeout(5):
            await consumer.wait_closed()


async def test_what_cannot_be_consumed_any_more_is_closed(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        subscription = await room.subscribe()
        consumer = await received(fleet, subscription)
        await moved(fleet, then_subscribes=2)
        failure = ConsumeFailure(producer="voice", error=ErrorInfo.of(CannotConsume("no codec")))
        failed = events.ConsumersOpened(
            subscription=subscription.id, transport="any", generation=2, consumers=[], failed=[failure]
        )
        await fleet.publish_peer_event("lobby", "alice", failed)
        assert isinstance((await next_of(stream, GaveUp)).error, CannotConsume)
        assert consumer.closed
        assert "voice" not in subscription.consumers


async def test_closed_while_reconnecting_it_is_ended_in_the_fleet(client: Client, fleet: ScriptedFleet) -> None:
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        subscription = await room.subscribe()
        lost = events.PeerMoved(peer="alice", server="s2", worker="w", generation=2, cause="worker-died")
        await fleet.publish("lobby", lost)
        await next_of(stream, Reconnecting)
        async with asyncio.timeout(5):
            await subscription.close()
        assert fleet.received(intents.Unsubscribe) == [intents.Unsubscribe(subscription=subscription.id)]


async def test_a_consumer_closed_while_reconnecting_is_taken_out(client: Client, fleet: ScriptedFleet) -> None:
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    async with client.join("lobby", "alice") as room:
        stream = room.events()
        subscription = await room.subscribe()
        consumer = await received(fleet, subscription)
        lost = events.PeerMoved(peer="alice", server="s2", worker="w", generation=2, cause="worker-died")
        await fleet.publish("lobby", lost)
        await next_of(stream, Reconnecting)
        async with asyncio.timeout(5):
            await consumer.close()
        await moved(fleet, then_subscribes=2)
        again = fleet.received(intents.Subscribe)[-1]
        assert isinstance(again, intents.Subscribe)
        assert again.select[-1].producer == "voice"
        assert again.select[-1].exclude


async def test_an_absent_producer_is_not_waited_for_long(bus: Bus, fleet: ScriptedFleet) -> None:
    """Then the answer of the agent shows that the place is alive, which is queried until it has the peer."""
    await fleet.open_elsewhere("lobby", opened_by("bob", "voice"))
    config = ClientConfig(media_wait_s=0.2)
    async with connect(bus=bus, config=config) as client, client.join("lobby", "alice") as room:
        stream = room.events()
        consumer = await room.consume("voice")
        fleet.producers.clear()
        await fleet.publish(
            "lobby", events.PeerMoved(peer="bob", server="s", worker="w", generation=2, cause="worker-died")
        )
        async with asyncio.timeout(5):
            await consumer.wait_lost()
        fleet.refusing["query"] = NotJoined("the peer is about to get its place")
        await fleet.move("lobby", "alice")
        await next_of(stream, Reconnecting)
        asked = fleet.queries
        await fleet.seen(lambda: fleet.queries >= asked + 2)
        fleet.refusing.clear()
        assert (await next_of(stream, Reconnected)).generation == 2
