"""How many peers a room may have."""

from __future__ import annotations

from mafalda.allocator.config import AllocatorConfig
from mafalda.contract.messages import intents
from tests.unit.allocator.allocator_world import World, placed, rejection


def test_a_join_beyond_the_rooms_limit_is_refused_by_name() -> None:
    world = World(AllocatorConfig(room_peers=2))
    world.server("s1", 2)
    for peer in ("a", "b"):
        placed(world.commit(world.decide(world.intent("lobby", peer, intents.Join()))))
    rejected = rejection(world.commit(world.decide(world.intent("lobby", "c", intents.Join(audience=True)))))
    assert (rejected.error.code, rejected.error.details) == ("too-many-peers", {"limit": "room_peers", "allowed": 2})
    placed(world.commit(world.decide(world.intent("hall", "c", intents.Join()))))
    world.leave("lobby", "a")
    placed(world.commit(world.decide(world.intent("lobby", "d", intents.Join()))))


def test_a_peer_without_a_place_gets_another_in_a_full_room() -> None:
    world = World(AllocatorConfig(room_peers=1))
    world.server("s1", 2)
    place = placed(world.commit(world.decide(world.intent("lobby", "a", intents.Join()))))
    world.kill_worker(place)
    placed(world.commit(world.decide(world.unplaced("lobby", "a"))))
