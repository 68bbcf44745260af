"""Requests of relays for subscriptions: gathered by room and worker, appended in batches, made again while needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.messages.events import RelaysRequested
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.log.publisher import Publisher

#: After so many seconds a relay that was requested and did not open is requested again by who still needs it.
RETRY_S = 2.0
#: Producers of one request.
MAX_PRODUCERS = 256
_Batch = tuple[str, str]  # room, worker


class RelayRequests:
    """What the agent has requested of allocators.

    Args:
        server: This server's id.
        incarnation: Of the agent.
        tasks: Runs the appends.
        publisher: Appends them.
        look_again: Called with a relay that did not open in time; who needs it calls ``need`` again.
    """

    def __init__(
        self,
        server: str,
        incarnation: str,
        tasks: TaskScope,
        publisher: Publisher,
        look_again: Callable[[RelayKey], None],
    ) -> None:
        self._server = server
        self._incarnation = incarnation
        self._tasks = tasks
        self._publisher = publisher
        self._look_again = look_again
        self._requested: dict[RelayKey, None] = {}
        self._waiting: dict[_Batch, dict[str, None]] = {}

    def need(self, key: RelayKey) -> None:
        """Request a relay, unless that was done a moment ago."""
        if key in self._requested:
            return
        self._requested[key] = None
        batch = (key.room, key.worker)
        if batch not in self._waiting:
            self._waiting[batch] = {}
            self._tasks.spawn(self._append(batch), f"request relays to {key.worker}")
        self._waiting[batch][key.producer] = None

    def opened(self, key: RelayKey) -> None:
        """A relay has opened."""
        self._requested.pop(key, None)

    async def _append(self, batch: _Batch) -> None:
        """Append what is needed in this moment, then what has come to be needed meanwhile."""
        room, worker = batch
        try:
            while producers := list(islice(self._waiting[batch], MAX_PRODUCERS)):
                for producer in producers:
                    del self._waiting[batch][producer]
                event = RelaysRequested(
                    server=self._server, incarnation=self._incarnation, worker=worker, room=room, producers=producers
                )
                try:
                    await self._publisher.append(event, subjects.server_event(self._server, event.action))
                finally:
                    self._expire_later(batch, producers)
        finally:
            self._expire_later(batch, self._waiting.pop(batch))

    def _expire_later(self, batch: _Batch, producers: Iterable[str]) -> None:
        room, worker = batch
        if keys := [RelayKey(room, producer, worker) for producer in producers]:
            asyncio.get_running_loop().call_later(RETRY_S, self._expire, keys)

    def _expire(self, keys: list[RelayKey]) -> None:
        for key in keys:
            if key in self._requested:
                del self._requested[key]
                self._look_again(key)
