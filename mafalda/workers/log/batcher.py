"""Notices for one receiver, in order, several in one message; those that no message can hold are dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import MAX_BATCH, first_batch
from mafalda.errors import MafaldaError

#: Notices that may wait for one receiver; the bus takes far more a second, so more means that this agent is
#: too busy to publish. Without NATS none waits: a message that cannot be published is lost.
MAX_WAITING = 16_384
log = structlog.get_logger("mafalda.workers")
Publish = Callable[[list[ChannelNotice]], Awaitable[None]]


class NoticeBatcher:
    """Publishes notices to one receiver.

    Args:
        tasks: Runs the task that publishes.
        name: The receiver's, for log lines.
        publish: Publishes one message with these notices.
    """

    def __init__(self, tasks: TaskScope, name: str, publish: Publish) -> None:
        self._tasks = tasks
        self._name = name
        self._publish = publish
        self._waiting: deque[ChannelNotice] = deque()
        self._is_publishing = False

    @property
    def is_empty(self) -> bool:
        """Whether no notice waits or is being published."""
        return not self._is_publishing

    def put(self, notice: ChannelNotice) -> None:
        """Publish a notice after those that were put before."""
        if len(self._waiting) >= MAX_WAITING:
            self._log_dropped(1, "too many wait")
            return
        self._waiting.append(notice)
        if not self._is_publishing:
            self._is_publishing = True
            self._tasks.spawn(self._publish_all(), f"notices to {self._name}")

    async def _publish_all(self) -> None:
        try:
            while self._waiting:
                batch = first_batch(list(islice(self._waiting, MAX_BATCH)))
                for _ in batch:
                    self._waiting.popleft()
                try:
                    await self._publish(batch)
                except MafaldaError as error:
                    self._log_dropped(len(batch), str(error))
        finally:
            self._is_publishing = False

    def _log_dropped(self, count: int, reason: str) -> None:
        log.warning("notices lost", action="notices_lost", to=self._name, count=count, reason=reason)
