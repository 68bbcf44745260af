"""What subscriptions delivered and nobody has taken yet: one bounded queue in the order of the socket.

What does not belong here: what to do about what is missing (``follower``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from nats.aio.msg import Msg

from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import LIVE
from mafalda.errors import PermissionDenied

#: What may wait for one reader. Poison may be a megabyte a message.
MAX_BYTES = 64 * 1024 * 1024

_NO_HEADERS: MappingProxyType[str, str] = MappingProxyType({})


class Hole(Enum):
    """Something may be missing here."""

    INTERRUPTED = "interrupted"
    OVERFLOWED = "overflowed"
    FOUND = "found"  # in the log, by the audit


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message and the subscription's pattern through which it came."""

    message: Msg
    pattern: str


Item = Arrived | Hole | PermissionDenied


class Arrivals:
    """A ``Sink`` with one reader.

    When it is full, by number or by size, everything that waits is dropped and one ``OVERFLOWED`` stands for it:
    what the reader must fetch elsewhere anyway need not be kept.
    """

    def __init__(self, limit: int, limit_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._items: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append, and wake the reader."""
        if len(self._items) >= self._limit or self._bytes >= self._limit_bytes:
            self.dropped += len(self._items)
            self._items.clear()
            self._bytes = 0
            self._items.append(Hole.OVERFLOWED)
        self._items.append(item)
        if isinstance(item, Arrived):
            self._bytes += len(item.message.data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def deliver(self, message: Msg, pattern: str) -> None:
        self.put(Arrived(message, pattern))

    def interrupted(self) -> None:
        self.put(Hole.INTERRUPTED)

    def denied(self, error: PermissionDenied) -> None:
        self.put(error)

    def pop(self) -> Item | None:
        """The oldest item, if there is one."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Arrived):
            self._bytes -= len(item.message.data)
        return item

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return once something is there: true; or when the time is over: false. For one task at a time."""
        if self._items:
            return True
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiter
            return True
        except TimeoutError:
            return bool(self._items)
        finally:
            self._waiter = None


def to_delivery(message: Msg, seq: int = 0) -> Delivery:
    """A message as the bus's users see it."""
    subject = message.subject
    return Delivery(
        subject.removeprefix(LIVE) if seq else subject,
        message.data,
        seq,
        message.reply or None,
        message.headers or _NO_HEADERS,
    )
