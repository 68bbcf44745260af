"""The cost of an entry does not grow with pending work that it does not touch, counted in operations."""

from __future__ import annotations

from mafalda.allocator.config import AllocatorConfig, Costs
from mafalda.allocator.core import work_queue
from mafalda.contract.messages import events
from mafalda.testing.operations import count_operations
from tests.unit.allocator.allocator_world import World, relay

FEW, MANY = 5, 100


def test_the_unplaced_peers_of_an_entry_are_found_without_a_scan() -> None:
    def cost(others: int) -> int:
        world = World(AllocatorConfig(costs=Costs(peer=0, silent_peer=0)))
        world.server("s1")
        for index in range(others):
            world.joined("crowd", f"p{index}")
        world.kill_worker(world.joined("crowd", "last"))
        world.server("s2")
        place = world.joined("lobby", "alice")
        seq = world.kill_worker(place)
        found: list[object] = []
        operations = count_operations(lambda: found.extend(work_queue.of_entry(world.view, seq)))
        assert found == [world.unplaced("lobby", "alice")]
        assert len(world.view.unplaced) == others + 2
        return operations

    assert 0 < cost(FEW) == cost(MANY)


def test_a_failed_relay_does_not_scan_the_intents_of_other_rooms() -> None:
    def cost(others: int) -> int:
        world = World(AllocatorConfig(policy="spread"))
        world.server("s1", 2)
        world.joined("lobby", "alice")
        world.joined("lobby", "bob")
        world.produce("lobby", "alice", "mic")
        command = relay(world.commit(world.decide(world.consume("lobby", "bob", "mic"))))
        for index in range(others):
            world.consume(f"room-{index}", "x", "mic")
        operations = count_operations(lambda: world.relay_event(command, events.RelayFailed))
        assert len(world.view.open_intents) == others + 1
        return operations

    assert 0 < cost(FEW) == cost(MANY)


def test_a_peer_that_leaves_does_not_scan_the_reservations_of_its_worker() -> None:
    """While the log's past is read, no report ends them: a log of 50,000 entries took minutes."""

    def cost(others: int) -> int:
        world = World(AllocatorConfig(costs=Costs(peer=0, silent_peer=0)))
        world.server("s1")
        place = world.joined("lobby", "alice")
        for index in range(others):
            assert world.joined(f"room-{index}", "x") == place
        operations = count_operations(lambda: world.leave("lobby", "alice"))
        assert world.view.peer(("lobby", "alice")) is None
        return operations

    assert 0 < cost(FEW) == cost(MANY)
