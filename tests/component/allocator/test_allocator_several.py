"""Several allocators at once: never two winners, and nobody notices when one is gone in mid-decision."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mafalda.bus.protocol import Appended
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import Message
from mafalda.testing.memory_bus import MemoryBus
from tests.component.allocator.allocator_fleet import Fleet, open_fleet

pytestmark = pytest.mark.usefixtures("no_leaked_tasks")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with open_fleet() as opened:
        yield opened


class SlowBus(MemoryBus):
    """A bus on which appends take a while, so that deciders overtake each other."""

    def __init__(self, *args: Any, turns: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns = turns

    async def append(self, subject: str, message: Message, **other: Any) -> Appended:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await super().append(subject, message, **other)


class UnheardBus(MemoryBus):
    """A bus that loses what is published outside the log, so that the allocators do not hear of each other."""

    async def publish(self, subject: str, message: Message) -> None:
        if not subject.startswith("mafalda.allocator."):
            await super().publish(subject, message)


class HangingBus(MemoryBus):
    """The bus of a process whose appends never end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reached = asyncio.Event()

    async def append(self, subject: str, message: Message, **other: Any) -> Appended:
        self.reached.set()
        await asyncio.get_running_loop().create_future()  # and never comes back
        raise AssertionError


class DyingBus(HangingBus, UnheardBus):
    """The bus of a process that is killed as it is about to append."""


class SlowUnheardBus(SlowBus, UnheardBus):
    """Both."""


async def test_three_allocators_place_each_peer_once(fleet: Fleet) -> None:
    """Three that each take all rooms for their own, since no report arrives: conflicts, and one place for each peer."""
    await fleet.agent("s1", 4)
    await fleet.agent("s2", 4)
    peers = [(f"room-{index % 4}", f"peer-{index}") for index in range(80)]
    async with AsyncExitStack() as stack:
        for index in range(3):
            bus = SlowUnheardBus(fleet.broker, turns=5 + index * 3)
            await stack.enter_async_context(fleet.allocator(f"a{index}", bus=bus))
        answers = await asyncio.gather(*(fleet.join(room, peer) for room, peer in peers))
        await fleet.pass_time(3)
    assert all(isinstance(answer, results.JoinResult) for answer in answers)
    placed = Counter((command.room, command.peer) for command in fleet.payloads(commands.PlacePeer))
    assert placed == dict.fromkeys(peers, 1)
    assert {command.generation for command in fleet.payloads(commands.PlacePeer)} == {1}
    assert fleet.payloads(results.Rejected) == []
    total = sum(fleet.counters.values(), Counter[str]())
    assert total["conflict"] + total["appended-twice"] > 0, "they did meet"
    assert total["broken-decision"] == total["broken-fold"] == 0
    assert all(fleet.counters[name]["decided-placed"] for name in fleet.counters), "and all of them worked"


async def test_three_allocators_append_a_rejection_once(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        for index in range(3):
            await stack.enter_async_context(fleet.allocator(f"a{index}"))
        await fleet.poison("mafalda.room.lobby.peer.mallory.intent.join", b"nonsense")
        await fleet.ask("lobby", "alice", intents.Join())
        await fleet.pass_time(4)
    rejected = fleet.payloads(results.Rejected)
    assert sorted(one.error.code for one in rejected) == ["malformed-message", "no-capacity"]


async def test_three_allocators_move_a_dead_worker_s_peers_once(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    async with AsyncExitStack() as stack:
        for index in range(3):
            await stack.enter_async_context(fleet.allocator(f"a{index}", bus=SlowBus(fleet.broker, turns=index * 5)))
        for index in range(12):
            await fleet.join(f"room-{index % 3}", f"peer-{index}")
        await fleet.agent("s2", 2)
        await agent.kill("s1-0")
        await fleet.wait_for(lambda _: len(fleet.payloads(events.PeerMoved)) == 12)
        await fleet.pass_time(3)
    moved = Counter(event.peer for event in fleet.payloads(events.PeerMoved))
    assert set(moved.values()) == {1}
    assert {command.generation for command in fleet.payloads(commands.PlacePeer)} == {1, 2}


async def test_a_server_is_declared_lost_once(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    async with AsyncExitStack() as stack:
        for index in range(3):
            await stack.enter_async_context(fleet.allocator(f"a{index}"))
        await fleet.pass_time(12, reporting=False)
    assert len(fleet.payloads(events.ServerLost)) == 1


@pytest.mark.parametrize("survivors", [1, 3])
async def test_an_allocator_killed_in_mid_decision_is_not_missed(fleet: Fleet, survivors: int) -> None:
    """The one that was given the join dies before it appends its command; another one appends it a second later."""
    await fleet.agent("s1", 2)
    dying = DyingBus(fleet.broker)
    async with AsyncExitStack() as stack:
        async with fleet.allocator("dies", bus=dying):
            await fleet.ask("lobby", "alice", intents.Join())
            await asyncio.wait_for(dying.reached.wait(), 10)
            for index in range(survivors):
                await stack.enter_async_context(fleet.allocator(f"a{index}"))
        await fleet.pass_time(2)
        answer = await fleet.answer("lobby", "alice", "join")
        assert isinstance(answer, results.JoinResult)
        assert answer.generation == 1
    assert len(fleet.payloads(commands.PlacePeer)) == 1
    assert fleet.payloads(results.Rejected) == []


async def test_an_allocator_that_hangs_is_not_waited_for(fleet: Fleet) -> None:
    """It goes on reporting, and its rooms stay its own; each intent there is done by the other, a little later."""
    await fleet.agent("s1", 2)
    hanging = HangingBus(fleet.broker)
    async with fleet.allocator("hangs", bus=hanging), fleet.allocator("works"):
        for index in range(6):
            await fleet.ask(f"room-{index}", "alice", intents.Join())
        await fleet.pass_time(3)
        for index in range(6):
            assert isinstance(await fleet.answer(f"room-{index}", "alice", "join"), results.JoinResult)
    assert hanging.reached.is_set()
    assert len(fleet.payloads(commands.PlacePeer)) == 6


async def test_stopping_and_starting_allocators_loses_no_join(fleet: Fleet) -> None:
    await fleet.agent("s1", 4)
    asked = 0
    for turn in range(5):
        async with fleet.allocator(f"a{turn}"):
            for _ in range(4):
                await fleet.ask(f"room-{asked % 3}", f"peer-{asked}", intents.Join())
                asked += 1
    async with fleet.allocator("last"):
        await fleet.pass_time(2)
        for index in range(asked):
            assert isinstance(await fleet.answer(f"room-{index % 3}", f"peer-{index}", "join"), results.JoinResult)
    placed = Counter((command.room, command.peer) for command in fleet.payloads(commands.PlacePeer))
    assert len(placed) == asked
    assert set(placed.values()) == {1}


async def test_a_burst_decided_by_two_stays_near_the_watermark(fleet: Fleet) -> None:
    """What two decide at the same moment they cannot know of each other: at most what is under way is too much."""
    await fleet.agent("s1", 8)
    rooms = [f"room-{index}" for index in range(160)]
    async with fleet.allocator("a0"), fleet.allocator("a1"):
        answers = await asyncio.gather(*(fleet.join(room, "x") for room in rooms))
    assert all(isinstance(answer, results.JoinResult) for answer in answers)
    by_worker = Counter(command.worker for command in fleet.payloads(commands.PlacePeer))
    assert sum(by_worker.values()) == 160
    assert max(by_worker.values()) <= 2 * 30
