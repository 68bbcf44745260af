"""What was placed or opened since the last report counts: livekit#3784 is what happens otherwise."""

from __future__ import annotations

import pytest

from mafalda.allocator.config import AllocatorConfig, Costs
from mafalda.allocator.core.fleet.fleet import Hold
from mafalda.allocator.core.fleet.late import late_reservations
from mafalda.allocator.core.fleet.reservations import Reservations
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.allocator_report import AllocatorReport
from mafalda.contract.messages.payload import Place
from mafalda.monitor.audit.finding import Finding, Subject
from mafalda.monitor.audit.reservations import leaked_reservations
from tests.unit.allocator.allocator_world import World, placed, relay

S1 = Place(server="s1", worker="s1-0-i1")


@pytest.mark.parametrize("policy", ["pack", "spread", "two-choices", "region"])
def test_a_burst_between_two_reports_stays_below_the_watermark(policy: str) -> None:
    """200 joins to rooms of their own, not one report: each worker gets what it can take, no more."""
    world = World(AllocatorConfig(policy=policy))
    world.server("s1", 8)
    for index in range(200):
        place = placed(world.join(f"room-{index}", "x"))
        assert world.load_of(place) <= 0.60
    assert sum(len(worker.state.peers) for worker in world.view.fleet.workers.values()) == 200


def test_a_burst_into_one_room_spills_over_too() -> None:
    world = World()
    world.server("s1", 8)
    places = [placed(world.join("lobby", f"p{index}")) for index in range(100)]
    assert len(set(places)) == 4  # 0.02 each and 0.6 at most: 30 to a worker
    assert all(world.load_of(place) <= 0.60 for place in places)


def test_single_transports_are_given_less_in_advance() -> None:
    world = World()
    world.server("s1", 1)
    joins = [world.intent("lobby", f"t{index}", intents.Join(one_transport=True)) for index in range(80)]
    assert {placed(world.commit(world.decide(join))) for join in joins} == {S1}
    assert world.load_of(S1) == pytest.approx(80 * 0.005)


def test_a_burst_is_a_queue_and_not_a_wall() -> None:
    """Who finds everything reserved waits for reports; only after a while is it refused."""
    world = World(patient=True)
    world.server("s1", 1)
    for index in range(30):
        world.joined("lobby", f"p{index}")
    late = world.intent("lobby", "late", intents.Join())
    decision = world.decide(late)
    assert (decision.appends, decision.reason, decision.settled) == ((), "waiting-for-capacity", False)
    world.now += world.config.join_timeout_s
    assert world.decide(late).reason == "rejected-no-capacity"
    for _ in range(6):
        world.load("s1", 0.05)
    assert placed(world.decide(late)) == S1


def test_a_report_from_before_the_placements_does_not_wipe_them_out() -> None:
    world = World()
    world.server("s1", 1)
    before = world.seq
    for index in range(10):
        world.join("lobby", f"p{index}")
    world.load("s1", 0.0, as_of_seq=before)
    assert world.load_of(S1) == pytest.approx(0.2)
    world.load("s1", 0.0)
    assert world.load_of(S1) == pytest.approx(0.2 * 0.5**0.25, abs=1e-5)


def test_reservations_settle_after_as_many_seconds_of_reports() -> None:
    world = World(AllocatorConfig(settle_s=3))
    world.server("s1", 1)
    world.join("lobby", "alice")
    for expected in (0.12, 0.11, 0.1):
        world.load("s1", 0.1)
        assert world.load_of(S1) == pytest.approx(expected)


def test_reservations_end_though_as_of_seq_does_not_advance() -> None:
    world = World(AllocatorConfig(settle_s=3))
    world.server("s1", 1)
    world.join("lobby", "alice")
    for _ in range(12):
        world.load("s1", 0.1, as_of_seq=0)
    assert world.load_of(S1) == pytest.approx(0.1)


def test_silent_peers_count_though_nothing_is_measured() -> None:
    world = World(AllocatorConfig(settle_s=0, costs=Costs(silent_peer=0.01)))
    world.server("s1", 1)
    for index in range(5):
        world.join("lobby", f"p{index}")
    world.load("s1", 0.0)
    assert world.load_of(S1) == pytest.approx(0.05)


