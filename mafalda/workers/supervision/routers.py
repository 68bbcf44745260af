"""The routers of this server's workers: one for each room and worker, while somebody uses it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable

from mafalda.aio.shared_resources import SharedResources
from mafalda.aio.tasks import TaskScope
from mafalda.mediasoup import Router
from mafalda.workers.config import AgentConfig
from mafalda.workers.supervision.supervisor import LiveWorker

_Key = tuple[str, str]  # room, worker


class Routers:
    """Makes a router at its first use and closes it after its last.

    Args:
        config: The media codecs of every router.
        tasks: Where routers are made and closed.
        require_worker: The living worker with an id; raises ``WorkerExited`` if there is none.
    """

    def __init__(self, config: AgentConfig, tasks: TaskScope, require_worker: Callable[[str], LiveWorker]) -> None:
        self._config = config
        self._require_worker = require_worker
        self._shared: SharedResources[_Key, Router] = SharedResources(tasks, self._make, _close)

    def existing(self, room: str, worker: str) -> Router | None:
        """The room's router on a worker, if there is one and it is open."""
        router = self._shared.get((room, worker))
        return None if router is None or router.closed else router

    def all(self) -> dict[_Key, Router]:
        """Every open router, by room and worker."""
        return {key: router for key, router in self._shared.items() if not router.closed}

    async def acquire(self, room: str, live: LiveWorker, user: Hashable) -> Router:
        """The room's router on a worker, for as long as ``user`` does not release it.

        Raises:
            MafaldaError: The worker does not make one, or is dead.
        """
        return await self._shared.acquire((room, live.id), user)

    def release(self, room: str, worker: str, user: Hashable) -> None:
        """``user`` needs the router no more."""
        self._shared.release((room, worker), user)

    async def _make(self, key: _Key) -> Router:
        room, worker = key
        # Producer ids are unique in a room only; the scope makes them unique in the worker, which has many rooms.
        return await self._require_worker(worker).worker.create_router(
            media_codecs=self._config.media_codecs, scope=f"~{secrets.token_hex(4)}", app_data={"room": room}
        )


async def _close(_: _Key, router: Router) -> None:
    await router.close()
