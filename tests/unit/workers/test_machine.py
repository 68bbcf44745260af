"""What the agent's machine says to each turn of a story. No loop, no bus, no worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mafalda.contract.messages import events, intents
from mafalda.errors import NotFound, StaleGeneration, WorkerExited
from mafalda.testing.builders import subject_of
from mafalda.testing.stories import Story, place
from mafalda.workers.core import machine
from mafalda.workers.core.instructions import (
    AdoptPeer,
    CheckRelayWaiters,
    CloseDuplicateProducer,
    ClosePipeSources,
    CloseRelaySource,
    CloseRelayTarget,
    DropPeer,
    ForgetRoom,
    HandleIntent,
    IdleRoom,
    Instruction,
    LoadRoom,
    OpenRelayTarget,
    ReconcileRelayTarget,
    RefuseRelay,
    RelayKey,
    ResetIncarnation,
    Superseded,
)
from mafalda.workers.core.stimuli import EntryRead, PeerEnded, PeerReady, RelayTargetEnded, RoomLoaded, WorkerGone
from tests.unit.workers.machine_run import MachineRun, entry, only


def two_servers() -> Story:
    """Server a with two workers, b with one."""
    return Story().server_starts("a", "a-0", "a-1").server_starts("b", "b-0")


def consumed_on_b() -> Story:
    """Alice produces on a, Bob is on b and her producer is relayed there."""
    story = two_servers().joins("alice", "a-0").opens_transport("alice").produces("alice", "mic", worker="a-0")
    return story.joins("bob", "b-0").orders_relay("mic", "a-0", "b-0")


def request(story: Story, peer: str, intent: intents.Intent) -> None:
    story.append(intent, peer=peer)


# --- peers ----------------------------------------------------------------------------------------


def test_a_peer_placed_here_is_adopted_after_its_room_was_read() -> None:
    run = MachineRun(two_servers().places("alice", "a-0"), "a", "a-0", "a-1")

    instructions = run.read()

    assert [type(it) for it in instructions if not isinstance(it, CheckRelayWaiters)] == [LoadRoom, AdoptPeer]
    assert only(AdoptPeer, instructions)[0].command.worker == "a-0"


def test_a_peer_placed_elsewhere_is_nothing_to_us() -> None:
    assert MachineRun(two_servers().places("alice", "b-0"), "a", "a-0", "a-1").read() == []


def test_a_peer_placed_on_a_worker_that_is_dead_is_passed_over() -> None:
    run = MachineRun(two_servers().places("alice", "a-1"), "a", "a-0")

    assert run.read() == []


def test_a_newer_placement_here_replaces_the_older_one() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    instructions = read_more(run, story.places("alice", "a-1", 2, "drain"))

    (drop,), (adopt,) = only(DropPeer, instructions), only(AdoptPeer, instructions)
    assert instructions.index(drop) < instructions.index(adopt)
    assert (drop.generation, drop.reason, adopt.command.worker) == (1, "peer-moved", "a-1")


def test_a_newer_placement_elsewhere_ends_ours() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    instructions = read_more(run, story.places("alice", "b-0", 2, "drain"))

    assert [it.peer for it in only(DropPeer, instructions)] == ["alice"]
    assert not only(AdoptPeer, instructions)
    assert only(ForgetRoom, instructions)


def test_an_older_or_equal_placement_changes_nothing() -> None:
    story = two_servers().joins("bob", "a-0").joins("alice", "a-0", 3)
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    for generation in (1, 2, 3):
        instructions = read_more(run, story.places("alice", "a-1", generation))
        assert not only(AdoptPeer, instructions)
        assert not only(DropPeer, instructions)


def test_an_empty_room_becomes_idle_and_a_later_peer_finds_it_without_its_past_being_read() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()
    read_more(run, story.leaves("alice"))

    assert run.machine.handle(PeerEnded(story.room_id, "alice", 1)) == [IdleRoom(story.room_id)]
    assert run.machine.room(story.room_id) is None
    assert not run.machine.has_room(story.room_id)

    instructions = read_more(run, story.places("alice", "a-0", 2))
    assert not only(LoadRoom, instructions)
    assert only(AdoptPeer, instructions)[0].command.generation == 2
    assert run.machine.has_room(story.room_id)


def test_a_resting_room_that_wakes_up_elsewhere_is_forgotten_and_read_again_when_it_comes_here() -> None:
    story = two_servers().joins("alice", "a-0").leaves("alice")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()
    run.machine.handle(PeerEnded(story.room_id, "alice", 1))

    assert only(ForgetRoom, read_more(run, story.places("bob", "b-0"))) == [ForgetRoom(story.room_id)]
    assert only(LoadRoom, read_more(run, story.places("alice", "a-0", 2)))


def test_a_void_placement_in_a_backlog_does_not_lose_those_behind_it() -> None:
    """Bob left while he was given a place here; Alice, who comes behind him, is here."""
    story = two_servers().joins("alice", "b-0").joins("carol", "b-0").joins("bob", "b-0").leaves("bob")
    run = MachineRun(story, "a", "a-0", "a-1", loads_at_once=False)
    run.read()
    story.places("bob", "a-0", 2, "worker-died").places("alice", "a-0", 2, "worker-died")
    run.read()

    instructions = run.load(story.room_id)
    assert [it.command.peer for it in only(AdoptPeer, instructions)] == ["alice"]
    assert run.machine.has_room(story.room_id)
    request(story, "alice", intents.CreateTransport(transport="t"))
    run.machine.handle(PeerReady(story.room_id, "alice", 2, []))
    assert only(HandleIntent, run.read())


def test_of_too_many_resting_rooms_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_IDLE", 2)
    run = MachineRun(two_servers(), "a", "a-0", "a-1")
    run.read()
    forgotten: list[ForgetRoom] = []
    for seq, room in enumerate(("r1", "r2", "r3"), start=10):
        (placed,) = Story(room).places("alice", "a-0").entries
        arrived = entry(seq, *placed[1:])
        run.machine.handle(EntryRead(arrived))
        run.machine.handle(RoomLoaded(room, [arrived], seq))
        forgotten += only(ForgetRoom, run.machine.handle(PeerEnded(room, "alice", 1)))

    assert forgotten == [ForgetRoom("r1")]


def test_the_end_of_an_older_placement_does_not_end_the_newer_one() -> None:
    story = two_servers().joins("alice", "a-0").places("alice", "a-1", 2, "drain")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    assert run.machine.handle(PeerEnded(story.room_id, "alice", 1)) == []
    assert run.machine.has_peer(story.room_id, "alice")


# --- intents --------------------------------------------------------------------------------------


def test_intents_wait_until_the_peer_is_ready_and_are_done_in_order_and_once() -> None:
    story = two_servers().places("alice", "a-0")
    request(story, "alice", intents.CreateTransport(transport="missed"))
    run = MachineRun(story, "a", "a-0")
    run.read(up_to=3)  # the intent came before it was followed
    missed = entry(*story.entries[3])
    request(story, "alice", intents.CreateTransport(transport="early"))
    run._read = 4
    assert not only(HandleIntent, run.read())

    handled = run.ready("alice", missed=[missed, entry(*story.entries[4])])

    assert [it.entry.seq for it in handled] == [4, 5]
    assert not run.ready("alice", generation=9)


def test_an_intent_that_comes_again_is_not_done_again() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0")
    run.read()
    run.ready("alice")
    wanted = intents.PauseProducer(producer="mic")
    subject = subject_of(wanted, room=story.room_id, peer="alice", server="")

    first = run.machine.handle(EntryRead(entry(10, subject, wanted, id="the-same")))
    same_entry = run.machine.handle(EntryRead(entry(10, subject, wanted, id="the-same")))
    stored_again = run.machine.handle(EntryRead(entry(11, subject, wanted, id="the-same")))
    another = run.machine.handle(EntryRead(entry(12, subject, wanted, id="another")))

    assert [len(first), len(same_entry), len(stored_again), len(another)] == [1, 0, 0, 1]


def test_joins_and_strangers_intents_are_the_allocators_business() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0")
    run.read()
    run.ready("alice")
    request(story, "alice", intents.Join())
    request(story, "stranger", intents.Leave())

    assert not only(HandleIntent, run.read())


def test_what_does_not_fit_its_subject_is_not_believed() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0")
    run.read()
    run.ready("alice")

    story.append(events.PeerLeft(peer="alice", generation=1), subject="mafalda.room.lobby.peer.alice.intent.leave")
    story.append(intents.Leave(), subject="mafalda.room.lobby.peer.alice.intent.join")

    assert run.read() == []
    assert "alice" in run.machine.state.rooms["lobby"].peers


# --- relay targets --------------------------------------------------------------------------------------


def test_an_ordered_relay_is_opened_at_its_target_only() -> None:
    story = consumed_on_b()

    at_target = MachineRun(story, "b", "b-0").read()
    at_source = MachineRun(story, "a", "a-0", "a-1").read()

    (opened,) = only(OpenRelayTarget, at_target)
    assert opened.key == RelayKey("lobby", "mic", "b-0")
    assert not only(OpenRelayTarget, at_source)


def test_one_relay_for_each_producer_and_worker() -> None:
    story = consumed_on_b().orders_relay("mic", "a-0", "b-0")

    assert len(only(OpenRelayTarget, MachineRun(story, "b", "b-0").read())) == 1


def test_relays_that_cannot_be_are_refused_with_the_reason() -> None:
    story = consumed_on_b()
    run = MachineRun(story, "b", "b-0")
    run.read()
    story.orders_relay("nothing", "a-0", "b-0")
    story.produces("alice", "cam", worker="a-0").orders_relay("cam", "a-0", "b-0", generation=4)
    story.produces("alice", "screen", worker="a-0").orders_relay("screen", "a-9", "b-0")

    refused = only(RefuseRelay, run.read())

    assert [type(it.error) for it in refused] == [NotFound, StaleGeneration, WorkerExited]


def test_a_relay_that_failed_can_be_ordered_again() -> None:
    story = consumed_on_b()
    run = MachineRun(story, "b", "b-0")
    (opened,) = only(OpenRelayTarget, run.read())

    run.machine.handle(RelayTargetEnded(opened.key, opened.entry.seq))
    read_more(run, story.fails_relay("mic", "a-0", "b-0"))

    (again,) = only(OpenRelayTarget, read_more(run, story.orders_relay("mic", "a-0", "b-0")))
    assert run.machine.handle(RelayTargetEnded(opened.key, opened.entry.seq)) == []  # the old one's end is not its own
    assert not only(OpenRelayTarget, read_more(run, story.orders_relay("mic", "a-0", "b-0")))
    assert again.key == opened.key


def test_pause_and_resume_reach_the_relay_target() -> None:
    story = consumed_on_b()
    run = MachineRun(story, "b", "b-0")
    run.read()
    story.append(events.ProducerPaused(peer="alice", producer="mic"))
    story.append(events.ProducerResumed(peer="alice", producer="mic"))
    story.append(events.ProducerPaused(peer="alice", producer="another"))

    assert run.read() == [ReconcileRelayTarget(RelayKey("lobby", "mic", "b-0"))] * 2


def test_a_relay_target_closes_when_its_origin_does_with_the_reason() -> None:
    turns: dict[str, Callable[[Story], Story]] = {
        "producer-closed": lambda story: story.closes_producer("alice", "mic"),
        "peer-left": lambda story: story.leaves("alice"),
        "peer-moved": lambda story: story.places("alice", "a-1", 2, "drain"),
        "worker-died": lambda story: story.worker_dies("a-0"),
    }
    for reason, turn in turns.items():
        story = consumed_on_b()
        run = MachineRun(story, "b", "b-0")
        run.read()

        instructions = read_more(run, turn(story))

        assert [it.reason for it in only(CloseRelayTarget, instructions)] == [reason]
        assert only(CheckRelayWaiters, instructions)


def test_a_lost_server_ends_what_came_from_it() -> None:
    for end in (Story.server_is_lost, Story.server_stops):
        story = consumed_on_b()
        run = MachineRun(story, "b", "b-0")
        run.read()

        instructions = read_more(run, end(story, "a"))

        assert len(only(CloseRelayTarget, instructions)) == 1
        assert {it.place for it in only(ClosePipeSources, instructions)} == {place("a-0"), place("a-1")}


def test_a_dead_hop_ends_the_relays_behind_it() -> None:
    story = Story().server_starts("a", "a-0").server_starts("b", "b-0").server_starts("c", "c-0")
    story.joins("alice", "a-0").produces("alice", "mic", worker="a-0").opens_relay("mic", "a-0", "b-0")
    story.joins("carol", "c-0").orders_relay("mic", "b-0", "c-0")
    run = MachineRun(story, "c", "c-0")
    run.read()

    instructions = read_more(run, story.worker_dies("b-0"))

    assert [it.key.worker for it in only(CloseRelayTarget, instructions)] == ["c-0"]


def test_a_relay_source_is_closed_when_its_target_has_ended() -> None:
    for end in (Story.closes_relay, Story.fails_relay):
        story = consumed_on_b()
        run = MachineRun(story, "a", "a-0", "a-1")
        run.read()

        instructions = read_more(run, end(story, "mic", "a-0", "b-0"))

        assert only(CloseRelaySource, instructions) == [CloseRelaySource("lobby", "mic", "a-0", place("b-0"))]


def test_a_relay_target_keeps_its_room_when_no_peer_is_left() -> None:
    story = consumed_on_b()
    run = MachineRun(story, "b", "b-0")
    (opened,) = only(OpenRelayTarget, run.read())

    read_more(run, story.leaves("bob"))
    assert run.machine.handle(PeerEnded("lobby", "bob", 1)) == []

    assert run.machine.handle(RelayTargetEnded(opened.key, opened.entry.seq)) == [
        IdleRoom("lobby"),
        ForgetRoom("lobby"),
    ]


def test_a_producer_id_that_another_peer_had_first_is_given_up() -> None:
    story = two_servers().joins("alice", "a-0").joins("bob", "b-0")
    run = MachineRun(story, "b", "b-0")
    run.read()
    story.produces("alice", "mic", worker="a-0").produces("bob", "mic", worker="b-0")

    assert only(CloseDuplicateProducer, run.read()) == [CloseDuplicateProducer("lobby", "bob", "mic")]


# --- workers and servers --------------------------------------------------------------------------


def test_a_death_of_our_own_is_acted_on_before_the_log_knows() -> None:
    story = consumed_on_b()
    run = MachineRun(story, "b", "b-0")
    run.read()

    instructions = run.machine.handle(WorkerGone("b-0"))

    assert [it.peer for it in only(DropPeer, instructions)] == ["bob"]
    assert [it.reason for it in only(CloseRelayTarget, instructions)] == ["worker-died"]
    assert ClosePipeSources(place("b-0")) in instructions
    assert ForgetRoom("lobby") in instructions
    assert not only(DropPeer, read_more(run, story.worker_dies("b-0")))


def test_a_death_of_one_worker_spares_the_other() -> None:
    story = two_servers().joins("alice", "a-0").joins("bob", "a-1")
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    instructions = run.machine.handle(WorkerGone("a-0"))

    assert [it.peer for it in only(DropPeer, instructions)] == ["alice"]
    assert not only(ForgetRoom, instructions)


def test_our_incarnation_given_up_is_the_end_of_it() -> None:
    story = two_servers()
    run = MachineRun(story, "a", "a-0", "a-1")
    run.read()

    assert read_more(run, story.server_is_lost("b")) == [ClosePipeSources(place("b-0"))]
    assert read_more(run, story.server_is_lost("a", "an-earlier-one")) == []
    assert read_more(run, story.server_is_lost("a")) == [ResetIncarnation()]


def test_a_second_agent_under_our_name_makes_us_stand_down() -> None:
    story = Story().server_starts("a", "a-0", incarnation="i0").server_starts("a", "a-1", incarnation="i1")
    run = MachineRun(story, "a", "a-1")
    assert not only(Superseded, run.read())

    assert only(Superseded, read_more(run, story.server_starts("a", "a-2", incarnation="i2"))) == [Superseded("i2")]


# --- taking a room in -----------------------------------------------------------------------------


def test_what_comes_while_a_room_is_read_is_acted_on_once() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "b", "b-0", loads_at_once=False)
    read_more(run, story.places("bob", "b-0"))
    story.produces("alice", "mic", worker="a-0").orders_relay("mic", "a-0", "b-0").places("carol", "b-0")
    # The past is read up to its end, though the follower has brought only half of it ...
    run.read(up_to=len(story.entries) - 2)
    run.load("lobby")
    # ... and brings the other half afterwards.
    run.read()

    assert [it.command.peer for it in only(AdoptPeer, run.instructions)] == ["bob", "carol"]
    assert len(only(OpenRelayTarget, run.instructions)) == 1
    assert run.machine.room("lobby") == story.room


def test_servers_read_with_a_room_are_not_taken_twice() -> None:
    story = two_servers().places("bob", "b-0")
    run = MachineRun(story, "b", "b-0", loads_at_once=False)
    run.read()
    story.server_starts("c", "c-0").joins("alice", "c-0").produces("alice", "mic", worker="c-0")
    run.load("lobby")
    assert run.machine.state.worker(place("c-0"))

    run.read()

    assert run.machine.room("lobby") == story.room  # a second ServerStarted would have ended Alice
    read_more(run, story.worker_dies("c-0"))
    assert run.machine.room("lobby") == story.room


def test_a_room_is_as_of_what_was_read() -> None:
    story = two_servers().joins("alice", "a-0")
    run = MachineRun(story, "a", "a-0", loads_at_once=False)
    run.read()
    assert run.machine.is_loading()
    story.produces("alice", "mic", worker="a-0")

    run.load("lobby")

    assert run.machine.room_seq("lobby") == len(story.entries)
    assert not run.machine.is_loading()
    assert run.machine.room_seq("elsewhere") == 0


def read_more(run: MachineRun, _: Story) -> list[Instruction]:
    """Read what was just added to the story."""
    return run.read()


def test_an_order_that_was_read_with_the_past_is_not_obeyed_again() -> None:
    story = two_servers().joins("alice", "a-0").produces("alice", "mic", worker="a-0")
    run = MachineRun(story, "b", "b-0", loads_at_once=False)
    read_more(run, story.places("bob", "b-0"))
    story.orders_relay("mic", "a-0", "b-0")
    (opened,) = only(OpenRelayTarget, run.load("lobby"))
    run.machine.handle(RelayTargetEnded(opened.key, opened.entry.seq))  # it failed at once

    assert not only(OpenRelayTarget, run.read())


def test_a_worker_whose_death_was_read_with_a_room_does_not_rise_again() -> None:
    story = two_servers().places("bob", "b-0")
    run = MachineRun(story, "b", "b-0", loads_at_once=False)
    run.read()
    story.worker_starts("a-7").worker_dies("a-7")
    run.load("lobby")

    run.read(up_to=len(story.entries) - 1)

    assert run.machine.state.worker(place("a-7")) is None
