"""The same allocator on real NATS: conditional appends over a room, shared intents, loads, a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mafalda.aio.tasks import background
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.jetstream_api import call
from mafalda.bus.log.streams import LOG_STREAM
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.protocol import REPLY_HEADER, Inbox
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.payload import Payload
from tests.component.allocator.allocator_fleet import DEADLINE_S, Agent

pytestmark = pytest.mark.usefixtures("no_leaked_tasks")


@asynccontextmanager
async def allocator(url: str, name: str) -> AsyncIterator[Counter[str]]:
    """One allocator with a connection of its own."""
    ready, counters = asyncio.Event(), Counter[str]()
    async with connect(BusConfig(servers=(url,), name=name)) as bus:
        work = run_allocator(bus, AllocatorConfig(name=name), ready=ready, counters=counters)
        async with background(work, name):
            await asyncio.wait_for(ready.wait(), DEADLINE_S)
            yield counters


@asynccontextmanager
async def agent(url: str, server: str, workers: int) -> AsyncIterator[Agent]:
    """One scripted agent that reports ten times a second."""
    async with connect(BusConfig(servers=(url,), name=server)) as bus:
        scripted = Agent(bus, server, [f"{server}-{slot}" for slot in range(workers)])

        async def report() -> None:
            while True:
                await scripted.report()
                await asyncio.sleep(0.1)  # the pace of reports, for which nothing waits

        async with background(scripted.run(), server):
            await scripted.start()
            async with background(report(), f"{server}-reports"):
                yield scripted


async def ask(bus: NatsBus, room: str, peer: str, intent: intents.Intent) -> None:
    subject = subjects.intent(room, peer, intent.action)
    await bus.append(subject, compose(intent, subject=subject, source=f"/test/{peer}"))


async def wait_for_results(bus: NatsBus, number: int) -> list[Payload]:
    """Follow the log from its start until so many results are in."""
    found: list[Payload] = []
    async with asyncio.timeout(DEADLINE_S), bus.follow(subjects.ALL_RESULTS, after_seq=0) as follower:
        async for delivery in follower:
            found.append(decode(delivery.data).data)
            if len(found) == number:
                break
    return found


async def all_of(bus: NatsBus, pattern: str) -> list[Payload]:
    return [decode(delivery.data).data async for delivery in bus.read(pattern)]


async def test_three_allocators_on_nats_place_each_peer_once(nats_url: str, nats_bus: NatsBus) -> None:
    peers = [(f"room-{index % 3}", f"peer-{index}") for index in range(30)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(agent(nats_url, "s1", 4))
        for index in range(3):
            await stack.enter_async_context(allocator(nats_url, f"a{index}"))
        await asyncio.gather(*(ask(nats_bus, room, peer, intents.Join()) for room, peer in peers))
        answers = await wait_for_results(nats_bus, 30)
    assert all(isinstance(answer, results.JoinResult) for answer in answers)
    appended = await all_of(nats_bus, subjects.ALL_COMMANDS)
    placed = Counter((command.room, command.peer) for command in appended if isinstance(command, commands.PlacePeer))
    assert placed == dict.fromkeys(peers, 1)


async def test_a_death_while_no_allocator_runs_is_mended_by_the_next(nats_url: str, nats_bus: NatsBus) -> None:
    async with agent(nats_url, "s1", 2) as scripted:
        async with allocator(nats_url, "first"):
            await ask(nats_bus, "lobby", "alice", intents.Join())
            (joined,) = await wait_for_results(nats_bus, 1)
            assert isinstance(joined, results.JoinResult)
        await scripted.kill(joined.worker)
        await nats_bus.append(
            subjects.intent("lobby", "alice", "pause-producer"),
            compose(intents.Leave(), subject="another's", source="/test/poison"),
        )
        async with allocator(nats_url, "second") as counters:
            again = (await wait_for_results(nats_bus, 3))[1:]
    moved = next(answer for answer in again if isinstance(answer, results.JoinResult))
    refused = next(answer for answer in again if isinstance(answer, results.Rejected))
    assert (moved.generation, refused.error.code) == (2, "malformed-message")
    assert moved.worker != joined.worker
    assert [type(event) for event in await all_of(nats_bus, subjects.ALL_ROOM_EVENTS)] == [
        events.PeerJoined,
        events.PeerMoved,
    ]
    assert counters["broken-fold"] == 0


async def limit_log(bus: NatsBus, max_bytes: int) -> None:
    config = (await call(bus.connection, f"STREAM.INFO.{LOG_STREAM}"))["config"]
    await call(bus.connection, f"STREAM.UPDATE.{LOG_STREAM}", {**config, "max_bytes": max_bytes})


async def test_joins_whose_placement_the_log_refuses_are_rejected_in_their_inbox(
    nats_url: str, nats_bus: NatsBus
) -> None:
    """One join from the log's past and one that comes live; the log has room for an intent and for no command."""

    async def join(peer: str, inbox: Inbox) -> str:
        subject = subjects.intent("lobby", peer, "join")
        message = compose(intents.Join(), subject=subject, source=f"/test/{peer}")
        await nats_bus.append(subject, message, headers={REPLY_HEADER: inbox.subject})
        return message.id

    async with agent(nats_url, "s1", 1), nats_bus.inbox() as inbox:
        before = await nats_bus.log_usage()
        ids = [await join("alice", inbox)]
        used = await nats_bus.log_usage()
        await limit_log(nats_bus, used.bytes + (used.bytes - before.bytes) + 100)
        async with allocator(nats_url, "a1") as counters:
            private = [decode((await inbox.next(DEADLINE_S)).data)]
            ids.append(await join("bella", inbox))
            private.append(decode((await inbox.next(DEADLINE_S)).data))
            assert [message.causationid for message in private] == ids
            assert all(isinstance(message.data, results.Rejected) for message in private)
            await limit_log(nats_bus, -1)
            answers = await wait_for_results(nats_bus, 2)
    assert [answer.error.code for answer in answers if isinstance(answer, results.Rejected)] == ["log-full"] * 2
    assert counters["refused-privately"] == 2
    assert await all_of(nats_bus, subjects.ALL_COMMANDS) == []
