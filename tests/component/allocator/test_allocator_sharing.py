"""Several allocators divide the rooms between them; nothing is lost or done twice when one comes, leaves or ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mafalda.bus.protocol import Appended
from mafalda.contract import subjects
from mafalda.contract.messages import commands, intents, results
from mafalda.contract.messages.envelope import Message
from mafalda.testing.memory_bus import MemoryBus
from tests.component.allocator.allocator_fleet import DEADLINE_S, Agent, Fleet, open_fleet

pytestmark = pytest.mark.usefixtures("no_leaked_tasks")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with open_fleet() as opened:
        for server in range(4):
            await opened.agent(f"s{server}", 8)
        yield opened


class FrozenBus(MemoryBus):
    """The bus of a process that is stopped (SIGSTOP) at the moment at which the test says so: nothing leaves it."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.broker)
        self.running = asyncio.Event()
        self.running.set()

    async def append(self, subject: str, message: Message, **other: object) -> Appended:
        await self.running.wait()
        return await super().append(subject, message, **other)  # type: ignore[arg-type]

    async def publish(self, subject: str, message: Message) -> None:
        await self.running.wait()
        await super().publish(subject, message)


def placed(fleet: Fleet) -> Counter[tuple[str, str]]:
    return Counter((command.room, command.peer) for command in fleet.payloads(commands.PlacePeer))


def decided(fleet: Fleet) -> dict[str, int]:
    return {name: counted["decided-placed"] for name, counted in fleet.counters.items()}


async def ask_all(fleet: Fleet, rooms: range) -> list[tuple[str, str]]:
    peers = [(f"room-{room}", "alice") for room in rooms]
    for room, peer in peers:
        await fleet.ask(room, peer, intents.Join())
    return peers


async def answers(fleet: Fleet, peers: list[tuple[str, str]]) -> None:
    wanted = {subjects.result(room, peer, "join") for room, peer in peers}
    async with asyncio.timeout(DEADLINE_S):
        while answered := wanted - {entry.subject for entry in fleet.broker.entries}:
            await fleet.broker.wait_beyond(len(fleet.broker.entries))
    assert not answered
    assert fleet.payloads(results.Rejected) == []
    assert placed(fleet) == dict.fromkeys(peers, 1)


async def test_each_join_is_decided_by_one(fleet: Fleet) -> None:
    """None of 180 joins in 60 rooms is decided by two, and each of three takes about a third."""
    peers = [(f"room-{room}", f"peer-{number}") for number in range(3) for room in range(60)]
    async with fleet.allocator("a0"), fleet.allocator("a1"), fleet.allocator("a2"):
        await fleet.acquainted("a0", "a1", "a2")
        for room, peer in peers:
            await fleet.ask(room, peer, intents.Join())
        await answers(fleet, peers)
    assert sum(decided(fleet).values()) == len(peers)
    assert all(45 <= count <= 75 for count in decided(fleet).values()), decided(fleet)
    assert sum(counted["conflict"] for counted in fleet.counters.values()) == 0


async def test_rooms_of_one_that_leaves_are_taken_over_at_once(fleet: Fleet) -> None:
    async with fleet.allocator("stays"):
        bus = FrozenBus(fleet)
        async with fleet.allocator("leaves", bus=bus):
            await fleet.acquainted("stays", "leaves")
            bus.running.clear()
            peers = await ask_all(fleet, range(20))
            await fleet.wait_for(lambda _: decided(fleet)["stays"] > 0)
            bus.running.set()
        await answers(fleet, peers)  # no time has passed
    assert decided(fleet)["stays"] > 0


async def test_a_stopped_one_is_replaced_and_does_no_harm_when_it_goes_on(fleet: Fleet) -> None:
    """Its joins are decided by the other. When it goes on, it appends what it had decided before."""
    bus = FrozenBus(fleet)
    async with fleet.allocator("stopped", bus=bus), fleet.allocator("works"):
        await fleet.acquainted("stopped", "works")
        bus.running.clear()
        peers = await ask_all(fleet, range(20))
        await fleet.pass_time(4)
        await answers(fleet, peers)
        later = await ask_all(fleet, range(20, 40))
        await fleet.pass_time(0.25)
        await answers(fleet, [*peers, *later])
        bus.running.set()
        await fleet.pass_time(2)
        again = await ask_all(fleet, range(40, 60))
        await answers(fleet, [*peers, *later, *again])
    assert fleet.payloads(results.Rejected) == []
    assert decided(fleet)["works"] >= 40


async def test_one_that_comes_takes_its_rooms(fleet: Fleet) -> None:
    async with fleet.allocator("first"):
        peers = await ask_all(fleet, range(10))
        await answers(fleet, peers)
        async with fleet.allocator("second"):
            await fleet.acquainted("first", "second")
            later = await ask_all(fleet, range(10, 60))
            await answers(fleet, [*peers, *later])
            assert 10 <= decided(fleet)["second"] <= 40
    assert sum(decided(fleet).values()) == 60


async def test_a_backlog_is_left_to_an_owner_that_goes_on(fleet: Fleet) -> None:
    """It has more to do than it can within a second; the others do not begin to do the same work."""
    async with fleet.allocator("slow", bus=SlowlyAppending(fleet), max_in_flight=1), fleet.allocator("idle"):
        await fleet.acquainted("slow", "idle")
        peers = await ask_all(fleet, range(24))
        await fleet.pass_time(8)
        await answers(fleet, peers)
    assert sum(decided(fleet).values()) == len(peers)
    assert decided(fleet)["slow"] > 4


class SlowlyAppending(MemoryBus):
    """Appends take 0.4 s each."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.broker)
        self._test_clock = fleet.clock

    async def append(self, subject: str, message: Message, **other: object) -> Appended:
        await self._test_clock.sleep(0.4)
        return await super().append(subject, message, **other)  # type: ignore[arg-type]


class TimedBus(MemoryBus):
    """Appends take 4 ms by the test's clock, as they do on a busy NATS: meanwhile the others decide without them."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.broker)
        self._test_clock = fleet.clock

    async def append(self, subject: str, message: Message, **other: object) -> Appended:
        await self._test_clock.sleep(0.004)
        return await super().append(subject, message, **other)  # type: ignore[arg-type]


async def test_five_hundred_joins_in_a_second_are_spread_by_three() -> None:
    """Over 50 servers, 500 joins in 500 rooms, one each 2 ms: no server is more than a tenth above the ideal of ten.

    The servers are there and do nothing: what the joins lead to is not asked here.
    """
    async with open_fleet() as fleet:
        for server in range(50):
            await Agent(fleet.bus, f"s{server}", [f"s{server}-0"]).start()
        names = ["a0", "a1", "a2"]
        async with AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(fleet.allocator(name, bus=TimedBus(fleet), policy="spread"))
            await fleet.acquainted(*names)
            for number in range(500):
                await fleet.ask(f"room-{number}", "alice", intents.Join())
                await fleet.clock.advance(0.002)
            await fleet.clock.advance(0.1)
        assert placed(fleet) == {(f"room-{number}", "alice"): 1 for number in range(500)}
        by_server = Counter(command.server for command in fleet.payloads(commands.PlacePeer))
        assert all(140 <= count <= 195 for count in decided(fleet).values()), decided(fleet)
        assert max(by_server.values()) <= 11, by_server