def test_what_a_peer_opens_is_drawn_from_its_advance_and_then_adds() -> None:
    world = World(AllocatorConfig(costs=Costs(peer=0.004, producer=0.003, transport=0.001, silent_peer=0)))
    world.server("s1", 1)
    world.joined("lobby", "alice")
    assert world.load_of(S1) == pytest.approx(0.004)
    world.transport_result("lobby", "alice", "t1")
    world.produce("lobby", "alice", "mic")
    assert world.load_of(S1) == pytest.approx(0.004)
    world.produce("lobby", "alice", "cam")
    assert world.load_of(S1) == pytest.approx(0.007)
    world.produce("lobby", "alice", "chat", data=True)
    assert world.load_of(S1) == pytest.approx(0.0075)


def test_consumers_count_when_their_result_is_in_the_log() -> None:
    world = World(AllocatorConfig(costs=Costs(peer=0, consumer=0.1, silent_peer=0)))
    world.server("s1", 1)
    world.joined("lobby", "alice")
    raw = b'{"id":"r1","causationid":"c1","type":"mafalda.result.consume.v1","data":{"generation":%d}}'
    world.append_raw("mafalda.room.lobby.peer.alice.result.consume", raw % 1)
    assert world.load_of(S1) == pytest.approx(0.1)
    world.append_raw("mafalda.room.lobby.peer.alice.result.consume", raw % 7)
    assert world.load_of(S1) == pytest.approx(0.1), "of another generation"
    rejected = raw.replace(b"result.consume.", b"result.rejected.") % 1
    world.append_raw("mafalda.room.lobby.peer.alice.result.consume", rejected)
    assert world.load_of(S1) == pytest.approx(0.1), "a rejection opened nothing"


def test_both_ends_of_a_relay_count() -> None:
    world = World(AllocatorConfig(policy="spread", costs=Costs(peer=0, relay=0.05, silent_peer=0, producer=0)))
    world.server("s1", 2)
    here, there = world.joined("lobby", "alice"), world.joined("lobby", "bob")
    world.produce("lobby", "alice", "mic")
    decision = world.decide(world.consume("lobby", "bob", "mic"))
    relay(decision)
    world.commit(decision)
    assert world.load_of(here) == pytest.approx(0.05)
    assert world.load_of(there) == pytest.approx(0.05)


def test_the_reservations_of_a_peer_that_left_end() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.produce("lobby", "alice", "mic")
    world.leave("lobby", "alice")
    assert world.load_of(S1) == 0.0


def test_a_peer_that_moved_counts_at_its_new_place_only() -> None:
    world = World()
    world.server("s1", 1)
    world.server("s2", 1)
    place = world.joined("lobby", "alice")
    assert place == S1
    world.server_event(events.ServerStopped(server="s1", incarnation="i1"), "s1")
    world.commit(world.decide(world.unplaced("lobby", "alice")))
    assert world.load_of(Place(server="s2", worker="s2-0-i1")) == pytest.approx(0.02)


# --- the reservations ----------------------------------------------------------------------------------


def test_a_hold_counts_once_and_ends_once() -> None:
    reservations = Reservations()
    reservations.hold("a", 10)
    reservations.hold("a", 15)
    reservations.hold("b", 1, is_peer=True)
    assert (reservations.total, reservations.held_peers) == (16, 1)
    assert reservations.release("a")
    assert not reservations.release("a")
    assert (reservations.total, reservations.held_peers) == (1, 1)
    assert reservations.release("b")
    assert (reservations.total, reservations.held_peers) == (0, 0)


def test_forgetting_one_leaves_the_others() -> None:
    reservations = Reservations()
    reservations.advance(1, ("r", "a"), 100)
    reservations.advance(2, ("r", "b"), 100)
    reservations.reserve(3, ("r", "a"), 30)
    assert reservations.total == 200
    reservations.forget(("r", "a"))
    assert reservations.total == 100
    reservations.reserve(4, ("r", "a"), 30)
    assert reservations.total == 130, "there is no advance any more to draw from"


def test_a_relay_that_is_being_opened_is_no_peer() -> None:
    world = World()
    world.server("s1", 2)
    world.joined("lobby", "alice")
    first, second = (world.view.fleet.workers[key] for key in sorted(world.view.fleet.workers))
    relay_cost, before = world.config.micro(world.config.costs.relay), first.load
    costs = ((first.place, relay_cost), (second.place, relay_cost))
    world.view.fleet.hold("open-relay", Hold(costs, world.now, "lobby"))
    assert (first.headcount, second.headcount) == (1, 0)
    assert (first.load, second.load) == (before + relay_cost, relay_cost)
    assert not second.used


