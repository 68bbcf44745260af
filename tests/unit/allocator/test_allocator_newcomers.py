"""What newcomers cost is learnt: no burst is refused that the workers can carry, and none let in that they cannot."""

from __future__ import annotations

from collections import Counter

import pytest

from mafalda.allocator.config import AllocatorConfig, Costs
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.fleet.newcomers import CostScale, NewcomerCosts
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.contract.messages import intents
from tests.unit.allocator.allocator_world import World, rejection

CONFIG = AllocatorConfig()
CONSUME = b'{"id":"%s","causationid":"x","type":"mafalda.result.consume.v1","data":{"generation":1}}'


class Burst:
    """Peers that join one room in the same moment, open what they want a second later, and then cost what they cost.

    Args:
        consumers: How many each opens.
        cost: What each costs its worker then, of one core.
    """

    def __init__(self, world: World, *, consumers: int, cost: float) -> None:
        self.world, self.consumers, self.cost = world, consumers, cost
        self.opening: list[str] = []
        self.flowing: Counter[str] = Counter()  # peers whose media flows, by worker
        self.refused = 0

    def join(self, count: int) -> list[OpenIntent]:
        return [self.world.intent("lobby", f"p{index}", intents.Join()) for index in range(count)]

    def decide(self, stimuli: list[OpenIntent]) -> None:
        view = self.world.view
        for intent in stimuli:
            decision = self.world.decide(intent)
            view.open_intents.wait(intent, waits=decision.waits)
            self.world.commit(decision)
            if decision.commands:
                self.opening.append(intent.peer[1])
            self.refused += bool(decision.results)

    def second(self) -> None:
        """Pass a second: what was placed opens its objects and begins to cost, the servers report, the queue moves."""
        for _ in range(4):
            self.world.now += 0.25
            while self.opening:
                peer = self.opening.pop()
                known = self.world.view.peer(("lobby", peer))
                assert known is not None
                self.world.transport_result("lobby", peer, f"{peer}-t")
                for index in range(self.consumers):
                    name = f"{peer}-c{index}".encode()
                    self.world.append_raw(f"mafalda.room.lobby.peer.{peer}.result.consume", CONSUME % name)
                self.flowing[known.place.worker] += 1
            self.queue()
        for server in list(self.world.view.fleet.servers):
            self.world.load(server, {worker: count * self.cost for worker, count in self.flowing.items()})
            self.queue()

    def queue(self) -> None:
        while waiting := work_queue.waiting(self.world.view, at_a_time=8):
            before = self.world.view.open_intents.waiting_count
            self.decide([it for it in waiting if isinstance(it, OpenIntent)])
            if self.world.view.open_intents.waiting_count == before:
                return

    @property
    def placed(self) -> int:
        return sum(len(worker.state.peers) for worker in self.world.view.fleet.workers.values())


@pytest.mark.parametrize("policy", ["pack", "spread", "two-choices"])
def test_300_viewers_at_once_on_two_idle_workers_are_all_taken_within_three_seconds(policy: str) -> None:
    world = World(AllocatorConfig(policy=policy), patient=True)
    world.server("s1", 2)
    burst = Burst(world, consumers=1, cost=0.002)
    burst.decide(burst.join(300))
    assert 0 < burst.placed < 300, "the first guess is careful"
    for _ in range(3):
        burst.second()
    assert (burst.placed, burst.refused) == (300, 0)


@pytest.mark.parametrize("policy", ["pack", "spread", "two-choices"])
def test_a_burst_of_expensive_peers_does_not_overload(policy: str) -> None:
    """Each opens 12 consumers, which cost what is configured: 3 % of a core, more than the first guess."""
    world = World(AllocatorConfig(policy=policy), patient=True)
    world.server("s1", 2)
    burst = Burst(world, consumers=12, cost=0.031)
    burst.decide(burst.join(300))
    for _ in range(14):
        burst.second()
    assert max(burst.flowing.values()) * burst.cost <= 0.95, "the first guess was too low, and no more than those came"
    assert burst.refused == 300 - burst.placed
    second = Burst(world, consumers=12, cost=0.031)
    world.server("s2", 2)
    second.decide([world.intent("lobby", f"q{index}", intents.Join()) for index in range(100)])
    for _ in range(14):
        second.second()
    assert max(count for worker, count in second.flowing.items() if worker.startswith("s2")) * second.cost <= 0.60


