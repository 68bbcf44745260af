"""Ending a room: each peer of it is let leave, by a leave that says why; later joins are not."""

from __future__ import annotations

from mafalda.contract.messages import events, intents, results
from tests.unit.allocator.allocator_world import World


def left(world: World, *, sender: str = "http") -> dict[str, intents.Leave]:
    """End the room ``lobby``; the leaves that were appended, by their subject's peer."""
    decision = world.commit(world.decide(world.intent("lobby", sender, intents.EndRoom(), id="end-1")))
    (done,) = decision.results
    assert isinstance(done.payload, results.Done)
    assert done.subject == f"mafalda.room.lobby.peer.{sender}.result.end-room"
    found = {}
    for append in decision.events:
        assert isinstance(append.payload, intents.Leave)
        _, _, room, _, peer, _, action = append.subject.split(".")
        assert (room, action) == ("lobby", "leave")
        found[peer] = append.payload
    return found


def test_every_peer_leaves_whether_it_has_a_place_or_waits_for_one() -> None:
    world = World()
    world.server("s1")
    place = world.joined("lobby", "alice")
    world.joined("other", "bob")
    world.kill_worker(place)
    world.intent("lobby", "carol", intents.Join())
    assert left(world) == dict.fromkeys(("alice", "carol"), intents.Leave(cause="room-ended"))


def test_a_join_that_is_stored_later_stays() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    ending = world.intent("lobby", "mona", intents.EndRoom(), id="end-1")
    world.join("lobby", "bob")
    decision = world.decide(ending)
    assert [it.subject for it in decision.events] == ["mafalda.room.lobby.peer.alice.intent.leave"]


def test_a_room_with_nobody_is_ended_too() -> None:
    assert left(World()) == {}


def test_two_allocators_store_each_leave_once() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    ending = world.intent("lobby", "http", intents.EndRoom(), id="end-1")
    first, second = world.decide(ending), world.decide(ending)
    assert [it.id for it in first.appends] == [it.id for it in second.appends]


def test_the_room_is_told_why_a_peer_without_a_place_left() -> None:
    world = World()
    world.server("s1")
    world.kill_worker(world.joined("lobby", "alice"))
    decision = world.decide(world.intent("lobby", "alice", intents.Leave(cause="removed")))
    (event,) = decision.events
    assert event.payload == events.PeerLeft(peer="alice", generation=1, reason="left", cause="removed")
