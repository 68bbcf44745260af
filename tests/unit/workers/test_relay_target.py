"""The state machine of a relay target, on stories with times; no event loop."""

from __future__ import annotations

import pytest

from mafalda.errors import BusUnavailable, NotFound
from mafalda.workers.core.relay_target import (
    RETRY_AFTER_S,
    CarryAgain,
    RelayTargetState,
    Retire,
    SetProducer,
    SetSource,
    Step,
    Wait,
)

PAUSE_AFTER_S, UNUSED_S = 0.5, 10.0


def opened(*, data: bool = False, at: float = 0.0) -> RelayTargetState:
    target = RelayTargetState.new(data=data, pause_after_s=PAUSE_AFTER_S, unused_s=UNUSED_S, now=0)
    target.opened(at)
    return target


def advance(target: RelayTargetState, now: float, *, producer: bool = False, origin: bool | None = False) -> Step:
    return target.advance(now, producer_paused=producer, origin_paused=origin)


def test_it_cannot_be_used_before_it_is_open_nor_after_it_was_closed() -> None:
    target = RelayTargetState.new(data=False, pause_after_s=PAUSE_AFTER_S, unused_s=UNUSED_S, now=0)
    with pytest.raises(NotFound):
        target.add_user("bob", 1, paused=False)

    target.opened(2)
    target.add_user("bob", 3, paused=False)
    target.close("peer-left")

    assert (target.state, target.reason) == ("closing", "peer-left")
    with pytest.raises(NotFound):
        target.add_user("carol", 4, paused=False)
    target.released()
    assert target.state == "closed"


def test_one_that_was_closed_while_it_was_opened_does_not_open() -> None:
    target = RelayTargetState.new(data=False, pause_after_s=PAUSE_AFTER_S, unused_s=UNUSED_S, now=0)
    target.close("worker-died")
    target.opened(1)

    assert target.state == "closing"


def test_the_source_pauses_when_no_user_flows_and_resumes_at_once() -> None:
    target = opened()
    target.add_user("bob", 1, paused=False)
    assert advance(target, 1) == Wait(None)

    target.add_user("bob", 2, paused=True)
    assert advance(target, 2) == Wait(2 + PAUSE_AFTER_S)
    assert advance(target, 2.5) == SetSource(paused=True)
    target.done(SetSource(paused=True))
    assert advance(target, 2.6) == Wait(None)

    target.add_user("bob", 3, paused=False)
    assert advance(target, 3) == SetSource(paused=False)
    target.done(SetSource(paused=False))
    assert (advance(target, 3.1), target.source) == (Wait(None), "flowing")


def test_the_source_is_told_the_highest_layer_that_a_user_takes() -> None:
    target = opened()
    target.add_user("bob", 1, paused=False, layer=0)
    target.add_user("carol", 1, paused=False, layer=1)
    assert advance(target, 1) == SetSource(paused=False, layer=1)
    target.done(SetSource(paused=False, layer=1))
    assert advance(target, 2) == Wait(None)

    target.add_user("carol", 3, paused=True)
    assert advance(target, 3) == SetSource(paused=False, layer=0)
    target.done(SetSource(paused=False, layer=0))
    target.add_user("dave", 4, paused=False)
    assert advance(target, 4) == SetSource(paused=False)


def test_it_retires_when_nobody_has_used_it_since_it_opened() -> None:
    target = opened(data=True, at=5)

    assert advance(target, 14.9) == Wait(15)
    assert advance(target, 15) == Retire()
    assert target.state == "closing"


def test_it_retires_some_time_after_its_last_user() -> None:
    target = opened()
    target.add_user("bob", 1, paused=True)
    target.add_user("onward", 1, paused=False)
    target.remove_user("bob", 2)
    assert advance(target, 90) == Wait(None)

    target.remove_user("onward", 100)
    assert advance(target, 101) == SetSource(paused=True)
    target.done(SetSource(paused=True))
    assert advance(target, 102) == Wait(110)
    assert advance(target, 110) == Retire()


def test_data_is_never_paused() -> None:
    target = opened(data=True)
    target.add_user("bob", 1, paused=True)

    assert advance(target, 60) == Wait(None)


def test_it_is_paused_and_resumed_as_its_origin_is() -> None:
    target = opened()
    target.add_user("bob", 1, paused=False)

    assert advance(target, 2, producer=False, origin=True) == SetProducer(paused=True)
    assert advance(target, 2, producer=True, origin=True) == Wait(None)
    assert advance(target, 3, producer=True, origin=False) == SetProducer(paused=False)
    assert advance(target, 3, producer=True, origin=None) == Wait(None)  # the log does not have it any more


def test_a_failed_step_is_tried_again_later_or_when_something_changes() -> None:
    target = opened()
    target.add_user("bob", 1, paused=False)
    step = advance(target, 2, origin=True)
    assert isinstance(step, SetProducer)

    target.step_failed(step, BusUnavailable("no bus"), 2)
    assert advance(target, 2.1, origin=True) == Wait(2 + RETRY_AFTER_S)
    assert advance(target, 2 + RETRY_AFTER_S, origin=True) == step

    target.step_failed(step, BusUnavailable("no bus"), 3)
    target.changed()
    assert advance(target, 3.1, origin=True) == step
    target.done(step)
    assert advance(target, 3.2, producer=True, origin=True) == Wait(None)


def test_one_that_cannot_be_reconciled_retires_all_the_same() -> None:
    target = opened()
    step = advance(target, 1, origin=True)
    assert isinstance(step, SetProducer)
    target.step_failed(step, BusUnavailable("no bus"), UNUSED_S - 0.5)

    assert advance(target, UNUSED_S - 0.4, origin=True) == Wait(UNUSED_S)
    assert advance(target, UNUSED_S, origin=True) == Retire()


def test_a_source_that_has_lost_the_relay_is_asked_to_carry_it_again() -> None:
    target = opened()
    target.add_user("bob", 1, paused=True)
    pause = advance(target, 2)
    assert pause == SetSource(paused=True)

    target.step_failed(SetSource(paused=True), NotFound("not carried"), 2)
    assert advance(target, 2) == CarryAgain()
    target.done(CarryAgain())
    assert advance(target, 2) == SetSource(paused=True)

    # It has lost it again at once: that is not repeated without a pause.
    target.step_failed(SetSource(paused=True), NotFound("not carried"), 2)
    assert advance(target, 2.1) == Wait(2 + RETRY_AFTER_S)
    assert advance(target, 2 + RETRY_AFTER_S) == CarryAgain()


def test_after_it_is_carried_again_the_source_flows_if_somebody_needs_it() -> None:
    target = opened()
    target.add_user("bob", 1, paused=True)
    advance(target, 2)
    target.done(SetSource(paused=True))
    target.add_user("bob", 3, paused=False)
    target.step_failed(SetSource(paused=False), NotFound("not carried"), 3)
    target.done(CarryAgain())

    assert advance(target, 3) == SetSource(paused=False)
