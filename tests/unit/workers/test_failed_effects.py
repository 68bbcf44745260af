"""Effects that fail come back to the machine as stimuli: what it makes of each. No event loop."""

from __future__ import annotations

import pytest

from mafalda.contract.messages import intents
from mafalda.errors import DeadlineExceeded, MafaldaError, RelayUnavailable, WorkerExited
from mafalda.testing.stories import Story
from mafalda.workers.agent.stimulus_loop import StimulusLoop
from mafalda.workers.core.instructions import (
    AdoptPeer,
    DropPeer,
    EvictPeer,
    ForgetRoom,
    IdleRoom,
    Instruction,
    LoadRoom,
    OpenRelayTarget,
    RefuseRelay,
)
from mafalda.workers.core.placed_peer import MAX_RESTARTS
from mafalda.workers.core.stimuli import (
    InstructionFailed,
    PeerRefused,
    PeerTaskFailed,
    RoomLoadFailed,
    Stimulus,
)
from tests.unit.workers.machine_run import MachineRun, only

BROKEN = MafaldaError("internal error")


def placed() -> MachineRun:
    """Alice has a place on a."""
    run = MachineRun(Story().server_starts("a", "a-0").joins("alice", "a-0"), "a", "a-0")
    run.read()
    return run


# --- peers ----------------------------------------------------------------------------------------


def test_a_session_that_fails_before_it_is_ready_is_started_again_and_then_evicted() -> None:
    run = placed()
    failed = PeerTaskFailed("lobby", "alice", 1, BROKEN)

    for _ in range(MAX_RESTARTS):
        (adopt,) = run.machine.handle(failed)
        assert isinstance(adopt, AdoptPeer)
        assert adopt.command.peer == "alice"

    evict, idle = run.machine.handle(failed)
    assert isinstance(evict, EvictPeer)
    assert (evict.command.peer, evict.error, evict.reject_join) == ("alice", BROKEN, True)
    assert idle == IdleRoom("lobby")
    assert not run.machine.has_peer("lobby", "alice")
    assert run.machine.handle(failed) == []


def test_intents_that_came_meanwhile_are_handled_by_the_session_that_was_started_again() -> None:
    run = placed()
    run.story.append(intents.CreateTransport(transport="t"), peer="alice")
    assert run.read() == []
    run.machine.handle(PeerTaskFailed("lobby", "alice", 1, BROKEN))

    (handled,) = run.ready("alice")
    assert isinstance(handled.entry.message.data, intents.CreateTransport)


def test_a_session_that_fails_when_it_was_ready_is_evicted_at_once() -> None:
    run = placed()
    run.ready("alice")

    (evict,) = only(EvictPeer, run.machine.handle(PeerTaskFailed("lobby", "alice", 1, BROKEN)))

    assert not evict.reject_join  # it was answered
    assert not run.machine.has_peer("lobby", "alice")


def test_a_peer_that_the_worker_refuses_is_evicted() -> None:
    run = placed()
    error = DeadlineExceeded("the worker does not answer")

    (evict,) = only(EvictPeer, run.machine.handle(PeerRefused("lobby", "alice", 1, error)))

    assert (evict.error, evict.reject_join) == (error, True)


def test_a_peer_whose_worker_has_died_is_left_to_the_allocators() -> None:
    run = placed()

    found = run.machine.handle(PeerRefused("lobby", "alice", 1, WorkerExited("dead")))

    assert found == [IdleRoom("lobby")]


@pytest.mark.parametrize("kind", [PeerTaskFailed, PeerRefused])
def test_the_failure_of_an_older_placement_is_nothing(kind: type[PeerTaskFailed | PeerRefused]) -> None:
    run = placed()
    run.story.places("alice", "a-0", 2, "drain")
    assert only(DropPeer, run.read())

    assert run.machine.handle(kind("lobby", "alice", 1, BROKEN)) == []
    assert run.machine.has_peer("lobby", "alice")


# --- rooms ----------------------------------------------------------------------------------------


def test_a_room_that_cannot_be_loaded_is_loaded_again_after_a_growing_delay() -> None:
    story = Story().server_starts("a", "a-0").places("alice", "a-0")
    run = MachineRun(story, "a", "a-0", loads_at_once=False)
    assert run.read() == [LoadRoom("lobby")]

    delays = []
    for _ in range(10):
        (again,) = run.machine.handle(RoomLoadFailed("lobby", BROKEN))
        assert isinstance(again, LoadRoom)
        delays.append(again.delay_s)

    assert delays == sorted(delays)
    assert 0 < delays[0] < delays[1]
    assert delays[-1] == 10.0
    assert [it.command.peer for it in only(AdoptPeer, run.load("lobby"))] == [
        "alice"
    ]  # what came meanwhile is not lost


