"""A view that was restored from a snapshot is the view that folded the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.state.fold import fold_entry
from mafalda.allocator.core.state.log_entry import read_entry
from mafalda.allocator.core.state.snapshot import RoomBytes, capture_fleet, restore
from mafalda.allocator.core.state.view import View
from mafalda.contract.messages import events, intents
from mafalda.monitor.records import read_lines
from mafalda.monitor.replay import apply_record
from mafalda.projection.state import State
from tests.unit.allocator.allocator_world import World, placed
from tests.unit.allocator.test_allocator_properties import POLICY, STEPS, Storm


def restored(view: View, rooms: RoomBytes | None = None) -> View:
    """Through the bytes of a snapshot."""
    fleet = orjson.loads(orjson.dumps(capture_fleet(view)))
    found = [orjson.loads(raw) for raw in (rooms or RoomBytes(view)).take().values()]
    again = View(view.config)
    restore(again, view.seq, fleet, found, now=0.0)
    return again


def content(view: View) -> dict[str, Any]:
    """All that a view knows from the log."""
    return {
        "seq": view.seq,
        "state": view.state,
        "rooms": {
            name: (room.command_seq, sorted(room.places.items()), room.left, room.floor)
            for name in view.rooms
            if (room := view.rooms.active(name))
        },
        "idle": view.rooms.idle_rooms(),
        "intents": [(it.seq, it.address, it.raw, it.id, it.standing, it.reply_to) for it in view.open_intents],
        "unplaced": [(it.room, it.peer, it.seq, it.cause, it.unschedulable, it.event) for it in view.unplaced],
        "correlations": view.correlations,
        "joining": view.joining,
        "workers": {key: (worker.headcount, worker.used) for key, worker in view.fleet.workers.items()},
        "draining": list(view.drains),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY, STEPS, STEPS)
def test_a_restored_view_is_the_same(
    policy: str, before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    storm = Storm(policy)
    storm.play(before)
    rooms = RoomBytes(storm.world.view)
    rooms.update(1)
    assert content(restored(storm.world.view, rooms)) == content(storm.world.view)
    storm.play(after)
    assert content(restored(storm.world.view, rooms)) == content(storm.world.view), "what did not change was kept"


def test_it_decides_as_if_it_had_folded_everything() -> None:
    world = World()
    world.server("s1", 2)
    world.joined("lobby", "alice")
    world.produce("lobby", "alice", "mic")
    world.joined("lobby", "bob")
    world.leave("lobby", "bob")
    world.view = restored(world.view)
    world.load("s1")
    decision = world.decide(world.intent("lobby", "bob", intents.Join()))
    assert placed(decision) == placed(world.commit(decision))
    (command,) = decision.commands
    assert command.payload.generation == 2  # type: ignore[attr-defined]
    assert command.last_seq == world.view.rooms.get("lobby").command_seq or command.last_seq > 0


def test_what_ended_before_the_logs_beginning_is_forgotten() -> None:
    world = World(AllocatorConfig())
    world.server("s1", 1)
    world.server("s2", 1)
    world.joined("old", "alice")
    world.leave("old", "alice")
    world.server_event(events.ServerStopped(server="s2", incarnation="i1"), "s2")
    ended = world.view.seq
    world.joined("new", "alice")
    world.view.forget_before(ended)
    assert set(world.view.state.servers) == {"s1", "s2"}, "the log still says that it stopped"
    assert world.view.rooms.idle_rooms() == {}
    world.view.forget_before(ended + 1)
    assert set(world.view.state.servers) == set(world.view.fleet.servers) == {"s1"}
    assert list(world.view.rooms) == ["new"]


def test_its_state_is_that_of_a_reader_who_decodes_everything() -> None:
    """Of results an allocator reads a few fields only."""
    story = Path(__file__).parents[2] / "replays" / "v1-story.jsonl"
    view, state = View(AllocatorConfig()), State()
    with story.open("rb") as lines:
        for found in read_lines(lines):
            apply_record(state, found)
            if entry := read_entry(found.seq, found.subject, found.raw):
                fold_entry(view, entry, 0.0)
            assert view.state == state, found.subject
    consumers = [peer.consumers for room in state.rooms.values() for peer in room.peers.values()]
    assert any(consumers)
