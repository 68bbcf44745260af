"""What has to come over a relay, and whether a client is still there: both run without a clock."""

from __future__ import annotations

import pytest

from mafalda.workers.core import Demand, PeerLiveness


def test_a_relay_flows_while_anybody_takes_it() -> None:
    demand = Demand(quiet_since=0, empty_since=0)
    seen = [demand.level]
    for user, paused in (("bob", True), ("carol", False), ("carol", True)):
        demand.add(user, 1, paused=paused)
        seen.append(demand.level)
    for user in ("carol", "bob", "nobody"):
        demand.remove(user, 2)
        seen.append(demand.level)

    assert seen == ["none", "paused", "flowing", "paused", "paused", "none", "none"]


def test_pausing_and_closing_are_due_some_time_after_the_last_one() -> None:
    demand = Demand(quiet_since=0, empty_since=0)
    demand.add("bob", 1, paused=False)
    assert (demand.may_pause_at(0.5), demand.may_close_at(10)) == (None, None)
    demand.add("bob", 3, paused=True)
    assert (demand.may_pause_at(0.5), demand.may_close_at(10)) == (3.5, None)
    demand.remove("bob", 7)
    assert (demand.may_pause_at(0.5), demand.may_close_at(10)) == (3.5, 17)
    demand.add("carol", 8, paused=True)
    assert (demand.may_pause_at(0.5), demand.may_close_at(10)) == (3.5, None)


@pytest.mark.parametrize(
    ("connected_at", "lost_at", "now", "gone"),
    [
        (None, None, 59, False),  # never connected: the long grace
        (None, None, 61, True),
        (5, None, 1000, False),  # connected
        (5, 100, 114, False),  # was connected: the short grace, from when it was lost
        (5, 100, 116, True),
    ],
)
def test_a_client_is_gone_after_the_grace_that_applies(
    connected_at: float | None, lost_at: float | None, now: float, gone: bool
) -> None:
    liveness = PeerLiveness(active_at=0)
    if connected_at is not None:
        liveness.note_connected(1, connected_at)
    if lost_at is not None:
        liveness.note_connected(0, lost_at)

    assert liveness.is_gone(now, ice_grace_s=15, idle_grace_s=60) is gone


def test_whoever_asks_for_something_is_there() -> None:
    liveness = PeerLiveness(active_at=0)
    liveness.note_activity(50)

    assert not liveness.is_gone(100, ice_grace_s=15, idle_grace_s=60)
    assert liveness.is_gone(111, ice_grace_s=15, idle_grace_s=60)
