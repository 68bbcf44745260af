"""What a peer's token does not permit, where no subject can say so, the agent refuses by name."""

from __future__ import annotations

import pytest

from mafalda.contract.grants import Grants
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.errors import IllegalReplySubject, NotFound, NotGranted
from tests.component.workers.agent_world import Client, Fleet


async def joined(fleet: Fleet, grants: Grants | None) -> Client:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    if grants is not None:
        fleet.broker.grants["lobby", "alice"] = grants
    alice = await fleet.join("lobby", "alice", place)
    await alice.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    return alice


async def test_only_granted_kinds_may_be_produced(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice", publish=["audio"]))
    await alice.produce("mic", "send")
    with pytest.raises(NotGranted):
        await alice.ask(alice.produce_intent("camera", "send", kind="video"), results.ProduceResult)
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", publish=["video"])
    await alice.ask(alice.produce_intent("camera", "send", kind="video"), results.ProduceResult)
    with pytest.raises(NotGranted):
        await alice.ask(alice.produce_intent("mic2", "send"), results.ProduceResult)
    assert set(fleet.state().rooms["lobby"].producers) == {"mic", "camera"}


async def test_an_application_without_a_token_may_produce_all(fleet: Fleet) -> None:
    alice = await joined(fleet, None)
    await alice.produce("mic", "send")
    await alice.ask(alice.produce_intent("camera", "send", kind="video"), results.ProduceResult)


async def test_a_token_for_the_audience_lets_nobody_send_whom_no_moderator_promoted(fleet: Fleet) -> None:
    """The peer joined with another token, and its agent did not see this one at the join."""
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    await alice.produce("mic", "send")
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", audience=True)
    with pytest.raises(NotGranted):
        await alice.ask(alice.produce_intent("camera", "send", kind="video"), results.ProduceResult)
    await alice.ask(intents.ApplyGrants(), results.Done)
    await fleet.wait_appended(events.ProducerClosed, lambda it: it.producer == "mic")
    (place,) = fleet.places("s1")
    peer = fleet.state().rooms["lobby"].peers["alice"]
    await fleet.place("lobby", "alice", place, generation=2, cause="worker-died", join=peer.join)
    left = await fleet.wait_appended(events.PeerLeft)
    assert (left.peer, left.reason) == ("alice", "evicted")


async def test_a_promoted_peer_sends_at_later_places_too(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", audience=True)
    alice = await fleet.join("lobby", "alice", place, audience=True)
    await alice.ask(intents.SetAudience(audience=False), results.Done)  # a moderator's: NATS lets no audience do that
    await alice.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    await alice.produce("mic", "send")
    peer = fleet.state().rooms["lobby"].peers["alice"]
    await fleet.place("lobby", "alice", place, generation=2, cause="worker-died", join=peer.join)
    await fleet.wait_appended(events.PeerMoved)
    await alice.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    await alice.ask(alice.produce_intent("mic", "send"), results.ProduceResult)


async def test_secrets_go_to_a_participants_own_inbox_alone(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    async with fleet.bus.inbox() as foreign:
        intent = await alice.send(intents.CreateTransport(transport="more"), inbox=foreign)
        with pytest.raises(IllegalReplySubject):
            await alice.answer(intent, results.TransportResult)


async def test_a_moderators_inbox_is_ignored(fleet: Fleet) -> None:
    """NATS permits a moderator to publish these for other peers; its client names its own inbox in each."""
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    await alice.produce("mic", "send")
    async with fleet.bus.inbox() as moderators:
        for intent in (intents.PauseProducer(producer="mic"), intents.CloseProducer(producer="mic"), intents.Leave()):
            await alice.answer(await alice.send(intent, inbox=moderators), results.Done)


async def test_standing_subscriptions_end_at_the_next_place_without_the_grant(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    (place,) = fleet.places("s1")
    bob = await fleet.join("lobby", "bob", place)
    await bob.transport("send", direction="send")
    await bob.produce("mic", "send")
    await alice.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", subscribe=False)
    peer = fleet.state().rooms["lobby"].peers["alice"]
    await fleet.place(
        "lobby",
        "alice",
        place,
        generation=2,
        cause="worker-died",
        join=peer.join,
        subscriptions=list(peer.subscriptions.values()),
        subscriptions_seq=fleet.state().seq,
    )
    await fleet.wait_appended(events.PeerMoved)
    with pytest.raises(NotFound):
        await alice.ask(intents.Unsubscribe(subscription="all"), results.Done)


async def test_a_participant_cannot_call_the_workers_channel(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    intent = intents.RequestChannel(call=ChannelCall(method="WORKER_DUMP"))
    with pytest.raises(NotGranted):
        await alice.ask(intent, results.ChannelAnswer)


async def test_what_is_not_granted_any_more_is_closed_and_told(fleet: Fleet) -> None:
    alice = await joined(fleet, Grants(rooms=["lobby"], peer="alice"))
    (place,) = fleet.places("s1")
    bob = await fleet.join("lobby", "bob", place)
    await bob.transport("send")
    await bob.produce("bob-mic", "send")
    both = intents.CreateTransport(transport="both", enable_sctp=True)
    await alice.ask(both, results.TransportResult)  # its inbox in the test is no participant's
    await alice.produce("mic", "send")
    await alice.ask(alice.produce_intent("camera", "send", kind="video"), results.ProduceResult)
    await alice.produce_data("chat", "both")
    await alice.consume("hears-bob", "bob-mic", "both")
    await alice.ask(intents.Subscribe(subscription="all", transport="both"), results.SubscribeResult)
    await alice.ask(intents.ApplyGrants(), results.Done)
    assert fleet.appended(events.ProducerClosed) == []

    fleet.broker.grants["lobby", "alice"] = Grants(
        rooms=["lobby"], peer="alice", publish=["audio"], data=False, subscribe=False
    )
    await alice.ask(intents.ApplyGrants(), results.Done)
    await fleet.until(lambda: len(fleet.appended(events.DataProducerClosed)) == 2, "both told of chat")
    room = fleet.state().rooms["lobby"]
    assert set(room.producers) == {"mic", "bob-mic"}
    told = [it for it in fleet.appended(events.ProducerClosed) if it.error is not None]
    assert [(it.producer, it.error.code) for it in told if it.error] == [("camera", "not-granted")]
    assert [it.consumer for it in fleet.appended(events.ConsumerClosed)] == ["hears-bob"]
    with pytest.raises(NotFound):
        await alice.ask(intents.Unsubscribe(subscription="all"), results.Done)


async def test_a_consume_that_waits_for_its_relay_is_refused_without_the_grant(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    alice, bob = await fleet.join("lobby", "alice", here), await fleet.join("lobby", "bob", there)
    await alice.transport("send")
    await alice.produce("mic", "send")
    await bob.transport("receive")
    waiting = await bob.send(bob.consume_intent("hears", "mic", "receive"))
    fleet.broker.grants["lobby", "bob"] = Grants(rooms=["lobby"], peer="bob", subscribe=False)
    await bob.ask(intents.ApplyGrants(), results.Done)
    await fleet.relay("lobby", "mic", here, there)
    with pytest.raises(NotGranted):
        await bob.answer(waiting, results.ConsumeResult)
    assert fleet.state().rooms["lobby"].peers["bob"].consumers == {}


async def test_application_data_changes_for_all_and_outlasts_a_place(fleet: Fleet) -> None:
    alice = await joined(fleet, None)
    await alice.ask(intents.SetAppData(app_data={"hand": "up"}), results.Done)
    await fleet.wait_appended(events.PeerUpdated)
    peer = fleet.state().rooms["lobby"].peers["alice"]
    assert peer.app_data == {"hand": "up"}
    (place,) = fleet.places("s1")
    # A place that was decided before the change was stored.
    await fleet.place("lobby", "alice", place, generation=2, cause="worker-died", join=peer.join)
    await fleet.wait_appended(events.PeerMoved)
    assert fleet.state().rooms["lobby"].peers["alice"].app_data == {"hand": "up"}
    await alice.ask(intents.SetAudience(audience=True), results.Done)
    await alice.ask(intents.SetAudience(audience=False), results.Done)
    await fleet.until(lambda: len(fleet.appended(events.PeerJoined)) == 2, "announced again")
    assert fleet.appended(events.PeerJoined)[-1].app_data == {"hand": "up"}


async def test_the_room_is_told_why_a_peer_left(fleet: Fleet) -> None:
    alice = await joined(fleet, None)
    await alice.ask(intents.Leave(cause="room-ended"), results.Done)
    await fleet.wait_appended(events.PeerLeft)
    (event,) = fleet.appended(events.PeerLeft)
    assert (event.reason, event.cause) == ("left", "room-ended")
