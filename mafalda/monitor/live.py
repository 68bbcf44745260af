"""The state as it changes: the log folded and then followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from mafalda.bus.protocol import Bus, Follower
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import record
from mafalda.monitor.replay import apply
from mafalda.projection.state import State


class LiveState:
    """A state that keeps up with the log. Read ``state``, never change it."""

    def __init__(self) -> None:
        self.state = State()
        self._moved = asyncio.Condition()

    async def reached(self, seq: int) -> None:
        """Wait until everything up to a log sequence is in ``state``."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.state.seq >= seq)

    async def keep_up(self, follower: Follower) -> None:
        """Fold whatever comes, for ever."""
        async for delivery in follower:
            apply(self.state, record(delivery))
            async with self._moved:
                self._moved.notify_all()


@asynccontextmanager
async def live_state(bus: Bus) -> AsyncIterator[LiveState]:
    """A state that keeps up while the block runs.

    Raises:
        BusUnavailable: At the end of the block, if the log could not be followed to the end.
    """
    live = LiveState()
    async with bus.follow(*LOG_SUBJECTS, after_seq=0) as follower:
        task = asyncio.create_task(live.keep_up(follower), name="live state")
        try:
            yield live
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
