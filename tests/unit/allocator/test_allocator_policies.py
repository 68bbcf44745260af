"""What each policy prefers, and what makes a worker unfit for all."""

from __future__ import annotations

import pytest

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet import obstacles
from mafalda.allocator.core.placement import outcomes
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.payload import Place
from tests.unit.allocator.allocator_world import World, placed, rejection


def at(server: str, slot: int = 0) -> Place:
    return Place(server=server, worker=f"{server}-{slot}-i1")


# --- pack ----------------------------------------------------------------------------------------


def test_pack_takes_the_busiest_in_use_below_the_watermark() -> None:
    world = World()
    world.server("s1", 4)
    for slot, room in enumerate("abc"):
        world.load("s1", {f"s1-{other}-i1": 0.9 for other in range(4) if other != slot})
        assert placed(world.join(room, "x")) == at("s1", slot)
    world.load("s1", {"s1-0-i1": 0.30, "s1-1-i1": 0.59, "s1-2-i1": 0.40})
    assert placed(world.join("d", "x")) == at("s1", 2)


def test_pack_keeps_a_room_together_though_others_are_busier() -> None:
    world = World()
    world.server("s1", 2)
    world.load("s1", {"s1-1-i1": 0.9})
    world.joined("lobby", "alice")
    world.load("s1", {"s1-0-i1": 0.9})
    world.joined("other", "bob")
    world.load("s1", {"s1-0-i1": 0.1, "s1-1-i1": 0.5})
    decision = world.join("lobby", "carol")
    assert placed(decision) == at("s1", 0)
    command = decision.commands[0].payload
    assert isinstance(command, commands.PlacePeer)
    assert command.explanation.passed_over == {outcomes.ROOM_ELSEWHERE: 1}


def test_pack_opens_a_fresh_worker_before_a_fresh_server() -> None:
    world = World()
    world.server("a-idle", 2)
    world.server("b-used", 2)
    world.load("a-idle", 0.9)
    world.joined("lobby", "alice")
    world.load("a-idle", 0.0)
    world.load("b-used", {"b-used-0-i1": 0.7})
    assert placed(world.join("lobby", "bob")) == at("b-used", 1)


def test_pack_opens_a_fresh_server_last() -> None:
    world = World()
    world.server("a-used", 1)
    world.server("b-idle", 1)
    world.joined("lobby", "alice")
    world.load("a-used", 0.7)
    assert placed(world.join("lobby", "bob")) == at("b-idle")


def test_pack_looks_at_the_newest_workers_of_a_large_room() -> None:
    world = World(AllocatorConfig(room_candidates=2))
    world.server("s1", 5)
    for slot in range(4):
        world.load("s1", {f"s1-{other}-i1": 0.0 if other == slot else 0.9 for other in range(5)})
        assert placed(world.join("lobby", f"p{slot}")) == at("s1", slot)
    world.load("s1", {"s1-0-i1": 0.5})
    assert placed(world.join("lobby", "last")) in (at("s1", 2), at("s1", 3))


# --- others --------------------------------------------------------------------------------------


def test_spread_takes_the_least_loaded() -> None:
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 3)
    world.load("s1", {"s1-0-i1": 0.3, "s1-1-i1": 0.1, "s1-2-i1": 0.4})
    assert placed(world.join("lobby", "alice")) == at("s1", 1)


def test_spread_is_not_led_by_noise() -> None:
    """Two peers of one room land on two workers, although the idle one looks a little busier."""
    world = World(AllocatorConfig(policy="spread", settle_s=0))
    world.server("s1", 2)
    world.joined("demo", "publisher")
    world.load("s1", {"s1-0-i1": 0.004, "s1-1-i1": 0.012})
    assert placed(world.join("demo", "viewer")) == at("s1", 1)


def test_spread_takes_the_one_that_fits_though_its_step_has_fuller_ones_first() -> None:
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 2)
    world.joined("lobby", "alice")
    world.load("s1", {"s1-0-i1": 0.56, "s1-1-i1": 0.599}, as_of_seq=world.seq, interval_s=60)
    assert placed(world.join("lobby", "bob")) == at("s1", 0)


def test_two_choices_takes_the_less_loaded_of_those_drawn() -> None:
    world = World(AllocatorConfig(policy="two-choices"))
    world.server("s1", 8)
    world.load("s1", {f"s1-{slot}-i1": slot / 20 for slot in range(8)})
    seen = set()
    for index in range(40):
        intent = world.intent(f"r{index}", "x", intents.Join())
        decision = world.decide(intent)
        assert world.decide(intent) == decision
        command = decision.commands[0].payload
        assert isinstance(command, commands.PlacePeer)
        named = {candidate.outcome: candidate.load for candidate in command.explanation.candidates}
        if outcomes.BUSIER in named:
            assert (named[outcomes.CHOSEN] or 0) <= (named[outcomes.BUSIER] or 0)
        seen.add(placed(decision))
    assert len(seen) > 3


def test_region_prefers_the_peer_s_region_even_to_the_room_s_worker() -> None:
    world = World(AllocatorConfig(policy="region"))
    world.server("eu-1", 1, region="eu")
    world.server("us-1", 1, region="us")
    assert world.joined("lobby", "alice", region="us") == at("us-1")
    assert world.joined("lobby", "bob", region="eu") == at("eu-1")
    world.load("eu-1", 0.9)
    assert world.joined("lobby", "carol", region="eu") == at("us-1")


