"""The state as it changes: the log folded and then followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mafalda.bus.protocol import Bus, Follower
from mafalda.contract.state import State
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import record
from mafalda.monitor.replay import apply


@asynccontextmanager
async def live_state(bus: Bus) -> AsyncIterator[State]:
    """A state that keeps up with the log while the block runs; read it, never change it."""
    state = State()
    async with bus.follow(*LOG_SUBJECTS, after_seq=0) as follower, asyncio.TaskGroup() as group:
        task = group.create_task(_keep_up(state, follower), name="live state")
        try:
            yield state
        finally:
            task.cancel()


async def _keep_up(state: State, follower: Follower) -> None:
    async for delivery in follower:
        apply(state, record(delivery))
