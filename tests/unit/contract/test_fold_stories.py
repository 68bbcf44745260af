"""The state after a log, for many short logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from mafalda.contract.messages import results
from mafalda.contract.messages.commands import OpenRelay
from mafalda.contract.messages.events import PeerLeft, ProducerPaused, ProducerResumed, ServerDraining
from mafalda.contract.subjects import Address, parse
from mafalda.projection.fold import fold
from mafalda.projection.state import RoomState, State
from mafalda.testing.builders import example
from mafalda.testing.operations import count_operations
from mafalda.testing.stories import Story, place, violations


@dataclass(frozen=True)
class Case:
    """A story and what is there at its end. Peers are ``peer: worker status generation``."""

    name: str
    extend: Callable[[Story], object]
    peers: dict[str, str] = field(default_factory=dict)
    producers: str = ""
    consumers: dict[str, str] = field(default_factory=dict)  # by peer
    relays: str = ""
    transports: dict[str, str] = field(default_factory=dict)  # by peer


def fleet(story: Story) -> Story:
    """Two servers of two workers each."""
    return story.server_starts("a", "a-0", "a-1").server_starts("b", "b-0", "b-1")


def alice(story: Story) -> Story:
    """Alice on a-0 sends sound."""
    return fleet(story).joins("alice", "a-0").opens_transport("alice").produces("alice", "mic", worker="a-0")


def pair(story: Story) -> Story:
    """Bob on the same worker consumes her producer."""
    return alice(story).joins("bob", "a-0").opens_transport("bob").consumes("bob", "ear", "mic")


def far(story: Story) -> Story:
    """Carol on another server consumes it through a relay."""
    alice(story).joins("carol", "b-0").opens_transport("carol").opens_relay("mic", "a-0", "b-0")
    return story.consumes("carol", "ear", "mic")


def tree(story: Story) -> Story:
    """Dave consumes it through a second relay, inside Carol's server."""
    far(story).joins("dave", "b-1").opens_transport("dave").opens_relay("mic", "b-0", "b-1")
    return story.consumes("dave", "ear", "mic")


A, B, C, D = "a-0 joined 1", "a-0 joined 1", "b-0 joined 1", "b-1 joined 1"

