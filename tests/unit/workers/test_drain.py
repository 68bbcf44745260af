"""A server's drain: its states, and what is announced of them."""

from __future__ import annotations

import pytest

from mafalda.contract.messages.queries import DrainServer
from mafalda.errors import PermissionDenied
from mafalda.workers.agent.draining import ServerDrain
from mafalda.workers.core import Machine
from mafalda.workers.core.drain import AnnounceDrain, Drain


def test_a_drain_ends_when_no_peer_is_left() -> None:
    drain = Drain()
    assert drain.request(None, 0) == AnnounceDrain(True)
    seen = []
    for peers in (2, 1, 0, 0):
        assert drain.advance(peers, 1_000_000) is None
        seen.append(drain.state)
    assert seen == ["draining", "draining", "drained", "drained"]


def test_an_empty_server_is_drained_at_once() -> None:
    drain = Drain()
    drain.request(60, 0)
    assert drain.advance(0, 0) is None
    assert drain.state == "drained"


def test_the_deadline_is_announced_once() -> None:
    drain = Drain()
    assert drain.request(60, 100) == AnnounceDrain(True, 60)
    assert (drain.advance(1, 159), drain.state, drain.deadline_in_s(159)) == (None, "draining", 1)
    assert (drain.advance(1, 160), drain.state) == (AnnounceDrain(True, 0, force=True), "forcing")
    assert (drain.advance(1, 161), drain.state) == (None, "forcing")
    assert (drain.advance(0, 162), drain.state, drain.deadline_in_s(162)) == (None, "drained", 0)


def test_a_new_deadline_replaces_the_one_before() -> None:
    drain = Drain()
    drain.request(10, 0)
    assert drain.request(60, 5) == AnnounceDrain(True, 60)
    assert (drain.advance(1, 64), drain.state) == (None, "draining")
    assert drain.request(None, 64) == AnnounceDrain(True)
    assert (drain.advance(1, 1_000), drain.deadline_in_s(1_000)) == (None, None)


def test_a_peer_that_comes_after_all_is_waited_for() -> None:
    """Its placement was decided before the drain was in the allocator's view."""
    drain = Drain()
    drain.request(60, 0)
    drain.advance(0, 0)
    assert (drain.advance(1, 1), drain.state) == (None, "draining")
    assert drain.advance(1, 60) == AnnounceDrain(True, 0, force=True)
    drain.advance(0, 61)
    assert (drain.advance(1, 62), drain.state) == (None, "forcing")


def test_a_cancelled_drain_is_none() -> None:
    drain = Drain()
    assert drain.cancel() is None
    drain.request(10, 0)
    drain.advance(1, 10)
    assert (drain.cancel(), drain.state) == (AnnounceDrain(False), "up")
    assert (drain.advance(1, 100), drain.advance(0, 100), drain.state) == (None, None, "up")
    assert drain.cancel() is None


async def test_a_drain_that_cannot_be_announced_is_an_error_and_does_not_begin() -> None:
    announced: list[AnnounceDrain] = []

    async def announce(order: AnnounceDrain) -> None:
        if not announced:
            announced.append(order)
            raise PermissionDenied("this agent may not publish here")
        announced.append(order)

    drain = ServerDrain(Machine("s1", "i1", ["w1"]), announce)
    with pytest.raises(PermissionDenied):
        await drain.request(DrainServer(deadline_s=60))
    assert (drain.status().state, drain.status().deadline_in_s) == ("up", None)
    assert (await drain.request(DrainServer(deadline_s=60))).state == "drained"
    assert announced == [AnnounceDrain(True, 60)] * 2
