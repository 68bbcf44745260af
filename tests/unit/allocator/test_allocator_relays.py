"""Relays: when one is needed, and where its source is. A tree, never a mesh."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.placement import outcomes, relays
from mafalda.contract import subjects
from mafalda.contract.messages import events
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import ProducerState, RelayState
from tests.unit.allocator.allocator_world import World, relay


def spread_world(servers: int, workers: int, peers: int, **config: object) -> tuple[World, list[Place]]:
    """A room with one peer on each worker; the first produces."""
    world = World(AllocatorConfig.model_validate({"policy": "spread", **config}))
    for index in range(servers):
        world.server(f"s{index}", workers)
    places = [world.joined("lobby", f"p{index}") for index in range(peers)]
    assert len(set(places)) == min(peers, servers * workers)
    world.produce("lobby", "p0", "mic")
    return world, places


def test_a_consume_from_another_worker_opens_a_relay() -> None:
    world, places = spread_world(1, 2, 2)
    intent = world.consume("lobby", "p1", "mic")
    decision = world.decide(intent)
    command = relay(decision)
    assert (command.source, command.target) == (places[0], places[1])
    assert (command.producer, command.data, command.generation) == ("mic", False, 1)
    (append,) = decision.commands
    assert append.subject == f"mafalda.command.lobby.{places[1].server}.open-relay"
    assert (append.room, append.last_seq) == ("lobby", world.view.rooms.get("lobby").command_seq)
    assert (command.explanation.policy, command.explanation.candidates[0].outcome) == ("relay-tree", outcomes.CHOSEN)


def test_a_consume_on_the_same_worker_needs_none() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    world.joined("lobby", "bob")
    world.produce("lobby", "alice", "mic")
    assert world.decide(world.consume("lobby", "bob", "mic")).appends == ()


def test_one_relay_serves_a_worker_while_it_opens_and_when_it_is_open() -> None:
    world, places = spread_world(1, 2, 4)
    there = [f"p{index}" for index, place in enumerate(places) if place != places[0]]
    assert len(there) == 2
    first = world.commit(world.decide(world.consume("lobby", there[0], "mic")))
    again = world.consume("lobby", there[1], "mic")
    assert world.decide(again).appends == ()
    world.relay_event(relay(first), events.RelayOpened)
    assert world.decide(again).appends == ()


def test_a_failed_relay_is_tried_again_under_another_id() -> None:
    world, _ = spread_world(1, 2, 2)
    intent = world.consume("lobby", "p1", "mic")
    first = world.commit(world.decide(intent))
    world.relay_event(relay(first), events.RelayFailed)
    second = world.decide(intent)
    assert relay(second).target == relay(first).target
    assert second.commands[0].id != first.commands[0].id


def test_after_a_failure_the_agent_has_time_to_reject_what_waited() -> None:
    world, _ = spread_world(1, 2, 2)
    intent = world.consume("lobby", "p1", "mic")
    world.now += 5
    first = world.commit(world.decide(intent))
    world.relay_event(relay(first), events.RelayFailed)
    assert intent.since_s == world.now


def test_data_producers_are_relayed_as_data() -> None:
    world, _ = spread_world(1, 2, 2)
    world.produce("lobby", "p0", "chat", data=True)
    assert relay(world.decide(world.consume("lobby", "p1", "chat", data=True))).data
    assert world.decide(world.consume("lobby", "p1", "chat")).appends == (), "its agent says that there is none"
    assert world.decide(world.consume("lobby", "p1", "mic", data=True)).appends == ()


def test_what_does_not_exist_is_left_to_the_agent() -> None:
    world, _ = spread_world(1, 2, 2)
    decision = world.decide(world.consume("lobby", "p1", "nothing"))
    assert (decision.appends, decision.settled) == ((), False)


def test_a_second_worker_of_a_server_gets_it_from_inside() -> None:
    world, places = spread_world(2, 3, 6)
    origin = places[0]
    outside = [f"p{index}" for index, place in enumerate(places) if place.server != origin.server]
    first = world.commit(world.decide(world.consume("lobby", outside[0], "mic")))
    assert relay(first).source == origin

    waiting = world.consume("lobby", outside[1], "mic")
    decision = world.decide(waiting)
    assert (decision.appends, decision.wait_for) == ((), "mic"), "one pipe into a server: wait for it"
    world.view.parked.park(waiting, "mic", world.view.open_intents)
    world.relay_event(relay(first), events.RelayOpened)
    assert world.view.parked.take_woken() == [waiting.seq]
    assert world.view.parked.take_woken() == []
    assert relay(world.decide(waiting)).source == relay(first).target


def test_inside_the_origin_s_server_the_origin_is_the_source() -> None:
    world, places = spread_world(2, 2, 4)
    inside = next(f"p{i}" for i, place in enumerate(places) if i and place.server == places[0].server)
    outside = next(f"p{i}" for i, place in enumerate(places) if place.server != places[0].server)
    world.commit(world.decide(world.consume("lobby", outside, "mic")))
    assert relay(world.decide(world.consume("lobby", inside, "mic"))).source == places[0]


def test_the_tree_grows_deeper_when_a_source_feeds_enough() -> None:
    world, places = spread_world(1, 8, 8, max_fan_out=2)
    commands = []
    for index in range(1, 8):
        decision = world.decide(world.consume("lobby", f"p{index}", "mic"))
        commands.append(relay(world.commit(decision)))
        world.relay_event(commands[-1], events.RelayOpened)
    sources = [command.source for command in commands]
    assert sources[:2] == [places[0], places[0]]
    assert max(sources.count(place) for place in places) == 2
    assert commands[2].explanation.passed_over[outcomes.FAN_OUT_FULL] == 1


def test_a_region_is_entered_once() -> None:
    world = World(AllocatorConfig(policy="spread"))
    for server, region in (("eu-1", "eu"), ("us-1", "us"), ("us-2", "us")):
        world.server(server, region=region)
    places = {world.joined("lobby", f"p{i}").server: f"p{i}" for i in range(3)}
    world.produce("lobby", places["eu-1"], "mic")
    first = world.commit(world.decide(world.consume("lobby", places["us-1"], "mic")))
    world.relay_event(relay(first), events.RelayOpened)
    assert relay(world.decide(world.consume("lobby", places["us-2"], "mic"))).source.server == "us-1"


def test_a_region_is_entered_once_by_consumes_of_the_same_moment_too() -> None:
    world = World(AllocatorConfig(policy="spread"))
    for server, region in (("eu-1", "eu"), ("us-1", "us"), ("us-2", "us"), ("asia-1", "asia")):
        world.server(server, region=region)
    peers = {world.joined("lobby", f"p{i}").server: f"p{i}" for i in range(4)}
    world.produce("lobby", peers["eu-1"], "mic")
    first = world.commit(world.decide(world.consume("lobby", peers["us-1"], "mic")))
    waiting = world.consume("lobby", peers["us-2"], "mic")
    decision = world.decide(waiting)
    assert (decision.appends, decision.wait_for) == ((), "mic")
    assert relay(world.decide(world.consume("lobby", peers["asia-1"], "mic"))).source.server == "eu-1"
    world.relay_event(relay(first), events.RelayOpened)
    assert relay(world.decide(waiting)).source.server == "us-1"


def test_a_lost_source_is_no_source() -> None:
    world, places = spread_world(3, 1, 3, max_fan_out=2)
    first = world.commit(world.decide(world.consume("lobby", "p1", "mic")))
    world.relay_event(relay(first), events.RelayOpened)
    deeper = world.consume("lobby", "p2", "mic")
    assert relay(world.decide(deeper)).source == places[1], "the origin keeps its second slot for its own server"
    world.kill_worker(places[1])
    assert relay(world.decide(deeper)).source == places[0]


def test_a_closed_relay_is_opened_again_under_another_id() -> None:
    world, _ = spread_world(1, 2, 2)
    intent = world.consume("lobby", "p1", "mic")
    first = world.commit(world.decide(intent))
    command = relay(first)
    world.relay_event(command, events.RelayOpened)
    while_open = world.decide(intent)
    assert (while_open.appends, while_open.wait_for) == ((), "mic"), "it may be closing already"
    world.view.parked.park(intent, "mic", world.view.open_intents)
    ends = {"source": command.source, "target": command.target}
    closed = events.RelayClosed.model_validate({"producer": "mic", "data": False, **ends, "reason": "unused"})
    world.append(subjects.room_event("lobby", closed.action), closed)
    assert world.view.parked.take_woken() == [intent.seq], "at once, not when the timer finds it"
    again = world.decide(intent)
    assert relay(again).target == command.target
    assert again.commands[0].id != first.commands[0].id


# --- any tree ------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([None, "eu", "us"]), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(2, 4),
    st.integers(0, 2**32),
    st.floats(0, 1),
)
def test_any_order_of_consumes_gives_one_tree(
    regions_of: list[str | None], workers: int, max_fan_out: int, seed: int, opens_ratio: float
) -> None:
    """However consumes and openings interleave: fan-out is bounded, a server or region is entered once."""
    servers, regions = len(regions_of), {f"s{index}": region for index, region in enumerate(regions_of)}
    rng = random.Random(seed)
    places = [Place(server=f"s{s}", worker=f"s{s}-{w}") for s in range(servers) for w in range(workers)]
    rng.shuffle(places)
    origin, targets = places[0], places[1:]
    producer = ProducerState("mic", "p", "t", origin, 1, data=False)
    found: dict[Place, RelayState] = {}
    waiting = list(targets)
    while waiting:
        target = rng.choice(waiting)
        plan = relays.plan(producer, found, target, regions, max_fan_out=max_fan_out, explained=16)
        opening = [relay for relay in found.values() if relay.status == "opening"]
        if plan.source is None:
            assert opening, "nothing to wait for"
        else:
            assert plan.source == origin or found[plan.source].status == "open"
            found[target] = RelayState("mic", False, plan.source, target, "opening")
            waiting.remove(target)
            opening.append(found[target])
        if plan.source is None or rng.random() < opens_ratio:
            rng.choice(opening).status = "open"
    sources = [relay.source for relay in found.values()]
    assert all(sources.count(place) <= max_fan_out for place in places)
    for server in {place.server for place in places}:
        entering = [r for r in found.values() if r.target.server == server and r.source.server != server]
        assert len(entering) == (0 if server == origin.server else 1)
    for region in {region for region in regions_of if region is not None}:
        crossing = [r for r in found.values() if regions[r.target.server] == region != regions[r.source.server]]
        if max_fan_out > 2:  # with two slots none can be kept for the region
            assert len(crossing) == (regions[origin.server] != region)
