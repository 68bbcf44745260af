"""Peers of the audience: they receive, cannot send, and the room is told nothing of them."""

from __future__ import annotations

import pytest

from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.queries import QueryRoom, RoomSnapshot
from mafalda.errors import AudienceCannotProduce
from mafalda.mediasoup.errors import RequestTimeout
from tests.component.workers.agent_world import Fleet


async def test_the_audience_receives_and_cannot_send(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("hall", "alice", place)
    await alice.transport("send")
    await alice.produce("mic", "send")
    carol = await fleet.join("hall", "carol", place, audience=True)
    await carol.transport("both", enable_sctp=True)

    received = await carol.consume("carol-mic", "mic", "both")
    assert received.media_kind == "audio"
    with pytest.raises(AudienceCannotProduce):
        await carol.produce("carol-mic", "both")
    with pytest.raises(AudienceCannotProduce):
        await carol.produce_data("carol-chat", "both")
    assert [it.producer for it in fleet.appended(events.ProducerOpened)] == ["mic"]
    await fleet.equals_the_log()


async def test_only_its_own_subject_has_the_membership_of_the_audience(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    carol = await fleet.join("hall", "carol", here, audience=True)
    await fleet.place("hall", "carol", there, generation=2, cause="drain", audience=True)
    await fleet.wait_appended(events.PeerMoved)
    await carol.ask(intents.Leave(), results.Done)
    await fleet.wait_appended(events.PeerLeft)

    found = [it.subject for it, message in fleet.entries() if isinstance(message.data, events.MEMBERSHIP_EVENTS)]
    assert found == [subjects.peer_event("hall", "carol", f"peer-{it}") for it in ("joined", "moved", "left")]
    assert fleet.appended(events.PeerJoined)[0].audience
    assert "hall" not in fleet.state().rooms


async def test_every_server_of_a_room_knows_its_audience(fleet: Fleet) -> None:
    for server in ("s1", "s2"):
        await fleet.start(server)
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("hall", "alice", here)
    carol = await fleet.join("hall", "carol", here, audience=True)
    dave = await fleet.join("hall", "dave", there, audience=True)

    async def look(after: str, query: QueryRoom) -> RoomSnapshot:
        seq = fleet.broker.last_seq_of(after)
        while (seen := await alice.query(query, RoomSnapshot)).seq < seq:
            pass
        return seen

    joined = subjects.peer_event("hall", "dave", "peer-joined")
    seen = await look(joined, QueryRoom())
    assert ([it.peer for it in seen.peers], seen.audience) == (["alice"], 2)
    roster = await look(joined, QueryRoom(audience=True))
    assert [(it.peer, it.app_data) for it in roster.peers] == [("carol", {"name": "carol"}), ("dave", {"name": "dave"})]

    await dave.ask(intents.Leave(), results.Done)
    await carol.ask(intents.Leave(), results.Done)
    left = subjects.peer_event("hall", "carol", "peer-left")
    await fleet.until(lambda: left in [it.subject for it, _ in fleet.entries()], "carol has left")
    assert (await look(left, QueryRoom())).audience == 0


def _room_events(fleet: Fleet, after_seq: int) -> list[str]:
    return [
        message.data.action
        for it, message in fleet.entries()
        if it.seq > after_seq and it.subject.startswith("mafalda.room.hall.event.")
    ]


async def test_a_promoted_peer_is_announced_and_may_send(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    carol = await fleet.join("hall", "carol", place, audience=True)
    await carol.transport("send")
    before = fleet.state().seq
    await carol.ask(intents.SetAudience(audience=False), results.Done)
    await carol.ask(intents.SetAudience(audience=False), results.Done)
    await carol.produce("mic", "send")
    assert _room_events(fleet, before) == ["peer-joined", "producer-opened"]
    assert not fleet.state().rooms["hall"].peers["carol"].audience
    assert (await carol.query(QueryRoom(), RoomSnapshot)).audience == 0


async def test_a_demoted_peer_sends_nothing_any_more(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    carol = await fleet.join("hall", "carol", place)
    await carol.transport("send")
    await carol.produce("mic", "send")
    before = fleet.state().seq
    await carol.ask(intents.SetAudience(audience=True), results.Done)
    assert _room_events(fleet, before) == ["producer-closed", "peer-demoted"]
    assert fleet.state().rooms["hall"].peers["carol"].audience
    with pytest.raises(AudienceCannotProduce):
        await carol.produce("mic", "send")
    await carol.ask(intents.Leave(), results.Done)
    assert _room_events(fleet, before) == ["producer-closed", "peer-demoted"], "the room is not told that it left"
    await fleet.equals_the_log()


async def test_a_promoted_peer_is_moved_and_evicted_before_everybody(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    carol = await fleet.join("hall", "carol", here, audience=True)
    await carol.ask(intents.SetAudience(audience=False), results.Done)
    join = fleet.state().rooms["hall"].peers["carol"].join
    before = fleet.state().seq
    # Decided before the promotion: the command still says that she is of the audience.
    await fleet.place("hall", "carol", there, generation=2, cause="drain", join=join, audience=True)
    await fleet.wait_appended(events.PeerMoved)

    async def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(agent.routers, "acquire", fail)
        await fleet.place("hall", "carol", here, generation=3, cause="drain", join=join, audience=True)
        await fleet.wait_appended(events.PeerLeft)
    assert _room_events(fleet, before) == ["peer-moved", "peer-left"]


async def test_a_close_that_the_worker_does_not_confirm_keeps_nobody_on_stage(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    carol = await fleet.join("hall", "carol", place)
    await carol.transport("send")
    await carol.produce("mic", "send")
    before = fleet.state().seq

    async def unconfirmed() -> None:
        raise RequestTimeout("the worker did not answer in time")

    producer = agent.sessions.by_key["hall", "carol"].objects.producers["mic"]
    monkeypatch.setattr(producer, "close", unconfirmed)
    await carol.ask(intents.SetAudience(audience=True), results.Done)
    assert _room_events(fleet, before) == ["producer-closed", "peer-demoted"]
