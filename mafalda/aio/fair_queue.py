"""A queue in which no key keeps the others out. Pure; no operation's cost grows with what waits."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: The keys that had a turn lately are forgotten when there are so many more than what waits: all begin anew.
_MAX_REMEMBERED = 10_000


class FairQueue(Generic[T]):
    """Items by key, each taken once.

    Every second item taken is the one that has waited longest, so that none is passed over for ever. The others are
    taken in rounds, as in start-time fair queueing (Goyal, Vin and Cheng, 1996): the items of one key are in
    consecutive rounds, the first of them in the present round, and of the items of a round the last added is taken
    first. So neither a key with thousands of items nor thousands of keys keep out an item that is added behind them.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[T, int] = OrderedDict()  # the round of each, in the order in which they were added
        self._rounds: dict[int, OrderedDict[T, None]] = {}
        self._numbers: list[int] = []  # a heap of the rounds that have items, or had
        self._next_round: dict[Hashable, int] = {}
        self._round = 0
        self._is_oldest_next = True

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, item: T, key: Hashable) -> None:
        """Add an item, which is not in the queue."""
        number = max(self._round, self._next_round.get(key, 0))
        self._next_round[key] = number + 1
        self._waiting[item] = number
        if number not in self._rounds:
            self._rounds[number] = OrderedDict()
            heapq.heappush(self._numbers, number)
        self._rounds[number][item] = None
        if len(self._next_round) > len(self._waiting) + _MAX_REMEMBERED:
            self._next_round.clear()

    def take(self) -> T:
        """Remove the next item and return it.

        Raises:
            IndexError: There is none.
        """
        if not self._waiting:
            raise IndexError("the queue is empty")
        if self._is_oldest_next:
            item = next(iter(self._waiting))
        else:
            self._round = self._first_round()
            item = next(reversed(self._rounds[self._round]))
        self._is_oldest_next = not self._is_oldest_next
        self.remove(item)
        return item

    def remove(self, item: T) -> None:
        """Remove an item, if it is in the queue."""
        number = self._waiting.pop(item, None)
        if number is not None:
            del self._rounds[number][item]
        if not self._waiting:
            for emptied in (self._next_round, self._rounds, self._numbers):
                emptied.clear()

    def _first_round(self) -> int:
        """The first round that has items."""
        while not self._rounds[self._numbers[0]]:
            del self._rounds[heapq.heappop(self._numbers)]
        return self._numbers[0]
