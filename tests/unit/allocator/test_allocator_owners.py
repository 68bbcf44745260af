"""Each room is one allocator's; what is not its own costs an allocator little, and is left undone for so long only."""

from __future__ import annotations

from collections import Counter

from mafalda.allocator.core import work_queue
from mafalda.allocator.core.state.fold import changes_nothing
from mafalda.allocator.core.state.log_entry import read_entry
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.room_owners import RoomOwners
from mafalda.contract import subjects
from mafalda.contract.messages import commands, intents
from mafalda.contract.messages.envelope import decode
from mafalda.testing.operations import count_operations
from tests.unit.allocator.allocator_world import World

OWN, OTHER = "allocator", "other"


def with_another() -> World:
    world = World()
    world.server("s1", 8)
    world.view.owners.report(OTHER, world.now, decided=0)
    return world


def room_of(world: World, owner: str) -> str:
    return next(room for room in (f"room-{n}" for n in range(100)) if world.view.owners.owner(room) == owner)


def asked(world: World, owner: str) -> OpenIntent:
    return world.intent(room_of(world, owner), f"p{world.seq}", intents.Join())


# --- owners ------------------------------------------------------------------------------------------


def test_all_allocators_find_the_same_owner_and_have_equal_parts() -> None:
    names = [f"a{number}" for number in range(3)]
    found = []
    for own in names:
        owners = RoomOwners(own, 2.0)
        for other in names:
            if other != own:
                owners.report(other, 0.0, decided=0)
        found.append([owners.owner(f"room-{number}") for number in range(3_000)])
    assert found[0] == found[1] == found[2]
    assert all(900 < count < 1_100 for count in Counter(found[0]).values())


def test_only_the_rooms_of_one_that_is_gone_change_hands() -> None:
    owners = RoomOwners("a", 2.0)
    owners.report("b", 0.0, decided=0)
    owners.report("c", 1.0, decided=0)
    rooms = [f"room-{number}" for number in range(300)]
    before = {room: owners.owner(room) for room in rooms}
    assert owners.expire(2.5) == ["b"]
    after = {room: owners.owner(room) for room in rooms}
    assert {room for room in rooms if before[room] != after[room]} == {room for room in rooms if before[room] == "b"}
    assert owners.leave("c")
    assert not owners.leave("c")
    assert all(owners.is_own(room) for room in rooms)


def test_one_that_reports_again_is_known_again_and_one_that_goes_on_reporting_stays() -> None:
    owners = RoomOwners("a", 2.0)
    assert owners.report("b", 0.0, decided=0)
    assert not owners.report("b", 1.5, decided=0)
    assert owners.expire(3.0) == []
    assert owners.expire(3.6) == ["b"]
    assert owners.report("b", 4.0, decided=0)


def test_who_did_not_run_itself_does_not_take_the_others_for_gone() -> None:
    owners = RoomOwners("a", 2.0)
    owners.report("b", 0.0, decided=0)
    owners.suspended(100.0)
    assert owners.expire(101.0) == []
    assert owners.expire(103.0) == ["b"]


# --- what is decided -----------------------------------------------------------------------------------


def test_an_intent_is_its_owner_s_first() -> None:
    world = with_another()
    mine, theirs = asked(world, OWN), asked(world, OTHER)
    assert work_queue.of_entry(world.view, mine.seq) == [mine]
    assert work_queue.of_entry(world.view, theirs.seq) == []
    assert not work_queue.is_left(world.view, mine, world.now)
    assert work_queue.is_left(world.view, theirs, world.now)


def test_what_an_idle_owner_leaves_undone_is_due_after_a_second() -> None:
    world = with_another()
    intent = asked(world, OTHER)
    world.now += 0.9
    assert work_queue.due(world.view, world.now) == []
    world.now += 0.2
    assert work_queue.due(world.view, world.now) == [intent]
    assert not work_queue.is_left(world.view, intent, world.now)


def test_a_backlog_is_left_to_an_owner_that_goes_on_for_ten_seconds() -> None:
    world = with_another()
    intent = asked(world, OTHER)
    for decided in range(1, 20):
        world.now += 0.5
        world.view.owners.report(OTHER, world.now, decided=decided)
        assert intent not in work_queue.due(world.view, world.now)
    world.now += 0.6
    world.view.owners.report(OTHER, world.now, decided=21)
    assert intent in work_queue.due(world.view, world.now)


def test_what_was_another_s_before_is_taken_when_that_one_is_gone() -> None:
    world = with_another()
    theirs = asked(world, OTHER)
    assert work_queue.owned(world.view) == []
    world.view.owners.leave(OTHER)
    assert work_queue.owned(world.view) == [theirs]


def test_peers_of_a_dead_worker_are_replaced_by_the_owners_of_their_rooms() -> None:
    world = with_another()
    mine, theirs = room_of(world, OWN), room_of(world, OTHER)
    place = world.joined(mine, "alice")
    while world.joined(theirs, f"p{world.seq}") != place:
        pass
    seq = world.kill_worker(place)
    assert {peer.room for peer in world.view.unplaced} == {mine, theirs}
    assert work_queue.of_entry(world.view, seq) == [world.unplaced(mine, "alice")]


# --- what it costs ---------------------------------------------------------------------------------------


def test_an_intent_of_another_s_room_costs_a_tenth_of_a_decision() -> None:
    """What is done for it beyond folding it, in operations; folding is measured by ``python -m bench fairness``."""
    world = with_another()
    mine, theirs = asked(world, OWN), asked(world, OTHER)

    def work(intent: OpenIntent) -> None:
        for stimulus in work_queue.of_entry(world.view, intent.seq):
            if work_queue.is_open(world.view, stimulus, world.now):
                world.decide(stimulus)

    assert count_operations(lambda: work(theirs)) * 10 <= count_operations(lambda: work(mine))


def test_the_result_of_a_join_is_not_even_read() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    address = subjects.parse(subjects.result("lobby", "alice", "join"))
    assert address is not None
    assert changes_nothing(world.view, address)
    world.intent("lobby", "alice", intents.Leave())
    assert not changes_nothing(world.view, address), "it may answer what is open"


def test_the_explanation_of_a_command_is_not_read() -> None:
    """It is half of a placement, and for people."""
    world = World()
    world.server("s1", 2)
    world.joined("lobby", "alice")
    _, subject, raw = next(it for it in world.log if commands.PlacePeer.action in it[1])
    other = raw.replace(b'"explanation":{', b'"explanation":{"candidates":"unread",')
    assert other != raw
    entry = read_entry(1, subject, other)
    assert entry is not None
    assert entry.error is None
    assert entry.message is not None
    assert entry.message.data.model_copy(update={"explanation": None}) == decode(raw).data.model_copy(
        update={"explanation": None}
    )
