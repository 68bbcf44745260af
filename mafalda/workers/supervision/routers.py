"""The routers: one for each room on each worker that has something of it, while somebody uses it.

What does not belong here: transports in them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable
from dataclasses import dataclass, field

from mafalda.aio.tasks import TaskScope
from mafalda.mediasoup import Router
from mafalda.workers.config import AgentConfig
from mafalda.workers.supervision.supervisor import LiveWorker

_Key = tuple[str, str]  # room, worker


@dataclass(slots=True, eq=False)
class _Shared:
    making: asyncio.Task[Router]
    users: set[Hashable] = field(default_factory=set)


class Routers:
    """Makes a router at its first use and closes it after its last."""

    def __init__(self, config: AgentConfig, tasks: TaskScope) -> None:
        self._config = config
        self._tasks = tasks
        self._shared: dict[_Key, _Shared] = {}

    def existing(self, room: str, worker: str) -> Router | None:
        """The room's router on a worker, if there is one and it is open."""
        shared = self._shared.get((room, worker))
        if shared is None or not shared.making.done() or shared.making.cancelled() or shared.making.exception():
            return None
        router = shared.making.result()
        return None if router.closed else router

    def all(self) -> dict[_Key, Router]:
        """Every open router, by room and worker."""
        return {key: router for key in self._shared if (router := self.existing(*key))}

    async def acquire(self, room: str, live: LiveWorker, user: Hashable) -> Router:
        """The room's router on this worker, for as long as ``user`` does not release it.

        Raises:
            MafaldaError: The worker does not make one.
        """
        key = (room, live.id)
        shared = self._shared.get(key)
        if shared is None:
            making = asyncio.create_task(self._make(room, live), name=f"router {room} {live.id}")
            making.add_done_callback(_retrieved)
            shared = self._shared[key] = _Shared(making)
        shared.users.add(user)
        try:
            return await asyncio.shield(shared.making)
        except BaseException:
            self._leave(key, shared, user)
            raise

    def release(self, room: str, worker: str, user: Hashable) -> None:
        """``user`` needs the router no more."""
        key = (room, worker)
        if shared := self._shared.get(key):
            self._leave(key, shared, user)

    async def _make(self, room: str, live: LiveWorker) -> Router:
        # Producer ids are unique in a room; a worker, which has many rooms, wants them unique in itself.
        return await live.worker.create_router(
            media_codecs=self._config.media_codecs, scope=f"~{secrets.token_hex(4)}", app_data={"room": room}
        )

    def _leave(self, key: _Key, shared: _Shared, user: Hashable) -> None:
        shared.users.discard(user)
        if shared.users or self._shared.get(key) is not shared:
            return
        del self._shared[key]
        self._tasks.spawn(_close(shared.making), f"router {key[0]} {key[1]} close")


def _retrieved(making: asyncio.Task[Router]) -> None:
    """Whoever waits for it is told; when nobody does any more, its failure is nobody's business."""
    if not making.cancelled():
        making.exception()


async def _close(making: asyncio.Task[Router]) -> None:
    await asyncio.wait([making])
    if not making.cancelled() and making.exception() is None:
        await making.result().close()
