"""Whenever a room becomes ours and however its past is read, the machine's fold of it is the log's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mafalda.testing.stories import Story
from mafalda.workers.core.instructions import AdoptPeer, CloseRelayTarget, LoadRoom, OpenRelayTarget
from tests.unit.workers.machine_run import MachineRun, only

WORKERS = ("a-0", "a-1", "b-0", "c-0")
workers = st.sampled_from(WORKERS)
peers = st.sampled_from(["p1", "p2", "p3"])
producers = st.sampled_from(["x", "y"])
generations = st.sampled_from([1, 1, 1, 2, 3])

turns = st.one_of(
    st.tuples(st.just("places"), peers, workers, generations),
    st.tuples(st.just("joins"), peers, workers, generations),
    st.tuples(st.just("hands_over"), peers, workers, generations),
    st.tuples(st.just("leaves"), peers, generations),
    st.tuples(st.just("produces"), peers, producers, workers, generations),
    st.tuples(st.just("closes_producer"), peers, producers, generations),
    st.tuples(st.just("opens_relay"), producers, workers, workers),
    st.tuples(st.just("orders_relay"), producers, workers, workers),
    st.tuples(st.just("closes_relay"), producers, workers, workers),
    st.tuples(st.just("worker_dies"), workers),
    st.tuples(st.just("server_is_lost"), st.sampled_from(["a", "c"])),
)


def add_turn(story: Story, turn: tuple[str, ...]) -> None:
    """One turn of a story."""
    name, *arguments = turn
    if name == "produces":
        peer, producer, worker, generation = arguments
        story.produces(peer, producer, worker=worker, generation=int(generation))
    elif name == "hands_over":
        peer, worker, generation = arguments
        story.places(peer, worker, int(generation), "drain", handover=True)
    else:
        getattr(story, name)(*arguments)


def a_story(turns: list[tuple[str, ...]]) -> Story:
    story = Story().server_starts("a", "a-0", "a-1").server_starts("b", "b-0").server_starts("c", "c-0")
    for turn in turns:
        add_turn(story, turn)
    return story


@settings(max_examples=300, deadline=None)
@given(st.lists(turns, max_size=25), st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_fold_of_a_room_of_ours_is_the_logs(turns: list[tuple[str, ...]], lag: int, random: object) -> None:
    story = a_story(turns)
    run = MachineRun(story, "b", "b-0", loads_at_once=False)
    loading_until: int | None = None
    for end in range(1, len(story.entries) + 1):
        for instruction in run.read(up_to=end):
            if isinstance(instruction, LoadRoom):
                loading_until = end + lag
        if loading_until is not None and end >= min(loading_until, len(story.entries)):
            # The past may reach further than what the follower has brought.
            run.load(story.room_id, up_to=min(end + lag, len(story.entries)))
            loading_until = None
    room = run.machine.room(story.room_id)
    if room is not None:
        assert (room.peers, room.producers, room.relays) == (
            story.room.peers,
            story.room.producers,
            story.room.relays,
        )


def kept_for_a_handover(run: MachineRun) -> set[str]:
    """The producers whose relays go on although the log has removed them."""
    local = run.machine._rooms.get(run.story.room_id)
    return {key.producer for key, relay in local.relays.items() if relay.moving is not None} if local else set()


@settings(max_examples=300, deadline=None)
@given(st.lists(turns, max_size=25))
def test_what_is_kept_for_a_handover_ends_with_its_peers(turns: list[tuple[str, ...]]) -> None:
    story = a_story(turns)
    for peer in ("p1", "p2", "p3"):
        story.leaves(peer, 3)
    run = MachineRun(story, "b", "b-0")
    run.read()
    assert kept_for_a_handover(run) == set()


@settings(max_examples=300, deadline=None)
@given(st.lists(turns, max_size=25))
def test_relay_targets_are_in_the_end_those_of_the_log(turns: list[tuple[str, ...]]) -> None:
    story = a_story(turns)
    run = MachineRun(story, "b", "b-0")
    run.read()

    open_now: set[str] = set()
    for instruction in run.instructions:
        if isinstance(instruction, OpenRelayTarget):
            assert instruction.key.producer not in open_now
            open_now.add(instruction.key.producer)
        elif isinstance(instruction, CloseRelayTarget):
            open_now.remove(instruction.key.producer)

    wanted = {it.producer for it in story.room.relays.values() if it.target.worker == "b-0"}
    assert wanted == open_now - kept_for_a_handover(run)
    for adopted in only(AdoptPeer, run.instructions):
        assert adopted.command.server == "b"
