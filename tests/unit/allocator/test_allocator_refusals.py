"""What an allocator refuses of a peer without a place is bounded: nobody fills the log with refusals."""

from __future__ import annotations

from collections import Counter

from mafalda.allocator.core.decide.intents import FLOOD, FLOOD_BEGINS
from mafalda.allocator.core.state.refusals import MAX_REFUSED, REFUSED_PER_S, WARN_INTERVAL_S
from mafalda.contract.messages import intents
from tests.unit.allocator.allocator_world import World, placed

NOT_JOINED = "rejected-not-joined"


def reasons(world: World, peer: str, count: int) -> Counter[str]:
    """Why so many intents of a peer, stored in one moment, are decided as they are."""
    found: Counter[str] = Counter()
    for _ in range(count):
        decision = world.commit(world.decide(world.intent("lobby", peer, intents.PauseProducer(producer="mic"))))
        assert bool(decision.results) == (decision.reason == NOT_JOINED)
        found[decision.reason] += 1
    return found


def test_a_peer_that_goes_on_without_a_place_is_not_answered_for_ever() -> None:
    world = World()
    world.server("s1", 2)
    assert reasons(world, "mallory", MAX_REFUSED + 50) == {NOT_JOINED: MAX_REFUSED, FLOOD_BEGINS: 1, FLOOD: 49}
    world.now += 2
    assert reasons(world, "mallory", 100) == {NOT_JOINED: 2 * REFUSED_PER_S, FLOOD: 80}
    world.now += WARN_INTERVAL_S
    assert reasons(world, "mallory", MAX_REFUSED)[FLOOD_BEGINS] == 1
    assert reasons(world, "alice", 1) == {NOT_JOINED: 1}
    # It may still join, like everybody.
    placed(world.commit(world.decide(world.intent("lobby", "mallory", intents.Join()))))


def test_joins_that_are_refused_count_too() -> None:
    world = World()  # without a server there is no capacity
    found = [
        world.commit(world.decide(world.intent("lobby", "mallory", intents.Join()))).reason
        for _ in range(MAX_REFUSED + 2)
    ]
    assert Counter(found) == {"rejected-no-capacity": MAX_REFUSED, FLOOD_BEGINS: 1, FLOOD: 1}
