"""A state that follows the log: from the newest snapshot on, entry by entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mafalda.aio.sequence import SequenceWaiter
from mafalda.aio.tasks import background
from mafalda.bus.protocol import Bus, Follower
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.errors import DeadlineExceeded
from mafalda.monitor.records import Record, record
from mafalda.monitor.replay import apply_record
from mafalda.projection.state import State
from mafalda.snapshot.state import state_of
from mafalda.snapshot.store import read_snapshot


class LiveState:
    """A state that follows the log. ``state`` is for reading only."""

    def __init__(self, state: State, folded: Callable[[Record], None] = lambda _: None) -> None:
        self.state = state
        self._on_folded = folded
        self._folded = SequenceWaiter()

    async def reached(self, seq: int, *, timeout_s: float = 10.0) -> None:
        """Wait until the state has everything up to a log sequence.

        Raises:
            DeadlineExceeded: It does not after ``timeout_s`` seconds.
        """
        if not await self._folded.until(seq, timeout_s):
            raise DeadlineExceeded("the log was not folded in time", seq=seq, timeout_s=timeout_s)

    async def follow(self, follower: Follower) -> None:
        """Fold every entry until cancelled."""
        async for delivery in follower:
            entry = record(delivery)
            apply_record(self.state, entry)
            self._on_folded(entry)
            self._folded.reached(self.state.seq)


@asynccontextmanager
async def live_state(bus: Bus, folded: Callable[[Record], None] = lambda _: None) -> AsyncIterator[LiveState]:
    """A state that follows the log while the block runs.

    Args:
        bus: Connected.
        folded: Called with each entry when the state has it.

    Raises:
        BusUnavailable: At the end of the block, if the log could not be followed to the end.
    """
    live = LiveState(state_of(await read_snapshot(bus)), folded)
    after_seq = live.state.seq
    async with (
        bus.follow(*LOG_SUBJECTS, after_seq=after_seq) as follower,
        background(live.follow(follower), "live state"),
    ):
        yield live
