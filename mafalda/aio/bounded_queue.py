"""A bounded queue that can end, and drops items or fails when it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Literal, TypeVar

from mafalda.errors import Broken, Closed, MafaldaError

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """Items in order, for one consumer. ``put`` never waits.

    Args:
        max_items: How many may wait.
        overflow: ``drop-oldest`` makes room for the new item; with ``fail`` the consumer gets all that fitted, then
            ``Broken``.
    """

    def __init__(self, max_items: int, *, overflow: Literal["drop-oldest", "fail"]) -> None:
        self._items: deque[T] = deque()
        self._max_items = max_items
        self._overflow = overflow
        self._changed = asyncio.Event()
        self._over = False
        self._error: MafaldaError | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def over(self) -> bool:
        """Whether nothing more will be put; items may still wait."""
        return self._over

    def put(self, item: T) -> None:
        """Add an item; after the end it is dropped."""
        if self._over:
            return
        if len(self._items) >= self._max_items:
            self.dropped += 1
            if self._overflow == "fail":
                self.end(Broken("not taken fast enough", waiting=len(self._items)))
                return
            self._items.popleft()
        self._items.append(item)
        self._changed.set()

    def end(self, error: MafaldaError | None = None) -> None:
        """End the queue: nothing more will be put. The first call counts."""
        if not self._over:
            self._over, self._error = True, error
            self._changed.set()

    async def take(self) -> T:
        """Take the next item.

        Raises:
            Closed: There will be none.
            MafaldaError: There will be none, for this reason.
        """
        while not self._items:
            if self._over:
                raise self._error or Closed("nothing more will come")
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
