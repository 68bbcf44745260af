"""A draining server's peers are moved, a few at a time, and some of them only by force."""

from __future__ import annotations

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.state.draining import DrainingPeer
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents
from tests.unit.allocator.allocator_world import World, placed


def world_with(*peers: str, config: AllocatorConfig | None = None) -> World:
    """Peers on s1, and an empty s2."""
    world = World(config or AllocatorConfig())
    world.server("s1", 1)
    for peer in peers:
        world.joined("lobby", peer)
    world.server("s2", 1)
    return world


def drain(world: World, server: str = "s1", *, draining: bool = True, force: bool = False) -> int:
    return world.server_event(
        events.ServerDraining(server=server, incarnation="i1", draining=draining, force=force), server
    )


def to_move(world: World) -> list[DrainingPeer]:
    return [stimulus for stimulus in work_queue.due(world.view, world.now) if isinstance(stimulus, DrainingPeer)]


def decide(world: World, stimulus: DrainingPeer) -> Decision:
    work_queue.mark_decided(world.view, stimulus, world.now)
    return world.decide(stimulus)


def arrive(world: World, peer: str) -> None:
    """Its new agent reports it."""
    known = world.view.peer(("lobby", peer))
    assert known is not None
    moved = events.PeerMoved(
        peer=peer,
        server=known.place.server,
        worker=known.place.worker,
        generation=known.generation,
        cause="drain",
        handover=True,
    )
    world.append(subjects.room_event("lobby", moved.action), moved)


def names(stimuli: list[DrainingPeer]) -> list[str]:
    return [stimulus.peer for stimulus in stimuli]


def test_a_peer_is_moved_while_it_is_still_served() -> None:
    world = world_with("alice")
    assert to_move(world) == []
    seq = drain(world)
    (alice,) = to_move(world)
    decision = world.commit(decide(world, alice))
    (append,) = decision.commands
    command = append.payload
    assert isinstance(command, commands.PlacePeer)
    assert (placed(decision).server, command.cause, command.generation, command.handover) == ("s2", "drain", 2, True)
    assert append.causation == f"m{seq}"
    assert not work_queue.is_open(world.view, alice, world.now)
    assert len(world.view.unplaced) == 0
    assert world.decide(alice).settled
    arrive(world, "alice")
    assert to_move(world) == []


def test_a_few_are_moved_at_a_time() -> None:
    world = world_with("a", "b", "c", "d", "e", config=AllocatorConfig(max_parallel_moves=2))
    drain(world)
    first = to_move(world)
    assert names(first) == ["a", "b"]
    for stimulus in first:
        world.commit(decide(world, stimulus))
    assert to_move(world) == [], "two are under way"
    arrive(world, "a")
    assert names(to_move(world)) == ["c"]
    world.now += world.config.move_timeout_s
    assert names(to_move(world)) == ["c", "d"], "a move that nobody reports counts no more"


def test_a_peer_that_finds_no_place_stays_and_is_tried_again() -> None:
    world = world_with("alice")
    drain(world)
    world.load("s2", 0.9)
    (alice,) = to_move(world)
    assert (decide(world, alice).appends, to_move(world)) == ((), [])
    world.now += world.config.overdue_s
    world.load("s2", 0.7)
    (again,) = to_move(world)
    assert again is alice
    assert placed(decide(world, again)).server == "s2", "above the watermark and below the ceiling"


def test_those_who_find_no_place_do_not_keep_the_others() -> None:
    world = world_with("a", "b", config=AllocatorConfig(max_parallel_moves=1))
    drain(world)
    (first,) = to_move(world)
    work_queue.mark_decided(world.view, first, world.now)
    assert names(to_move(world)) == ["b"]


def test_a_drop_in_s_peer_stays_until_the_deadline() -> None:
    world = World()
    world.server("s1", 1)
    world.commit(world.decide(world.intent("lobby", "t", intents.Join(one_transport=True))))
    arrive(world, "t")
    world.server("s2", 1)
    drain(world)
    assert to_move(world) == []
    drain(world, force=True)
    (stimulus,) = to_move(world)
    (append,) = decide(world, stimulus).commands
    assert isinstance(append.payload, commands.PlacePeer)
    assert (append.payload.server, append.payload.handover, append.payload.one_transport) == ("s2", False, True)


def test_a_peer_that_is_being_placed_is_moved_when_it_has_arrived() -> None:
    world = World()
    world.server("s1", 1)
    world.join("lobby", "alice")
    world.server("s2", 1)
    drain(world)
    assert to_move(world) == []
    arrive(world, "alice")
    assert names(to_move(world)) == ["alice"]


def test_a_cancelled_drain_moves_nobody() -> None:
    world = world_with("alice")
    drain(world)
    (alice,) = to_move(world)
    drain(world, draining=False)
    assert to_move(world) == []
    assert decide(world, alice).reason == "stays"


def test_who_left_or_lost_the_place_is_not_moved() -> None:
    world = world_with("alice", "bob")
    drain(world)
    alice, bob = to_move(world)
    world.leave("lobby", "alice")
    assert decide(world, alice).settled
    world.kill_worker(world.view.peer(("lobby", "bob")).place)  # type: ignore[union-attr]
    assert decide(world, bob).settled
    assert to_move(world) == []
    assert placed(world.decide(world.unplaced("lobby", "bob"))).server == "s2"


def test_a_server_that_starts_again_drains_no_more() -> None:
    world = world_with("alice")
    drain(world)
    world.server("s1", 1, incarnation="i2", report=False)
    assert to_move(world) == []
    assert list(world.view.drains) == []
