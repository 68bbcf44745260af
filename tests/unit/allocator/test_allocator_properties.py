"""Whatever happens, in whatever order: what every decision keeps to, and that the same log decides the same."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.fleet.candidates import WorkerView
from mafalda.allocator.core.placement.policy import POLICIES
from mafalda.allocator.core.state.fold import fold_entry
from mafalda.allocator.core.state.log_entry import read_entry
from mafalda.allocator.core.state.stimulus import room_of
from mafalda.allocator.core.state.view import View
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import UNPLACED
from mafalda.testing.stories import violations
from tests.unit.allocator.allocator_world import World, placed

POLICY = st.sampled_from(sorted(POLICIES))
REGIONS = (None, "eu", "us")

#: One step: what happens, and two numbers that say to whom and how much.
ACTIONS = (
    "join join join load load kill lose drain restart leave produce consume relay worker time unplaced".split()  # noqa: SIM905
)
STEP = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11), st.integers(0, 100))
STEPS = st.lists(STEP, max_size=60)


class Storm:
    """Plays steps on a world, and checks each placement when it is made."""

    def __init__(self, policy: str) -> None:
        self.world = World(AllocatorConfig(policy=policy, grace_s=0))
        self.generations: dict[tuple[str, str], int] = {}
        self.incarnations = dict.fromkeys(("s0", "s1", "s2"), 1)
        self.decisions: list[Any] = []
        for index, server in enumerate(self.incarnations):
            self.world.server(server, 3, region=REGIONS[index])

    def play(self, steps: list[tuple[str, int, int]]) -> None:
        for action, who, much in steps:
            getattr(self, action)(who, much)

    # --- steps -----------------------------------------------------------------------------------

    def join(self, who: int, much: int) -> None:
        intent = self.world.intent(f"r{who % 3}", f"p{who}", intents.Join(region=REGIONS[much % 3]))
        self._decide(intent, 0.60)

    def unplaced(self, _: int, __: int) -> None:
        for stimulus in list(self.world.view.unplaced):
            self._decide(stimulus, 0.85)

    def load(self, who: int, much: int) -> None:
        server = f"s{who % 3}"
        if workers := self.world.view.state.servers[server].workers:
            cpu = {worker: (much * (index + 1) % 100) / 100 for index, worker in enumerate(sorted(workers))}
            latency = 2.0 if much > 95 else 0.0
            self.world.load(server, cpu, incarnation=f"i{self.incarnations[server]}", latency_s=latency)

    def kill(self, who: int, much: int) -> None:
        server = f"s{who % 3}"
        if workers := sorted(self.world.view.state.servers[server].workers):
            place = Place(server=server, worker=workers[much % len(workers)])
            self.world.kill_worker(place, f"i{self.incarnations[server]}")

    def lose(self, who: int, _: int) -> None:
        server = f"s{who % 3}"
        lost = events.ServerLost(server=server, incarnation=f"i{self.incarnations[server]}")
        self.world.server_event(lost, server)

    def drain(self, who: int, much: int) -> None:
        server = f"s{who % 3}"
        incarnation = f"i{self.incarnations[server]}"
        self.world.server_event(
            events.ServerDraining(server=server, incarnation=incarnation, draining=much % 2 == 0), server
        )

    def restart(self, who: int, _: int) -> None:
        server = f"s{who % 3}"
        self.incarnations[server] += 1
        self.world.server(server, 3, region=REGIONS[who % 3], incarnation=f"i{self.incarnations[server]}", report=False)

    def worker(self, who: int, _: int) -> None:
        server = f"s{who % 3}"
        info = events.WorkerInfo(worker=f"{server}-n{self.world.seq}", pid=9, slot=0)
        incarnation = f"i{self.incarnations[server]}"
        self.world.server_event(events.WorkerStarted(server=server, incarnation=incarnation, worker=info), server)

    def leave(self, who: int, _: int) -> None:
        if self.world.view.peer((f"r{who % 3}", f"p{who}")):
            self.world.leave(f"r{who % 3}", f"p{who}")

    def produce(self, who: int, _: int) -> None:
        if self.world.view.peer((f"r{who % 3}", f"p{who}")):
            self.world.produce(f"r{who % 3}", f"p{who}", f"x{who}")

    def consume(self, who: int, much: int) -> None:
        room = f"r{who % 3}"
        intent = self.world.consume(room, f"p{who}", f"x{who % 3 + 3 * (much % 4)}")
        decision = self._decide(intent, 0)
        for append in decision.commands:
            assert isinstance(append.payload, commands.OpenRelay)
            for place in (append.payload.source, append.payload.target):
                assert self.world.view.fleet.at(place), "both ends live"

    def relay(self, who: int, much: int) -> None:
        room = self.world.view.state.rooms.get(f"r{who % 3}")
        for (producer, target), relay in list(room.relays.items())[:1] if room else ():
            kind = events.RelayOpened if much % 2 else events.RelayFailed
            command = commands.OpenRelay.model_validate(
                {"room": f"r{who % 3}", "producer": producer, "data": relay.data, "source": relay.source,
                 "target": target, "generation": 1, "explanation": {"policy": "x", "summary": "x"}}
            )  # fmt: skip
            self.world.relay_event(command, kind)

    def time(self, _: int, much: int) -> None:
        self.world.now += much / 20
        self.world.view.liveness.tick(self.world.now)

    # --- what each decision keeps to -------------------------------------------------------------

    def _decide(self, stimulus: Any, limit: float) -> Any:
        if not work_queue.is_open(self.world.view, stimulus, self.world.now):
            return None
        before = fit_workers(self.world, room_of(stimulus), 0.60)
        decision = self.world.decide(stimulus)
        assert self.world.decide(stimulus) == decision, "the same input, the same output"
        self.decisions.append(decision)
        for append in decision.commands:
            if isinstance(append.payload, commands.PlacePeer):
                self._check_placement(append.payload, placed(decision), before, limit)
        if decision.settled:
            self.world.view.open_intents.close(stimulus.seq)
        self.world.commit(decision)
        for append in decision.commands:
            if isinstance(append.payload, commands.PlacePeer):
                worker = self.world.view.fleet.at(placed(decision))
                assert worker is not None
                assert worker.load <= limit * 1_000_000, "never above the limit"
        return decision

    def _check_placement(
        self, command: commands.PlacePeer, place: Place, fit: dict[Place, WorkerView], limit: float
    ) -> None:
        server = self.world.view.fleet.servers[command.server]
        assert server.up
        assert not server.draining
        assert not server.silent
        assert self.world.view.fleet.at(place) is not None, "it lives"
        assert place in fit or (not fit and limit > 0.60), "below the watermark if anything is"
        who = (command.room, command.peer)
        assert command.generation > self.generations.get(who, 0), "generations grow, over memberships too"
        self.generations[who] = command.generation


def fit_workers(world: World, room: str, limit: float) -> dict[Place, WorkerView]:
    """By looking at all of them, what the orders must know without looking."""
    fleet = world.view.fleet
    expected = round(fleet.newcomers.expected(room, "peer") * fleet.scale.value)
    cost = max(expected, world.config.micro(world.config.costs.silent_peer))
    fit = {}
    for worker in world.view.fleet.workers.values():
        server = worker.server
        lame = not server.up or server.draining or server.silent or worker.channel_latency_s > 1
        unknown = not server.reported and not server.seen_starting
        if not lame and not unknown and -(-worker.load // 1000) <= (limit * 1_000_000 - cost) // 1000:
            fit[worker.place] = worker
    return fit


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY, STEPS)
def test_what_every_placement_keeps_to(policy: str, steps: list[tuple[str, int, int]]) -> None:
    storm = Storm(policy)
    storm.play(steps)
    storm.unplaced(0, 0)
    check_books(storm.world)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY, STEPS)
def test_a_capable_fleet_refuses_nobody(policy: str, steps: list[tuple[str, int, int]]) -> None:
    storm = Storm(policy)
    storm.play(steps)
    fit = fit_workers(storm.world, "new", 0.60)
    decision = storm.world.decide(storm.world.intent("new", "new", intents.Join()))
    assert bool(decision.commands) == bool(fit)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY, STEPS)
def test_the_same_log_decides_the_same_byte_for_byte(policy: str, steps: list[tuple[str, int, int]]) -> None:
    first, second = Storm(policy), Storm(policy)
    first.play(steps)
    second.play(steps)
    assert written(first) == written(second)
    assert first.world.log == second.world.log


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY, STEPS, st.integers(0, 2**32))
def test_an_allocator_that_starts_late_knows_the_same(
    policy: str, steps: list[tuple[str, int, int]], seed: int
) -> None:
    """Folding the finished log gives the rooms, peers, commands and open work that watching it gave."""
    storm = Storm(policy)
    storm.play(steps)
    late = View(storm.world.config)
    for seq, subject, raw in storm.world.log:
        if entry := read_entry(seq, subject, raw):
            fold_entry(late, entry, random.Random(seed).random())
    watched = storm.world.view
    assert late.state.to_json_dict() == watched.state.to_json_dict()
    assert unplaced_peers(late) == unplaced_peers(watched)
    assert {room: late.rooms.get(room).places for room in late.rooms} == {
        room: watched.rooms.get(room).places for room in watched.rooms
    }
    for room in ("r0", "r1", "r2"):
        assert late.rooms.get(room).command_seq == watched.rooms.get(room).command_seq
        for peer in range(12):
            assert late.rooms.get(room).next_generation(f"p{peer}", None) == watched.rooms.get(room).next_generation(
                f"p{peer}", None
            )
    assert {intent.seq for intent in watched.open_intents} <= {intent.seq for intent in late.open_intents}


def check_books(world: World) -> None:
    """What is kept by increments is what counting from scratch gives."""
    fleet, state = world.view.fleet, world.view.state
    living = {(s.server, w) for s in state.servers.values() for w in s.workers}
    assert set(fleet.workers) == living
    for worker in fleet.workers.values():
        assert worker.used == bool(worker.state.peers)
        reservations = worker.reservations
        assert reservations.total == sum(reservation.reserved for reservation in reservations)
    for server in fleet.servers.values():
        assert server.used == sum(worker.used for worker in server.workers.values())
    found = [worker.obstacle for worker in fleet.workers.values() if worker.obstacle]
    assert +fleet.obstacles == {reason: found.count(reason) for reason in found}
    for order in fleet.orders():
        assert sum(order.size(part) for part in order.parts()) == len(fleet.workers) - len(found)
    for room_id, room in state.rooms.items():
        places = [peer.place for peer in room.peers.values() if peer.status != UNPLACED]
        counted = {(place.server, place.worker): places.count(place) for place in places}
        assert world.view.rooms.get(room_id).places == counted
    unplaced = {
        (room.room, peer.peer)
        for room in state.rooms.values()
        for peer in room.peers.values()
        if peer.status == UNPLACED
    }
    assert unplaced_peers(world.view) == unplaced
    for peer in world.view.unplaced:
        assert peer in world.view.unplaced.of_entry(peer.seq)
    assert violations(state) == []


def unplaced_peers(view: View) -> set[tuple[str, str]]:
    return {(peer.room, peer.peer) for peer in view.unplaced}


def written(storm: Storm) -> list[Any]:
    return [
        (decision.reason, [(it.id, it.subject, it.last_seq, it.payload.model_dump_json()) for it in decision.appends])
        for decision in storm.decisions
    ]
