"""A limit to what is under way, whose waiters get their turns so that no key keeps the others out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from mafalda.aio.fair_queue import FairQueue


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
    """At most ``limit`` turns at a time, given in the order of a ``FairQueue``.

    Args:
        limit: How many turns there are.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """Wait for a turn, which ends with the block at the latest.

        Args:
            key: For whom the turn is; all keys get their turns, however many of them one asks for.
        """
        await self._wait(key)
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.end()

    async def _wait(self, key: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(granted, key)
        try:
            await granted
        except asyncio.CancelledError:
            self._waiting.remove(granted)
            if granted.done() and not granted.cancelled():  # it was granted in the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """A turn has ended: it is the next waiter's."""
        while self._waiting:
            granted = self._waiting.take()
            if not granted.done():  # else it was cancelled, and is about to notice
                granted.set_result(None)
                return
        self._free += 1
