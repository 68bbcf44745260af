"""The agent's follower is replaced when it breaks, and reads nothing again that was passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Delivery, Follower
from mafalda.contract import subjects
from mafalda.contract.messages.events import PeerLeft
from mafalda.errors import BusUnavailable
from mafalda.testing.memory_bus import MemoryBus
from mafalda.workers.log.reader import LogReader

OURS, OTHERS = (subjects.room_event(room, PeerLeft.action) for room in ("ours", "others"))


class BreakingFollower:
    """A follower that breaks when it is told to."""

    def __init__(self, follower: Follower, broken: asyncio.Event) -> None:
        self._follower, self._broken = follower, broken

    @property
    def seq(self) -> int:
        return self._follower.seq

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        reading = asyncio.ensure_future(anext(self._follower))
        breaking = asyncio.ensure_future(self._broken.wait())
        done, pending = await asyncio.wait({reading, breaking}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if reading in done:
            return reading.result()
        self._broken.clear()
        raise BusUnavailable("broken")


class BreakingBus(MemoryBus):
    """A bus whose followers break when they are told to."""

    broken: asyncio.Event

    def follow(self, *patterns: str, after_seq: int | None = None) -> Any:
        return self._breaking(patterns, after_seq)

    @asynccontextmanager
    async def _breaking(self, patterns: tuple[str, ...], after_seq: int | None) -> AsyncIterator[BreakingFollower]:
        async with super().follow(*patterns, after_seq=after_seq) as follower:
            yield BreakingFollower(follower, self.broken)


async def append(bus: MemoryBus, subject: str, peer: str) -> int:
    message = compose(PeerLeft(peer=peer, generation=1), subject=subject, source="/test")
    return (await bus.append(subject, message)).seq


async def test_a_follower_that_breaks_needs_nothing_that_was_passed() -> None:
    """What concerned other rooms was passed, and is discarded from the log meanwhile."""
    bus = BreakingBus()
    bus.broken = asyncio.Event()
    reader = LogReader(bus, [OURS], 0)
    async with asyncio.timeout(30):
        entries = reader.entries()
        await append(bus, OURS, "first")
        assert (await anext(entries)).seq == 1
        following = asyncio.ensure_future(anext(entries))
        for _ in range(5):
            await append(bus, OTHERS, "x")
        while reader.seq < 6:  # noqa: ASYNC110 - nothing is yielded that could be awaited
            await asyncio.sleep(0)
        bus.broken.set()
        while bus.broken.is_set():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        bus.broker.purge(before_seq=7)
        assert await append(bus, OURS, "second") == 7
        assert (await following).seq == 7
        await entries.aclose()