def test_a_place_ahead_stays_reserved_until_something_is_opened_there() -> None:
    """Reports say nothing of it, however many there are: nothing is there that they could show."""
    world = World()
    world.server("s1", 1)
    world.commit(world.decide(world.intent("lobby", "ahead", intents.Join(one_transport=True, lease_s=45.0))))
    for _ in range(20):
        world.load("s1", 0.0)
    costs = world.config.costs
    assert world.load_of(S1) == pytest.approx(costs.one_transport_peer)
    world.transport_result("lobby", "ahead", "t")
    for _ in range(20):
        world.load("s1", 0.0)
    assert world.load_of(S1) == pytest.approx(costs.silent_peer)


def test_a_place_ahead_that_is_given_back_is_free() -> None:
    world = World()
    world.server("s1", 1)
    world.commit(world.decide(world.intent("lobby", "ahead", intents.Join(one_transport=True, lease_s=45.0))))
    world.leave("lobby", "ahead")
    assert world.load_of(S1) == 0.0


@pytest.mark.parametrize("is_used", [False, True])
def test_a_place_ahead_keeps_its_lease_at_its_next_place_until_it_is_used(is_used: bool) -> None:
    world = World()
    world.server("s1", 2)
    ahead = intents.Join(one_transport=True, lease_s=45.0)
    world.commit(world.decide(world.intent("lobby", "ahead", ahead)))
    if is_used:
        world.transport_result("lobby", "ahead", "t")
    peer = world.view.peer(("lobby", "ahead"))
    assert peer is not None
    world.kill_worker(peer.place)
    (again,) = world.commit(world.decide(world.unplaced("lobby", "ahead"))).commands
    assert isinstance(again.payload, commands.PlacePeer)
    assert again.payload.lease_s == (None if is_used else 45.0)


# --- leaks -------------------------------------------------------------------------------------------


def reported(world: World) -> list[tuple[str, str, str | None]]:
    return [(it.kind, it.room, it.peer) for it in late_reservations(world.view.fleet, world.now)]


def leaks(world: World) -> list[Finding]:
    report = AllocatorReport(allocator="a1", late_reservations=late_reservations(world.view.fleet, world.now))
    return list(leaked_reservations(world.view.state, [report], 20.0))


def pass_time(world: World, seconds: int) -> None:
    """Let the server report each second; an allocator looks at its reservations each fifth one."""
    for second in range(seconds):
        world.now += 1
        world.load("s1", as_of_seq=world.seq)
        if second % 5 == 0:
            late_reservations(world.view.fleet, world.now)


def test_what_ends_as_it_should_is_no_leak() -> None:
    world = World()
    world.server("s1", 2)
    world.joined("lobby", "alice")
    decision = world.decide(world.intent("lobby", "bob", intents.Join()))
    (command,) = decision.commands
    world.view.fleet.hold(command.id, Hold(command.holds, world.now, "lobby", "bob"))
    world.commit(decision)
    world.produce("lobby", "alice", "mic")
    pass_time(world, 60)
    assert reported(world) == []


def test_a_decision_that_is_never_released_is_a_leak() -> None:
    world = World()
    world.server("s1", 1)
    (key,) = world.view.fleet.workers
    place = world.view.fleet.workers[key].place
    world.view.fleet.hold("lost", Hold(((place, 20_000),), world.now, "lobby", "bob"))
    pass_time(world, 19)
    assert leaks(world) == []
    pass_time(world, 10)
    assert reported(world) == [("decision", "lobby", "bob")]
    (found,) = leaks(world)
    assert found.code == "reservation-leaked"
    assert found.subject == Subject("lobby", "bob", "s1", place.worker, "a1")
    world.view.fleet.release("lost")
    assert reported(world) == []


def test_a_place_ahead_whose_peer_is_gone_is_a_leak() -> None:
    """As long as the peer is there, its place stays reserved; here its end was lost on purpose."""
    world = World()
    world.server("s1", 1)
    world.commit(world.decide(world.intent("lobby", "ahead", intents.Join(one_transport=True, lease_s=600.0))))
    pass_time(world, 60)
    assert leaks(world) == []
    (worker,) = world.view.fleet.workers.values()
    worker.state.peers.clear()
    world.view.state.rooms.clear()
    pass_time(world, 31)
    (found,) = leaks(world)
    assert (found.subject.room, found.subject.peer, found.code) == ("lobby", "ahead", "reservation-leaked")


def test_reservations_of_a_silent_server_are_no_leak() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    late_reservations(world.view.fleet, world.now)
    world.now += 100
    world.view.fleet.set_silent(world.view.fleet.servers["s1"], silent=True)
    assert reported(world) == []
