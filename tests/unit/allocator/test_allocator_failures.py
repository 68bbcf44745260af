"""Peers that lost their place, servers that fell silent, and what happens to what was asked meanwhile."""

from __future__ import annotations

import pytest

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.fleet.liveness import Access
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.payload import Place
from tests.unit.allocator.allocator_world import World, placed, rejection


def at(server: str, slot: int = 0, incarnation: str = "i1") -> Place:
    return Place(server=server, worker=f"{server}-{slot}-{incarnation}")


def place_command(decision: Decision) -> commands.PlacePeer:
    (append,) = decision.commands
    assert isinstance(append.payload, commands.PlacePeer)
    return append.payload


# --- the place is gone ---------------------------------------------------------------------------


def test_a_dead_worker_s_peers_are_placed_again() -> None:
    world = World()
    world.server("s1", 2)
    world.join("lobby", "alice", id="join-1", region="eu")
    place = world.view.peer(("lobby", "alice")).place  # type: ignore[union-attr]
    seq = world.kill_worker(place)
    (stimulus,) = work_queue.of_entry(world.view, seq)
    decision = world.commit(world.decide(stimulus))
    command = place_command(decision)
    assert (command.generation, command.cause, command.join, command.region) == (2, "worker-died", "join-1", "eu")
    assert placed(decision) == at("s1", 1)
    (append,) = decision.commands
    assert append.correlation == "c-join-1", "it still stems from the join"
    assert append.causation == f"m{seq}"
    assert len(world.view.unplaced) == 0


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (events.ServerLost(server="s1", incarnation="i1"), "server-lost"),
        (events.ServerStopped(server="s1", incarnation="i1"), "drain"),
    ],
)
def test_an_ended_server_s_peers_are_placed_elsewhere(event: events.Event, cause: str) -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.server("s2", 1)
    world.server_event(event, "s1")
    decision = world.decide(world.unplaced("lobby", "alice"))
    assert (placed(decision), place_command(decision).cause) == (at("s2"), cause)


def test_a_restarted_server_s_peers_are_placed_again_even_there() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.server("s1", 1, incarnation="i2", report=False)
    decision = world.decide(world.unplaced("lobby", "alice"))
    assert (placed(decision), place_command(decision).cause) == (at("s1", 0, "i2"), "server-restarted")


def test_an_event_of_an_earlier_incarnation_moves_nobody() -> None:
    world = World()
    world.server("s1", 1)
    world.server("s1", 1, incarnation="i2", report=False)
    world.joined("lobby", "alice")
    world.server_event(events.ServerLost(server="s1", incarnation="i1"), "s1")
    assert len(world.view.unplaced) == 0


def test_peers_stay_on_a_draining_server() -> None:
    world = World()
    world.server("s1", 1)
    world.server("s2", 1)
    place = world.joined("lobby", "alice")
    world.server_event(events.ServerDraining(server=place.server, incarnation="i1", draining=True), place.server)
    assert len(world.view.unplaced) == 0
    assert placed(world.join("lobby", "bob")) != place


def test_a_command_to_a_worker_that_died_meanwhile_is_decided_again() -> None:
    world = World()
    world.server("s1", 2)
    decision = world.decide(world.intent("lobby", "alice", intents.Join()))
    world.kill_worker(placed(decision))
    world.commit(decision)
    (stimulus,) = work_queue.of_entry(world.view, world.seq)
    again = place_command(world.commit(world.decide(stimulus)))
    assert (again.generation, again.cause) == (2, "worker-died")
    assert len(world.view.unplaced) == 0


