"""Peers of one worker: joining, transports, producing, consuming, leaving; and every kind of no."""

from __future__ import annotations

from mafalda.contract import events
from tests.component.workers.agent_world import Fleet


async def test_a_peer_is_placed_produces_and_is_heard(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    bob = await fleet.join("lobby", "bob", place)
    await alice.transport("alice-send")
    await bob.transport("bob-receive")

    produced = await alice.produce("mic", "alice-send")
    heard = await bob.consume("bob-mic", "mic", "bob-receive")

    assert produced.type == "simple"
    assert (heard.media_kind, heard.relayed, heard.paused) == ("audio", False, True)
    assert [it.peer for it in fleet.said(events.PeerJoined)] == ["alice", "bob"]
    await fleet.equals_the_log()
