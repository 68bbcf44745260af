"""Which layers a producer's client is told of, on a story with times; no event loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mafalda.workers.core.layers import ALL_LAYERS, NO_LAYERS, REDUCE_AFTER_S, LayerDemand, LayerUsers


def test_a_layer_that_nobody_takes_is_told_after_a_while_and_one_that_somebody_does_at_once() -> None:
    demand = LayerDemand.new(last=2, now=0)
    demand.use("bob", 1, 0.5)
    assert demand.due_at() == REDUCE_AFTER_S  # since it was opened
    assert demand.take(1) is None
    assert demand.take(REDUCE_AFTER_S) == 1
    assert demand.due_at() is None

    demand.use("carol", ALL_LAYERS, 5)
    assert demand.take(5) == 2
    demand.release("carol", 6)
    assert (demand.take(6), demand.due_at()) == (None, 6 + REDUCE_AFTER_S)
    demand.use("carol", 2, 7)  # she came back in time
    assert demand.due_at() is None


def test_nobody_receives_what_all_have_paused() -> None:
    demand = LayerDemand.new(last=0, now=0)
    demand.use("bob", ALL_LAYERS, 0)
    demand.use("bob", NO_LAYERS, 1)
    assert demand.take(1 + REDUCE_AFTER_S) == NO_LAYERS
    demand.use("bob", 0, 9)
    assert demand.take(9) == 0
    demand.release("nobody", 10)
    assert demand.due_at() is None


def test_a_change_between_lower_layers_does_not_postpone_what_is_due() -> None:
    demand = LayerDemand.new(last=2, now=0)
    demand.use("bob", 1, 1)
    demand.use("bob", 0, 1.9)
    assert demand.take(REDUCE_AFTER_S) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(NO_LAYERS, ALL_LAYERS))))
def test_the_highest_layer_is_that_of_all_present_users(changes: list[tuple[int, int | None]]) -> None:
    users, expected = LayerUsers(), dict[int, int]()
    for user, layer in changes:
        if layer is None:
            users.discard(user)
            expected.pop(user, None)
        else:
            users.add(user, layer)
            expected[user] = layer
        assert (users.highest, bool(users)) == (max(expected.values(), default=NO_LAYERS), bool(expected))