def test_generations_only_grow() -> None:
    world = World()
    world.server("s1", 3)
    world.server("s2", 3)
    world.joined("lobby", "alice")
    seen = [1]
    for _ in range(5):
        world.kill_worker(world.view.peer(("lobby", "alice")).place)  # type: ignore[union-attr]
        seen.append(place_command(world.commit(world.decide(world.unplaced("lobby", "alice")))).generation)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_unplaced_peers_may_be_placed_above_the_watermark_up_to_the_ceiling() -> None:
    world = World()
    world.server("s1", 2)
    place = world.joined("lobby", "alice")
    other = at("s1", 1) if place == at("s1", 0) else at("s1", 0)
    world.load("s1", {other.worker: 0.7})
    world.kill_worker(place)
    assert rejection(world.join("lobby", "bob")).error.code == "no-capacity"
    assert placed(world.decide(world.unplaced("lobby", "alice"))) == other


# --- unschedulable ------------------------------------------------------------------------------------


def test_a_peer_is_unschedulable_once_and_placed_when_there_is_room() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.kill_worker(at("s1"))
    join = world.view.state.rooms["lobby"].peers["alice"].join
    unschedulable = world.unplaced("lobby", "alice")
    decision = world.commit(world.decide(unschedulable))
    (append,) = decision.events
    assert isinstance(append.payload, events.PeerStranded)
    assert append.payload.error.code == "no-capacity"
    assert append.subject == "mafalda.room.lobby.event.peer-stranded"
    assert append.id == derived_id("peer-stranded", "lobby", "alice", 1, join)
    assert world.decide(unschedulable).appends == (), "said once"

    world.server("s2", 1)
    world.now += 2
    assert unschedulable in work_queue.due(world.view, world.now)
    assert placed(world.commit(world.decide(unschedulable))) == at("s2")


def test_many_unschedulable_peers_are_tried_a_few_at_a_time_and_all_in_turn() -> None:
    world = World(AllocatorConfig(watermark=0.95, ceiling=0.95))
    world.server("s1", 10)
    for index in range(150):
        world.joined(f"room-{index}", "x")
    world.server_event(events.ServerLost(server="s1", incarnation="i1"), "s1")
    for unplaced in list(world.view.unplaced):
        world.commit(world.decide(unplaced))
    tried = set()
    for _ in range(3):
        world.now += 2
        due = work_queue.due(world.view, world.now)
        assert len(due) <= 64
        for stimulus in due:
            work_queue.mark_decided(world.view, stimulus, world.now)
        tried |= set(due)
        world.now -= 1.5  # the others' turn comes before the first are due again
    assert len(tried) == 150


# --- asked meanwhile -----------------------------------------------------------------------------


def test_an_intent_without_a_place_is_answered_with_what_happened() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.kill_worker(at("s1"))
    intent = world.intent("lobby", "alice", intents.PauseProducer(producer="mic"))
    decision = world.commit(world.decide(intent))
    assert rejection(decision).error.code == "worker-died"
    assert world.view.open_intents.get(intent.seq) is None


def test_a_peer_without_a_place_can_leave() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.kill_worker(at("s1"))
    decision = world.commit(world.decide(world.intent("lobby", "alice", intents.Leave(), id="leave-1")))
    left, done = decision.appends
    assert isinstance(left.payload, events.PeerLeft)
    assert isinstance(done.payload, results.Done)
    assert (done.subject, done.causation) == ("mafalda.room.lobby.peer.alice.result.leave", "leave-1")
    assert world.view.peer(("lobby", "alice")) is None
    assert len(world.view.unplaced) == 0
    assert len(world.view.open_intents) == 0


def test_what_was_asked_of_the_former_place_is_rejected_if_its_agent_has_not_answered() -> None:
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 3)
    world.joined("lobby", "alice")
    place = world.joined("lobby", "bob")
    world.produce("lobby", "alice", "mic")
    intent = world.consume("lobby", "bob", "mic")
    world.kill_worker(place)
    world.now += world.config.overdue_s
    assert rejection(world.commit(world.decide(intent))).error.code == "worker-died"
    assert world.view.open_intents.get(intent.seq) is None


# --- silence -------------------------------------------------------------------------------------


