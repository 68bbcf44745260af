"""A request of relays that is woken while its own decision is being appended."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mafalda.aio.sequence import SequenceWaiter
from mafalda.aio.tasks import open_tasks
from mafalda.allocator.core import work_queue
from mafalda.allocator.runner.room_executor import RoomExecutor
from mafalda.bus.protocol import Appended
from mafalda.contract.messages import commands
from mafalda.contract.messages.envelope import Message
from mafalda.testing.clock import ManualClock
from tests.unit.allocator.allocator_world import World
from tests.unit.allocator.test_allocator_relays import spread_world
from tests.unit.allocator.test_allocator_subscriptions import batch, opened, requested


@dataclass
class Log:
    """Folds what is appended at once. During the first append a relay opens, and what that wakes is submitted."""

    world: World
    command: commands.OpenRelays
    executor: RoomExecutor | None = None
    orders: list[list[str]] = field(default_factory=list)
    is_complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, subject: str, message: Message, **_: Any) -> Appended:
        assert isinstance(message.data, commands.OpenRelays)
        self.orders.append([it.producer for it in message.data.relays])
        seq = self.world.append(subject, message.data, id=message.id)
        if len(self.orders) == 1:
            opened(self.world, self.command)
            assert self.executor is not None
            for woken in work_queue.woken(self.world.view):
                self.executor.submit(woken)
        else:
            self.is_complete.set()
        return Appended(seq, False)


async def test_a_relay_that_opens_while_the_decision_is_appended_wakes_the_request() -> None:
    world, places = spread_world(2, 2, 4)
    first, second = [place for place in places if place.server != places[0].server]
    world.produce("lobby", f"p{places.index(first)}", "near")
    command = batch(world.commit(world.decide(requested(world, first, "mic"))))
    request = requested(world, second, "near", "mic")
    assert world.decide(request).wait_for_all == ("mic",), "it is on its way into the server"

    log, folded = Log(world, command), SequenceWaiter()
    folded.reached(1_000_000)
    async with open_tasks() as tasks:
        log.executor = RoomExecutor(
            log,  # type: ignore[arg-type]
            world.config,
            ManualClock(world.now),
            random.Random,
            world.view,
            Counter(),
            folded,
            tasks,
        )
        log.executor.submit(request)
        async with asyncio.timeout(10):
            await log.is_complete.wait()
    assert log.orders == [["near"], ["mic"]]
