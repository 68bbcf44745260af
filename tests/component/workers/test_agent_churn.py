"""Many peers at once, coming and going, with a real allocator: in the end nothing is left."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from random import Random

from mafalda.contract.ids import derived_id
from mafalda.contract.messages import events, intents, results
from mafalda.errors import NotFound, RelayUnavailable
from mafalda.workers.agent import Agent
from tests.component.workers.agent_world import Client, Fleet
from tests.component.workers.test_agent_media import allocating

ROUNDS = 2


async def come_and_go(fleet: Fleet, number: int, rng: Random) -> int:
    """Join, produce, consume others at random, leave; some rounds of it. How many consumers were opened."""
    client = Client(fleet, f"room{number % 2}", f"p{number}")
    consumed = 0
    for turn in range(ROUNDS):
        join = await client.send(intents.Join(), id=derived_id("join", number, turn))
        await fleet.until(partial(joined, fleet, join.id), "a join result")
        await client.transport(f"t{turn}")
        await client.produce(f"mic{number}-{turn}", f"t{turn}")
        for attempt in range(3):
            room = fleet.state().rooms[client.room]
            others = sorted(it.producer for it in room.producers.values() if it.peer != client.peer)
            with suppress(NotFound, RelayUnavailable):  # it may be gone by now
                if others:
                    await client.consume(f"c{turn}-{attempt}", rng.choice(others), f"t{turn}")
                    consumed += 1
        if rng.random() < 0.5:
            await client.ask(intents.CloseProducer(producer=f"mic{number}-{turn}"), results.Done)
        await client.ask(intents.Leave(), results.Done)
    return consumed


def joined(fleet: Fleet, join: str) -> bool:
    return any(isinstance(it.data, results.JoinResult) and it.correlationid == join for _, it in fleet.entries())


def has_no_router(agent: Agent) -> bool:
    return not agent.routers.all()


async def test_after_much_coming_and_going_nothing_is_left(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    await fleet.start("s2", workers=2)
    rng = Random(5)
    async with allocating(fleet), asyncio.TaskGroup() as group:
        peers = [group.create_task(come_and_go(fleet, number, rng)) for number in range(8)]

    assert sum(peer.result() for peer in peers) > 8
    assert fleet.appended(events.RelayOpened)
    await fleet.equals_the_log()
    for agent in fleet.agents.values():
        await fleet.until(partial(has_no_router, agent), "every router is closed")
        assert (await agent.inventory()).peers == []
        assert not agent.target_pipes.transports()
        assert not agent.relay_sources.transports()
        assert not agent.sessions.services.claimed
        for live in agent.supervisor.alive.values():
            assert (await live.worker.dump())["routerIds"] == []
