"""What the agent's machine says to each turn of a story. No loop, no bus, no worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mafalda.contract.messages import events, intents
from mafalda.errors import NotFound, StaleGeneration, WorkerDied
from mafalda.testing.builders import subject_of
from mafalda.testing.stories import Story, place
from mafalda.workers.core import machine
from mafalda.workers.core.instructions import (
    AdoptPeer,
    CheckWaiting,
    CloseMirror,
    DropPeer,
    ForgetRoom,
    HandleIntent,
    Instruction,
    LoadRoom,
    MirrorKey,
    OpenMirror,
    PlaceGone,
    RefuseRelay,
    RestRoom,
    SettleMirror,
    StandDown,
    StartOver,
    StopCarrying,
    YieldProducer,
)
from tests.unit.workers.judged import Judged, entry, only


def two_servers() -> Story:
    """Server a with two workers, b with one."""
    return Story().server_starts("a", "a-0", "a-1").server_starts("b", "b-0")


def heard_elsewhere() -> Story:
    """Alice produces on a, Bob is on b and her producer is carried there."""
    story = two_servers().joins("alice", "a-0").opens_transport("alice").produces("alice", "mic", worker="a-0")
    return story.joins("bob", "b-0").orders_relay("mic", "a-0", "b-0")


def wish(story: Story, peer: str, intent: intents.Intent) -> None:
    story.say(intent, peer=peer)


# --- peers ----------------------------------------------------------------------------------------


def test_a_peer_placed_here_is_adopted_after_its_room_was_read() -> None:
    judged = Judged(two_servers().places("alice", "a-0"), "a", "a-0", "a-1")

    said = judged.read()

    assert [type(it) for it in said if not isinstance(it, CheckWaiting)] == [LoadRoom, AdoptPeer]
    assert only(AdoptPeer, said)[0].command.worker == "a-0"


def test_a_peer_placed_elsewhere_is_nothing_to_us() -> None:
    assert Judged(two_servers().places("alice", "b-0"), "a", "a-0", "a-1").read() == []


def test_a_peer_placed_on_a_worker_that_is_dead_is_passed_over() -> None:
    judged = Judged(two_servers().places("alice", "a-1"), "a", "a-0")

    assert judged.read() == []


def test_a_newer_placement_here_replaces_the_older_one() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    said = judged_read(judged, story.places("alice", "a-1", 2, "drain"))

    (drop,), (adopt,) = only(DropPeer, said), only(AdoptPeer, said)
    assert said.index(drop) < said.index(adopt)
    assert (drop.generation, drop.reason, adopt.command.worker) == (1, "peer-moved", "a-1")


def test_a_newer_placement_elsewhere_ends_ours() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    said = judged_read(judged, story.places("alice", "b-0", 2, "drain"))

    assert [it.peer for it in only(DropPeer, said)] == ["alice"]
    assert not only(AdoptPeer, said)
    assert only(ForgetRoom, said)


def test_an_older_or_equal_placement_changes_nothing() -> None:
    story = two_servers().joins("bob", "a-0").joins("alice", "a-0", 3)
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    for generation in (1, 2, 3):
        said = judged_read(judged, story.places("alice", "a-1", generation))
        assert not only(AdoptPeer, said)
        assert not only(DropPeer, said)


def test_an_empty_room_rests_and_a_later_peer_finds_it_without_its_past_being_read() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()
    judged_read(judged, story.leaves("alice"))

    assert judged.machine.on_peer_ended(story.room_id, "alice", 1) == [RestRoom(story.room_id)]
    assert judged.machine.room(story.room_id) is None
    assert not judged.machine.serves(story.room_id)

    said = judged_read(judged, story.places("alice", "a-0", 2))
    assert not only(LoadRoom, said)
    assert only(AdoptPeer, said)[0].command.generation == 2
    assert judged.machine.serves(story.room_id)


def test_a_resting_room_that_wakes_up_elsewhere_is_forgotten_and_read_again_when_it_comes_here() -> None:
    story = two_servers().joins("alice", "a-0").leaves("alice")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()
    judged.machine.on_peer_ended(story.room_id, "alice", 1)

    assert only(ForgetRoom, judged_read(judged, story.places("bob", "b-0"))) == [ForgetRoom(story.room_id)]
    assert only(LoadRoom, judged_read(judged, story.places("alice", "a-0", 2)))


def test_a_void_placement_in_a_backlog_does_not_lose_those_behind_it() -> None:
    """Bob left while he was given a place here; Alice, who comes behind him, is here."""
    story = two_servers().joins("alice", "b-0").joins("carol", "b-0").joins("bob", "b-0").leaves("bob")
    judged = Judged(story, "a", "a-0", "a-1", loads_at_once=False)
    judged.read()
    story.places("bob", "a-0", 2, "worker-died").places("alice", "a-0", 2, "worker-died")
    judged.read()

    said = judged.load(story.room_id)
    assert [it.command.peer for it in only(AdoptPeer, said)] == ["alice"]
    assert judged.machine.serves(story.room_id)
    wish(story, "alice", intents.CreateTransport(transport="t"))
    judged.machine.on_peer_ready(story.room_id, "alice", 2, [])
    assert only(HandleIntent, judged.read())


def test_of_too_many_resting_rooms_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_RESTING", 2)
    judged = Judged(two_servers(), "a", "a-0", "a-1")
    judged.read()
    forgotten: list[ForgetRoom] = []
    for seq, room in enumerate(("r1", "r2", "r3"), start=10):
        (placed,) = Story(room).places("alice", "a-0").entries
        arrived = entry(seq, *placed[1:])
        judged.machine.on_entry(arrived)
        judged.machine.on_room_loaded(room, [arrived], seq)
        forgotten += only(ForgetRoom, judged.machine.on_peer_ended(room, "alice", 1))

    assert forgotten == [ForgetRoom("r1")]


def test_the_end_of_an_older_placement_does_not_end_the_newer_one() -> None:
    story = two_servers().joins("alice", "a-0").places("alice", "a-1", 2, "drain")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    assert judged.machine.on_peer_ended(story.room_id, "alice", 1) == []
    assert judged.machine.has_peer(story.room_id, "alice")


# --- intents --------------------------------------------------------------------------------------


def test_intents_wait_until_the_peer_is_ready_and_are_done_in_order_and_once() -> None:
    story = two_servers().places("alice", "a-0")
    wish(story, "alice", intents.CreateTransport(transport="missed"))
    judged = Judged(story, "a", "a-0")
    judged.read(up_to=3)  # the intent came before it was followed
    missed = entry(*story.entries[3])
    wish(story, "alice", intents.CreateTransport(transport="early"))
    judged._read = 4
    assert not only(HandleIntent, judged.read())

    handled = judged.ready("alice", missed=[missed, entry(*story.entries[4])])

    assert [it.entry.seq for it in handled] == [4, 5]
    assert not judged.ready("alice", generation=9)


def test_an_intent_that_comes_again_is_not_done_again() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0")
    judged.read()
    judged.ready("alice")
    wanted = intents.PauseProducer(producer="mic")
    subject = subject_of(wanted, room=story.room_id, peer="alice", server="")

    first = judged.machine.on_entry(entry(10, subject, wanted, id="the-same"))
    same_entry = judged.machine.on_entry(entry(10, subject, wanted, id="the-same"))
    stored_again = judged.machine.on_entry(entry(11, subject, wanted, id="the-same"))
    another = judged.machine.on_entry(entry(12, subject, wanted, id="another"))

    assert [len(first), len(same_entry), len(stored_again), len(another)] == [1, 0, 0, 1]


def test_joins_and_strangers_intents_are_the_allocators_business() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0")
    judged.read()
    judged.ready("alice")
    wish(story, "alice", intents.Join())
    wish(story, "stranger", intents.Leave())

    assert not only(HandleIntent, judged.read())


def test_what_does_not_fit_its_subject_is_not_believed() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0")
    judged.read()
    judged.ready("alice")

    story.say(events.PeerLeft(peer="alice", generation=1), subject="mafalda.room.lobby.peer.alice.intent.leave")
    story.say(intents.Leave(), subject="mafalda.room.lobby.peer.alice.intent.join")

    assert judged.read() == []
    assert "alice" in judged.machine.state.rooms["lobby"].peers


# --- mirrors --------------------------------------------------------------------------------------


def test_an_ordered_relay_is_opened_at_its_target_only() -> None:
    story = heard_elsewhere()

    at_target = Judged(story, "b", "b-0").read()
    at_source = Judged(story, "a", "a-0", "a-1").read()

    (opened,) = only(OpenMirror, at_target)
    assert opened.key == MirrorKey("lobby", "mic", "b-0")
    assert not only(OpenMirror, at_source)


def test_one_relay_for_each_producer_and_worker() -> None:
    story = heard_elsewhere().orders_relay("mic", "a-0", "b-0")

    assert len(only(OpenMirror, Judged(story, "b", "b-0").read())) == 1


def test_relays_that_cannot_be_are_refused_with_the_reason() -> None:
    story = heard_elsewhere()
    judged = Judged(story, "b", "b-0")
    judged.read()
    story.orders_relay("nothing", "a-0", "b-0")
    story.produces("alice", "cam", worker="a-0").orders_relay("cam", "a-0", "b-0", generation=4)
    story.produces("alice", "screen", worker="a-0").orders_relay("screen", "a-9", "b-0")

    refused = only(RefuseRelay, judged.read())

    assert [type(it.error) for it in refused] == [NotFound, StaleGeneration, WorkerDied]


def test_a_relay_that_failed_can_be_ordered_again() -> None:
    story = heard_elsewhere()
    judged = Judged(story, "b", "b-0")
    (opened,) = only(OpenMirror, judged.read())

    judged.machine.on_mirror_ended(opened.key, opened.entry.seq)
    judged_read(judged, story.fails_relay("mic", "a-0", "b-0"))

    (again,) = only(OpenMirror, judged_read(judged, story.orders_relay("mic", "a-0", "b-0")))
    assert judged.machine.on_mirror_ended(opened.key, opened.entry.seq) == []  # the old one's end is not its own
    assert not only(OpenMirror, judged_read(judged, story.orders_relay("mic", "a-0", "b-0")))
    assert again.key == opened.key


def test_pause_and_resume_reach_the_mirror() -> None:
    story = heard_elsewhere()
    judged = Judged(story, "b", "b-0")
    judged.read()
    story.say(events.ProducerPaused(peer="alice", producer="mic"))
    story.say(events.ProducerResumed(peer="alice", producer="mic"))
    story.say(events.ProducerPaused(peer="alice", producer="another"))

    assert judged.read() == [SettleMirror(MirrorKey("lobby", "mic", "b-0"))] * 2


def test_a_mirror_closes_when_its_origin_does_and_says_why() -> None:
    turns: dict[str, Callable[[Story], Story]] = {
        "producer-closed": lambda story: story.closes_producer("alice", "mic"),
        "peer-left": lambda story: story.leaves("alice"),
        "peer-moved": lambda story: story.places("alice", "a-1", 2, "drain"),
        "worker-died": lambda story: story.worker_dies("a-0"),
    }
    for reason, turn in turns.items():
        story = heard_elsewhere()
        judged = Judged(story, "b", "b-0")
        judged.read()

        said = judged_read(judged, turn(story))

        assert [it.reason for it in only(CloseMirror, said)] == [reason]
        assert only(CheckWaiting, said)


def test_a_lost_server_ends_what_came_from_it() -> None:
    for end in (Story.server_is_lost, Story.server_stops):
        story = heard_elsewhere()
        judged = Judged(story, "b", "b-0")
        judged.read()

        said = judged_read(judged, end(story, "a"))

        assert len(only(CloseMirror, said)) == 1
        assert {it.place for it in only(PlaceGone, said)} == {place("a-0"), place("a-1")}


def test_a_dead_hop_ends_the_relays_behind_it() -> None:
    story = Story().server_starts("a", "a-0").server_starts("b", "b-0").server_starts("c", "c-0")
    story.joins("alice", "a-0").produces("alice", "mic", worker="a-0").opens_relay("mic", "a-0", "b-0")
    story.joins("carol", "c-0").orders_relay("mic", "b-0", "c-0")
    judged = Judged(story, "c", "c-0")
    judged.read()

    said = judged_read(judged, story.worker_dies("b-0"))

    assert [it.key.worker for it in only(CloseMirror, said)] == ["c-0"]


def test_the_source_stops_carrying_when_the_target_says_so() -> None:
    for end in (Story.closes_relay, Story.fails_relay):
        story = heard_elsewhere()
        judged = Judged(story, "a", "a-0", "a-1")
        judged.read()

        said = judged_read(judged, end(story, "mic", "a-0", "b-0"))

        assert only(StopCarrying, said) == [StopCarrying("lobby", "mic", "a-0", place("b-0"))]


def test_a_mirror_keeps_its_room_when_no_peer_is_left() -> None:
    story = heard_elsewhere()
    judged = Judged(story, "b", "b-0")
    (opened,) = only(OpenMirror, judged.read())

    judged_read(judged, story.leaves("bob"))
    assert judged.machine.on_peer_ended("lobby", "bob", 1) == []

    assert judged.machine.on_mirror_ended(opened.key, opened.entry.seq) == [RestRoom("lobby"), ForgetRoom("lobby")]


def test_a_producer_id_that_another_peer_had_first_is_given_up() -> None:
    story = two_servers().joins("alice", "a-0").joins("bob", "b-0")
    judged = Judged(story, "b", "b-0")
    judged.read()
    story.produces("alice", "mic", worker="a-0").produces("bob", "mic", worker="b-0")

    assert only(YieldProducer, judged.read()) == [YieldProducer("lobby", "bob", "mic")]


# --- workers and servers --------------------------------------------------------------------------


def test_a_death_of_our_own_is_acted_on_before_the_log_knows() -> None:
    story = heard_elsewhere()
    judged = Judged(story, "b", "b-0")
    judged.read()

    said = judged.machine.on_worker_gone("b-0")

    assert [it.peer for it in only(DropPeer, said)] == ["bob"]
    assert [it.reason for it in only(CloseMirror, said)] == ["worker-died"]
    assert PlaceGone(place("b-0")) in said
    assert ForgetRoom("lobby") in said
    assert not only(DropPeer, judged_read(judged, story.worker_dies("b-0")))


def test_a_death_of_one_worker_spares_the_other() -> None:
    story = two_servers().joins("alice", "a-0").joins("bob", "a-1")
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    said = judged.machine.on_worker_gone("a-0")

    assert [it.peer for it in only(DropPeer, said)] == ["alice"]
    assert not only(ForgetRoom, said)


def test_our_incarnation_given_up_is_the_end_of_it() -> None:
    story = two_servers()
    judged = Judged(story, "a", "a-0", "a-1")
    judged.read()

    assert judged_read(judged, story.server_is_lost("b")) == [PlaceGone(place("b-0"))]
    assert judged_read(judged, story.server_is_lost("a", "an-earlier-one")) == []
    assert judged_read(judged, story.server_is_lost("a")) == [StartOver()]


def test_a_second_agent_under_our_name_makes_us_stand_down() -> None:
    story = Story().server_starts("a", "a-0", incarnation="i0").server_starts("a", "a-1", incarnation="i1")
    judged = Judged(story, "a", "a-1")
    assert not only(StandDown, judged.read())

    assert only(StandDown, judged_read(judged, story.server_starts("a", "a-2", incarnation="i2"))) == [StandDown("i2")]


# --- taking a room in -----------------------------------------------------------------------------


def test_what_comes_while_a_room_is_read_is_acted_on_once() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "b", "b-0", loads_at_once=False)
    judged_read(judged, story.places("bob", "b-0"))
    story.produces("alice", "mic", worker="a-0").orders_relay("mic", "a-0", "b-0").places("carol", "b-0")
    # The past is read up to its end, though the follower has brought only half of it ...
    judged.read(up_to=len(story.entries) - 2)
    judged.load("lobby")
    # ... and brings the other half afterwards.
    judged.read()

    assert [it.command.peer for it in only(AdoptPeer, judged.told)] == ["bob", "carol"]
    assert len(only(OpenMirror, judged.told)) == 1
    assert judged.machine.room("lobby") == story.room


def test_servers_read_with_a_room_are_not_taken_twice() -> None:
    story = two_servers().places("bob", "b-0")
    judged = Judged(story, "b", "b-0", loads_at_once=False)
    judged.read()
    story.server_starts("c", "c-0").joins("alice", "c-0").produces("alice", "mic", worker="c-0")
    judged.load("lobby")
    assert judged.machine.state.worker(place("c-0"))

    judged.read()

    assert judged.machine.room("lobby") == story.room  # a second ServerStarted would have ended Alice
    judged_read(judged, story.worker_dies("c-0"))
    assert judged.machine.room("lobby") == story.room


def test_a_room_is_as_of_what_was_read() -> None:
    story = two_servers().joins("alice", "a-0")
    judged = Judged(story, "a", "a-0", loads_at_once=False)
    judged.read()
    assert judged.machine.is_loading()
    story.produces("alice", "mic", worker="a-0")

    judged.load("lobby")

    assert judged.machine.room_seq("lobby") == len(story.entries)
    assert not judged.machine.is_loading()
    assert judged.machine.room_seq("elsewhere") == 0


def judged_read(judged: Judged, _: Story) -> list[Instruction]:
    """Read what the story was just told."""
    return judged.read()


def test_an_order_that_was_read_with_the_past_is_not_obeyed_again() -> None:
    story = two_servers().joins("alice", "a-0").produces("alice", "mic", worker="a-0")
    judged = Judged(story, "b", "b-0", loads_at_once=False)
    judged_read(judged, story.places("bob", "b-0"))
    story.orders_relay("mic", "a-0", "b-0")
    (opened,) = only(OpenMirror, judged.load("lobby"))
    judged.machine.on_mirror_ended(opened.key, opened.entry.seq)  # it failed at once

    assert not only(OpenMirror, judged.read())


def test_a_worker_whose_death_was_read_with_a_room_does_not_rise_again() -> None:
    story = two_servers().places("bob", "b-0")
    judged = Judged(story, "b", "b-0", loads_at_once=False)
    judged.read()
    story.worker_starts("a-7").worker_dies("a-7")
    judged.load("lobby")

    judged.read(up_to=len(story.entries) - 1)

    assert judged.machine.state.worker(place("a-7")) is None
