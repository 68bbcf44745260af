"""What exceeds a peer's limits is refused by name; a flood ends with its peer, and nobody else's intent."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.contract import subjects
from mafalda.contract.grants import Grants
from mafalda.contract.limits import PeerLimits
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.queries import QueryRoom, RoomSnapshot
from mafalda.errors import NotGranted, RateLimited, TooManyConsumers, TooManyProducers, TooManyTransports
from mafalda.mediasoup.ortc import generate_router_rtp_capabilities
from mafalda.testing.media import DTLS
from mafalda.workers.config import default_media_codecs
from mafalda.workers.core.rate_limits import MAX_REFUSED
from tests.component.workers.agent_world import Client, Fleet


async def joined(fleet: Fleet, *peers: str, limits: PeerLimits, room_producers: int | None = None) -> list[Client]:
    await fleet.start("s1", peer_limits=limits, room_producers=room_producers, limits_burst_s=1.0)
    (place,) = fleet.places("s1")
    return [await fleet.join("lobby", peer, place) for peer in peers]


async def test_objects_beyond_a_peers_limits_are_refused_by_name(fleet: Fleet) -> None:
    (alice,) = await joined(fleet, "alice", limits=PeerLimits(transports=1, producers=1, consumers=1))
    await alice.transport("both")
    with pytest.raises(TooManyTransports) as refused:
        await alice.ask(intents.CreateTransport(transport="more"), results.TransportResult)
    assert refused.value.details == {"limit": "transports", "allowed": 1}
    await alice.produce("mic", "both")
    with pytest.raises(TooManyProducers):
        await alice.ask(alice.produce_intent("mic2", "both"), results.ProduceResult)
    await alice.consume("own", "mic", "both")
    with pytest.raises(TooManyConsumers):
        await alice.consume("own2", "mic", "both")
    await alice.ask(intents.CloseConsumer(consumer="own"), results.Done)
    await alice.consume("own2", "mic", "both")
    await fleet.equals_the_log()


async def test_a_subscription_has_no_more_consumers_than_its_peer_may_have(fleet: Fleet) -> None:
    alice, bob = await joined(fleet, "alice", "bob", limits=PeerLimits(consumers=1))
    capabilities = generate_router_rtp_capabilities(default_media_codecs())
    await alice.transport("receive", direction="receive", rtp_capabilities=capabilities)
    await bob.transport("send", direction="send")
    await bob.produce("mic", "send")
    await bob.produce("camera", "send", kind="video")
    await alice.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    opened = await fleet.wait_appended(events.ConsumersOpened, lambda it: bool(it.failed))
    assert [it.error.code for it in opened.failed] == ["too-many-consumers"]
    assert len(fleet.agents["s1"].sessions.by_key["lobby", "alice"].objects.consumers) == 1


async def test_a_rooms_producers_are_counted_over_its_peers(fleet: Fleet) -> None:
    alice, bob = await joined(fleet, "alice", "bob", limits=PeerLimits(), room_producers=1)
    await alice.transport("send")
    await bob.transport("send")
    await alice.produce("mic", "send")
    with pytest.raises(TooManyProducers) as refused:
        await bob.ask(bob.produce_intent("mic2", "send"), results.ProduceResult)
    assert refused.value.details == {"limit": "room_producers", "allowed": 1}


async def test_a_token_narrows_the_limits(fleet: Fleet) -> None:
    limits = PeerLimits(transports=1, incoming_bps=500_000)
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", limits=limits)
    (alice,) = await joined(fleet, "alice", limits=PeerLimits(transports=5))
    await alice.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    transport = fleet.agents["s1"].sessions.by_key["lobby", "alice"].objects.webrtc_transport("send")
    assert (await transport.get_stats())[0]["maxIncomingBitrate"] == 500_000
    with pytest.raises(TooManyTransports):
        await alice.ask(intents.CreateTransport(transport="more"), results.TransportResult)


async def test_a_flood_ends_with_its_peer(fleet: Fleet) -> None:
    """What was refused, and no more, is in the log; the room is told; another peer is served meanwhile."""
    alice, bob = await joined(fleet, "alice", "bob", limits=PeerLimits(messages_per_s=0.01))
    connect = intents.ConnectTransport(transport="none", dtls_parameters=DTLS)
    await alice.send(connect)
    await asyncio.gather(*(alice.send(connect) for _ in range(2 * MAX_REFUSED)))
    await bob.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    left = await fleet.wait_appended(events.PeerLeft)
    assert (left.peer, left.reason) == ("alice", "evicted")
    assert set(fleet.state().rooms["lobby"].peers) == {"bob"}
    refused = [it for it in fleet.appended(results.Rejected) if it.error.code == "rate-limited"]
    assert MAX_REFUSED < len(refused) <= 2 * MAX_REFUSED
    assert refused[0].error.details["limit"] == "messages_per_s"
    assert refused[0].error.details["retry_after_s"] > 0


async def test_a_flooding_peer_can_be_removed(fleet: Fleet) -> None:
    """A moderator's ``leave`` is on the same subjects as the flood."""
    (alice,) = await joined(fleet, "alice", limits=PeerLimits(messages_per_s=0.01))
    for _ in range(3):
        await alice.send(intents.CloseTransport(transport="none"))
    await alice.ask(intents.Leave(), results.Done)


async def test_queries_are_limited(fleet: Fleet) -> None:
    (alice,) = await joined(fleet, "alice", limits=PeerLimits(queries_per_s=0.01))
    answers = [alice.query(QueryRoom(), RoomSnapshot) for _ in range(50)]
    refused = [it for it in await asyncio.gather(*answers, return_exceptions=True) if isinstance(it, RateLimited)]
    assert len(refused) == 49
    assert refused[0].details["limit"] == "queries_per_s"


async def test_who_may_join_as_audience_only_is_refused_else(fleet: Fleet) -> None:
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", audience=True)
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    with pytest.raises(NotGranted):
        await fleet.join("lobby", "alice", place)
    left = await fleet.wait_appended(events.PeerLeft)
    assert (left.peer, left.reason) == ("alice", "evicted")
    assert not [it for it in fleet.appended(events.PeerJoined) if it.peer == "alice"]


async def test_a_moderator_promotes_who_may_join_as_audience_only(fleet: Fleet) -> None:
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", audience=True)
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place, audience=True)
    await alice.ask(intents.SetAudience(audience=False), results.Done)  # NATS permits it to moderators only
    await alice.ask(intents.CreateTransport(transport="send"), results.TransportResult)
    await alice.produce("mic", "send")
    assert subjects.room_event("lobby", "producer-opened") in {delivery.subject for delivery, _ in fleet.entries()}
