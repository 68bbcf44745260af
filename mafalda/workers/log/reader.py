"""What the agent reads of the log: a follower whose subject patterns change, and reads of the past.

While the bus is out of reach everything here waits; the follower then continues where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import structlog
from tenacity import AsyncRetrying

from mafalda.aio.retry import retrying
from mafalda.bus.protocol import GENERATION_HEADER, REPLY_HEADER, Bus, Delivery, Follower, Handler
from mafalda.contract import subjects
from mafalda.contract.reading import check_message
from mafalda.errors import BadInput, BusUnavailable
from mafalda.snapshot.store import read_fleet, read_room
from mafalda.telemetry.metrics import count_unreadable
from mafalda.workers.core.instructions import Entry

_RETRY_S = 0.2
log = structlog.get_logger("mafalda.workers")


class LogReader:
    """The agent's follower, with the subject patterns that it has now.

    Args:
        bus: The bus.
        patterns: The subject patterns to begin with.
        after_seq: The log sequence after which to begin.
    """

    def __init__(self, bus: Bus, patterns: list[str], after_seq: int) -> None:
        self._bus = bus
        self._patterns = dict.fromkeys(patterns)
        self._seq = after_seq
        self._follower: Follower | None = None
        self.unreadable = 0

    @property
    def seq(self) -> int:
        """The log sequence up to which everything has been read that these patterns take."""
        return max(self._seq, self._follower.seq) if self._follower else self._seq

    async def add(self, *patterns: str) -> None:
        """Follow further patterns; of what is stored after this returns, nothing is missed."""
        self._patterns.update(dict.fromkeys(patterns))
        async for attempt in _retrying("follow_retried"):
            with attempt:
                if self._follower is not None:  # else the next follower has them, from the same sequence on
                    await self._follower.add(*patterns)

    async def remove(self, *patterns: str) -> None:
        """Follow these patterns no more."""
        for pattern in patterns:
            self._patterns.pop(pattern, None)
        if self._follower is not None:
            try:
                await self._follower.remove(*patterns)
            except BusUnavailable as error:  # the machine ignores what still comes of them
                log.warning("cannot unfollow", action="unfollow_failed", reason=str(error))

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """All readable entries, in order, without end. A follower that breaks is replaced by a new one."""
        while True:
            try:
                async with self._bus.follow(*self._patterns, after_seq=self._seq) as follower:
                    self._follower = follower
                    try:
                        async for delivery in follower:
                            self._seq = max(self._seq, delivery.seq)
                            if entry := self.read_entry(delivery):
                                yield entry
                    finally:  # what concerned others has been passed too, and may be discarded from the log
                        self._seq = max(self._seq, follower.seq)
            except BusUnavailable as error:
                log.warning("log unavailable", action="follow_retried", reason=str(error))
            finally:
                self._follower = None
            await asyncio.sleep(_RETRY_S)

    async def serve(self, stack: AsyncExitStack, *patterns: str, handler: Handler) -> None:
        """Reply to requests until the stack is closed."""
        async for attempt in _retrying("serve_retried"):
            with attempt:
                await stack.enter_async_context(self._bus.serve(*patterns, handler=handler))

    async def past(self, *patterns: str, after_seq: int = 0, up_to_seq: int) -> list[Entry]:
        """The readable entries of some patterns, after one log sequence and up to another."""
        async for attempt in _retrying("read_retried"):
            with attempt:
                return [
                    entry
                    async for delivery in self._bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq)
                    if (entry := self.read_entry(delivery))
                ]
        raise AssertionError("retried until it succeeds")

    async def servers_snapshot(self) -> tuple[int, list[dict[str, Any]]]:
        """The servers as of the newest snapshot, and its log sequence; 0 if there is none.

        Raises:
            SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
        """
        async for attempt in _retrying("read_retried"):
            with attempt:
                snapshot = await read_fleet(self._bus)
                return (snapshot.seq, snapshot.fleet["servers"]) if snapshot else (0, [])
        raise AssertionError("retried until it succeeds")

    async def room_snapshot(self, room: str) -> tuple[int, dict[str, Any] | None]:
        """A room as of the newest snapshot, and the snapshot's log sequence; 0 if there is none.

        Raises:
            SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
        """
        async for attempt in _retrying("read_retried"):
            with attempt:
                return await read_room(self._bus, room)
        raise AssertionError("retried until it succeeds")

    async def last_seq(self) -> int:
        """The log's last sequence."""
        async for attempt in _retrying("read_retried"):
            with attempt:
                return await self._bus.last_seq()
        raise AssertionError("retried until it succeeds")

    async def past_of_peer(self, pattern: str, *, after_seq: int) -> list[Entry]:
        """A peer's intents or results after a log sequence."""
        async for attempt in _retrying("read_retried"):
            with attempt:
                last = await self._bus.last(pattern)
                if last is None or last.seq <= after_seq:
                    return []
                return await self.past(pattern, after_seq=after_seq, up_to_seq=last.seq)
        raise AssertionError("retried until it succeeds")

    def read_entry(self, delivery: Delivery) -> Entry | None:
        """Decode a delivery; None (and counted) if it is unreadable or does not belong on its subject.

        An allocator answers the sender of an unreadable intent.
        """
        address = subjects.parse(delivery.subject)
        if address is None:
            return None
        try:
            message = check_message(address, delivery.data)
        except BadInput as error:
            self.unreadable += 1
            count_unreadable("agent", error.code)
            log.warning(
                "unreadable entry",
                action="entry_unreadable",
                subject=delivery.subject,
                stream_seq=delivery.seq,
                reason=error.code,
            )
            return None
        headers = delivery.headers
        return Entry(
            delivery.seq,
            address,
            message,
            headers.get(REPLY_HEADER),
            len(delivery.data),
            headers.get(GENERATION_HEADER),
        )


def _retrying(action: str) -> AsyncRetrying:
    return retrying(BusUnavailable, action=action, first_s=_RETRY_S, longest_s=2.0)