def test_a_silent_server_is_lost_after_three_intervals() -> None:
    world = World(AllocatorConfig(grace_s=0))
    world.server("s1", 1)
    world.server("s2", 1)
    world.now += 2
    world.load("s2")
    world.now += 1.5
    (server,) = world.view.liveness.lost_servers(world.now)
    decision = world.commit(world.decide(server))
    (append,) = decision.events
    assert append.payload == events.ServerLost(server="s1", incarnation="i1")
    assert append.id == derived_id("server-lost", "s1", "i1")
    assert append.subject == "mafalda.server.s1.event.server-lost"
    assert not work_queue.is_open(world.view, server, world.now)
    assert world.view.liveness.lost_servers(world.now) == []


def test_a_fresh_allocator_declares_no_server_lost_before_its_grace_is_over() -> None:
    world = World()
    world.server("s1", 1)
    world.view.begin(world.now)
    world.now += 4.9
    assert world.view.liveness.lost_servers(world.now) == []
    world.now += 0.2
    assert [server.server for server in world.view.liveness.lost_servers(world.now)] == ["s1"]


@pytest.mark.parametrize("access", ["read", "append"])
def test_a_partitioned_allocator_declares_no_server_lost(access: Access) -> None:
    world = World()
    world.server("s1", 1)
    liveness = world.view.liveness
    assert liveness.partitioned(access)
    assert not liveness.partitioned(access), "it is known already"
    world.now += 3600
    assert liveness.lost_servers(world.now) == []
    liveness.reconnected(access, world.now)
    world.now += 4
    assert liveness.lost_servers(world.now) == []
    world.now += 2
    assert len(liveness.lost_servers(world.now)) == 1


def test_a_partitioned_allocator_says_of_no_peer_that_it_has_no_room() -> None:
    """All servers are silent to it, since it received no reports."""
    world = World()
    world.server("s1", 2)
    world.joined("lobby", "alice")
    liveness = world.view.liveness
    world.now += 60
    liveness.tick(world.now)
    liveness.partitioned("read")
    place = world.view.peer(("lobby", "alice")).place  # type: ignore[union-attr]
    (lost,) = work_queue.of_entry(world.view, world.kill_worker(place))
    assert world.decide(lost).reason == "waiting-for-reports"
    assert world.join("lobby", "bob").reason == "waiting-for-reports"
    liveness.reconnected("read", world.now)
    assert placed(world.decide(lost)) == at("s1", 1)


def test_an_allocator_that_reads_and_cannot_append_is_still_partitioned() -> None:
    world = World()
    world.server("s1", 1)
    liveness = world.view.liveness
    liveness.partitioned("append")
    liveness.partitioned("read")
    liveness.reconnected("read", world.now)
    world.now += 3600
    assert liveness.lost_servers(world.now) == []


def test_reads_that_work_as_before_begin_no_grace() -> None:
    world = World()
    world.server("s1", 1)
    world.now += 6
    world.view.liveness.reconnected("read", world.now)
    assert len(world.view.liveness.lost_servers(world.now)) == 1


def test_a_server_that_sent_a_heartbeat_meanwhile_is_not_lost() -> None:
    world = World(AllocatorConfig(grace_s=0))
    world.server("s1", 1)
    world.now += 4
    (server,) = world.view.liveness.lost_servers(world.now)
    assert work_queue.is_open(world.view, server, world.now)
    world.load("s1")
    assert not work_queue.is_open(world.view, server, world.now)


def test_an_unresponsive_worker_is_passed_over_by_name_until_it_answers() -> None:
    world = World()
    world.server("s1", 2)
    first, second = sorted(world.view.state.servers["s1"].workers)
    world.load("s1", unresponsive={first}, latency_s=3)
    assert (world.view.fleet.obstacles["worker-unresponsive"], world.view.fleet.obstacles["channel-slow"]) == (1, 1)
    world.load("s1", unresponsive={first})
    assert world.view.fleet.obstacles["worker-unresponsive"] == 1
    assert world.joined("lobby", "alice").worker == second
    world.load("s1")
    assert world.view.fleet.obstacles["worker-unresponsive"] == 0


