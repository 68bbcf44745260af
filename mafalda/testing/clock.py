"""A clock that advances only when a test advances it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count


class ManualClock:
    """Monotonic seconds and the wall clock that belongs to them; ``sleep`` returns only because of ``advance``."""

    def __init__(self, start_s: float = 0.0, *, noon: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now_s = start_s
        self._zero = noon - timedelta(seconds=start_s)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now_s

    def wall(self) -> datetime:
        """The same instant as a UTC time."""
        return self._zero + timedelta(seconds=self._now_s)

    @property
    def sleeping(self) -> int:
        """How many calls of ``sleep`` are waiting."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has advanced by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._now_s + seconds, next(self._order), woken))
        self._changed.set()
        await woken

    async def wait_for_sleepers(self, number: int = 1, *, timeout_s: float = 5) -> None:
        """Return once so many calls of ``sleep`` are waiting.

        Raises:
            TimeoutError: Fewer do, after ``timeout_s`` of real time.
        """
        async with asyncio.timeout(timeout_s):
            while self.sleeping < number:
                self._changed.clear()
                await self._changed.wait()

    async def advance(self, seconds: float) -> None:
        """Advance the clock. Each ``sleep`` that ends by then returns at its time, in order, and its caller runs on.

        A caller that sleeps again and is due again before the end is woken again.
        """
        end_s = self._now_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, sleeper = heappop(self._sleepers)
            self._now_s = due_s
            if not sleeper.done():
                sleeper.set_result(None)
                await _settle()
        self._now_s = end_s
        await _settle()


async def _settle() -> None:
    """Let every task that can run do so, a few steps deep."""
    for _ in range(10):
        await asyncio.sleep(0)
