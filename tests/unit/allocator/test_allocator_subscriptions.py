"""Subscriptions as an allocator sees them: relays by the batch, and wishes that go along to the next place."""

from __future__ import annotations

from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.subscriptions import SubscribedConsumer, Subscription
from tests.unit.allocator.allocator_world import World, placed
from tests.unit.allocator.test_allocator_relays import spread_world
from tests.unit.allocator.test_allocator_snapshot import content, restored


def requested(world: World, target: Place, *producers: str) -> RelayRequest:
    """The stimulus of a request of the target's agent."""
    event = events.RelaysRequested(
        server=target.server, incarnation="i1", worker=target.worker, room="lobby", producers=list(producers)
    )
    (stimulus,) = work_queue.of_entry(world.view, world.server_event(event, target.server))
    assert isinstance(stimulus, RelayRequest)
    return stimulus


def batch(decision: Decision) -> commands.OpenRelays:
    (append,) = decision.commands
    assert isinstance(append.payload, commands.OpenRelays)
    return append.payload


def opened(world: World, command: commands.OpenRelays) -> None:
    for it in command.relays:
        event = events.RelayOpened(producer=it.producer, data=it.data, source=it.source, target=command.target)
        world.append(subjects.room_event("lobby", event.action), event)


def subscribe(world: World, peer: str) -> None:
    who = world.view.peer(("lobby", peer))
    assert who is not None
    result = results.SubscribeResult(subscription="all", generation=who.generation)
    world.append(subjects.result("lobby", peer, result.action), result)


def test_all_that_is_requested_is_ordered_by_one_command() -> None:
    world, places = spread_world(1, 2, 2)
    world.produce("lobby", "p0", "chat", data=True)
    world.produce("lobby", "p1", "own")

    request = requested(world, places[1], "mic", "chat", "own", "nothing")
    decision = world.commit(world.decide(request))

    command = batch(decision)
    assert [(it.producer, it.data, it.source) for it in command.relays] == [
        ("mic", False, places[0]),
        ("chat", True, places[0]),
    ]
    assert command.target == places[1]
    assert len(decision.commands[0].holds) == 4
    assert {key[0] for key in world.view.state.rooms["lobby"].relays} == {"mic", "chat"}
    assert world.decide(request).reason == "there-already"


def test_what_is_on_its_way_into_the_server_is_waited_for() -> None:
    world, places = spread_world(2, 2, 4)
    origin = places[0]
    first, second = [place for place in places if place.server != origin.server]
    command = batch(world.commit(world.decide(requested(world, first, "mic"))))

    request = requested(world, second, "mic")
    decision = world.decide(request)
    assert (decision.appends, decision.wait_for_all) == ((), ("mic",))
    world.view.relay_requests.decided(request, decision.wait_for_all)
    opened(world, command)

    assert work_queue.woken(world.view) == [request]
    assert batch(world.decide(request)).relays[0].source == first
    world.view.relay_requests.decided(request, ())
    assert not work_queue.is_open(world.view, request, world.now)


def test_requests_are_kept_up_to_a_number() -> None:
    world, places = spread_world(1, 2, 2)
    first = requested(world, places[1], "mic")
    world.view.relay_requests.decided(first, ["mic"])
    for _ in range(1_024):
        requested(world, places[1], "mic")
    assert world.view.relay_requests.get(first.seq) is None


def test_subscriptions_go_along_to_the_next_place_and_end_with_the_membership() -> None:
    world = World()
    world.server("s1", 2)
    place = world.joined("lobby", "alice")
    subscribe(world, "alice")
    assert content(restored(world.view)) == content(world.view)

    world.kill_worker(place)
    decision = world.commit(world.decide(world.unplaced("lobby", "alice")))
    assert placed(decision) != place
    (append,) = decision.commands
    assert isinstance(append.payload, commands.PlacePeer)
    assert append.payload.subscriptions == [Subscription(subscription="all")]
    assert append.payload.subscriptions_seq is not None
    world.kill_worker(placed(decision))
    again = world.join("lobby", "alice")
    assert all(it.payload.subscriptions == [] for it in again.commands if isinstance(it.payload, commands.PlacePeer))


def test_consumers_of_subscriptions_count_as_load() -> None:
    world = World()
    world.server("s1", 1)
    place = world.joined("lobby", "alice")
    world.joined("lobby", "bob")
    world.produce("lobby", "bob", "mic")
    world.transport_result("lobby", "alice", "receive")
    worker = world.view.fleet.at(place)
    assert worker is not None
    before = worker.reservations.opened
    event = events.ConsumersOpened(
        subscription="all",
        transport="receive",
        generation=1,
        consumers=[SubscribedConsumer(consumer=f"c1-{it}", producer="mic", kind="audio") for it in range(3)],
    )
    world.append(subjects.peer_event("lobby", "alice", event.action), event)
    assert worker.reservations.opened - before == 3 * world.view.config.micro(world.view.config.costs.consumer)
    assert len(world.view.state.rooms["lobby"].peers["alice"].consumers) == 3