@pytest.mark.parametrize("event", [events.ServerStopped, events.ServerLost])
def test_a_stopped_server_is_not_lost_again(event: type[events.ServerStopped] | type[events.ServerLost]) -> None:
    world = World(AllocatorConfig(grace_s=0))
    world.server("s1", 1)
    world.server_event(event(server="s1", incarnation="i1"), "s1")
    world.now += 60
    assert world.view.liveness.lost_servers(world.now) == []


def test_a_server_of_the_log_s_past_is_no_candidate_before_it_reports() -> None:
    world = World()
    world.view.liveness.begun = False
    world.server("s1", 1, report=False)
    world.view.begin(world.now)
    waiting = world.intent("lobby", "alice", intents.Join())
    assert world.decide(waiting).appends == (), "a report may come any moment"
    work_queue.mark_decided(world.view, waiting, world.now)
    assert work_queue.due(world.view, world.now) == []
    world.load("s1")
    assert work_queue.due(world.view, world.now) == [waiting]
    assert placed(world.decide(waiting)) == at("s1")


def test_a_join_that_waits_for_reports_in_vain_is_rejected() -> None:
    world = World()
    world.view.liveness.begun = False
    world.server("s1", 1, report=False)
    world.view.begin(world.now)
    waiting = world.intent("lobby", "alice", intents.Join())
    world.now += 5.1
    assert rejection(world.decide(waiting)).error.details == {"no-report-yet": 1}


# --- what another allocator left -----------------------------------------------------------------


def test_work_that_no_allocator_did_is_due_after_a_while() -> None:
    world = World()
    world.server("s1", 1)
    intent = world.intent("lobby", "alice", intents.Join())
    assert work_queue.due(world.view, world.now + 0.9) == []
    assert work_queue.due(world.view, world.now + 1.0) == [intent]


def test_a_room_in_which_another_is_at_work_is_left_to_it_for_a_while() -> None:
    world = World()
    world.server("s1", 1)
    intent = world.intent("lobby", "alice", intents.Join())
    world.now += 0.8
    world.join("lobby", "bob")
    world.now += 0.4
    assert work_queue.due(world.view, world.now) == []
    world.now += 0.7
    assert work_queue.due(world.view, world.now) == [intent]


def test_an_unanswered_consume_is_forgotten_in_the_end() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    intent = world.consume("lobby", "alice", "nothing")
    work_queue.mark_decided(world.view, intent, world.now + 29)
    assert world.view.open_intents.get(intent.seq) is intent
    work_queue.mark_decided(world.view, intent, world.now + 31)
    assert world.view.open_intents.get(intent.seq) is None


# --- half-done and repeated ----------------------------------------------------------------------------


def test_a_single_transport_is_placed_again_at_the_price_of_one() -> None:
    world = World()
    world.server("s1", 2)
    world.commit(world.decide(world.intent("lobby", "t", intents.Join(one_transport=True))))
    place = world.view.peer(("lobby", "t")).place  # type: ignore[union-attr]
    world.kill_worker(place)
    decision = world.commit(world.decide(world.unplaced("lobby", "t")))
    assert place_command(decision).one_transport
    assert world.load_of(placed(decision)) == pytest.approx(0.005)


def test_a_leave_of_which_only_the_event_was_stored_is_answered_at_the_next_try() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.kill_worker(at("s1"))
    leave = world.intent("lobby", "alice", intents.Leave(), id="leave-1")
    first = world.decide(leave)
    (left,) = first.events
    world.append(left.subject, left.payload, id=left.id, cause=left.causation)
    again = world.decide(leave)
    assert (again.events, again.results) == ((), first.results)
    world.commit(again)
    assert world.view.open_intents.get(leave.seq) is None