def test_region_packs_anywhere_without_a_region() -> None:
    world = World(AllocatorConfig(policy="region"))
    world.server("eu-1", 1, region="eu")
    world.server("us-1", 1, region="us")
    first = world.joined("lobby", "alice")
    assert world.joined("other", "bob") == first


# --- unfit for all -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"latency_s": 1.5}, obstacles.CHANNEL_SLOW),
        ({"event_loop_lag_s": 6.0}, obstacles.AGENT_LATE),
        ({"memory_used_ratio": 0.99}, obstacles.MEMORY_SHORT),
        ({"cpu_ratio": 0.95}, obstacles.SERVER_BUSY),
        ({"ports_left": 3}, obstacles.PORTS_SHORT),
    ],
)
@pytest.mark.parametrize("policy", ["pack", "spread", "two-choices", "region"])
def test_an_obstacle_is_a_named_reason_until_it_is_gone(policy: str, figures: dict[str, float], reason: str) -> None:
    world = World(AllocatorConfig(policy=policy, max_server_cpu_ratio=0.9))
    world.server("s1")
    world.load("s1", **figures)  # type: ignore[arg-type]
    assert rejection(world.join("lobby", "alice")).error.details == {reason: 1}
    world.load("s1")
    assert placed(world.join("lobby", "alice")) == at("s1")


def test_a_draining_server_gets_no_peer_until_the_drain_is_cancelled() -> None:
    world = World()
    world.server("s1")
    world.server_event(events.ServerDraining(server="s1", incarnation="i1", draining=True), "s1")
    assert rejection(world.join("lobby", "alice")).error.details == {obstacles.SERVER_DRAINING: 1}
    world.server_event(events.ServerDraining(server="s1", incarnation="i1", draining=False), "s1")
    assert placed(world.join("lobby", "alice")) == at("s1")


def test_a_report_may_announce_draining_before_the_log_does() -> None:
    world = World()
    world.server("s1")
    world.load("s1", draining=True)
    assert rejection(world.join("lobby", "alice")).error.details == {obstacles.SERVER_DRAINING: 1}


def test_a_silent_server_gets_no_peer_until_it_reports() -> None:
    world = World()
    world.server("s1")
    world.now += 2.5
    world.view.liveness.tick(world.now)
    assert rejection(world.join("lobby", "alice")).error.details == {obstacles.SERVER_SILENT: 1}
    world.load("s1")
    assert placed(world.join("lobby", "alice")) == at("s1")


def test_a_worker_that_just_started_is_believed_before_its_first_report() -> None:
    world = World()
    world.server("s1", report=False)
    assert placed(world.join("lobby", "alice")) == at("s1")


def test_a_dead_worker_is_no_candidate() -> None:
    world = World()
    world.server("s1", 2)
    world.kill_worker(at("s1", 0))
    assert placed(world.join("lobby", "alice")) == at("s1", 1)
    world.kill_worker(at("s1", 1))
    assert rejection(world.join("lobby", "bob")).error.details == {}


@pytest.mark.parametrize("ended", [events.ServerStopped, events.ServerLost])
def test_an_ended_server_has_no_candidates(ended: type[events.ServerStopped] | type[events.ServerLost]) -> None:
    world = World()
    world.server("s1", 2)
    world.server_event(ended(server="s1", incarnation="i1"), "s1")
    assert world.view.fleet.workers == {}
    assert rejection(world.join("lobby", "bob")).error.code == "no-capacity"


def test_a_new_incarnation_replaces_all_workers() -> None:
    world = World()
    world.server("s1", 2)
    world.server("s1", 1, incarnation="i2", report=False)
    assert list(world.view.fleet.workers) == [("s1", "s1-0-i2")]
    assert placed(world.join("lobby", "alice")) == Place(server="s1", worker="s1-0-i2")


def test_a_restarted_worker_is_a_candidate() -> None:
    world = World()
    world.server("s1", 1)
    world.kill_worker(at("s1"))
    started = events.WorkerStarted(
        server="s1", incarnation="i1", worker=events.WorkerInfo(worker="s1-0-next", pid=7, slot=0)
    )
    world.server_event(started, "s1")
    assert placed(world.join("lobby", "alice")) == Place(server="s1", worker="s1-0-next")


def _join(world: World, peer: str, beside: str | None = None) -> Place:
    intent = world.intent("lobby", peer, intents.Join(one_transport=True, beside=beside))
    return placed(world.commit(world.decide(intent)))


def test_who_belongs_together_is_placed_together() -> None:
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 3)
    first = _join(world, "ana-sends")
    assert _join(world, "ana-receives", beside="ana-sends") == first
    assert _join(world, "ben-sends") != first
    assert _join(world, "who", beside="nobody") != first


def test_a_transport_stays_on_its_server_if_another_worker_of_it_can_take_it() -> None:
    """A plain transport of an application can have its port again there."""
    world = World(AllocatorConfig(policy="spread"))
    world.server("s1", 2)
    first, second = _join(world, "ingest"), _join(world, "other")
    assert first != second
    world.server("s2", 2)  # with nobody on it, so that the policy prefers it
    world.kill_worker(first)
    decision = world.decide(world.unplaced("lobby", "ingest"))
    assert placed(decision) == second
    (append,) = decision.commands
    assert isinstance(append.payload, commands.PlacePeer)
    assert "on the same server as before" in append.payload.explanation.summary
