"""Peers of the audience: what they are expected to cost, and how many of them a worker takes."""

from __future__ import annotations

import pytest

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.decide.decision import Decision
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents
from tests.unit.allocator.allocator_world import World, placed, rejection

CONSUME = b'{"id":"%s","causationid":"x","type":"mafalda.result.consume.v1","data":{"generation":1}}'
#: What a listener to speech really costs its worker, of one core: 17 packets a second.
LISTENER = 0.0004


def join(world: World, peer: str) -> Decision:
    return world.commit(world.decide(world.intent("hall", peer, intents.Join(audience=True))))


def settle(world: World, cpu: dict[str, float], reports: int = 8) -> None:
    for _ in range(reports):
        world.now += 1
        world.load("s1", cpu)


def fill(world: World, peers: int) -> int:
    """Let listeners join as fast as the workers take them; returns how many were placed in the end."""
    count, listening = 0, dict.fromkeys(world.view.state.servers["s1"].workers, 0)
    for _ in range(200):
        before = count
        while count < peers:
            decision = join(world, f"p{count}")
            if not decision.commands:
                break
            listening[placed(decision).worker] += 1
            world.transport_result("hall", f"p{count}", f"p{count}-t")
            world.append_raw(f"mafalda.room.hall.peer.p{count}.result.consume", CONSUME % f"p{count}-c".encode())
            count += 1
        settle(world, {worker: listeners * LISTENER for worker, listeners in listening.items()})
        if before == count:
            return count
    raise AssertionError("the queue does not end")


def test_two_workers_take_two_thousand_listeners() -> None:
    world = World()
    world.server("s1", 2)
    assert fill(world, 2000) == 2000


def test_listeners_of_full_workers_are_refused() -> None:
    world = World()
    world.server("s1", 2)
    world.load("s1", 0.5999)
    error = rejection(join(world, "late")).error
    assert (error.code, error.details["above-watermark"]) == ("no-capacity", 2)


def test_listeners_fill_a_worker_up_to_its_watermark_by_what_they_cost() -> None:
    world = World()
    world.server("s1", 1)
    assert fill(world, 5000) == pytest.approx(0.6 / LISTENER, rel=0.05)


def test_a_listener_weighs_less_than_a_peer_that_may_send() -> None:
    config = AllocatorConfig()
    audience, others = World(), World()
    for world in (audience, others):
        world.server("s1")
    for index in range(20):
        place = placed(join(audience, f"p{index}"))
        others.join("hall", f"p{index}")
    for world in (audience, others):
        settle(world, {place.worker: 0.0})
    assert audience.load_of(place) == pytest.approx(20 * config.costs.silent_audience)
    assert others.load_of(place) == pytest.approx(20 * config.costs.silent_peer)


def test_membership_of_the_audience_is_on_the_subject_of_its_peer() -> None:
    world = World()
    world.server("s1")
    place = placed(join(world, "p"))
    joined = events.PeerJoined(peer="p", server=place.server, worker=place.worker, generation=1, audience=True)
    world.append(subjects.peer_event("hall", "q", joined.action), joined.model_copy(update={"peer": "p"}))
    known = world.view.peer(("hall", "p"))
    assert known is not None
    assert (known.audience, known.status) == (True, "placing"), "an event on another peer's subject changes nothing"
    world.append(subjects.peer_event("hall", "p", joined.action), joined)
    assert known.status == "joined"

    world.kill_worker(place)
    stranded = world.commit(world.decide(world.unplaced("hall", "p"))).events[0]
    assert isinstance(stranded.payload, events.PeerStranded)
    assert stranded.subject == "mafalda.room.hall.peer.p.event.peer-stranded"
    world.server("s2")
    (command,) = world.commit(world.decide(world.unplaced("hall", "p"))).commands
    assert isinstance(command.payload, commands.PlacePeer)
    assert command.payload.audience

    world.append(subjects.peer_event("hall", "p", "peer-left"), events.PeerLeft(peer="p", generation=2))
    assert world.view.peer(("hall", "p")) is None
    assert world.view.fleet.at(place) is None
    assert not [worker for worker in world.view.fleet.workers.values() if worker.headcount or worker.audience]
