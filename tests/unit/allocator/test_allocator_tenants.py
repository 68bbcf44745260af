"""Several applications on one fleet: whose room it is, and how many peers each may have."""

from __future__ import annotations

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.decide.decision import Decision
from mafalda.contract.messages import intents
from mafalda.projection import codec
from mafalda.projection.state import State
from tests.unit.allocator.allocator_world import World, placed, rejection


def _join(world: World, room: str, peer: str, tenant: str | None) -> Decision:
    intent = world.intent(room, peer, intents.Join(one_transport=True, tenant=tenant))
    return world.commit(world.decide(intent))


def test_a_room_is_its_first_peer_s_tenant_s() -> None:
    world = World()
    world.server("s1", 2)
    placed(_join(world, "lobby", "a", "shop"))
    placed(_join(world, "lobby", "b", "shop"))
    for other in ("games", None):
        rejected = rejection(_join(world, "lobby", "c", other))
        assert rejected.error.code == "already-exists"
        assert "another tenant" in rejected.error.message
    placed(_join(world, "hall", "c", "games"))
    assert [world.view.state.rooms[room].tenant for room in ("lobby", "hall")] == ["shop", "games"]


def test_a_tenant_s_limit_is_its_own() -> None:
    world = World(AllocatorConfig(tenant_peers=2))
    world.server("s1", 2)
    for peer in ("a", "b"):
        placed(_join(world, f"room-{peer}", peer, "shop"))
    rejected = rejection(_join(world, "room-a", "c", "shop"))
    assert (rejected.error.code, rejected.error.details["limit"]) == ("no-capacity", 2)
    placed(_join(world, "games", "c", "games"))
    placed(_join(world, "nobody-s", "c", None))
    world.leave("room-b", "b")
    placed(_join(world, "room-a", "c", "shop"))


def test_a_tenant_s_peers_are_counted_wherever_they_are() -> None:
    world = World()
    world.server("s1", 2)
    place = placed(_join(world, "lobby", "a", "shop"))
    world.kill_worker(place)
    placed(world.commit(world.decide(world.unplaced("lobby", "a"))))
    state = world.view.state
    assert state.rooms["lobby"].peers["a"].tenant == "shop"
    assert state.peers_of == {"shop": {("lobby", "a")}}
    world.leave("lobby", "a")
    assert state.peers_of == {}


def test_a_snapshot_has_the_tenants() -> None:
    world = World()
    world.server("s1", 1)
    placed(_join(world, "lobby", "a", "shop"))
    state = world.view.state
    read = State(servers=state.servers)
    codec.add_room(read, codec.room_to_json(state.rooms["lobby"]))
    assert read.peers_of == state.peers_of
    without = codec.room_to_json(state.rooms["lobby"])
    del without["peers"][0]["tenant"]  # as a version before wrote it
    assert codec.add_room(read, without).tenant is None


def test_a_forgotten_room_counts_no_more() -> None:
    world = World()
    world.server("s1", 1)
    placed(_join(world, "lobby", "a", "shop"))
    world.view.state.forget_room("lobby")
    assert world.view.state.peers_of == {}
