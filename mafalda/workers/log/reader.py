"""What the agent follows of the log, and how entries are read: patterns come and go with rooms and peers.

Media outlives the control plane: when the bus is gone, following waits and goes on where it was.
What does not belong here: what entries mean (``machine``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import structlog

from mafalda.bus.protocol import REPLY_HEADER, Bus, Delivery, Follower, Handler
from mafalda.contract import subjects
from mafalda.contract.channels import fits
from mafalda.contract.messages.envelope import decode
from mafalda.errors import BadInput, BusUnavailable
from mafalda.telemetry.metrics import count_unreadable
from mafalda.workers.core.instructions import Entry

_RETRY_S = 0.2
log = structlog.get_logger("mafalda.workers")


class Following:
    """The agent's follower, with the patterns that it has now.

    Args:
        bus: The bus.
        patterns: What is followed from the start.
        after_seq: The log sequence after which it starts.
    """

    def __init__(self, bus: Bus, patterns: list[str], after_seq: int) -> None:
        self._bus = bus
        self._patterns = dict.fromkeys(patterns)
        self._seq = after_seq
        self._follower: Follower | None = None
        self.unreadable = 0

    async def add(self, *patterns: str) -> None:
        """Follow more; when this returns nothing stored later is missed."""
        self._patterns.update(dict.fromkeys(patterns))
        while self._follower is not None:  # else they are followed from the next start on, from where we are
            try:
                return await self._follower.add(*patterns)
            except BusUnavailable as error:
                log.warning("cannot follow", action="follow_retried", reason=str(error))
            await asyncio.sleep(_RETRY_S)
        return None

    async def remove(self, *patterns: str) -> None:
        """Follow these no more."""
        for pattern in patterns:
            self._patterns.pop(pattern, None)
        if self._follower is not None:
            try:
                await self._follower.remove(*patterns)
            except BusUnavailable as error:  # what comes of them is passed over
                log.warning("cannot unfollow", action="unfollow_failed", reason=str(error))

    async def entries(self) -> AsyncIterator[Entry]:
        """All readable entries, in order, for ever."""
        while True:
            try:
                async with self._bus.follow(*self._patterns, after_seq=self._seq) as follower:
                    self._follower = follower
                    async for delivery in follower:
                        self._seq = max(self._seq, delivery.seq)
                        if entry := self.read_entry(delivery):
                            yield entry
            except BusUnavailable as error:
                log.warning("log unavailable", action="follow_retried", reason=str(error))
            finally:
                self._follower = None
            await asyncio.sleep(_RETRY_S)

    async def serve(self, stack: AsyncExitStack, *patterns: str, handler: Handler) -> None:
        """Answer requests until the stack is closed; waits for the bus if it must."""
        while True:
            try:
                await stack.enter_async_context(self._bus.serve(*patterns, handler=handler))
                return
            except BusUnavailable as error:
                log.warning("cannot serve", action="serve_retried", reason=str(error))
            await asyncio.sleep(_RETRY_S)

    async def past(self, *patterns: str, after_seq: int = 0, up_to_seq: int) -> list[Entry]:
        """The readable entries of some patterns, up to a sequence; waits for the bus if it must."""
        while True:
            try:
                return [
                    entry
                    async for delivery in self._bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq)
                    if (entry := self.read_entry(delivery))
                ]
            except BusUnavailable as error:
                log.warning("log unavailable", action="read_retried", reason=str(error))
            await asyncio.sleep(_RETRY_S)

    async def last_seq(self) -> int:
        """The log's last sequence; waits for the bus if it must."""
        while True:
            try:
                return await self._bus.last_seq()
            except BusUnavailable as error:
                log.warning("log unavailable", action="read_retried", reason=str(error))
            await asyncio.sleep(_RETRY_S)

    def read_entry(self, delivery: Delivery) -> Entry | None:
        """A delivery, decoded; None (and counted) if it is unreadable or not what its subject says."""
        address = subjects.parse(delivery.subject)
        if address is None:
            return None
        try:
            message = decode(delivery.data)
        except BadInput as error:
            self._pass_over(delivery, error.code)
            return None
        if not fits(address, message.data):
            self._pass_over(delivery, "does-not-fit-its-subject")
            return None
        return Entry(delivery.seq, address, message, delivery.headers.get(REPLY_HEADER))

    def _pass_over(self, delivery: Delivery, reason: str) -> None:
        """Its sender hears of it from an allocator."""
        self.unreadable += 1
        count_unreadable("agent", reason)
        log.warning(
            "unreadable entry",
            action="entry_unreadable",
            subject=delivery.subject,
            stream_seq=delivery.seq,
            reason=reason,
        )
