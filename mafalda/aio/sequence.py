"""Waiting until an increasing number has reached a value."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class SequenceWaiter:
    """Wakes those who wait for a value of an increasing number."""

    def __init__(self) -> None:
        self._seq = 0
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = count()

    def reached(self, seq: int) -> None:
        """The number is ``seq`` now, or was greater already."""
        self._seq = max(self._seq, seq)
        while self._heap and self._heap[0][0] <= self._seq:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(None)

    async def until(self, seq: int, deadline_s: float) -> bool:
        """Wait until the number is at least ``seq``; ``False`` if it is not in time."""
        if seq <= self._seq:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (seq, next(self._ticket), future))
        try:
            async with asyncio.timeout(deadline_s):
                await future
        except TimeoutError:
            return False
        return True