def test_workers_that_are_really_full_refuse_within_a_second() -> None:
    world = World(patient=True)
    world.server("s1", 2)
    world.load("s1", 0.59)
    intent = world.intent("lobby", "late", intents.Join())
    assert world.decide(intent).reason == "waiting-for-capacity"
    world.now += 0.76
    assert rejection(world.decide(intent)).error.details["above-watermark"] == 2


def test_the_reason_tells_how_many_wait() -> None:
    world = World(patient=True)
    world.server("s1", 1)
    world.load("s1", 0.59)
    joins = [world.intent("lobby", f"p{index}", intents.Join()) for index in range(3)]
    for intent in joins:
        world.view.open_intents.wait(intent, waits=world.decide(intent).waits)
    world.now += 1
    assert rejection(world.decide(joins[0])).error.details["joins-waiting"] == 3


def test_a_waiting_join_that_is_answered_waits_no_more() -> None:
    world = World(patient=True)
    world.server("s1", 1)
    intent = world.intent("lobby", "p", intents.Join())
    world.view.open_intents.wait(intent, waits=True)
    world.commit(world.decide(intent))
    assert work_queue.waiting(world.view, at_a_time=8) == []


def test_a_peer_that_is_placed_again_is_priced_like_the_others_of_its_room() -> None:
    costs = NewcomerCosts(CONFIG)
    for _ in range(100):
        costs.observe("webinar", "peer", 3_500, previous=None)
    assert costs.expected("webinar", "peer") == pytest.approx(3_500, rel=0.1)
    assert costs.expected("elsewhere", "peer") == pytest.approx(3_500, rel=0.2)
    assert costs.expected("webinar", "one-transport") == 5_000, "of another kind"


def test_what_a_peer_opens_later_corrects_what_was_learnt_of_it() -> None:
    costs, at_once = NewcomerCosts(CONFIG), NewcomerCosts(CONFIG)
    costs.observe("r", "peer", 1_000, previous=None)
    costs.observe("r", "peer", 9_000, previous=1_000)
    at_once.observe("r", "peer", 9_000, previous=None)
    assert costs.expected("r", "peer") == at_once.expected("r", "peer")


def test_newcomers_of_today_count_more_than_those_of_long_ago() -> None:
    costs = NewcomerCosts(CONFIG)
    for cost in (30_000, 2_000):
        for _ in range(1_000):
            costs.observe("r", "peer", cost, previous=None)
    assert costs.expected("r", "peer") < 4_000


def test_a_room_without_peers_is_forgotten() -> None:
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    world.transport_result("lobby", "alice", "t")
    for _ in range(2):
        world.load("s1")
    assert world.view.fleet.newcomers._rooms
    world.leave("lobby", "alice")
    assert not world.view.fleet.newcomers._rooms


def test_objects_that_cost_less_than_configured_leave_room_for_more() -> None:
    scale = CostScale()
    for _ in range(100):
        scale.learn(measured=60_000, configured=300_000, unsettled=0)
    assert scale.value == pytest.approx(0.2, abs=0.05)
    for _ in range(500):
        scale.learn(measured=590_000, configured=300_000, unsettled=0)
    assert scale.value == pytest.approx(2.0, abs=0.1)


def test_a_worker_whose_newcomers_do_not_show_yet_teaches_nothing() -> None:
    scale = CostScale()
    scale.learn(measured=10_000, configured=300_000, unsettled=200_000)
    scale.learn(measured=10_000, configured=1_000, unsettled=0)
    assert scale.value == 1.0


def test_an_idle_peer_is_no_reason_to_expect_the_next_one_to_be_idle_at_once() -> None:
    """It may be slow; what it opened is known when its reservation ends."""
    world = World()
    world.server("s1", 1)
    world.joined("lobby", "alice")
    for _ in range(4):
        world.load("s1")
    assert world.view.fleet.newcomers.expected("lobby", "peer") == CONFIG.micro(Costs().peer)
    world.load("s1")
    assert world.view.fleet.newcomers.expected("lobby", "peer") < CONFIG.micro(Costs().peer)
