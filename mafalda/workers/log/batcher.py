"""Notices on their way out: in order, several in one message, none kept when they cannot be sent.

What does not belong here: what they are about (``guests``, ``direct_data``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import MAX_BATCH, first_batch
from mafalda.errors import MafaldaError

#: What may wait for one reader; a bus that takes nothing for so long has other troubles.
MAX_WAITING = 16_384
log = structlog.get_logger("mafalda.workers")
Publish = Callable[[list[ChannelNotice]], Awaitable[None]]


class Outbox:
    """To one reader.

    Args:
        tasks: Where it is emptied.
        name: Of the reader, for people.
        publish: Sends one message with these notices.
    """

    def __init__(self, tasks: TaskScope, name: str, publish: Publish) -> None:
        self._tasks = tasks
        self._name = name
        self._publish = publish
        self._waiting: deque[ChannelNotice] = deque()
        self._emptying = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, or is being sent."""
        return not self._emptying

    def put(self, notice: ChannelNotice) -> None:
        """Send it after those before."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost(1, "too many wait")
            return
        self._waiting.append(notice)
        if not self._emptying:
            self._emptying = True
            self._tasks.spawn(self._empty(), f"notices to {self._name}")

    async def _empty(self) -> None:
        try:
            while self._waiting:
                batch = first_batch(list(islice(self._waiting, MAX_BATCH)))
                for _ in batch:
                    self._waiting.popleft()
                try:
                    await self._publish(batch)
                except MafaldaError as error:
                    self._lost(len(batch), str(error))
        finally:
            self._emptying = False

    def _lost(self, count: int, reason: str) -> None:
        log.warning("notices lost", action="notices_lost", to=self._name, count=count, reason=reason)
