"""An agent drains by request and before it stops; the test moves its peers, as an allocator would."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.cli.commands.drain import describe
from mafalda.contract.messages import events, results
from mafalda.contract.messages.queries import DrainServer, DrainStatus, QueryDrain
from mafalda.errors import NotFound
from mafalda.monitor.drain import drain_request
from mafalda.testing.memory_bus import MemoryBus
from mafalda.workers.agent import run_agent
from mafalda.workers.config import AgentConfig
from tests.component.workers.agent_world import DEADLINE_S, Fleet


async def status(fleet: Fleet, server: str = "s1") -> DrainStatus:
    return await drain_request(fleet.bus, server, QueryDrain())


async def test_a_drain_is_in_the_log_and_ends_when_the_peers_have_moved(fleet: Fleet) -> None:
    await fleet.start("s1")
    await fleet.start("s2")
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    await fleet.join("lobby", "alice", here)

    begun = await drain_request(fleet.bus, "s1", DrainServer(deadline_s=60))

    assert (begun.state, begun.peers, begun.unmovable) == ("draining", 1, 0)
    draining = await fleet.wait_appended(events.ServerDraining)
    assert (draining.draining, draining.deadline_s, draining.force) == (True, 60, False)
    assert describe(begun) == "s1: draining, 1 peer left"
    assert fleet.state().servers["s1"].status == "draining"
    await fleet.place("lobby", "alice", there, generation=2, cause="drain")
    await fleet.wait_appended(events.PeerMoved)
    await fleet.until(lambda: fleet.agents["s1"].drain.status().state == "drained", "s1 is drained")
    now = await status(fleet)
    assert (now.peers, describe(now)) == (0, "s1: drained")
    cancelled = await drain_request(fleet.bus, "s1", DrainServer(draining=False))
    assert cancelled.state == "up"
    assert fleet.state().servers["s1"].status == "up"
    await fleet.equals_the_log()


async def test_a_handed_over_peer_is_closed_where_it_was_and_served_where_it_is(fleet: Fleet) -> None:
    """Its transports were never connected, so that its client has nothing to move."""
    await fleet.start("s1")
    await fleet.start("s2")
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("lobby", "alice", here)
    await alice.transport("send")
    await alice.produce("mic", "send")

    await fleet.place("lobby", "alice", there, generation=2, cause="drain", handover=True)

    assert (await fleet.wait_appended(events.PeerMoved)).handover
    assert (await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)).handover
    closed = await fleet.wait_appended(events.ProducerClosed)
    assert (closed.producer, closed.generation, closed.reason) == ("mic", 1, "peer-moved")
    await alice.transport("send")
    await alice.produce("mic", "send")
    await fleet.equals_the_log()
    assert (await status(fleet)).leaving == 0


async def test_at_the_deadline_what_is_left_is_to_be_moved_by_force(fleet: Fleet) -> None:
    await fleet.start("s1")
    await fleet.join("lobby", "alice", fleet.places("s1")[0])
    await drain_request(fleet.bus, "s1", DrainServer(deadline_s=0))
    forced = await fleet.wait_appended(events.ServerDraining, lambda it: it.force)
    assert forced.draining
    assert (await status(fleet)).state == "forcing"
    assert fleet.state().servers["s1"].force_drain


async def test_a_server_without_an_agent_cannot_be_drained(fleet: Fleet) -> None:
    await fleet.start("s1")
    with pytest.raises(NotFound) as refused:
        await drain_request(fleet.bus, "s9", DrainServer())
    assert refused.value.details == {"server": "s9", "servers": "s1"}


async def leave(fleet: Fleet, grace_s: float, *, peers: int = 1) -> asyncio.Task[None]:
    """An agent of s1 with a peer that was told to leave."""
    ready, leaving = asyncio.Event(), asyncio.Event()
    config = AgentConfig(server="s1", workers=1, drain_grace_s=grace_s)
    running = asyncio.create_task(
        run_agent(MemoryBus(fleet.broker, name="s1"), config, ready=ready, leave=leaving), name="agent s1"
    )
    async with asyncio.timeout(DEADLINE_S):
        await ready.wait()
    (worker,) = fleet.state().servers["s1"].workers.values()
    for number in range(peers):
        await fleet.join("lobby", f"peer-{number}", worker.place)
    leaving.set()
    return running


async def test_an_agent_that_leaves_waits_until_its_peers_have_moved(fleet: Fleet) -> None:
    await fleet.start("s2")
    running = await leave(fleet, 60)
    await fleet.wait_appended(events.ServerDraining)
    assert fleet.appended(events.ServerStopped) == []
    await fleet.place("lobby", "peer-0", fleet.places("s2")[0], generation=2, cause="drain")
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert fleet.state().servers["s1"].status == "stopped"
    assert fleet.state().rooms["lobby"].peers["peer-0"].place.server == "s2"


@pytest.mark.parametrize(("grace_s", "peers", "drains"), [(0, 1, False), (60, 0, False), (0.2, 1, True)])
async def test_an_agent_that_leaves_stops_without_a_grace_or_a_peer_and_when_the_grace_is_over(
    fleet: Fleet, grace_s: float, peers: int, drains: bool
) -> None:
    await fleet.start("s2")
    running = await leave(fleet, grace_s, peers=peers)
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert fleet.state().servers["s1"].status == "stopped"
    assert bool(fleet.appended(events.ServerDraining)) == drains


async def test_an_agent_that_leaves_stops_when_no_other_server_could_take_its_peers(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    running = await leave(fleet, 60)
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert fleet.state().servers["s1"].status == "stopped"
    assert fleet.appended(events.ServerDraining) == []
    assert "no other server could take the peers; stopping" in capsys.readouterr().out


async def test_an_agent_that_drains_stops_when_the_last_other_server_drains_too(fleet: Fleet) -> None:
    await fleet.start("s2")
    running = await leave(fleet, 60)
    await fleet.wait_appended(events.ServerDraining)
    await drain_request(fleet.bus, "s2", DrainServer())
    async with asyncio.timeout(DEADLINE_S):
        await running
    assert fleet.state().servers["s1"].status == "stopped"
