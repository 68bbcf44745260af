"""Waiting until a log entry has been folded."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class SequenceWaiter:
    """Wakes those who wait for a log sequence once everything up to it is folded."""

    def __init__(self) -> None:
        self._seq = 0
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = count()

    def reached(self, seq: int) -> None:
        """Everything up to ``seq`` is folded."""
        self._seq = max(self._seq, seq)
        while self._heap and self._heap[0][0] <= self._seq:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(None)

    async def until(self, seq: int, deadline_s: float) -> bool:
        """Wait for an entry; ``False`` if it did not come in time."""
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
