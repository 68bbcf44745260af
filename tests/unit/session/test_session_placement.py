"""Stories of a session's placement: events in, state and what has to be requested again out. No event loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.contract.messages.results import JoinResult
from mafalda.media.rtp import RtpCapabilities
from mafalda.session.placement import PlacementState, SessionPlacement

Placement = SessionPlacement[str, str]
Step = Callable[[Placement], object]


def joined(generation: int) -> JoinResult:
    return JoinResult(
        server="s", worker=f"w{generation}", generation=generation, router_rtp_capabilities=RtpCapabilities()
    )


def place(generation: int) -> Step:
    return lambda it: it.place(joined(generation))


def lose(next_generation: int) -> Step:
    return lambda it: it.lose(next_generation)


reopen: Step = SessionPlacement.reopen
reopened: Step = SessionPlacement.reopened
leave: Step = SessionPlacement.leave
end: Step = SessionPlacement.end


@pytest.mark.parametrize(
    ("steps", "state", "target"),
    [
        ([], PlacementState.JOINING, None),
        ([end], PlacementState.LEFT, None),
        ([place(1)], PlacementState.PLACED, 1),
        ([place(1), place(1)], PlacementState.PLACED, 1),
        ([place(1), lose(2)], PlacementState.LOST, None),
        ([place(1), lose(2), place(2)], PlacementState.MOVED, 2),
        ([place(1), lose(2), place(2), reopened], PlacementState.PLACED, 2),
        ([place(1), place(2)], PlacementState.MOVED, 2),
        ([place(1), lose(2), lose(3), place(2)], PlacementState.LOST, None),
        ([place(1), lose(2), lose(3), place(3)], PlacementState.MOVED, 3),
        ([place(2), place(1)], PlacementState.PLACED, 2),
        ([place(1), lose(2), place(2), lose(3), reopened], PlacementState.LOST, None),
        ([lose(2), place(1)], PlacementState.LOST, None),
        ([lose(2), place(2)], PlacementState.PLACED, 2),
        ([place(1), lose(1)], PlacementState.LOST, 1),
        ([place(1), lose(1), reopen], PlacementState.MOVED, 1),
        ([place(1), lose(1), reopen, reopened], PlacementState.PLACED, 1),
        ([place(1), lose(2), reopen], PlacementState.LOST, None),
        ([place(1), leave], PlacementState.LEAVING, 1),
        ([place(1), leave, lose(2)], PlacementState.LEAVING, None),
        ([place(1), leave, lose(2), place(2)], PlacementState.LEAVING, 2),
        ([place(1), leave, end], PlacementState.LEFT, 1),
        ([place(1), leave, end, place(2)], PlacementState.LEFT, 1),
        ([end, leave], PlacementState.LEFT, None),
    ],
)
def test_each_state_follows_from_the_events(steps: list[Step], state: PlacementState, target: int | None) -> None:
    placement = Placement()
    for step in steps:
        step(placement)
    assert placement.state is state
    assert (placement.target.generation if placement.target else None) == target


@pytest.mark.parametrize(
    ("steps", "is_lost"),
    [
        ([], False),  # requests wait behind the join
        ([place(1)], False),
        ([place(1), lose(2)], True),
        ([place(1), lose(2), place(2)], True),
        ([place(1), lose(2), place(2), reopened], False),
        ([place(1), leave], False),
        ([place(1), leave, lose(2)], True),
        ([place(1), leave, lose(2), place(2)], False),
        ([end], True),
    ],
)
def test_requests_can_be_sent_where_everything_is_in_place(steps: list[Step], is_lost: bool) -> None:
    placement = Placement()
    for step in steps:
        step(placement)
    assert placement.is_lost is is_lost


def test_only_a_new_place_is_news() -> None:
    placement = Placement()
    assert placement.place(joined(2))
    assert not placement.place(joined(2))
    assert not placement.place(joined(1))
    assert placement.place(joined(3))


def test_what_is_in_flight_when_a_place_is_lost_fails_or_is_sent_again_in_order() -> None:
    placement = Placement()
    placement.place(joined(1))
    for request, is_repeated in (("a", True), ("b", False), ("c", True), ("d", True)):
        placement.send(request, is_repeated=is_repeated)
    assert placement.answer("c") == (True, 1)
    interrupted = placement.lose(2)
    assert (interrupted.repeated, interrupted.failed) == (["a", "d"], ["b"])
    assert not placement.has_requests
    assert placement.answer("a") is None, "an answer that comes too late counts"
    placement.place(joined(2))
    assert [placement.next_interrupted() for _ in range(3)] == ["a", "d", None]


def test_an_answer_that_the_worker_is_gone_interrupts_its_request() -> None:
    placement = Placement()
    placement.place(joined(1))
    placement.send("a", is_repeated=True)
    sent = placement.answer("a")
    assert sent is not None
    assert not placement.interrupt("a", sent), "no other place is known yet"
    placement.place(joined(2))
    assert placement.next_interrupted() == "a"
    assert placement.interrupt("a", sent), "the next place is known"


def test_a_withdrawn_request_is_not_sent_again() -> None:
    placement = Placement()
    placement.place(joined(1))
    placement.send("a", is_repeated=True)
    placement.lose(2)
    assert placement.withdraw("a")
    assert not placement.withdraw("a")
    assert placement.next_interrupted() is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["place", "lose", "answer"]), st.integers(1, 6)),
        st.tuples(st.sampled_from(["send", "send again", "reopen", "reopened", "leave", "end"]), st.booleans()),
    ),
    max_size=40,
)


@given(STEPS)
def test_no_request_is_lost_and_none_is_answered_twice(steps: list[tuple[str, int]]) -> None:
    placement: SessionPlacement[str, int] = SessionPlacement()
    sent, done = 0, []
    for step, argument in steps:
        match step:
            case "place":
                placement.place(joined(argument))
            case "lose":
                done += placement.lose(argument).failed
            case "answer":
                if placement.answer(argument) is not None:
                    done.append(argument)
            case "send":
                placement.send(sent, is_repeated=bool(argument))
                sent += 1
            case "send again":
                if (request := placement.next_interrupted()) is not None:
                    placement.send(request, is_repeated=True)
            case _:
                getattr(placement, step)()
    done += placement.lose(99).failed
    while (request := placement.next_interrupted()) is not None:
        done.append(request)
    assert sorted(done) == list(range(sent))
