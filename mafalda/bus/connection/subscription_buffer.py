"""Messages that subscriptions delivered and their reader has not taken: one bounded queue in the order of the socket.

Not ``aio.BoundedQueue``: this one never ends, is bounded by bytes too, and replaces what it drops by a mark.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from nats.aio.msg import Msg

from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import LIVE
from mafalda.errors import PermissionDenied

#: How many bytes may wait for one reader. One message may be a megabyte.
MAX_BYTES = 64 * 1024 * 1024

_NO_HEADERS: MappingProxyType[str, str] = MappingProxyType({})


class Gap(Enum):
    """Messages may be missing here, and why."""

    INTERRUPTED = "interrupted"  # the connection broke
    OVERFLOWED = "overflowed"  # the buffer was full
    FOUND = "found"  # the log has entries that never came


class BufferedMessage(NamedTuple):
    """A message and the pattern of the subscription through which it came."""

    message: Msg
    pattern: str


Item = BufferedMessage | Gap | PermissionDenied


class SubscriptionBuffer:
    """A ``Sink`` with one reader.

    When it is full, all that waits is dropped and one ``OVERFLOWED`` takes its place: the reader has to fetch what is
    missing from elsewhere anyway.

    Args:
        limit: How many items may wait.
        limit_bytes: How many bytes of data may wait.
    """

    def __init__(self, limit: int, limit_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._items: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.dropped = 0
        self._end_error: PermissionDenied | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append an item and wake the reader."""
        if len(self._items) >= self._limit or self._bytes >= self._limit_bytes:
            self.dropped += len(self._items)
            self._items.clear()
            self._bytes = 0
            self._items.append(Gap.OVERFLOWED)
        self._items.append(item)
        if isinstance(item, BufferedMessage):
            self._bytes += len(item.message.data)
        self.wake()

    def wake(self) -> None:
        """Let the reader look for itself: something has changed that is no item."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def deliver(self, message: Msg, pattern: str) -> None:
        self.put(BufferedMessage(message, pattern))

    def interrupted(self) -> None:
        self.put(Gap.INTERRUPTED)

    def denied(self, error: PermissionDenied) -> None:
        self.put(error)

    def ended(self, error: PermissionDenied) -> None:
        self._end_error = error
        self.wake()

    def pop(self) -> Item | None:
        """Take the oldest item, if there is one."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, BufferedMessage):
            self._bytes -= len(item.message.data)
        return item

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until an item is there or ``wake`` (true), or the time is over (false). For one task at a time.

        Raises:
            PermissionDenied: All items are taken, and the connection is over for good.
        """
        self._check_end()
        if self._items:
            return True
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiter
        except TimeoutError:
            return bool(self._items)
        finally:
            self._waiter = None
        self._check_end()
        return True

    def _check_end(self) -> None:
        if self._end_error is not None and not self._items:
            raise self._end_error


def to_delivery(message: Msg, seq: int = 0) -> Delivery:
    """Convert nats-py's message; ``seq`` is its sequence in the log, 0 if it is not from the log."""
    subject = message.subject
    return Delivery(
        subject.removeprefix(LIVE) if seq else subject,
        message.data,
        seq,
        message.reply or None,
        message.headers or _NO_HEADERS,
    )
