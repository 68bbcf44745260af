"""A limit to what is under way, whose waiters get their turns alternately from both ends of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """One of the limited number. ``end`` it as soon as others may begin."""

    def __init__(self, turns: Turns) -> None:
        self._turns: Turns | None = turns

    def end(self) -> None:
        """Give the turn to the next waiter; the second call does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_back()


class Turns:
    """At most ``limit`` turns at a time.

    The next turn is that of the waiter that has waited longest, the one after it that of the waiter that came last, and
    so on. So whoever comes when thousands wait does not wait for them all, and whoever waits is not passed over for
    ever: half of all turns go in order.

    Args:
        limit: How many turns there are.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._is_newest_next = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for a turn, which ends with the block at the latest."""
        await self._wait()
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.end()

    async def _wait(self) -> None:
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[granted] = None
        try:
            await granted
        except asyncio.CancelledError:
            self._waiting.pop(granted, None)
            if granted.done() and not granted.cancelled():  # it was granted in the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """A turn has ended: it is the next waiter's."""
        while self._waiting:
            granted = next(reversed(self._waiting) if self._is_newest_next else iter(self._waiting))
            del self._waiting[granted]
            if not granted.done():  # else it was cancelled, and is about to notice
                self._is_newest_next = not self._is_newest_next
                granted.set_result(None)
                return
        self._free += 1
