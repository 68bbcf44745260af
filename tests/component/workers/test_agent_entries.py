"""Log entries for participants: any agent answers, whether the peer has a place or not, and only one does."""

from __future__ import annotations

import pytest

from mafalda.contract.grants import Grants
from mafalda.contract.messages import intents, results
from mafalda.contract.messages.events import PeerJoined, PeerLeft, ProducerOpened
from mafalda.contract.messages.queries import LogEntries, QueryEntries
from mafalda.contract.messages.results import TransportResult
from tests.component.workers.agent_world import Client, Fleet


async def types(client: Client, after: int = 0) -> list[str]:
    """The types of the entries for a peer."""
    answer = await client.query(QueryEntries(after=after), LogEntries)
    assert answer.seq == len(client.fleet.broker.entries)
    return [entry.message["type"] for entry in answer.entries]


async def test_a_peer_gets_its_results_and_the_rooms_events_again(fleet: Fleet) -> None:
    for server in ("s1", "s2"):
        await fleet.start(server)
    alice = await fleet.join("lobby", "alice", fleet.places("s1")[0])
    bob = await fleet.join("lobby", "bob", fleet.places("s2")[0])
    joined = len(fleet.broker.entries)
    await alice.transport("send")
    await alice.produce("mic", "send")
    own = [TransportResult.type_name(), results.ProduceResult.type_name()]
    assert sorted(await types(alice, joined)) == sorted([*own, ProducerOpened.type_name()])
    assert await types(bob, joined) == [ProducerOpened.type_name()]
    stored = await alice.query(QueryEntries(after=joined), LogEntries)
    assert "password" not in str([entry.message for entry in stored.entries])


async def test_who_was_removed_is_told_so(fleet: Fleet) -> None:
    await fleet.start("s1")
    alice = await fleet.join("lobby", "alice", fleet.places("s1")[0])
    joined = len(fleet.broker.entries)
    await alice.ask(intents.Leave(), results.Done)
    await fleet.wait_appended(PeerLeft)
    assert PeerLeft.type_name() in await types(alice, joined)


@pytest.mark.parametrize("roster", [True, False])
async def test_room_events_are_for_who_may_see_the_roster(fleet: Fleet, roster: bool) -> None:
    await fleet.start("s1")
    fleet.broker.grants["lobby", "alice"] = Grants(rooms=["lobby"], peer="alice", roster=roster)
    alice = await fleet.join("lobby", "alice", fleet.places("s1")[0])
    assert (PeerJoined.type_name() in await types(alice)) == roster
    assert results.JoinResult.type_name() in await types(alice)