def test_the_late_failure_of_a_load_is_nothing_to_a_room_that_is_loaded() -> None:
    run = placed()

    assert run.machine.handle(RoomLoadFailed("lobby", BROKEN)) == []
    assert run.machine.handle(RoomLoadFailed("elsewhere", BROKEN)) == []


# --- instructions that could not be begun -----------------------------------------------------------


def test_a_peer_that_could_not_be_adopted_is_adopted_again() -> None:
    run = placed()
    (adopt,) = only(AdoptPeer, run.instructions)

    assert run.machine.handle(InstructionFailed(adopt, BROKEN)) == [adopt]


def test_a_relay_that_could_not_be_opened_is_refused_and_may_be_ordered_again() -> None:
    story = Story().server_starts("a", "a-0").server_starts("b", "b-0").joins("alice", "a-0").opens_transport("alice")
    story.produces("alice", "mic", worker="a-0").joins("bob", "b-0").orders_relay("mic", "a-0", "b-0")
    run = MachineRun(story, "b", "b-0")
    run.read()
    (opened,) = only(OpenRelayTarget, run.instructions)

    (refused,) = run.machine.handle(InstructionFailed(opened, BROKEN))

    assert isinstance(refused, RefuseRelay)
    assert (refused.command, refused.error) == (opened.command, BROKEN)
    story.orders_relay("mic", "a-0", "b-0")
    assert only(OpenRelayTarget, run.read())


def test_a_room_whose_load_could_not_be_begun_is_loaded_by_the_next_command() -> None:
    story = Story().server_starts("a", "a-0").places("alice", "a-0")
    run = MachineRun(story, "a", "a-0", loads_at_once=False)
    (load,) = run.read()

    assert run.machine.handle(InstructionFailed(load, BROKEN)) == []
    story.places("bob", "a-0")
    assert run.read() == [load]


def test_other_instructions_need_nothing_undone() -> None:
    run = placed()

    for instruction in (IdleRoom("lobby"), ForgetRoom("lobby"), DropPeer("lobby", "alice", 1, "peer-moved")):
        assert run.machine.handle(InstructionFailed(instruction, BROKEN)) == []


# --- the loop ---------------------------------------------------------------------------------------


class _Script:
    """A machine that answers each stimulus with the next list of instructions, and remembers the stimuli."""

    def __init__(self, *answers: list[Instruction] | Exception) -> None:
        self._answers = list(answers)
        self.seen: list[Stimulus] = []

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        self.seen.append(stimulus)
        answer = self._answers.pop(0) if self._answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


STIMULUS = RoomLoadFailed("lobby", BROKEN)


def test_an_exception_loses_none_of_the_instructions_after_it() -> None:
    first, second, third = IdleRoom("1"), IdleRoom("2"), IdleRoom("3")
    machine = _Script([first, second, third])
    loop, begun = StimulusLoop(machine), list[Instruction]()

    def begin(instruction: Instruction) -> None:
        if instruction == second:
            raise RuntimeError("a bug")
        begun.append(instruction)

    loop.begin_with(begin)
    loop.report(STIMULUS)

    assert begun == [first, third]
    failed = machine.seen[-1]
    assert isinstance(failed, InstructionFailed)
    assert (failed.instruction, failed.error.reason) == (second, "internal error")


def test_an_error_of_the_contract_is_reported_as_it_is() -> None:
    machine = _Script([IdleRoom("1")])
    loop, error = StimulusLoop(machine), RelayUnavailable("no pipe")

    def begin(_: Instruction) -> None:
        raise error

    loop.begin_with(begin)
    loop.report(STIMULUS)

    assert machine.seen[1:] == [InstructionFailed(IdleRoom("1"), error)]


def test_what_is_reported_meanwhile_is_handled_after_the_instructions_that_are_being_begun() -> None:
    machine = _Script([IdleRoom("1"), IdleRoom("2")], [IdleRoom("3")])
    loop, begun = StimulusLoop(machine), list[Instruction]()

    def begin(instruction: Instruction) -> None:
        if instruction == IdleRoom("1"):
            loop.report(STIMULUS)
        begun.append(instruction)

    loop.begin_with(begin)
    loop.report(STIMULUS)

    assert begun == [IdleRoom("1"), IdleRoom("2"), IdleRoom("3")]


def test_a_stimulus_that_the_machine_cannot_handle_does_not_stop_the_next() -> None:
    machine = _Script(RuntimeError("a bug"), [IdleRoom("1")])
    loop, begun = StimulusLoop(machine), list[Instruction]()
    loop.begin_with(begun.append)

    loop.report(STIMULUS)
    loop.report(STIMULUS)

    assert begun == [IdleRoom("1")]


def test_what_is_reported_before_instructions_can_be_begun_is_handled_then() -> None:
    machine = _Script([IdleRoom("1")])
    loop, begun = StimulusLoop(machine), list[Instruction]()
    loop.report(STIMULUS)
    assert machine.seen == []

    loop.begin_with(begun.append)

    assert begun == [IdleRoom("1")]
