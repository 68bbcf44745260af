"""Joins: placed, refused, repeated, and how a decision explains itself."""

from __future__ import annotations

import pytest

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet import obstacles
from mafalda.allocator.core.fleet.fleet import Hold
from mafalda.allocator.core.placement import outcomes
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.payload import Place
from tests.unit.allocator.allocator_world import World, placed, rejection


def test_join_is_placed_by_a_conditional_command() -> None:
    world = World()
    world.server("s1")
    intent = world.intent("lobby", "alice", intents.Join(app_data={"name": "Alice"}, region="eu"), id="join-1")
    decision = world.decide(intent)

    (append,) = decision.commands
    command = append.payload
    assert isinstance(command, commands.PlacePeer)
    assert (command.server, command.worker) == ("s1", "s1-0-i1")
    assert (command.generation, command.cause, command.join) == (1, "join", "join-1")
    assert (command.app_data, command.region) == ({"name": "Alice"}, "eu")
    assert append.subject == "mafalda.command.lobby.s1.place-peer"
    assert (append.room, append.last_seq) == ("lobby", 0)
    assert append.id == derived_id("place-peer", "lobby", "alice", 1, "join-1")
    assert (append.correlation, append.causation) == ("c-join-1", "join-1")


def test_join_is_open_until_the_command_is_in_the_log() -> None:
    world = World()
    world.server("s1")
    intent = world.intent("lobby", "alice", intents.Join())
    assert list(world.view.open_intents) == [intent]
    world.commit(world.decide(intent))
    assert list(world.view.open_intents) == []


def test_the_next_command_of_a_room_builds_on_the_last() -> None:
    world = World()
    world.server("s1")
    world.join("lobby", "alice")
    last = world.seq
    decision = world.decide(world.intent("lobby", "bob", intents.Join()))
    assert decision.commands[0].last_seq == last


def test_an_empty_room_keeps_its_last_command_and_its_generations() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    last = world.seq - 1
    world.leave("lobby", "alice")
    assert "lobby" not in world.view.state.rooms

    decision = world.join("lobby", "alice")
    (append,) = decision.commands
    assert append.last_seq == last
    assert isinstance(append.payload, commands.PlacePeer)
    assert append.payload.generation == 2
    assert append.payload.join != "join-1"


def test_a_peer_that_comes_again_continues_its_generations_though_others_stayed() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    world.joined("lobby", "bob")
    world.leave("lobby", "alice")
    world.joined("lobby", "alice")
    peer = world.view.peer(("lobby", "alice"))
    assert peer is not None
    assert peer.generation == 2


def test_the_same_join_again_is_no_second_join() -> None:
    world = World()
    world.server("s1")
    world.join("lobby", "alice", id="join-1")
    again = world.intent("lobby", "alice", intents.Join(), id="join-1")
    decision = world.decide(again)
    assert decision.appends == ()
    assert decision.settled


def test_another_join_of_a_live_peer_is_refused() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    decision = world.join("lobby", "alice", id="other")
    assert rejection(decision).error.code == "already-exists"
    assert decision.results[0].id == derived_id("rejected", "lobby", "alice", "other")
    assert decision.results[0].subject == "mafalda.room.lobby.peer.alice.result.join"
    assert list(world.view.open_intents) == []


def test_another_join_of_a_peer_without_a_place_takes_over() -> None:
    world = World()
    world.server("s1", 2)
    place = world.joined("lobby", "alice")
    world.kill_worker(place)
    decision = world.join("lobby", "alice", id="other")
    command = decision.commands[0].payload
    assert isinstance(command, commands.PlacePeer)
    assert (command.generation, command.cause, command.join) == (2, "join", "other")
    assert len(world.view.unplaced) == 0


def test_no_worker_is_no_capacity() -> None:
    assert rejection(World().join("lobby", "alice")).error.code == "no-capacity"


def test_no_capacity_has_its_reasons() -> None:
    world = World()
    world.server("s1", 2)
    world.load("s1", 0.7)
    error = rejection(world.join("lobby", "alice")).error
    assert error.code == "no-capacity"
    assert error.details == {outcomes.ABOVE_WATERMARK: 2}


def test_a_command_under_way_counts_already() -> None:
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 2)
    first = world.decide(world.intent("a", "alice", intents.Join()))
    command = first.commands[0]
    world.view.fleet.hold(command.id, Hold(command.holds, world.now, "lobby", "alice"))
    seconds = [world.decide(world.intent(f"b{number}", "bob", intents.Join())) for number in range(20)]
    assert placed(first) not in [placed(second) for second in seconds]

    world.view.fleet.release(command.id)
    thirds = [world.decide(world.intent(f"c{number}", "carol", intents.Join())) for number in range(20)]
    assert placed(first) in [placed(third) for third in thirds]


@pytest.mark.parametrize("policy", ["pack", "spread", "two-choices", "region"])
def test_an_explanation_accounts_for_every_worker(policy: str) -> None:
    world = World(AllocatorConfig(policy=policy))
    world.server("s1", 4, region="eu")
    world.server("s2", 4, region="us")
    world.server("s3", 2)
    world.load("s1", {"s1-0-i1": 0.3, "s1-1-i1": 0.8, "s1-2-i1": 0.1})
    world.server_event(events.ServerDraining(server="s3", incarnation="i1", draining=True), "s3")
    for index in range(6):
        world.joined(f"room-{index % 3}", f"peer-{index}", region="eu")
    decision = world.join("room-0", "alice", region="eu")
    command = decision.commands[0].payload
    assert isinstance(command, commands.PlacePeer)
    explanation = command.explanation
    assert explanation.policy == policy
    assert sum(explanation.passed_over.values()) + 1 == 10
    assert explanation.passed_over[obstacles.SERVER_DRAINING] == 2
    assert explanation.passed_over[outcomes.ABOVE_WATERMARK] == 1
    chosen = [candidate for candidate in explanation.candidates if candidate.outcome == outcomes.CHOSEN]
    assert [(one.server, one.worker) for one in chosen] == [(command.server, command.worker)]
    assert all(candidate.score is not None and candidate.load is not None for candidate in explanation.candidates)
    drained = [candidate.outcome for candidate in explanation.candidates if candidate.server == "s3"]
    assert drained == [obstacles.SERVER_DRAINING] * 2
    assert f"{command.server}/{command.worker}" in explanation.summary


def test_an_explanation_names_no_more_than_configured() -> None:
    world = World(AllocatorConfig(explained_candidates=5))
    world.server("s1", 12)
    command = world.join("lobby", "alice").commands[0].payload
    assert isinstance(command, commands.PlacePeer)
    assert len(command.explanation.candidates) <= 5
    assert sum(command.explanation.passed_over.values()) == 11


def test_an_unknown_server_s_report_changes_nothing() -> None:
    world = World()
    world.server("s1")
    assert not world.load("s1", 0.9, incarnation="i0")
    assert world.load_of(Place(server="s1", worker="s1-0-i1")) == 0.0
