"""A peer that is handed over is served at its former place until it is open at the new one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mafalda.contract.messages import intents
from mafalda.testing.stories import Story, place
from mafalda.workers.core.instructions import (
    AdoptPeer,
    CloseHandedOver,
    CloseRelayTarget,
    DropPeer,
    ForgetRoom,
    HandleIntent,
    HandOverPeer,
    Instruction,
    OpenRelayTarget,
    RelayKey,
)
from mafalda.workers.core.stimuli import HandoverEnded
from tests.unit.workers.machine_run import MachineRun, only
from tests.unit.workers.test_machine import read_more, request, two_servers


def handed_over() -> tuple[MachineRun, Story]:
    """Alice, who sends, is moved from a-0 to b-0."""
    story = two_servers().joins("alice", "a-0").opens_transport("alice").produces("alice", "mic", worker="a-0")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()
    run.ready("alice")
    return run, story


def relayed(*, to: str = "b-0") -> tuple[MachineRun, Story]:
    """Bob on server b hears Alice, who is about to be moved from server a."""
    story = two_servers().joins("alice", "a-0").opens_transport("alice").produces("alice", "mic", worker="a-0")
    story.joins("bob", to).opens_relay("mic", "a-0", to)
    run = MachineRun(story, "b", "b-0")
    run.read()
    return run, story


def changes(instructions: list[Instruction]) -> list[Instruction]:
    kinds = (HandOverPeer, CloseHandedOver, DropPeer, CloseRelayTarget, OpenRelayTarget, AdoptPeer, ForgetRoom)
    return [it for it in instructions if isinstance(it, kinds)]


def test_a_handed_over_peer_is_neither_dropped_nor_heard() -> None:
    run, story = handed_over()
    moved = changes(read_more(run, story.places("alice", "b-0", 2, "drain", handover=True)))
    assert moved == [HandOverPeer(story.room_id, "alice", 1)]
    assert (run.machine.placed_peers(), run.machine.count_handed_over()) == ([], 1)
    request(story, "alice", intents.CreateTransport(transport="t2"))
    assert not only(HandleIntent, run.read())


def test_a_producer_is_closed_here_when_it_is_open_there() -> None:
    run, story = handed_over()
    read_more(run, story.moves("alice", "b-0", 2, "drain", handover=True))
    opened = read_more(run, story.produces("alice", "mic", worker="b-0", generation=2))
    assert changes(opened) == [CloseHandedOver(story.room_id, "alice", "mic")]


def test_the_room_stays_until_the_handover_has_ended() -> None:
    run, story = handed_over()
    read_more(run, story.moves("alice", "b-0", 2, "drain", handover=True))
    assert run.machine.handle(HandoverEnded(story.room_id, "alice", 7)) == []
    assert run.machine.has_room(story.room_id)
    ended = run.machine.handle(HandoverEnded(story.room_id, "alice", 1))
    assert changes(ended) == [ForgetRoom(story.room_id)]
    assert run.machine.count_handed_over() == 0


def test_a_peer_that_leaves_ends_the_handover() -> None:
    run, story = handed_over()
    read_more(run, story.moves("alice", "b-0", 2, "drain", handover=True))
    assert changes(read_more(run, story.leaves("alice", 2))) == [CloseHandedOver(story.room_id, "alice")]


def test_a_peer_that_comes_back_ends_the_handover_first() -> None:
    run, story = handed_over()
    read_more(run, story.moves("alice", "b-0", 2, "drain", handover=True))
    back = changes(read_more(run, story.places("alice", "a-1", 3, "drain", handover=True)))
    assert [type(it) for it in back] == [CloseHandedOver, AdoptPeer]


def test_inside_a_server_nothing_is_handed_over() -> None:
    run, story = handed_over()
    moved = changes(read_more(run, story.places("alice", "a-1", 2, "drain", handover=True)))
    assert [type(it) for it in moved] == [DropPeer, AdoptPeer]


def test_a_relay_goes_on_until_the_producer_is_open_at_the_new_place() -> None:
    run, story = relayed()
    key = RelayKey(story.room_id, "mic", "b-0")
    assert changes(read_more(run, story.moves("alice", "a-1", 2, "drain", handover=True))) == []
    assert changes(read_more(run, story.loses_transport("bob"))) == []
    opened = read_more(run, story.produces("alice", "mic", worker="a-1", generation=2))
    assert changes(opened) == [CloseRelayTarget(key, "peer-moved")]
    again = changes(read_more(run, story.orders_relay("mic", "a-1", "b-0", generation=2)))
    assert [type(it) for it in again] == [OpenRelayTarget]


def test_without_a_handover_a_relay_ends_at_once() -> None:
    run, story = relayed()
    moved = changes(read_more(run, story.moves("alice", "a-1", 2, "drain")))
    assert moved == [CloseRelayTarget(RelayKey(story.room_id, "mic", "b-0"), "peer-moved")]


@pytest.mark.parametrize(
    "ending",
    [
        lambda story: story.closes_producer("alice", "mic"),
        lambda story: story.leaves("alice", 2),
        lambda story: story.worker_dies("a-0"),
        lambda story: story.server_stops("a"),
    ],
    ids=["producer", "peer", "worker", "server"],
)
def test_a_kept_relay_ends_with_its_producer_its_peer_or_its_source(ending: Callable[[Story], Story]) -> None:
    run, story = relayed()
    read_more(run, story.moves("alice", "a-1", 2, "drain", handover=True))
    closed = read_more(run, ending(story))
    assert [it.key for it in only(CloseRelayTarget, closed)] == [RelayKey(story.room_id, "mic", "b-0")]


def test_a_kept_relay_to_the_new_worker_ends_before_the_producer_is_opened_there() -> None:
    """It has the same id on the same worker."""
    run, story = relayed()
    read_more(run, story.places("alice", "b-0", 2, "drain", handover=True))
    run.ready("alice", 2)
    produce = intents.Produce(
        producer="mic", transport="t", media_kind="audio", rtp_parameters={"codecs": [], "encodings": []}
    )
    request(story, "alice", produce)
    found = run.read()
    assert [type(it) for it in found] == [CloseRelayTarget, HandleIntent]


def test_a_handover_that_was_read_with_the_room_s_past_keeps_nothing() -> None:
    story = two_servers().joins("alice", "a-0").moves("alice", "a-1", 2, "drain", handover=True)
    run = MachineRun(story, "a", "a-0", "a-1", loads_at_once=False)
    run.read()
    run.load(story.room_id)
    assert run.machine.count_handed_over() == 0
    assert place("a-1") == run.machine.room(story.room_id).peers["alice"].place  # type: ignore[union-attr]