STORIES = [
    Case("placed, not there yet", lambda s: fleet(s).places("alice", "a-0"), {"alice": "a-0 placing 1"}),
    Case("join", lambda s: fleet(s).joins("alice", "a-0"), {"alice": A}),
    Case("leave, and the room is gone", lambda s: alice(s).leaves("alice")),
    Case(
        "leave of an older membership",
        lambda s: fleet(s).joins("alice", "a-0", 2).leaves("alice", 1),
        {"alice": "a-0 joined 2"},
    ),
    Case("join on a worker that is not there", lambda s: fleet(s).joins("alice", "a-9"), {"alice": "a-9 unplaced 1"}),
    Case("transport", alice, {"alice": A}, "mic", transports={"alice": "alice-t"}),
    Case(
        "restart-ice opens no transport",
        lambda s: (
            fleet(s)
            .joins("alice", "a-0")
            .append(example(results.TransportResult), subject="mafalda.room.lobby.peer.alice.result.restart-ice")
        ),
        {"alice": A},
    ),
    Case(
        "transport closed, with what was on it",
        lambda s: alice(s).is_done("alice", "close-transport", "alice-t"),
        {"alice": A},
    ),
    Case(
        "transport lost, with what was on it",
        lambda s: pair(s).loses_transport("alice"),
        {"alice": A, "bob": B},
        transports={"bob": "bob-t"},
    ),
    Case(
        "consumers go with their transport",
        lambda s: pair(s).is_done("bob", "close-transport", "bob-t"),
        {"alice": A, "bob": B},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "consume", pair, {"alice": A, "bob": B}, "mic", {"bob": "ear"}, transports={"alice": "alice-t", "bob": "bob-t"}
    ),
    Case(
        "a producer takes its consumers along",
        lambda s: pair(s).closes_producer("alice", "mic"),
        {"alice": A, "bob": B},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "another peer cannot close it",
        lambda s: pair(s).closes_producer("bob", "mic"),
        {"alice": A, "bob": B},
        "mic",
        {"bob": "ear"},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "consumer closed by its peer",
        lambda s: pair(s).is_done("bob", "close-consumer", "ear"),
        {"alice": A, "bob": B},
        "mic",
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "consumer lost",
        lambda s: pair(s).loses_consumer("bob", "ear", "mic"),
        {"alice": A, "bob": B},
        "mic",
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case("the producer's peer leaves", lambda s: pair(s).leaves("alice"), {"bob": B}, transports={"bob": "bob-t"}),
    Case(
        "consume of what is not there", lambda s: fleet(s).joins("bob", "a-0").consumes("bob", "ear", "mic"), {"bob": B}
    ),
    Case(
        "consume where it is not relayed",
        lambda s: alice(s).joins("carol", "b-0").consumes("carol", "ear", "mic"),
        {"alice": A, "carol": C},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "consume before the relay is open",
        lambda s: alice(s).joins("carol", "b-0").orders_relay("mic", "a-0", "b-0").consumes("carol", "ear", "mic"),
        {"alice": A, "carol": C},
        "mic",
        relays="mic a-0>b-0 opening",
        transports={"alice": "alice-t"},
    ),
    Case(
        "a data consumer of sound",
        lambda s: pair(s).is_done("bob", "close-consumer", "ear").consumes_data("bob", "ear", "mic"),
        {"alice": A, "bob": B},
        "mic",
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "data",
        lambda s: alice(s).produces_data("alice", "chat", worker="a-0").consumes_data("alice", "reader", "chat"),
        {"alice": A},
        "chat mic",
        {"alice": "reader"},
        transports={"alice": "alice-t"},
    ),
    Case(
        "relay",
        far,
        {"alice": A, "carol": C},
        "mic",
        {"carol": "ear"},
        "mic a-0>b-0 open",
        transports={"alice": "alice-t", "carol": "carol-t"},
    ),
    Case(
        "relay failed",
        lambda s: alice(s).orders_relay("mic", "a-0", "b-0").fails_relay("mic", "a-0", "b-0"),
        {"alice": A},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "relay failed, from another source",
        lambda s: far(s).fails_relay("mic", "a-1", "b-0"),
        {"alice": A, "carol": C},
        "mic",
        {"carol": "ear"},
        "mic a-0>b-0 open",
        transports={"alice": "alice-t", "carol": "carol-t"},
    ),
    Case(
        "relay of what is not there",
        lambda s: fleet(s).joins("alice", "a-0").opens_relay("mic", "a-0", "b-0"),
        {"alice": A},
    ),
    Case(
        "relay to a dead worker",
        lambda s: alice(s).worker_dies("b-0").opens_relay("mic", "a-0", "b-0"),
        {"alice": A},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "relay to where it is",
        lambda s: alice(s).opens_relay("mic", "a-1", "a-0"),
        {"alice": A},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "relay of sound as data",
        lambda s: alice(s).opens_relay("mic", "a-0", "b-0", data=True),
        {"alice": A},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "one relay for one pair",
        lambda s: far(s).opens_relay("mic", "a-1", "b-0"),
        {"alice": A, "carol": C},
        "mic",
        {"carol": "ear"},
        "mic a-0>b-0 open",
        transports={"alice": "alice-t", "carol": "carol-t"},
    ),
    Case(
        "a tree of relays",
        tree,
        {"alice": A, "carol": C, "dave": D},
        "mic",
        {"carol": "ear", "dave": "ear"},
        "mic a-0>b-0 open, mic b-0>b-1 open",
        {"alice": "alice-t", "carol": "carol-t", "dave": "dave-t"},
    ),
    Case(
        "a branch takes its twigs along",
        lambda s: tree(s).closes_relay("mic", "a-0", "b-0"),
        {"alice": A, "carol": C, "dave": D},
        "mic",
        transports={"alice": "alice-t", "carol": "carol-t", "dave": "dave-t"},
    ),
    Case(
        "a twig leaves the branch",
        lambda s: tree(s).closes_relay("mic", "b-0", "b-1"),
        {"alice": A, "carol": C, "dave": D},
        "mic",
        {"carol": "ear"},
        "mic a-0>b-0 open",
        {"alice": "alice-t", "carol": "carol-t", "dave": "dave-t"},
    ),
    Case(
        "the worker in the middle of the tree dies",
        lambda s: tree(s).worker_dies("b-0"),
        {"alice": A, "carol": "b-0 unplaced 1", "dave": D},
        "mic",
        transports={"alice": "alice-t", "dave": "dave-t"},
    ),
    Case(
        "the origin's worker dies",
        lambda s: tree(s).worker_dies("a-0"),
        {"alice": "a-0 unplaced 1", "carol": C, "dave": D},
        transports={"carol": "carol-t", "dave": "dave-t"},
    ),
    Case(
        "a server is lost",
        lambda s: tree(s).server_is_lost("b"),
        {"alice": A, "carol": "b-0 unplaced 1", "dave": "b-1 unplaced 1"},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "an earlier incarnation is lost",
        lambda s: pair(s).server_is_lost("a", "i0").server_stops("a", "i0").worker_dies("a-0", "i0"),
        {"alice": A, "bob": B},
        "mic",
        {"bob": "ear"},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "a server begins anew",
        lambda s: pair(s).server_starts("a", "a-7", incarnation="i2"),
        {"alice": "a-0 unplaced 1", "bob": "a-0 unplaced 1"},
    ),
    Case(
        "a repeated server-started",
        lambda s: pair(s).server_starts("a", "a-0", "a-1"),
        {"alice": A, "bob": B},
        "mic",
        {"bob": "ear"},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "re-placement after a death",
        lambda s: pair(s).worker_dies("a-0").moves("alice", "a-1", 2),
        {"alice": "a-1 joined 2", "bob": "a-0 unplaced 1"},
    ),
    Case(
        "re-placement of the living",
        lambda s: pair(s).moves("bob", "b-0", 2, "drain"),
        {"alice": A, "bob": "b-0 joined 2"},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "re-placement with an older generation",
        lambda s: fleet(s).joins("bob", "a-0", 3).moves("bob", "b-0", 2),
        {"bob": "a-0 joined 3"},
    ),
    Case(
        "re-placement with the same generation",
        lambda s: fleet(s).joins("bob", "a-0").moves("bob", "b-0", 1),
        {"bob": "a-0 joined 1"},
    ),
    Case(
        "re-placement of a peer that has left",
        lambda s: pair(s).leaves("bob").places("bob", "b-0", 2, "worker-died"),
        {"alice": A},
        "mic",
        transports={"alice": "alice-t"},
    ),
    Case(
        "re-placement of the last peer, which has left",
        lambda s: fleet(s).joins("bob", "a-0").leaves("bob").places("bob", "b-0", 2, "worker-died"),
        {},
    ),
    Case(
        "events of a former place",
        lambda s: (
            pair(s)
            .moves("alice", "b-0", 2)
            .opens_transport("alice")
            .produces("alice", "cam", worker="a-0")
            .consumes("alice", "x", "cam")
        ),
        {"alice": "b-0 joined 2", "bob": B},
        transports={"bob": "bob-t"},
    ),
    Case(
        "events of a dead worker",
        lambda s: (
            alice(s)
            .worker_dies("a-0")
            .opens_transport("alice")
            .produces("alice", "mic", worker="a-0")
            .consumes("alice", "x", "mic")
        ),
        {"alice": "a-0 unplaced 1"},
    ),
    Case(
        "the same producer id under a new generation",
        lambda s: (
            pair(s)
            .moves("alice", "b-0", 2)
            .produces("alice", "mic", worker="b-0", generation=2)
            .closes_producer("alice", "mic", 1)
        ),
        {"alice": "b-0 joined 2", "bob": B},
        "mic",
        transports={"bob": "bob-t"},
    ),
    Case(
        "two peers open the same producer id: the first has it",
        lambda s: pair(s).produces("bob", "mic", worker="a-0").closes_producer("bob", "mic"),
        {"alice": A, "bob": B},
        "mic",
        {"bob": "ear"},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "a consumer id that is taken",
        lambda s: (
            pair(s).produces("alice", "cam", worker="a-0").consumes("bob", "ear", "cam").closes_producer("alice", "cam")
        ),
        {"alice": A, "bob": B},
        "mic",
        {"bob": "ear"},
        transports={"alice": "alice-t", "bob": "bob-t"},
    ),
    Case(
        "a producer on another worker than its peer",
        lambda s: fleet(s).joins("alice", "a-0").produces("alice", "mic", worker="a-1"),
        {"alice": A},
    ),
]


@pytest.mark.parametrize("case", STORIES, ids=lambda case: case.name)
def test_story(case: Case) -> None:
    story = Story()
    case.extend(story)
    room = story.room
    assert violations(story.state) == []
    assert {p.peer: f"{p.place.worker} {p.status} {p.generation}" for p in room.peers.values()} == case.peers
    assert " ".join(sorted(room.producers)) == case.producers
    assert {p.peer: " ".join(sorted(p.consumers)) for p in room.peers.values() if p.consumers} == case.consumers
    assert {p.peer: " ".join(sorted(p.transports)) for p in room.peers.values() if p.transports} == case.transports
    relays = sorted(f"{r.producer} {r.source.worker}>{r.target.worker} {r.status}" for r in room.relays.values())
    assert ", ".join(relays) == case.relays
    assert set(story.state.rooms) == ({"lobby"} if case.peers else set())


def test_pauses() -> None:
    story = pair(Story())

    def is_paused() -> bool:
        return story.room.peers["bob"].consumers["ear"].paused

    assert is_paused(), "consumers start paused"
    story.is_done("bob", "resume-consumer", "ear")
    assert not is_paused()
    story.is_done("bob", "pause-consumer", "ear", generation=2)
    assert not is_paused(), "of another generation"
    story.is_done("bob", "pause-consumer", "ear")
    assert is_paused()


def test_a_subscription_that_was_answered_while_a_move_was_decided_goes_along() -> None:
    story = pair(Story())
    story.append(results.SubscribeResult(subscription="all", generation=1), peer="bob")
    story.moves("bob", "b-0", 2)
    assert set(story.room.peers["bob"].subscriptions) == {"all"}
    story.leaves("bob", 2).joins("bob", "b-0", 3)
    assert story.room.peers["bob"].subscriptions == {}


def test_producer_pauses() -> None:
    story = pair(Story())

    def is_paused() -> bool:
        return story.room.producers["mic"].paused

    assert not is_paused()
    story.append(ProducerPaused(peer="bob", producer="mic"))
    assert not is_paused(), "not his"
    story.append(ProducerPaused(peer="alice", producer="mic"))
    assert is_paused()
    story.append(ProducerResumed(peer="alice", producer="mic"))
    assert not is_paused()


def test_draining() -> None:
    story = fleet(Story())
    for draining, status in [(True, "draining"), (False, "up"), (True, "draining")]:
        story.append(ServerDraining(server="a", incarnation="i1", draining=draining))
        assert story.state.servers["a"].status == status
    story.append(ServerDraining(server="a", incarnation="i0", draining=False))
    assert story.state.servers["a"].status == "draining"
    assert sorted(story.state.servers["a"].workers) == ["a-0", "a-1"]


def test_servers() -> None:
    story = fleet(Story())
    story.server_stops("a")
    story.server_is_lost("b")
    assert {key: server.status for key, server in story.state.servers.items()} == {"a": "stopped", "b": "lost"}
    assert not any(server.workers for server in story.state.servers.values())
    story.worker_starts("a-5")
    assert not story.state.servers["a"].workers, "a server that stopped starts no workers"
    story.server_starts("a", "a-6", incarnation="i2").worker_starts("a-7", "i2")
    assert sorted(story.state.servers["a"].workers) == ["a-6", "a-7"]
    assert story.state.servers["a"].status == "up"


def test_a_place_opens_when_its_relay_does() -> None:
    story = alice(Story()).orders_relay("mic", "a-0", "b-0")
    assert list(story.room.places_of("mic")) == [place("a-0")]
    assert not story.room.can_consume("mic", place("b-0"))
    story.opens_relay("mic", "a-0", "b-0")
    assert list(story.room.places_of("mic")) == [place("a-0"), place("b-0")]
    assert story.room.can_consume("mic", place("b-0"))
    assert not story.room.can_consume("nothing", place("a-0"))
    assert list(story.room.places_of("nothing")) == []


def test_an_entry_that_was_folded_is_ignored() -> None:
    story = pair(Story())
    before = story.state.to_json_dict()
    for seq, subject, payload in reversed(story.entries):
        fold(story.state, seq, parsed(subject), payload)
    assert story.state.to_json_dict() == before
    for seq in (0, 1, story.state.seq):
        fold(story.state, seq, parsed("mafalda.room.lobby.event.peer-left"), PeerLeft(peer="bob", generation=1))
    assert story.state.to_json_dict() == before


def test_an_unreadable_message_changes_the_sequence_only() -> None:
    story = pair(Story())
    before = story.state.to_json_dict()
    fold(story.state, 900, Address("command", "place-peer", room="lobby", server="a"), None)
    assert story.state.to_json_dict() == before | {"seq": 900}


def test_a_long_chain_of_relays_is_removed_at_once() -> None:
    workers = [f"c-{number}" for number in range(3000)]
    story = alice(Story()).server_starts("c", *workers).opens_relay("mic", "a-0", workers[0])
    for source, target in pairwise(workers):
        story.orders_relay("mic", source, target)
    assert len(story.room.relays) == 3000
    story.closes_relay("mic", "a-0", workers[0])
    assert story.room.relays == {}


def test_a_relay_command_for_a_room_without_peers_makes_no_room() -> None:
    state = State()
    fold(state, 1, Address("command", "open-relay", room="lobby", server="fra-1"), example(OpenRelay))
    assert state == State(seq=1)


def test_a_forgotten_room_leaves_nothing_in_the_indexes() -> None:
    story = tree(Story())
    story.state.forget_room("lobby")
    story.state.forget_room("lobby")
    assert violations(story.state) == []
    workers = [worker for server in story.state.servers.values() for worker in server.workers.values()]
    assert len(workers) == 4
    assert not any(worker.peers or worker.relays for worker in workers)


@pytest.mark.parametrize(
    "end",
    [
        lambda story: story.worker_dies("a-0"),
        lambda story: story.closes_producer("alice", "mic"),
        lambda story: story.leaves("alice"),
    ],
    ids=["a worker dies", "a producer closes", "a peer leaves"],
)
def test_the_cost_of_an_end_does_not_grow_with_what_it_does_not_touch(end: Callable[[Story], object]) -> None:
    def cost(others: int) -> int:
        story = alice(Story())
        for number in range(others):
            story.joins(f"p{number}", "b-1").produces(f"p{number}", f"mic-{number}", worker="b-1")
            story.opens_relay(f"mic-{number}", "b-1", "b-0")
            room = f"room-{number}"
            story.state.rooms[room] = RoomState(room)
        return count_operations(lambda: end(story))

    assert 0 < cost(3) == cost(300)


def parsed(subject: str) -> Address:
    found = parse(subject)
    assert found is not None
    return found
